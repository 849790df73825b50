"""Stacks on the local AWS, made and changed by change sets like those of `sam deploy`."""

import json
import os
import re
import signal
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from infra.local.aws import LocalAws
from tests.kits.stack import CODE, TemplateStack, template

ONE_STREAM: dict[str, Any] = {
    "Parameters": {"Shards": {"Type": "Number", "Default": 1, "MinValue": 1}},
    "Resources": {"Rides": {"Type": "AWS::Kinesis::Stream", "Properties": {"ShardCount": {"Ref": "Shards"}}}},
    "Outputs": {"Stream": {"Value": {"Ref": "Rides"}, "Export": {"Name": "stream"}}},
}

IS_ONE = {"Fn::Equals": [{"Ref": "Shards"}, "1"]}
MORE_THAN_ONE = {"Assertions": [{"Assert": {"Fn::Not": [IS_ONE]}, "AssertDescription": "one shard is not enough"}]}


@pytest.fixture
def stack(aws: LocalAws, request: pytest.FixtureRequest) -> TemplateStack:
    """A stack that does not exist yet, with a name of its own."""
    return TemplateStack(aws, f"stack-{zlib.crc32(request.node.name.encode())}")


def alias_target(stack: TemplateStack) -> tuple[str, int]:
    """Return the version of the alias `live` and its timeout."""
    found = stack.aws.client("lambda").get_function_configuration(FunctionName=stack.outputs()["FunctionAliasArn"])
    return found["Version"], int(found["Timeout"])


def stream_with_taken_name(made_after: str) -> dict[str, Any]:
    properties = {"Name": {"Ref": "RideEventsName"}, "ShardCount": 1}
    return {"Type": "AWS::Kinesis::Stream", "DependsOn": made_after, "Properties": properties}


def test_template_is_created_updated_rolled_back_and_deleted(stack: TemplateStack) -> None:
    # GIVEN every resource of the template
    assert stack.change() == "CREATE_COMPLETE"
    conditional = {name for name, one in template()["Resources"].items() if "Condition" in one}
    assert template()["Resources"].keys() - stack.names().keys() <= conditional
    assert all(stack.names().values())
    assert alias_target(stack) == ("1", 60)

    # WHEN nothing is different THEN there is no change set
    assert "didn't contain changes" in stack.change()

    # WHEN code and parameters change THEN only resources that depend on them change, with the alias
    stack.upload_code("second", "second.zip")
    second = _with_code(template(), "second.zip")
    n_before = len(stack.events())
    assert stack.change(second, RideEventsShards=2, TimeoutSeconds=90) == "UPDATE_COMPLETE"
    changed = {name for name, status in stack.events()[n_before:] if status == "UPDATE_COMPLETE"} - {stack.name}
    assert {"Predictor", "RideEvents", "PredictorAliaslive"} <= changed
    assert not changed & {"Bucket", "Key", "PredictorRole", "RidePredictions"}
    assert alias_target(stack) == ("2", 90)

    # WHEN an update fails THEN all is as before
    names, outputs = stack.names(), stack.outputs()
    broken = _with_code(template(), CODE["S3Key"])
    broken["Resources"]["Taken"] = stream_with_taken_name("Predictor")
    assert stack.change(broken, RideEventsShards=2, TimeoutSeconds=30) == "UPDATE_ROLLBACK_COMPLETE"
    assert ("Taken", "CREATE_FAILED") in stack.events()
    assert (stack.names(), stack.outputs()) == (names, outputs)
    assert alias_target(stack)[1] == 90

    # WHEN it is deleted THEN streams and bucket stay, and the function is gone
    outputs = stack.outputs()
    stack.delete()
    aws = stack.aws
    assert {outputs["RideEventsStream"]} <= set(aws.client("kinesis").list_streams()["StreamNames"])
    assert outputs["BucketName"] in [one["Name"] for one in aws.client("s3").list_buckets()["Buckets"]]
    assert aws.client("lambda").list_functions()["Functions"] == []
    assert aws.client("cloudwatch").describe_alarms()["MetricAlarms"] == []


def _with_code(wanted: dict[str, Any], key: str) -> dict[str, Any]:
    """Give the functions other code and a version resource that is named by it, as SAM's translator does."""
    text = json.dumps(wanted).replace(json.dumps(CODE["S3Key"]), json.dumps(key))
    (version,) = [name for name in wanted["Resources"] if name.startswith("PredictorVersion")]
    changed: dict[str, Any] = json.loads(text.replace(version, "PredictorVersion" + key.partition(".")[0]))
    return changed


