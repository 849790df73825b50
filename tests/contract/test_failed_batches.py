"""Each batch that Lambda gives up leaves a message in a queue, which only that rule may send to."""

import pytest

from infra.local.event_source.delivery import FailedBatch, object_key
from infra.local.stack import Stack
from tests.builders import invocation, ride_bytes
from tests.kits.alarms import Properties, alarms_of, threshold


@pytest.fixture(scope="module")
def stack() -> Stack:
    return Stack()


@pytest.fixture(scope="module")
def alarms(stack: Stack) -> dict[str, Properties]:
    return alarms_of(stack)


def test_each_batch_that_lambda_gives_up_leaves_a_message(stack: Stack) -> None:
    rule = stack.only("AWS::Events::Rule")
    assert rule["EventPattern"] == {
        "source": ["aws.s3"],
        "detail-type": ["Object Created"],
        "detail": {"bucket": {"name": [{"Ref": "Bucket"}]}, "object": {"key": [{"prefix": "aws/lambda/"}]}},
    }
    assert [target["Arn"] for target in rule["Targets"]] == [{"Fn::GetAtt": ["GivenUpBatches", "Arn"]}]
    given_up = FailedBatch(
        records=invocation(ride_bytes())["Records"],
        condition="RecordAgeExceeded",
        n_invocations=1,
        raised=True,
        at_s=0.0,
        object_id="id",
        request_id="id",
    )
    assert object_key(given_up, "mapping").startswith("aws/lambda/")


def test_bucket_tells_of_new_objects(stack: Stack) -> None:
    notifications = stack.only("AWS::S3::Bucket").get("NotificationConfiguration")
    assert notifications == {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}


def test_only_that_rule_may_send_to_the_queue(stack: Stack) -> None:
    policy = stack.only("AWS::SQS::QueuePolicy")
    allowed, denied = policy["PolicyDocument"]["Statement"]
    assert policy["Queues"] == [{"Ref": "GivenUpBatches"}]
    assert allowed["Principal"] == {"Service": "events.amazonaws.com"}
    assert (allowed["Effect"], allowed["Action"]) == ("Allow", "sqs:SendMessage")
    assert allowed["Condition"] == {"ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": ["GivenUpBatchesRule", "Arn"]}}}
    assert denied["Effect"] == "Deny"


def test_queue_is_encrypted_and_remembers_longer_than_the_age_alarm_waits(
    stack: Stack, alarms: dict[str, Properties]
) -> None:
    queue = stack.template["Resources"]["GivenUpBatches"]["Properties"]
    assert queue["SqsManagedSseEnabled"] is True
    assert threshold(stack, alarms["GivenUpBatchAgeAlarm"]) == 24 * 3600
    assert queue["MessageRetentionPeriod"] == 14 * 24 * 3600
