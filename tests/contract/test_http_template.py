"""The HTTP API's part of template.yaml: authorization, throttling, logs and its function."""

import re
from dataclasses import fields
from typing import Any

import pytest

from infra.local.runtime.cors import ALLOW_HEADERS, ALLOW_METHODS, EXPOSE_HEADERS, MAX_AGE_S
from infra.stack.conditions import broken_rules
from lambda_function.aws.settings import ServingSettings
from tests.kits.template import SIGNING_KEY, properties, stack

ISSUER = {"ApiJwtIssuer": "https://id.example/pool", "ApiJwtAudience": "rides"}
SETTING_NAMES = {
    "service_name": "POWERTOOLS_SERVICE_NAME",
    "metrics_namespace": "POWERTOOLS_METRICS_NAMESPACE",
}


def routes(resources: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = [one["Properties"] for one in resources.values() if one["Type"] == "AWS::ApiGatewayV2::Route"]
    return {route["RouteKey"]: route for route in found}


@pytest.mark.parametrize(
    ("parameters", "authorization", "authorizer"),
    [({}, "AWS_IAM", None), (ISSUER, "JWT", {"Ref": "ApiAuthorizer"})],
    ids=["signed requests", "tokens"],
)
def test_every_route_requires_a_signed_request_or_a_token_if_there_is_an_issuer(
    parameters: dict[str, str], authorization: str, authorizer: Any
) -> None:
    resources = stack(**parameters).decided["Resources"]
    assert len(routes(resources)) == 5
    assert {route["AuthorizationType"] for route in routes(resources).values()} == {authorization}
    assert all(route.get("AuthorizerId") == authorizer for route in routes(resources).values())
    declared = [one["Properties"] for name, one in resources.items() if name == "ApiAuthorizer"]
    assert [one["AuthorizerType"] for one in declared] == (["JWT"] if authorizer else [])


@pytest.mark.parametrize(
    ("issuer", "audience", "is_accepted"),
    [("", "", True), ("", "rides", True), ("https://id.example", "rides", True), ("https://id.example", "", False)],
    ids=["signed requests", "unused audience", "tokens for an audience", "tokens without an audience"],
)
def test_issuer_is_refused_without_an_audience(issuer: str, audience: str, is_accepted: bool) -> None:
    given = stack(ApiJwtIssuer=issuer, ApiJwtAudience=audience)
    broken = broken_rules(given.template, given.parameters)  # SAM's translator leaves rules to CloudFormation

    assert broken == (
        [] if is_accepted else ["ApiJwtIssuer needs ApiJwtAudience, the audience that its tokens are for."]
    )


@pytest.mark.parametrize(("audience", "is_accepted"), [("", True), ("urn:rides|1", True), ("rides, others", False)])
def test_audience_is_one_word(audience: str, is_accepted: bool) -> None:
    declared = stack().template["Parameters"]["ApiJwtAudience"]

    assert bool(re.fullmatch(declared["AllowedPattern"], audience)) is is_accepted


def test_other_origins_have_no_access_by_default() -> None:
    assert "CorsConfiguration" not in properties("Api")
    assert not [key for key in routes(stack().decided["Resources"]) if key.startswith("OPTIONS")]


def test_listed_origins_have_the_access_that_they_have_on_this_machine() -> None:
    given = {"ApiCorsOrigins": "https://a.example,https://b.example"}
    configured = properties("Api", **given)["CorsConfiguration"]
    preflight = routes(stack(**given).decided["Resources"])["OPTIONS /{proxy+}"]

    assert configured == {
        "AllowOrigins": {"Fn::Split": [",", {"Ref": "ApiCorsOrigins"}]},
        "AllowMethods": [*ALLOW_METHODS],
        "AllowHeaders": [*ALLOW_HEADERS],
        "ExposeHeaders": [*EXPOSE_HEADERS],
        "MaxAge": MAX_AGE_S,
    }
    assert preflight["AuthorizationType"] == "NONE"  # browsers send it without


@pytest.mark.parametrize(
    ("origins", "is_accepted"),
    [
        ("", True),
        ("*", True),
        ("https://a.example,http://localhost:3000", True),
        ("https://a.example/", False),
        ("https://a.example, https://b.example", False),
        ("a.example", False),
        ("https://*.example", False),
        ("*,https://a.example", False),
    ],
)
def test_origins_are_checked(origins: str, is_accepted: bool) -> None:
    declared = stack().template["Parameters"]["ApiCorsOrigins"]

    assert bool(re.fullmatch(declared["AllowedPattern"], origins)) is is_accepted


def test_requests_are_throttled_and_logged() -> None:
    stage = properties("ApiStage")

    assert {"ThrottlingRateLimit", "ThrottlingBurstLimit"} <= stage["DefaultRouteSettings"].keys()
    assert stage["AccessLogSettings"]["DestinationArn"] == {"Fn::GetAtt": ["ApiAccessLogs", "Arn"]}
    for chosen_by_callers in ("$context.path", "userAgent", "$context.error.message"):
        assert chosen_by_callers not in stage["AccessLogSettings"]["Format"]


def test_only_this_api_invokes_the_function() -> None:
    permission = properties("ApiInvokesFunction")

    assert permission["Principal"] == "apigateway.amazonaws.com"
    assert str(permission["SourceArn"]).endswith(":${Api}/*/*'}")


def test_function_is_of_the_same_package_and_gets_its_settings() -> None:
    function = properties("ApiFunction")
    variables = {SETTING_NAMES.get(field.name, field.name.upper()) for field in fields(ServingSettings)}

    assert function["Environment"]["Variables"].keys() == variables
    assert function["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"] == {"Fn::Sub": "${AWS::StackName}/api"}
    assert function["Code"] == properties("Predictor")["Code"]
    assert function["Timeout"] < 30  # API Gateway waits that long


def test_function_verifies_signed_models_too() -> None:
    assert properties("ApiFunction", ModelSigningKeyArn=SIGNING_KEY)["Environment"]["Variables"]["MODEL_SIGNING_KEY"]
