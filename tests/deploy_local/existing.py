"""A second stack of a release, on streams that exist already: deployed, used, checked and deleted."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from infra.local.aws import LocalAws
from infra.local.event_source.batcher import MappingTiming
from infra.local.event_source.mapping import EventSourceMapping, polling
from infra.local.runtime.emulator import EmulatedRuntime
from infra.operate.doctor.doctor import Doctor, check
from infra.operate.doctor.facts import Severity
from tests.deploy_local.sam_stack import Release, SamStack
from tests.deploy_local.traffic import Traffic
from tests.fakes import publish_bundle
from tests.kits.streams import make_streams, read_stream
from training.data.rides import Rides
from training.model.bundle import ExportedBundle

STACK_NAME = "ridecast-existing"

NOT_HEALTHY = {Severity.bad, Severity.unknown}
"""Findings of the doctor that no stack may have here. It warns of what the local AWS does not have."""

_PREFIX = "their-"


def try_existing_streams(
    aws: LocalAws, release: Release, model: tuple[ExportedBundle, str], rides: Rides, folder: Path, scratch: Path
) -> Iterator[str]:
    """Deploy a release on encrypted streams that exist, predict rides, ask the doctor and delete the stack.

    Args:
        aws: The local AWS.
        release: A release that is packaged.
        model: The model and its channel.
        rides: Rides to predict.
        folder: Folder for logs.
        scratch: Packages are unpacked here.

    Yields:
        A sentence for each problem.
    """
    streams = make_streams(aws, _PREFIX)
    kinesis, s3, log = aws.client("kinesis"), aws.client("s3"), folder / "function-existing.log"
    stack = SamStack(aws, STACK_NAME, folder / "sam.log")
    mine = replace(release, parameters={**release.parameters, **streams, "LoopMode": "off"})
    stack.deploy(mine)
    outputs = stack.outputs()
    publish_bundle(s3, model[0], model[1], outputs["BucketName"])
    traffic, mapping = Traffic(kinesis, s3, outputs), stack.mapping(mine)
    log.touch()
    with EmulatedRuntime(stack.function(mapping.function_name, scratch / "packages"), log) as function:
        timing = MappingTiming(backoff=lambda _: 0.2)
        with polling(EventSourceMapping(mapping, kinesis, function, timing, s3=s3)) as polls:
            with traffic.sending(rides, rate_per_s=10_000.0):
                pass
            traffic.settle(polls, stall_s=60.0)
    if traffic.n_lost:
        yield f"{traffic.n_lost} of {traffic.n_sent} rides have no result"
    findings = check(Doctor(aws.client, STACK_NAME).gather())
    yield from (f"the doctor reports {one.check}: {one.what}" for one in findings if one.severity in NOT_HEALTHY)
    aws.client("cloudformation").delete_stack(StackName=STACK_NAME)
    yield from _what_the_deletion_changed(aws, streams, traffic.n_sent)


def _what_the_deletion_changed(aws: LocalAws, streams: dict[str, str], n_rides: int) -> Iterator[str]:
    kinesis = aws.client("kinesis")
    for parameter, arn in streams.items():
        if parameter.endswith("KeyArn"):
            continue
        summary = kinesis.describe_stream_summary(StreamARN=arn)["StreamDescriptionSummary"]
        if summary.get("KeyId") != streams[parameter.replace("Arn", "KeyArn")]:
            yield f"{arn} has another key"
    if (n_left := len(read_stream(kinesis, f"{_PREFIX}ride-events"))) != n_rides:
        yield f"{n_left} of {n_rides} rides are left on their stream"
