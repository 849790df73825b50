"""The local AWS as a whole: it starts, has the template's stack, is isolated and does not outlive its parent."""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.exceptions import ClientError

from infra.local.aws import LocalAws
from infra.local.event_source.config import MappingConfig
from infra.local.stack import DeployedStack, deploy
from infra.stack.describe import describe_stack
from lambda_function.aws.settings import Settings
from training.errors import UserError

_PATIENCE_S = 120


def connect(endpoint_url: str) -> socket.socket:
    address = urlsplit(endpoint_url)
    return socket.create_connection((address.hostname, address.port), timeout=_PATIENCE_S)


def wait_for_the_end(held: socket.socket) -> None:
    """Wait until the server has closed the connection; raise TimeoutError if it stays."""
    with suppress(ConnectionResetError):
        assert held.recv(1) == b""


def test_stack_has_the_streams_and_the_bucket_of_the_template(aws: LocalAws, stack: DeployedStack) -> None:
    streams = aws.client("kinesis").list_streams()["StreamNames"]
    buckets = [bucket["Name"] for bucket in aws.client("s3").list_buckets()["Buckets"]]

    assert sorted(streams) == ["ride-events", "ride-outcomes", "ride-predictions"]
    assert (stack.input_stream, stack.output_stream) == ("ride-events", "ride-predictions")
    assert buckets == [stack.bucket]


def test_function_settings_are_resolved_and_accepted(stack: DeployedStack) -> None:
    settings = Settings.from_env(stack.function.environment)

    assert settings.output_stream == stack.output_stream
    assert settings.bucket == stack.bucket
    assert (settings.model_channel, settings.model_refresh_s, settings.log_level) == ("stable", 60.0, "INFO")
    assert stack.function.handler == "lambda_function.handler.lambda_handler"
    assert (stack.function.timeout_s, stack.function.memory_mb) == (60, 1769)


def test_mapping_is_the_templates_with_physical_names(stack: DeployedStack) -> None:
    assert stack.mapping == MappingConfig(
        stream_name=stack.input_stream,
        batch_size=10_000,
        batching_window_s=1,
        starting_position="TRIM_HORIZON",
        parallelization_factor=1,
        bisect_on_error=True,
        maximum_retry_attempts=-1,
        maximum_record_age_s=86_400,
        on_failure_bucket=stack.bucket,
        report_batch_item_failures=True,
        function_name=f"{stack.function.name}:live",
    )


def test_archive_function_has_a_mapping_on_each_stream(stack: DeployedStack) -> None:
    streams = {"rides": stack.input_stream, "predictions": stack.output_stream, "outcomes": stack.outcomes_stream}
    assert {kind: one.stream_name for kind, one in stack.archive_mappings.items()} == streams
    assert {one.function_name for one in stack.archive_mappings.values()} == {stack.archiver.name}
    assert stack.archiver.handler == "lambda_function.archive.lambda_handler"
    assert stack.archiver.environment["RIDE_OUTCOMES_STREAM"] == stack.outcomes_stream


def test_parameters_reach_streams_environment_and_mapping(aws: LocalAws) -> None:
    names = {
        "RideEventsName": "other-events",
        "RidePredictionsName": "other-predictions",
        "RideOutcomesName": "other-outcomes",
    }
    other = deploy(aws, "other", parameters={**names, "RideEventsShards": 3, "ModelChannel": "candidate"})

    assert len(aws.client("kinesis").list_shards(StreamName="other-events")["Shards"]) == 3
    assert other.function.environment["OUTPUT_STREAM"] == "other-predictions"
    assert other.function.environment["MODEL_CHANNEL"] == "candidate"
    assert other.mapping.stream_name == "other-events"


def test_stack_that_cannot_be_created_is_reported(aws: LocalAws, stack: DeployedStack) -> None:
    with pytest.raises(UserError, match=r"template\.yaml cannot be deployed as second: .*ride-events"):
        deploy(aws, "second")


