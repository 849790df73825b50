"""`ridecast doctor` on a stack of the local AWS: healthy, ill, and not to be looked at."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from infra.cli_doctor import show_findings
from infra.doctor.checks import Finding, Severity, check
from infra.doctor.gather import Doctor
from infra.errors import NoSuchStackError
from infra.local.server import LocalAws
from tests.builders import small_bundle
from tests.stack_kit import TemplateStack
from training.publish import move_channel, store_bundle

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stack() -> Iterator[TemplateStack]:
    with LocalAws() as aws:
        made = TemplateStack(aws)
        assert made.change() == "CREATE_COMPLETE"
        yield made


def ill(stack: TemplateStack) -> dict[str, Finding]:
    """What is bad, by check."""
    findings = check(Doctor(stack.aws.client, stack.name).gather())
    return {one.check: one for one in findings if one.severity is Severity.bad}


def publish(stack: TemplateStack) -> str:
    s3, bucket, bundle = stack.aws.client("s3"), stack.outputs()["BucketName"], small_bundle()
    store_bundle(s3, bucket, bundle)
    move_channel(s3, bucket, "stable", bundle.model_version, bundle.manifest_sha256)
    return bundle.model_version


def test_stack_without_a_model_is_told_how_to_get_one_and_with_one_it_is_healthy(stack: TemplateStack) -> None:
    assert "models publish" in ill(stack)["model"].what

    version = publish(stack)
    facts = Doctor(stack.aws.client, stack.name).gather()
    assert facts.model
    assert facts.model.model_version == version
    assert (ill(stack), facts.unseen) == ({}, {})


def test_bundle_that_was_damaged_is_found(stack: TemplateStack) -> None:
    version = publish(stack)
    s3, where = stack.aws.client("s3"), {"Bucket": stack.outputs()["BucketName"], "Key": f"models/{version}/forest.npz"}
    whole = s3.get_object(**where)["Body"].read()
    s3.put_object(**where, Body=whole[:-1])
    assert "forest.npz" in ill(stack)["model"].what
    s3.put_object(**where, Body=whole)


def test_metrics_alarms_and_what_waits_are_seen(stack: TemplateStack) -> None:
    publish(stack)
    aws, just_now = stack.aws, datetime.now(UTC) - timedelta(minutes=1)
    dimensions = [{"Name": "service", "Value": "ridecast"}]
    data = {"Records": 10, "Predictions": 9, "ModelRefreshFailures": 2}
    aws.client("cloudwatch").put_metric_data(
        Namespace="ridecast",
        MetricData=[
            {"MetricName": name, "Value": value, "Timestamp": just_now, "Dimensions": dimensions}
            for name, value in data.items()
        ],
    )
    alarm = stack.names()["IteratorAgeAlarm"]
    aws.client("cloudwatch").set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="rides wait")
    aws.client("s3").put_object(Bucket=stack.outputs()["BucketName"], Key="aws/lambda/m/shard/one", Body=b"{}")

    found = ill(stack)

    assert found["refresh"].what.startswith("2 looks at the channel failed")
    assert found["alarm"].what == f"{alarm}: rides wait"
    assert "1 objects of failures wait" in found["failures"].what


def test_stack_that_is_not_there_is_said_in_one_sentence(stack: TemplateStack) -> None:
    with pytest.raises(NoSuchStackError, match=r"cannot look at stack nowhere: .* does not exist; check name, region"):
        Doctor(stack.aws.client, "nowhere").gather()


def test_findings_are_shown_as_lines_and_as_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    findings = (Finding("stack", Severity.good, "it is there"), Finding("model", Severity.bad, "none", "publish one"))

    show_findings("ridecast", findings, as_json=False)

    *lines, last = capsys.readouterr().out.splitlines()
    assert lines == ["  stack: it is there", "✗ model: none", "    → publish one"]
    assert json.loads(last)["bad"] == 1
