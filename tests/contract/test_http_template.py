"""The HTTP API's part of template.yaml: who may ask, how much, and what its function may do."""

import re
from dataclasses import fields
from typing import Any

import pytest

from infra.local.stack import Stack
from infra.stack.conditions import broken_rules
from infra.stack.template import TEMPLATE
from lambda_function.aws.settings import ServingSettings

ISSUER = {"ApiJwtIssuer": "https://id.example/pool", "ApiJwtAudience": "rides"}
SETTING_NAMES = {
    "service_name": "POWERTOOLS_SERVICE_NAME",
    "metrics_namespace": "POWERTOOLS_METRICS_NAMESPACE",
}


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    found: dict[str, Any] = Stack().decided["Resources"]
    return found


@pytest.fixture(scope="module")
def with_tokens() -> dict[str, Any]:
    found: dict[str, Any] = Stack(TEMPLATE, ISSUER).decided["Resources"]
    return found


def routes(resources: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = [one["Properties"] for one in resources.values() if one["Type"] == "AWS::ApiGatewayV2::Route"]
    return {route["RouteKey"]: route for route in found}


def test_every_route_wants_a_signed_request(resources: dict[str, Any]) -> None:
    assert len(routes(resources)) == 5
    assert {route["AuthorizationType"] for route in routes(resources).values()} == {"AWS_IAM"}
    assert not any("AuthorizerId" in route for route in routes(resources).values())
    assert "ApiAuthorizer" not in resources


@pytest.mark.parametrize(
    ("issuer", "audience", "is_taken"),
    [("", "", True), ("", "rides", True), ("https://id.example", "rides", True), ("https://id.example", "", False)],
    ids=["signed requests", "an audience to spare", "tokens for an audience", "tokens for nobody"],
)
def test_issuer_is_refused_without_an_audience(issuer: str, audience: str, is_taken: bool) -> None:
    given = Stack(TEMPLATE, {"ApiJwtIssuer": issuer, "ApiJwtAudience": audience})
    broken = broken_rules(given.template, given.parameters)  # SAM's translator keeps them, for CloudFormation

    assert broken == ([] if is_taken else ["ApiJwtIssuer needs ApiJwtAudience, the audience that its tokens are for."])


@pytest.mark.parametrize(("audience", "is_taken"), [("", True), ("urn:rides|1", True), ("rides, others", False)])
def test_audience_is_one_word(audience: str, is_taken: bool) -> None:
    declared = Stack().template["Parameters"]["ApiJwtAudience"]

    assert bool(re.fullmatch(declared["AllowedPattern"], audience)) is is_taken


def test_every_route_wants_a_token_where_an_issuer_is_given(with_tokens: dict[str, Any]) -> None:
    assert {route["AuthorizationType"] for route in routes(with_tokens).values()} == {"JWT"}
    assert all(route["AuthorizerId"] == {"Ref": "ApiAuthorizer"} for route in routes(with_tokens).values())
    assert with_tokens["ApiAuthorizer"]["Properties"]["AuthorizerType"] == "JWT"


def test_requests_are_throttled_and_logged(resources: dict[str, Any]) -> None:
    stage = resources["ApiStage"]["Properties"]

    assert {"ThrottlingRateLimit", "ThrottlingBurstLimit"} <= stage["DefaultRouteSettings"].keys()
    assert stage["AccessLogSettings"]["DestinationArn"] == {"Fn::GetAtt": ["ApiAccessLogs", "Arn"]}
    for chosen_by_callers in ("$context.path", "userAgent", "$context.error.message"):
        assert chosen_by_callers not in stage["AccessLogSettings"]["Format"]


def test_only_this_api_invokes_the_function(resources: dict[str, Any]) -> None:
    permissions = [r["Properties"] for r in resources.values() if r["Type"] == "AWS::Lambda::Permission"]
    (permission,) = (one for one in permissions if one["FunctionName"] == {"Ref": "ApiFunction"})

    assert permission["Principal"] == "apigateway.amazonaws.com"
    assert str(permission["SourceArn"]).endswith(":${Api}/*/*'}")


def test_function_is_of_the_same_package_and_gets_its_settings(resources: dict[str, Any]) -> None:
    function = resources["ApiFunction"]["Properties"]
    variables = {SETTING_NAMES.get(field.name, field.name.upper()) for field in fields(ServingSettings)}

    assert function["Environment"]["Variables"].keys() == variables
    assert function["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"] == {"Fn::Sub": "${AWS::StackName}/api"}
    assert function["Code"] == resources["Predictor"]["Properties"]["Code"]
    assert function["Timeout"] < 30  # which is how long API Gateway waits


def test_function_may_load_models_and_nothing_else(resources: dict[str, Any]) -> None:
    (policy,) = resources["ApiFunctionRole"]["Properties"]["Policies"]
    statements = policy["PolicyDocument"]["Statement"]
    allowed = {
        (action, str(resource))
        for one in statements
        for action in listed(one["Action"])
        for resource in listed(one["Resource"])
    }

    assert resources["ApiFunction"]["Properties"]["Role"] == {"Fn::GetAtt": ["ApiFunctionRole", "Arn"]}
    assert {one["Effect"] for one in statements} == {"Allow"}
    assert allowed == {
        ("s3:GetObject", str({"Fn::Sub": "${Bucket.Arn}/models/*"})),
        ("s3:GetObject", str({"Fn::Sub": "${Bucket.Arn}/channels/*"})),
        ("s3:ListBucket", str({"Fn::GetAtt": ["Bucket", "Arn"]})),
        ("kms:Decrypt", str({"Fn::GetAtt": ["Key", "Arn"]})),
        ("logs:CreateLogStream", str({"Fn::GetAtt": ["ApiFunctionLogs", "Arn"]})),
        ("logs:PutLogEvents", str({"Fn::GetAtt": ["ApiFunctionLogs", "Arn"]})),
    }


def test_signed_models_are_verified_by_this_function_too() -> None:
    key = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    resources = Stack(TEMPLATE, {"ModelSigningKeyArn": key}).decided["Resources"]

    assert "kms:Verify" in str(resources["ApiFunctionRole"])
    assert resources["ApiFunction"]["Properties"]["Environment"]["Variables"]["MODEL_SIGNING_KEY"]


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
