"""The changes of a change set as the approver reads them: what endangers data first, policies before and after."""

import json
from typing import Any

import pytest

from infra.stack.changes import MAX_SUMMARY_BYTES, Change, as_markdown, read_changes

ACCOUNT = "123456789012"
ROLE = "AWS::IAM::Role"


class _CloudFormation:
    """A change set with one change a page."""

    def __init__(self, *changes: dict[str, Any]) -> None:
        self._changes = changes

    def get_paginator(self, operation: str) -> "_CloudFormation":
        assert operation == "describe_change_set"
        return self

    def paginate(self, **request: Any) -> list[dict[str, Any]]:
        with_values = request["IncludePropertyValues"]
        kept = [{k: v for k, v in one.items() if with_values or "Context" not in k} for one in self._changes]
        return [{"Changes": [{"ResourceChange": one}]} for one in kept]


def shown(*changes: dict[str, Any]) -> str:
    return as_markdown("ridecast", read_changes(_CloudFormation(*changes), "ridecast", "release-1"), ACCOUNT)


def role(action: str = "Modify", name: str = "PredictorRole", /, **contexts: Any) -> dict[str, Any]:
    values = {key: json.dumps({"Properties": properties}) for key, properties in contexts.items()}
    return {"Action": action, "LogicalResourceId": name, "ResourceType": ROLE, "Replacement": "False", **values}


def allows(action: str) -> dict[str, Any]:
    return {"Policies": [{"Action": action, "Resource": f"arn:aws:s3:us-east-1:{ACCOUNT}:rides"}]}


def test_changes_that_endanger_data_are_shown_first() -> None:
    table = shown(
        {"Action": "Add", "LogicalResourceId": "Alarm", "ResourceType": "AWS::CloudWatch::Alarm"},
        {
            "Action": "Modify",
            "LogicalResourceId": "RideEvents",
            "ResourceType": "AWS::Kinesis::Stream",
            "Replacement": "Conditional",
        },
        {"Action": "Remove", "LogicalResourceId": "Bucket", "ResourceType": "AWS::S3::Bucket"},
    ).splitlines()

    assert table[0] == "### ridecast: 3 changes"
    assert [line.split(" | ")[:2] for line in table[3:]] == [
        ["| ⚠️ Modify", "RideEvents"],
        ["| ⚠️ Remove", "Bucket"],
        ["| Add", "Alarm"],
    ]


@pytest.mark.parametrize(
    ("action", "kind", "replacement", "endangers"),
    [
        ("Modify", "AWS::S3::Bucket", "False", False),
        ("Modify", "AWS::S3::Bucket", "True", True),
        ("Remove", "AWS::KMS::Key", "", True),
        ("Remove", "AWS::Lambda::Version", "", False),
    ],
)
def test_data_is_endangered_by_removal_or_replacement(
    action: str, kind: str, replacement: str, endangers: bool
) -> None:
    assert Change(action, "X", kind, replacement).endangers_data is endangers


def test_policy_is_shown_before_and_after() -> None:
    text = shown(role(BeforeContext=allows("s3:GetObject"), AfterContext=allows("s3:*")))

    assert '-        "Action": "s3:GetObject",\n+        "Action": "s3:*",' in text
    assert "<details open><summary>PredictorRole</summary>" in text


@pytest.mark.parametrize(("action", "key", "sign"), [("Add", "AfterContext", "+"), ("Remove", "BeforeContext", "-")])
def test_new_and_removed_policies_are_shown_whole(action: str, key: str, sign: str) -> None:
    text = shown(role(action, "PredictorRole", **{key: allows("s3:*")}))

    assert f'\n{sign}        "Action": "s3:*",' in text


def test_policies_come_before_other_values_and_other_new_resources_have_none() -> None:
    function = {
        "Action": "Modify",
        "LogicalResourceId": "Function",
        "ResourceType": "AWS::Lambda::Function",
        "BeforeContext": '{"Properties":{"Timeout":"60"}}',
        "AfterContext": '{"Properties":{"Timeout":"90"}}',
    }
    alarm = {"Action": "Add", "LogicalResourceId": "Alarm", "ResourceType": "AWS::CloudWatch::Alarm"}
    text = shown(function, {**alarm, "AfterContext": "{}"}, role("Add", "ZRole", AfterContext=allows("s3:*")))

    assert text.index("<summary>ZRole") < text.index("<details><summary>Function")
    assert '+    "Timeout": "90"' in text
    assert "<summary>Alarm" not in text


def test_own_accounts_number_is_left_out_and_anothers_is_not() -> None:
    foreign = {"Policies": [{"Principal": "arn:aws:iam::999999999999:root"}]}
    text = shown(role("Add", AfterContext=allows("s3:*")), role("Add", "Foreign", AfterContext=foreign))

    assert ACCOUNT not in text
    assert "arn:aws:s3:us-east-1:ACCOUNT:rides" in text
    assert "arn:aws:iam::999999999999:root" in text


def test_values_can_neither_end_their_block_nor_exceed_githubs_limit() -> None:
    hostile = {"Description": "```\n</details># Approved"}
    huge = [role("Add", f"R{n}", AfterContext={"Description": "x" * 300_000}) for n in range(5)]

    assert "```\n</details>#" not in shown(role("Add", AfterContext=hostile))
    text = shown(*huge)
    assert len(text.encode()) < MAX_SUMMARY_BYTES + 200
    assert text.endswith("**2 more resources change: read their values in CloudFormation's console.**")
