"""`ridecast doctor` on stacks of the local AWS: healthy, with problems, changed by hand, and without permissions."""

import json
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError

from infra.cli.app import main
from infra.cli.options import Aws
from infra.local.aws import REGION, LocalAws
from infra.operate.answers import retry_cut_off_answers
from infra.operate.doctor.doctor import Doctor, check
from infra.operate.doctor.facts import Finding, Severity, StackFacts
from infra.stack.template import TEMPLATE
from tests.builders import small_bundle
from tests.kits.cutting_proxy import cutting
from tests.kits.stack import TemplateStack
from training.errors import UserError
from training.registry.bucket import Bucket
from training.registry.channels import move_channel, store_bundle

pytestmark = pytest.mark.slow

ONE_ATTEMPT = Config(retries={"mode": "standard", "total_max_attempts": 1}, proxies={})
CREDENTIALS = {"aws_access_key_id": "local", "aws_secret_access_key": "local", "region_name": REGION}


@pytest.fixture(scope="module")
def stack(aws: LocalAws) -> TemplateStack:
    made = TemplateStack(aws, "ridecast-prod")
    assert made.change() == "CREATE_COMPLETE"
    return made


@pytest.fixture(scope="module")
def changed() -> Iterator[TemplateStack]:
    """A stack with manual changes of every kind that the doctor detects."""
    with LocalAws() as aws:
        made = TemplateStack(aws, "ridecast-dev")
        assert made.change(RideEventsShards=2) == "CREATE_COMPLETE"
        _change_by_hand(made)
        yield made


def _change_by_hand(stack: TemplateStack) -> None:
    kinesis, aws_lambda, cloudwatch = (stack.aws.client(name) for name in ("kinesis", "lambda", "cloudwatch"))
    names, outputs = stack.names(), stack.outputs()
    kinesis.update_shard_count(StreamName="ride-events", TargetShardCount=3, ScalingType="UNIFORM_SCALING")
    arn = kinesis.describe_stream_summary(StreamName="ride-predictions")["StreamDescriptionSummary"]["StreamARN"]
    kinesis.update_stream_mode(StreamARN=arn, StreamModeDetails={"StreamMode": "ON_DEMAND"})
    function = outputs["FunctionName"]
    aws_lambda.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=1)
    aws_lambda.update_event_source_mapping(UUID=names["PredictorRides"], BatchSize=500, Enabled=False)
    routing = {"AdditionalVersionWeights": {"2": 0.1}}
    aws_lambda.update_alias(FunctionName=function, Name="live", FunctionVersion="1", RoutingConfig=routing)
    cloudwatch.delete_alarms(AlarmNames=[names["ThrottlesAlarm"]])
    cloudwatch.disable_alarm_actions(AlarmNames=[names["StackAlarm"]])


def gather(stack: TemplateStack, client: Any = None) -> StackFacts:
    return Doctor(client or stack.aws.client, stack.name).gather()


def problems(stack: TemplateStack, severity: Severity = Severity.bad) -> dict[str, Finding]:
    """Findings of one severity, by check."""
    return {one.check: one for one in check(gather(stack)) if one.severity is severity}


def release_model(stack: TemplateStack) -> str:
    s3, bucket, bundle = stack.aws.client("s3"), stack.outputs()["BucketName"], small_bundle()
    store_bundle(Bucket(s3, bucket), bundle)
    move_channel(Bucket(s3, bucket), "stable", bundle.model_version, bundle.manifest_sha256)
    return bundle.model_version


def count(stack: TemplateStack, namespace: str, name: str, values: Mapping[str, float], minutes_ago: int = 1) -> None:
    """Put metrics with one dimension, `service` for ours and `FunctionName` for Lambda's."""
    dimension = {"Name": "FunctionName" if namespace == "AWS/Lambda" else "service", "Value": name}
    then = datetime.now(UTC) - timedelta(minutes=minutes_ago)
    stack.aws.client("cloudwatch").put_metric_data(
        Namespace=namespace,
        MetricData=[
            {"MetricName": metric, "Value": value, "Timestamp": then, "Dimensions": [dimension]}
            for metric, value in values.items()
        ],
    )


def test_stack_without_a_model_gets_a_remedy_and_with_one_it_is_healthy(stack: TemplateStack) -> None:
    missing, bucket = problems(stack)["model"], stack.outputs()["BucketName"]
    assert "holds no model" in missing.what
    assert f"`ridecast models release build/bundles/<version> --bucket {bucket}`" in missing.remedy

    version = release_model(stack)
    facts = gather(stack)
    assert facts.model
    assert facts.model.what == f"channel stable of s3://{bucket} holds {version}, and it loads"
    # The local AWS never confirms a subscription.
    assert {one.check for one in check(facts) if one.severity is not Severity.good} == {"alarm topic"}
    assert facts.unread == {}


