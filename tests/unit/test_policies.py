"""IAM policies evaluated as AWS does, and templates checked as CloudFormation does."""

from typing import Any

import pytest

from infra.local.moto.cloudformation.templates import TemplateRefusedError, expand, resolve_parameters
from infra.local.moto.policies import UnknownConditionError, is_allowed

KEY = "arn:aws:kms:us-east-1:123456789012:key/a"


def statement(effect: str = "Allow", **parts: Any) -> dict[str, Any]:
    """A statement on decrypting with a key."""
    return {"Effect": effect, "Action": "kms:Decrypt", "Resource": KEY, **parts}


def decide(*statements: dict[str, Any], **context: str) -> bool:
    """Whether decrypting with the key is allowed; context keys are written with __ for their colon."""
    keys = {name.replace("__", ":"): value for name, value in context.items()}
    return is_allowed([{"Statement": list(statements)}], "kms:Decrypt", KEY, keys)


@pytest.mark.parametrize(
    ("statements", "allowed"),
    [
        ([], False),
        ([statement()], True),
        ([statement(Action=["kms:Encrypt", "KMS:decrypt"])], True),
        ([statement(Action="kms:*")], True),
        ([statement(Action="kms:Encrypt")], False),
        ([statement(NotAction="kms:Encrypt")], True),
        ([statement(Resource="*")], True),
        ([statement(Resource=f"{KEY}b")], False),
        ([statement(Resource=KEY.replace("/a", "/?"))], True),
        ([statement(Resource=KEY.replace("/a", "/[a]"))], False),
        ([statement(), statement("Deny", Action="*", Resource="*")], False),
        ([statement(), statement("Deny", Resource="arn:aws:kms:*:key/other")], True),
    ],
)
def test_a_statement_must_allow_and_none_deny(statements: list[dict[str, Any]], allowed: bool) -> None:
    assert decide(*statements) is allowed


def test_condition_must_hold_and_a_missing_key_equals_nothing() -> None:
    through_s3 = statement(Condition={"StringEquals": {"kms:ViaService": ["s3.us-east-1.amazonaws.com"]}})

    assert decide(through_s3, kms__ViaService="s3.us-east-1.amazonaws.com")
    assert not decide(through_s3, kms__ViaService="kinesis.us-east-1.amazonaws.com")
    assert not decide(through_s3)


def test_if_exists_condition_holds_without_the_key() -> None:
    of_the_project = statement(Condition={"StringEqualsIfExists": {"aws:ResourceTag/project": "ridecast"}})

    assert decide(of_the_project)
    assert decide(of_the_project, **{"aws:ResourceTag/project": "ridecast"})
    assert not decide(of_the_project, **{"aws:ResourceTag/project": "another"})


def test_denial_whose_condition_does_not_hold_denies_nothing() -> None:
    assert decide(statement(), statement("Deny", Condition={"Bool": {"aws:SecureTransport": False}}))


def test_unsupported_condition_is_an_error() -> None:
    with pytest.raises(UnknownConditionError, match="IpAddress"):
        decide(statement(Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}))


@pytest.mark.parametrize(
    ("slot", "value", "problem"),
    [
        ({"Type": "String", "AllowedValues": ["a", "b"]}, "c", r"must be one of AllowedValues: \[a, b\]"),
        ({"Type": "String", "AllowedPattern": "[a-z]+"}, "A", r"must match pattern \[a-z\]\+"),
        ({"Type": "Number"}, "many", "must be a number"),
        ({"Type": "Number", "MaxValue": 2}, "3", "must be a number not greater than 2"),
    ],
)
def test_parameter_value_that_is_not_allowed_is_refused(slot: dict[str, Any], value: str, problem: str) -> None:
    with pytest.raises(TemplateRefusedError, match=f"Parameter 'Name' {problem}"):
        resolve_parameters({"Name": slot}, {"Name": value})


@pytest.mark.parametrize("text", ["", "a: [", "Resources: {}", "[]"])
def test_text_that_is_not_a_template_is_refused(text: str) -> None:
    with pytest.raises(TemplateRefusedError, match="Template format error"):
        expand(text, {}, "us-east-1")


def test_template_without_macros_is_unchanged() -> None:
    assert expand("Resources: {A: {Type: x}}", {}, "us-east-1") == {"Resources": {"A": {"Type": "x"}}}
