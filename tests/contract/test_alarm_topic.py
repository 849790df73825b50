"""Who is told when an alarm sounds: one topic, for this stack's alarm alone, and an address if there is one."""

import re

import pytest

from infra.local.stack import Stack
from tests.kits.alarms import Properties, alarms_of


@pytest.fixture(scope="module")
def stack() -> Stack:
    return Stack()


@pytest.fixture(scope="module")
def alarms(stack: Stack) -> dict[str, Properties]:
    return alarms_of(stack)


def test_one_alarm_sounds_for_all_and_tells_one_topic(stack: Stack, alarms: dict[str, Properties]) -> None:
    composite = stack.only("AWS::CloudWatch::CompositeAlarm")
    rule = composite["AlarmRule"]["Fn::Sub"]
    assert re.fullmatch(r'ALARM\("\$\{\w+\}"\)( OR ALARM\("\$\{\w+\}"\))*', rule)
    assert sorted(re.findall(r"\$\{(\w+)\}", rule)) == sorted(alarms)
    assert composite["AlarmActions"] == composite["OKActions"] == [{"Ref": "AlarmTopic"}]
    assert not any(key.endswith("Actions") for alarm in alarms.values() for key in alarm)


def test_topic_is_encrypted_with_a_key_that_lets_cloudwatch_in(stack: Stack) -> None:
    assert stack.only("AWS::SNS::Topic")["KmsMasterKeyId"] == {"Ref": "AlarmKey"}
    key = stack.template["Resources"]["AlarmKey"]["Properties"]
    assert key["EnableKeyRotation"] is True
    administers, encrypts = key["KeyPolicy"]["Statement"]
    assert not {"kms:*", "kms:Decrypt", "kms:CreateGrant"} & set(administers["Action"])
    assert encrypts["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert encrypts["Action"] == ["kms:Decrypt", "kms:GenerateDataKey"]
    assert encrypts["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


def test_only_this_stacks_alarm_may_publish_to_the_topic(stack: Stack) -> None:
    policy = stack.only("AWS::SNS::TopicPolicy")
    allowed, denied = policy["PolicyDocument"]["Statement"]
    assert policy["Topics"] == [{"Ref": "AlarmTopic"}]
    assert (allowed["Effect"], allowed["Action"]) == ("Allow", "sns:Publish")
    assert allowed["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert allowed["Condition"] == {"ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": ["StackAlarm", "Arn"]}}}
    assert denied["Effect"] == "Deny"
    assert denied["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_an_address_is_told_if_there_is_one(stack: Stack) -> None:
    subscription = stack.template["Resources"]["AlarmSubscription"]
    assert subscription["Condition"] == "HasAlarmEmail"
    assert stack.template["Conditions"]["HasAlarmEmail"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "AlarmEmail"}, ""]}]}
    assert stack.parameters["AlarmEmail"] == ""
    assert subscription["Properties"]["TopicArn"] == {"Ref": "AlarmTopic"}


@pytest.mark.parametrize(
    ("address", "is_taken"), [("", True), ("rides@example.com", True), ("rides", False), ("a@b.com c@d.com", False)]
)
def test_address_is_checked(stack: Stack, address: str, is_taken: bool) -> None:
    pattern = stack.template["Parameters"]["AlarmEmail"]["AllowedPattern"]
    assert bool(re.fullmatch(pattern, address)) is is_taken