def test_damaged_bundle_is_found(stack: TemplateStack) -> None:
    version = release_model(stack)
    s3, where = stack.aws.client("s3"), {"Bucket": stack.outputs()["BucketName"], "Key": f"models/{version}/forest.npz"}
    whole = s3.get_object(**where)["Body"].read()
    s3.put_object(**where, Body=whole[:-1])
    assert "forest.npz" in problems(stack)["model"].what
    rollback = f"`ridecast models rollback VERSION --channel stable --bucket {where['Bucket']}`"
    assert rollback in problems(stack)["model"].remedy
    s3.put_object(**where, Body=whole)


def test_damaged_channel_is_found(stack: TemplateStack) -> None:
    release_model(stack)
    s3, where = stack.aws.client("s3"), {"Bucket": stack.outputs()["BucketName"], "Key": "channels/stable.json"}
    whole = s3.get_object(**where)["Body"].read()
    s3.put_object(**where, Body=b"{")
    assert "`ridecast models restore --channel stable --bucket" in problems(stack)["model"].remedy
    s3.put_object(**where, Body=whole)


def test_metrics_alarms_and_waiting_records_are_read(stack: TemplateStack) -> None:
    release_model(stack)
    aws = stack.aws
    count(stack, "ridecast", "ridecast-prod", {"Records": 10, "Predictions": 9, "ModelRefreshFailures": 2})
    count(stack, "ridecast", "ridecast-dev", {"ModelRefreshFailures": 5})  # of another stack in the account
    count(stack, "AWS/Lambda", stack.outputs()["FunctionName"], {"Errors": 4, "Throttles": 3})
    alarm = stack.names()["IteratorAgeAlarm"]
    aws.client("cloudwatch").set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="rides wait")
    aws.client("s3").put_object(Bucket=stack.outputs()["BucketName"], Key="aws/lambda/m/shard/one", Body=b"{}")

    found = problems(stack)

    assert found["refresh"].what.startswith("2 refresh failures of the channel")
    assert found["work"].what.startswith("4 invocations failed, 0 by an exception")
    assert found["alarm"].what == f"{alarm}: rides wait"
    assert found["alarm"].remedy.startswith("docs/runbook.md#iteratoragealarm")
    assert "1 object of failures waits" in found["failures"].what
    assert problems(stack, Severity.warning)["work"].what == "Lambda throttled 3 invocations"


def test_refresh_that_failed_a_while_ago_and_works_again_is_a_warning(changed: TemplateStack) -> None:
    count(changed, "ridecast", changed.name, {"ModelRefreshFailures": 1, "Records": 5, "Predictions": 5}, 30)
    count(changed, "ridecast", changed.name, {"ModelRefreshFailures": 0, "Records": 7, "Predictions": 7}, 1)

    found = problems(changed, Severity.warning)["refresh"]

    assert found.what == "1 refresh failure of the channel in the last 60 minutes, none in the last 10 minutes"


def test_parameters_changed_by_hand_are_named(changed: TemplateStack) -> None:
    found = problems(changed, Severity.warning)["parameters"]

    assert {"RideEventsShards=3", "StreamMode=ON_DEMAND", "BatchSize=500", "ReservedConcurrency=1"} <= {
        word.strip(";") for word in found.remedy.split()
    }


def test_reserved_concurrency_is_compared_with_the_shards(changed: TemplateStack) -> None:
    facts = gather(changed)

    assert facts.concurrency
    assert (facts.concurrency.reserved, facts.concurrency.n_unreserved, facts.concurrency.n_account) == (1, 999, 1000)
    assert problems(changed, Severity.warning)["concurrency"].remedy == "deploy with ReservedConcurrency=3"


def test_stream_on_demand_has_shards_of_its_own_and_no_parameter_for_them(changed: TemplateStack) -> None:
    output = gather(changed).stream("output")

    assert output
    assert (output.is_on_demand, output.n_open_shards, output.parameters) == (True, 1, {"StreamMode": "ON_DEMAND"})


def test_disabled_mapping_is_bad(changed: TemplateStack) -> None:
    assert problems(changed)["mapping"].what.startswith("the mapping is Disabled")


def test_running_rollout_is_a_warning_with_its_share(changed: TemplateStack) -> None:
    assert problems(changed, Severity.warning)["release"].what == "version 2 gets 10% of the batches, 1 the rest"


def test_deleted_and_muted_alarms_are_found(changed: TemplateStack) -> None:
    assert "ThrottlesAlarm" in problems(changed)["alarm"].what
    assert "StackAlarm" in problems(changed, Severity.warning)["alarm"].what


def test_template_here_is_compared_with_the_one_deployed(stack: TemplateStack) -> None:
    differing = Doctor(stack.aws.client, stack.name, template=TEMPLATE).gather().template_diff
    assert differing  # this stack was deployed translated
    assert "Predictor.Type is AWS::Serverless::Function here, AWS::Lambda::Function deployed" in differing