def test_bucket_takes_conditional_writes_and_unusual_keys(aws: LocalAws, stack: DeployedStack) -> None:
    s3 = aws.client("s3")
    where = {"Bucket": stack.bucket, "Key": "channels/a b+ü.json"}
    etag = s3.put_object(**where, Body=b"one", IfNoneMatch="*")["ETag"]

    with pytest.raises(ClientError) as again:
        s3.put_object(**where, Body=b"two", IfNoneMatch="*")
    with pytest.raises(ClientError) as unchanged:
        s3.get_object(**where, IfNoneMatch=etag)
    s3.put_object(**where, Body=b"three", IfMatch=etag)

    assert again.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
    assert unchanged.value.response["ResponseMetadata"]["HTTPStatusCode"] == 304
    assert s3.get_object(**where)["Body"].read() == b"three"
    assert s3.head_object(**where)["ContentLength"] == 5


def test_large_object_is_stored_and_returned_unchanged(aws: LocalAws, stack: DeployedStack) -> None:
    body = os.urandom(20_000_000)
    s3 = aws.client("s3")
    s3.put_object(Bucket=stack.bucket, Key="models/large", Body=body)

    assert s3.get_object(Bucket=stack.bucket, Key="models/large")["Body"].read() == body


def test_clients_ignore_the_users_settings(aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_PROFILE": "no-such-profile",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_CONFIG_FILE": "/no/such/file",
        "HTTP_PROXY": "http://127.0.0.1:1",
    }.items():
        monkeypatch.setenv(name, value)

    assert aws.client("sts").get_caller_identity()["Account"] == "123456789012"
    with LocalAws() as another:  # its server gets a clean environment too
        assert another.client("kinesis").list_streams()["StreamNames"] == []


def test_environment_makes_a_functions_clients_use_this_aws(
    aws: LocalAws, stack: DeployedStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in aws.environment.items():
        monkeypatch.setenv(name, value)

    assert stack.input_stream in boto3.Session().client("kinesis").list_streams()["StreamNames"]


def test_server_ends_with_its_block() -> None:
    with LocalAws() as aws:
        aws.client("kinesis").list_streams()

    with pytest.raises(ConnectionRefusedError):
        connect(aws.endpoint_url)


def test_server_does_not_outlive_a_killed_parent() -> None:
    parent = (
        "import sys; from infra.local.aws import LocalAws\n"
        "with LocalAws() as aws:\n"
        "    aws.client('kinesis').list_streams()\n"
        "    print(aws.endpoint_url, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(  # noqa: S603 - our own arguments
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        with connect(process.stdout.readline().strip()) as held:
            process.send_signal(signal.SIGKILL)
            wait_for_the_end(held)


def test_server_that_ends_by_itself_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHOME", "/no/such/python")  # no Python starts with this

    with (
        pytest.raises(UserError, match=r"the local AWS ended with code \d+; the end of its output: "),
        LocalAws() as aws,
        connect(aws.endpoint_url) as held,
    ):
        wait_for_the_end(held)


def test_lambda_is_created_without_a_container_engine(aws: LocalAws, stack: DeployedStack) -> None:
    functions: list[dict[str, Any]] = aws.client("lambda").list_functions()["Functions"]

    assert stack.function.name in [function["FunctionName"] for function in functions]
    assert "docker" not in json.dumps(functions)


def test_change_that_the_monitor_finds_reaches_the_alarm_topic_in_a_sentence(
    aws: LocalAws, stack: DeployedStack
) -> None:
    # GIVEN a queue that gets what the alarm topic gets
    sqs, text = aws.client("sqs"), "Predictions are 2.10 minutes too long."
    queue = sqs.create_queue(QueueName="on-call")["QueueUrl"]
    queue_arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = describe_stack(aws.client("cloudformation"), "ridecast").outputs["AlarmTopicArn"]
    aws.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue_arn)
    # WHEN the monitor tells of a change, of one in another stack, and of a move of a channel
    told = (
        ("ridecast monitor state change", "ridecast"),
        ("ridecast monitor state change", "another"),
        ("ridecast channel move", "ridecast"),
    )
    entries = [
        {"Source": "ridecast", "DetailType": kind, "Detail": json.dumps({"stack": name, "text": text})}
        for kind, name in told
    ]
    assert aws.client("events").put_events(Entries=entries)["FailedEntryCount"] == 0
    # THEN only the first arrives
    messages = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
    assert [json.loads(json.loads(message["Body"])["Message"]) for message in messages] == [text]
