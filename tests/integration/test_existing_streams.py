"""A stack on streams that exist already: it reads them from the position that it is told, and outlives none of them."""

import base64
from datetime import UTC, datetime
from typing import Any

import pytest

from infra.local.aws import LocalAws
from infra.local.event_source.mapping import EventSourceMapping
from infra.local.stack import Stack
from infra.operate.doctor.doctor import Doctor, check
from infra.operate.doctor.facts import Finding, Severity
from tests.builders import ride_bytes, small_bundle
from tests.kits.stack import TemplateStack
from tests.kits.streams import make_streams, read_stream
from training.registry.bucket import Bucket
from training.registry.channels import move_channel, store_bundle

pytestmark = pytest.mark.slow

_OF_THE_LOCAL_AWS = {"nobody-subscribed"}


@pytest.fixture(scope="module")
def streams(aws: LocalAws) -> dict[str, str]:
    return make_streams(aws)


@pytest.fixture(scope="module")
def stack(aws: LocalAws, streams: dict[str, str]) -> TemplateStack:
    made = TemplateStack(aws)
    assert made.change(None, StartingPosition="LATEST", **streams) == "CREATE_COMPLETE"
    bucket, bundle = Bucket(aws.client("s3"), made.outputs()["BucketName"]), small_bundle()
    store_bundle(bucket, bundle)
    move_channel(bucket, "stable", bundle.model_version, bundle.manifest_sha256)
    return made


def problems(stack: TemplateStack) -> dict[str, Finding]:
    """Return findings that are not good, by fault."""
    findings = check(Doctor(stack.aws.client, stack.name).gather())
    return {
        one.fault: one for one in findings if one.severity is not Severity.good and one.fault not in _OF_THE_LOCAL_AWS
    }


def put_rides(kinesis: Any, *numbers: int) -> None:
    for number in numbers:
        kinesis.put_record(StreamName="ride-events", PartitionKey="1", Data=ride_bytes(number))


def test_outputs_mappings_and_variables_name_the_streams(stack: TemplateStack, streams: dict[str, str]) -> None:
    outputs = stack.outputs()
    mappings = Stack(parameters=streams).archive_mappings(stack.names())
    variables = stack.aws.client("lambda").get_function_configuration(FunctionName=outputs["ArchiverName"])

    names = {"rides": "ride-events", "predictions": "ride-predictions", "outcomes": "ride-outcomes"}
    assert {outputs[f"{one}Arn"] for one in ("RideEvents", "RidePredictions", "RideOutcomes")} <= set(streams.values())
    assert outputs["RidePredictionsStream"] == "ride-predictions"
    assert {kind: one.stream_name for kind, one in mappings.items()} == names
    assert {
        kind: variables["Environment"]["Variables"][f"RIDE_{'EVENTS' if kind == 'rides' else kind.upper()}_STREAM"]
        for kind in names
    } == names
    assert not {"RideEvents", "RidePredictions", "RideOutcomes"} & stack.names().keys()


def test_doctor_finds_nothing_in_it(stack: TemplateStack) -> None:
    assert problems(stack) == {}


def test_latest_begins_with_what_arrives_from_then_on(
    aws: LocalAws, stack: TemplateStack, streams: dict[str, str]
) -> None:
    kinesis, read = aws.client("kinesis"), []
    config = Stack(parameters={**streams, "StartingPosition": "LATEST", "BatchWindowSeconds": 0})
    put_rides(kinesis, 1, 2)
    mapping = EventSourceMapping(
        config.event_source_mapping(stack.names()), kinesis, lambda event: read.extend(event["Records"])
    )
    mapping.poll_once()
    put_rides(kinesis, 3)
    while mapping.poll_once():
        pass

    assert [base64.b64decode(record["kinesis"]["data"]) for record in read] == [ride_bytes(3)]


def test_time_of_the_parameter_is_where_reading_begins(stack: TemplateStack, streams: dict[str, str]) -> None:
    parameters = {**streams, "StartingPosition": "AT_TIMESTAMP", "StartingPositionTimestamp": 1_700_000_000}
    mapping = Stack(parameters=parameters).event_source_mapping(stack.names())

    assert mapping.starting_position == datetime.fromtimestamp(1_700_000_000, UTC)


def test_streams_and_their_records_outlive_the_stack_and_a_missing_one_is_found(
    aws: LocalAws, stack: TemplateStack
) -> None:
    kinesis = aws.client("kinesis")
    n_records = len(read_stream(kinesis, "ride-events"))

    kinesis.delete_stream(StreamName="ride-predictions")
    found = problems(stack)["existing-stream-missing"]
    stack.delete()

    assert (found.check, found.what) == ("output stream", "ride-predictions does not exist")
    assert "ask its owner; without RidePredictionsArn" in found.remedy
    assert set(kinesis.list_streams()["StreamNames"]) == {"ride-events", "ride-outcomes"}
    assert len(read_stream(kinesis, "ride-events")) == n_records > 0
    summary = kinesis.describe_stream_summary(StreamName="ride-events")["StreamDescriptionSummary"]
    assert summary["EncryptionType"] == "KMS"