class Refusing:
    """A client whose every call ends in one error."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        def call(*_: object, **__: object) -> Any:
            if name == "get_paginator":
                return SimpleNamespace(paginate=call_page)
            raise self._error

        def call_page(**_: object) -> Any:
            raise self._error

        return call


DENIED = ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "Any")
THROTTLED = ClientError({"Error": {"Code": "ThrottlingException", "Message": "slowly"}}, "Any")
UNREACHABLE = EndpointConnectionError(endpoint_url="https://kinesis.invalid")


@pytest.mark.parametrize(
    ("service", "unread"),
    [
        ("lambda", {"function", "release", "mapping", "concurrency", "quotas", "api", "archive", "join", "monitor"}),
        ("kinesis", {"input stream", "output stream", "outcomes stream", "quotas"}),
        ("cloudwatch", {"work", "input stream", "output stream", "outcomes stream", "alarms"}),
        ("sqs", {"GivenUpBatches", "RejectsQueue"}),
        ("kms", {"key"}),
        ("iam", {"role"}),
    ],
)
@pytest.mark.parametrize(("error", "is_denied"), [(DENIED, True), (THROTTLED, False), (UNREACHABLE, False)])
def test_rest_is_read_if_one_service_refuses(
    stack: TemplateStack, service: str, unread: set[str], error: Exception, *, is_denied: bool
) -> None:
    facts = gather(stack, lambda name: Refusing(error) if name == service else stack.aws.client(name))

    assert set(facts.unread) == unread
    assert facts.denied == (unread if is_denied else set())
    assert facts.status == "CREATE_COMPLETE"
    unknown = {one.check for one in check(facts) if one.severity is Severity.unknown}
    assert unread <= unknown


def test_model_is_unread_if_the_bucket_refuses(stack: TemplateStack) -> None:
    refused = ClientError({**DENIED.response, "ResponseMetadata": {"HTTPStatusCode": 403}}, "GetObject")  # type: ignore[typeddict-item]
    facts = gather(stack, lambda name: Refusing(refused) if name == "s3" else stack.aws.client(name))

    assert facts.model
    assert (facts.model.severity, facts.model.fault) == (Severity.unknown, "denied")
    assert facts.denied == {"bucket", "rejects and failures", "monitor"}


@pytest.mark.parametrize("left", [0.0, 0.5])
def test_cut_off_answer_is_a_part_that_was_not_looked_at(stack: TemplateStack, left: float) -> None:
    release_model(stack)

    def cut(service: str, body: bytes) -> bytes:
        return body if service == "cloudformation" else body[: int(left * len(body))]

    session: Any = boto3.Session()
    with cutting(stack.aws.endpoint_url, cut) as endpoint_url:

        def client(service: str) -> Any:
            made = session.client(service, endpoint_url=endpoint_url, config=ONE_ATTEMPT, **CREDENTIALS)
            retry_cut_off_answers(made)
            return made

        facts = gather(stack, client)

    found = {one.fault for one in check(facts) if one.severity is not Severity.good}
    assert found == {"not-read"}
    assert {
        "input stream", "output stream", "outcomes stream", "quotas", "bucket", "archive", "join", "monitor",
        "key", "role", "RejectsQueue", "GivenUpBatches", "api",
        "http api", "function", "release", "mapping", "concurrency", "alarms", "alarm topic", "rejects and failures",
    } == set(facts.unread)  # fmt: skip


def test_commands_send_a_request_again_whose_answer_was_cut_off(aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = iter([0.5, 0.0])

    def cut(_: str, body: bytes) -> bytes:
        return body[: int(next(lengths, 1.0) * len(body))]

    for name, value in {**aws.environment, "no_proxy": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    with cutting(aws.endpoint_url, cut) as endpoint_url:
        buckets = Aws(endpoint_url=endpoint_url).client("s3").list_buckets()["Buckets"]

    assert [one["Name"] for one in buckets] == [one["Name"] for one in aws.client("s3").list_buckets()["Buckets"]]
    assert next(lengths, None) is None


def test_missing_stack_is_an_error_of_one_sentence(stack: TemplateStack) -> None:
    with pytest.raises(UserError, match=r"cannot describe stack nowhere: .* does not exist: check --stack, --region"):
        Doctor(stack.aws.client, "nowhere").gather()


def test_command_writes_one_object_and_exits_with_1_for_a_stack_with_problems(
    changed: TemplateStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {**changed.aws.environment, "no_proxy": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)  # where no template.yaml is
    where = ["--stack", changed.name, "--endpoint-url", changed.aws.endpoint_url]
    monkeypatch.setattr(sys, "argv", ["ridecast", "doctor", "--json", *where])

    with pytest.raises(SystemExit) as ended:
        main()

    result = json.loads(capsys.readouterr().out)
    assert ended.value.code == 1
    assert set(result) == {"stack", "good", "warning", "unknown", "bad", "findings"}
    assert (result["stack"], result["bad"]) == (changed.name, 3)  # model, mapping, alarm
