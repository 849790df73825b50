"""`ridecast doctor` finds each fault that is planted in a deployed stack of the local AWS, and names its remedy."""

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
    Plant,
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


@pytest.mark.parametrize(("fault", "plant", "remedy"), PLANTED, ids=[fault for fault, *_ in PLANTED])
def test_planted_fault_is_found_and_the_commands_of_its_remedy_heal_it(
    deployed: Deployed, healthy: list[Deployed], fault: str, plant: Plant, remedy: str
) -> None:
    plant(deployed)

    found = deployed.problems()

    assert list(found) == [fault, *_FOLLOW.get(fault, ())]
    assert found[fault].severity is FAULTS[fault].severity
    assert remedy in found[fault].remedy
    if commands_in(found[fault].remedy):
        assert follow_remedies(deployed, found) == {}
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
