"""`ridecast doctor` finds each fault that is planted in a deployed stack of the local AWS, and names its remedy."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest

from infra.local.aws import LocalAws
from infra.operate.doctor.doctor import Doctor, check
from infra.operate.doctor.facts import Finding, Severity
from infra.operate.doctor.faults import FAULTS
from tests.builders import small_bundle
from tests.kits.stack import TemplateStack
from training.registry.bucket import Bucket
from training.registry.channels import move_channel, store_bundle

pytestmark = pytest.mark.slow

_NUMBERS = count()
_ALWAYS = {"nobody-subscribed"}
"""What the doctor finds in a healthy stack of the local AWS, which never confirms a subscription."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """A deployed stack with a model, to plant faults in."""

    stack: TemplateStack

    def client(self, service: str) -> Any:
        """Make a client of a service."""
        return self.stack.aws.client(service)

    @property
    def outputs(self) -> dict[str, str]:
        """The stack's outputs."""
        return dict(self.stack.outputs())

    def name(self, logical_name: str) -> str:
        """Return a resource's physical name."""
        return self.stack.names()[logical_name]

    def problems(self) -> dict[str, Finding]:
        """Findings that are not good, by fault."""
        findings = check(Doctor(self.stack.aws.client, self.stack.name).gather())
        problems = [one for one in findings if one.severity is not Severity.good]
        return {one.fault: one for one in problems if one.fault not in _ALWAYS}


@pytest.fixture
def deployed(aws: LocalAws) -> Deployed:
    number = next(_NUMBERS)
    stack = TemplateStack(aws, f"ridecast-{number}")
    names: dict[str, Any] = {"RideEventsName": f"events-{number}", "RidePredictionsName": f"predictions-{number}"}
    assert stack.change(**names) == "CREATE_COMPLETE"
    bucket, bundle = Bucket(aws.client("s3"), stack.outputs()["BucketName"]), small_bundle()
    store_bundle(bucket, bundle)
    move_channel(bucket, "stable", bundle.model_version, bundle.manifest_sha256)
    return Deployed(stack)


def delete_input_stream(on: Deployed) -> None:
    on.client("kinesis").delete_stream(StreamName=on.outputs["RideEventsStream"])


def delete_output_stream(on: Deployed) -> None:
    on.client("kinesis").delete_stream(StreamName=on.outputs["RidePredictionsStream"])


def delete_function(on: Deployed) -> None:
    on.client("lambda").delete_function(FunctionName=on.outputs["FunctionName"])


def delete_alias(on: Deployed) -> None:
    on.client("lambda").delete_alias(FunctionName=on.outputs["FunctionName"], Name="live")


def delete_api_function(on: Deployed) -> None:
    on.client("lambda").delete_function(FunctionName=on.outputs["ApiFunctionName"])


def delete_bucket(on: Deployed) -> None:
    s3, bucket = on.client("s3"), on.outputs["BucketName"]
    for version in s3.list_object_versions(Bucket=bucket).get("Versions", ()):
        s3.delete_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])
    s3.delete_bucket(Bucket=bucket)


def delete_queue(on: Deployed) -> None:
    on.client("sqs").delete_queue(QueueUrl=on.outputs["GivenUpBatchesUrl"])


def delete_topic(on: Deployed) -> None:
    on.client("sns").delete_topic(TopicArn=on.outputs["AlarmTopicArn"])


def delete_mapping(on: Deployed) -> None:
    on.client("lambda").delete_event_source_mapping(UUID=on.name("PredictorRides"))


def disable_mapping(on: Deployed) -> None:
    on.client("lambda").update_event_source_mapping(UUID=on.name("PredictorRides"), Enabled=False)


def delete_alarm(on: Deployed) -> None:
    on.client("cloudwatch").delete_alarms(AlarmNames=[on.name("ThrottlesAlarm")])


PLANTED: list[tuple[str, Callable[[Deployed], None], str]] = [
    ("input-stream-missing", delete_input_stream, "aws kinesis create-stream --stream-name events-"),
    ("output-stream-missing", delete_output_stream, "aws kinesis create-stream --stream-name predictions-"),
    ("function-missing", delete_function, "docs/runbook.md#repair"),
    ("alias-missing", delete_alias, "--name live --function-version 1`"),
    ("api-function-missing", delete_api_function, "docs/runbook.md#repair"),
    ("bucket-missing", delete_bucket, "`ridecast models release"),
    ("queue-missing", delete_queue, "docs/runbook.md#repair"),
    ("topic-missing", delete_topic, "docs/runbook.md#repair"),
    ("mapping-missing", delete_mapping, "docs/runbook.md#repair"),
    ("mapping-disabled", disable_mapping, "`aws lambda update-event-source-mapping --uuid"),
    ("alarm-deleted", delete_alarm, "docs/runbook.md#repair"),
]
"""The fault, how it is planted, and words of the remedy."""


@pytest.mark.parametrize(("fault", "plant", "remedy"), PLANTED, ids=[fault for fault, *_ in PLANTED])
def test_planted_fault_is_found_with_its_remedy(
    deployed: Deployed, fault: str, plant: Callable[[Deployed], None], remedy: str
) -> None:
    plant(deployed)

    found = deployed.problems()

    assert list(found) == [fault]
    assert found[fault].severity is FAULTS[fault].severity
    assert remedy in found[fault].remedy


def test_healthy_stack_has_no_problem(deployed: Deployed) -> None:
    assert deployed.problems() == {}


def test_stack_of_which_everything_is_deleted_is_bad(deployed: Deployed) -> None:
    for delete in (delete_output_stream, delete_alias, delete_input_stream, delete_function, delete_bucket):
        delete(deployed)

    found = deployed.problems()

    assert {name for name, one in found.items() if one.severity is Severity.bad} == {
        "output-stream-missing", "input-stream-missing", "function-missing", "bucket-missing",
    }  # fmt: skip