def test_stack_whose_creation_fails_leaves_nothing_behind(stack: TemplateStack) -> None:
    wanted = template()
    wanted["Resources"]["Taken"] = stream_with_taken_name("RideEvents")
    kinesis, s3 = stack.aws.client("kinesis"), stack.aws.client("s3")
    before = kinesis.list_streams()["StreamNames"], s3.list_buckets()["Buckets"]
    names = {
        "RideEventsName": "failing-events",
        "RidePredictionsName": "failing-predictions",
        "RideOutcomesName": "failing-outcomes",
    }
    assert stack.change(wanted, **names) == "ROLLBACK_COMPLETE"
    assert (kinesis.list_streams()["StreamNames"], s3.list_buckets()["Buckets"]) == before


def test_taken_bucket_name_fails_the_creation_and_another_name_works(aws: LocalAws, stack: TemplateStack) -> None:
    names: dict[str, Any] = {
        "RideEventsName": "some-events",
        "RidePredictionsName": "some-predictions",
        "RideOutcomesName": "some-outcomes",
    }
    aws.client("s3").create_bucket(Bucket="taken")
    assert stack.change(**names, BucketName="taken") == "ROLLBACK_COMPLETE"
    assert ("Bucket", "CREATE_FAILED") in stack.events()
    assert "some-events" not in aws.client("kinesis").list_streams()["StreamNames"]
    stack.delete()

    again = TemplateStack(aws, stack.name)
    assert again.change(**names, BucketName="free") == "CREATE_COMPLETE"
    assert again.outputs()["BucketName"] == "free"
    again.delete()


def test_deleted_stack_is_created_again_with_other_stream_names(aws: LocalAws, stack: TemplateStack) -> None:
    # GIVEN a deleted stack whose streams exist
    first: dict[str, Any] = {
        "RideEventsName": "first-events",
        "RidePredictionsName": "first-predictions",
        "RideOutcomesName": "first-outcomes",
    }
    assert stack.change(**first) == "CREATE_COMPLETE"
    stack.delete()

    # WHEN it is deployed as before THEN it fails, because the names of the streams are taken
    again = TemplateStack(aws, stack.name)
    assert again.change(**first) == "ROLLBACK_COMPLETE"
    assert ("RideEvents", "CREATE_FAILED") in again.events()
    again.delete()

    # WHEN the streams have other names THEN it is created, and no stream is lost
    second: dict[str, Any] = {
        "RideEventsName": "second-events",
        "RidePredictionsName": "second-predictions",
        "RideOutcomesName": "second-outcomes",
    }
    elsewhere = TemplateStack(aws, stack.name)
    assert elsewhere.change(**second) == "CREATE_COMPLETE"
    elsewhere.delete()
    for name in (*first.values(), *second.values()):
        assert aws.client("kinesis").describe_stream_summary(StreamName=name)


def test_exports_follow_the_stack(aws: LocalAws, stack: TemplateStack) -> None:
    def exports() -> dict[str, str]:
        return {one["Name"]: one["Value"] for one in aws.client("cloudformation").list_exports()["Exports"]}

    assert stack.change(ONE_STREAM) == "CREATE_COMPLETE"
    assert exports() == {"stream": stack.names()["Rides"]}
    stack.delete()
    assert exports() == {}


@pytest.mark.parametrize(
    ("change", "parameters", "problem"),
    [
        ({}, {"Shards": 0}, "Parameter 'Shards' must be a number not less than 1"),
        ({"Rules": {"Enough": MORE_THAN_ONE}}, {"Shards": 1}, "one shard is not enough"),
        ({}, {"Sharts": 1}, "Parameters: [Sharts] do not exist in the template"),
        ({"Parameters": {"Shards": {"Type": "Number"}}}, {}, "Parameters: [Shards] must have values"),
        ({"Resources": {"Car": {"Type": "AWS::Car::Car"}}}, {}, "the local AWS has no AWS::Car::Car"),
        ({"Resources": {}}, {}, "At least one Resources member must be defined"),
    ],
)
def test_invalid_template_or_parameter_is_refused_before_any_resource_is_made(
    stack: TemplateStack, change: dict[str, Any], parameters: dict[str, object], problem: str
) -> None:
    before = stack.aws.client("kinesis").list_streams()["StreamNames"]
    with pytest.raises(ClientError) as refused:
        stack.change({**ONE_STREAM, **change}, **parameters)
    assert problem in str(refused.value)
    assert stack.aws.client("kinesis").list_streams()["StreamNames"] == before


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_run_names_its_first_step_and_leaves_nothing_behind_when_stopped(tmp_path: Path, by: signal.Signals) -> None:
    scratch, logs = tmp_path / "scratch", tmp_path / "logs"
    scratch.mkdir()
    begun = subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-m", "tests.deploy_local", "--folder", str(logs)],
        env={**os.environ, "TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with begun:
        assert begun.stdout
        first_line = begun.stdout.readline()
        os.killpg(begun.pid, by)
        _, errors = begun.communicate()

    assert re.match(r"1/\d+ build:", first_line)
    assert (begun.returncode, errors) == (130, f"deploy-local: stopped; the logs are in {logs}\n")
    assert list(scratch.iterdir()) == []
