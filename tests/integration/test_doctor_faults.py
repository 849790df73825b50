"""`ridecast doctor` finds each fault that is planted in a deployed stack of the local AWS, and names its remedy."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from itertools import count
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from infra.local.aws import LocalAws
from infra.operate.doctor.facts import Finding, Severity
from infra.operate.doctor.faults import FAULTS
from tests.builders import small_bundle
from tests.kits.aws_commands import commands_in, run_command
from tests.kits.doctor_faults import (
    PLANTED,
    Deployed,
    Planted,
    delete_alias,
    delete_bucket,
    delete_function,
    delete_input_stream,
    delete_output_stream,
)
from tests.kits.stack import TemplateStack
from training.registry.bucket import Bucket
from training.registry.channels import move_channel, store_bundle

pytestmark = pytest.mark.slow

_NUMBERS = count()
_ALONE = {
    "alias-missing", "bucket-missing", "environment-wrong", "function-missing", "input-stream-missing", "key-disabled",
    "key-pending-deletion", "mapping-missing", "outcomes-stream-missing", "output-stream-missing", "role-missing",
}  # fmt: skip
"""Faults that hide others."""
_PARTS = {
    **dict.fromkeys(("calibration-frozen", "data-changed", "not-monitored", "performance-changed"), "status"),
    **dict.fromkeys(("loop-failed", "loop-queue-missing"), "loop-queue"),
    **dict.fromkeys(("loop-schedule-disabled", "loop-schedule-missing"), "loop-schedule"),
    **dict.fromkeys(("monitor-schedule-disabled", "monitor-schedule-missing"), "monitor-schedule"),
}
"""The part of the stack that has the fault, where the fault's first word does not name it."""
_FOLLOW = {"environment-wrong": ["version-not-serving"]}
"""Faults that another one brings with it."""


@pytest.fixture(scope="module")
def client(aws: LocalAws) -> Callable[[str], Any]:
    return cache(aws.client)


@pytest.fixture(scope="module")
def healthy() -> list[Deployed]:
    """Stacks without a fault, left by a test for the next one."""
    return []


@pytest.fixture
def deployed(aws: LocalAws, client: Callable[[str], Any], healthy: list[Deployed]) -> Iterator[Deployed]:
    on = healthy.pop() if healthy else deploy(aws, client)
    yield on
    if on not in healthy:
        with suppress(ClientError, ResponseParserError):  # what the test has deleted can't be deleted again here
            on.stack.delete()  # else each further stack makes the doctor slower


def deploy(aws: LocalAws, client: Callable[[str], Any]) -> Deployed:
    number = next(_NUMBERS)
    stack = TemplateStack(aws, f"ridecast-{number}")
    names: dict[str, Any] = {
        "RideEventsName": f"events-{number}",
        "RidePredictionsName": f"predictions-{number}",
        "RideOutcomesName": f"outcomes-{number}",
        "LoopMode": "on",
    }
    assert stack.change(**names) == "CREATE_COMPLETE"
    bucket, bundle = Bucket(client("s3"), stack.outputs()["BucketName"]), small_bundle()
    store_bundle(bucket, bundle)
    move_channel(bucket, "stable", bundle.model_version, bundle.manifest_sha256)
    return Deployed(stack, client)


def together() -> list[tuple[Planted, ...]]:
    """Return the faults in groups that share a stack, because a stack for each would take minutes.

    A group has one fault of each part of the stack, and either all have commands as their remedies or none has.
    """
    shared = [one for one in PLANTED if one[0] not in _ALONE]
    n_of_part = Counter(_part(fault) for fault, *_ in shared)
    groups: dict[bool, list[list[Planted]]] = {True: [], False: []}
    for planted in sorted(shared, key=lambda one: -n_of_part[_part(one[0])]):
        listed = groups[not re.search(r"`ridecast |runbook", planted[2])]
        fitting = [one for one in listed if _part(planted[0]) not in {_part(other) for other, *_ in one}]
        if not fitting:
            fitting = [[]]
            listed += fitting
        min(fitting, key=len).append(planted)
    alone = [(one,) for one in PLANTED if one[0] in _ALONE]
    return [*alone, *(tuple(group) for listed in groups.values() for group in listed)]


def _part(fault: str) -> str:
    return _PARTS.get(fault, fault.partition("-")[0])


@pytest.mark.parametrize("faults", together(), ids=lambda faults: ", ".join(fault for fault, *_ in faults))
def test_planted_faults_are_found_and_the_commands_of_their_remedies_heal_them(
    deployed: Deployed, healthy: list[Deployed], faults: tuple[Planted, ...]
) -> None:
    for _, plant, _ in faults:
        plant(deployed)

    found = deployed.problems()

    assert set(found) == {one for fault, *_ in faults for one in (fault, *_FOLLOW.get(fault, ()))}
    for fault, _, remedy in faults:
        assert found[fault].severity is FAULTS[fault].severity
        assert remedy in found[fault].remedy
    unhealed = {fault for fault, *_ in faults if not commands_in(found[fault].remedy)}
    if len(unhealed) < len(faults):
        assert follow_remedies(deployed, found).keys() == unhealed
    if not unhealed:
        healthy.append(deployed)


def follow_remedies(deployed: Deployed, found: dict[str, Finding]) -> dict[str, Finding]:
    """Run the commands of AWS's own in the remedies and return what is left.

    A second time if something is: a stream that is made again lacks its settings.
    """
    for _ in range(2):
        for command in dict.fromkeys(command for one in found.values() for command in commands_in(one.remedy)):
            run_command(deployed.client, command)
        found = deployed.problems()
        if not found:
            break
    return found


def test_healthy_stack_has_no_problem(deployed: Deployed, healthy: list[Deployed]) -> None:
    assert deployed.problems() == {}
    healthy.append(deployed)


def test_stack_of_which_everything_is_deleted_is_bad(deployed: Deployed) -> None:
    for delete in (delete_output_stream, delete_alias, delete_input_stream, delete_function, delete_bucket):
        delete(deployed)

    found = deployed.problems()

    assert {name for name, one in found.items() if one.severity is Severity.bad} == {
        "output-stream-missing", "input-stream-missing", "function-missing", "bucket-missing",
    }  # fmt: skip
