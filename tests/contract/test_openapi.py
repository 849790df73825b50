"""docs/openapi.json is valid, generated from the present code, and matches the answers of the routes."""

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from openapi_spec_validator import validate

from infra.stack.template import TEMPLATE, read_template
from lambda_function.api.openapi import openapi, openapi_json
from lambda_function.api.rides import MAX_RIDES
from lambda_function.core.events import REJECT_REASONS
from tests.builders import ride_bytes, ride_event
from tests.fakes_api import FakeApi, rides_bytes

DOCUMENT = TEMPLATE.parent / "docs" / "openapi.json"


def validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": f"#/components/schemas/{schema}", "components": openapi()["components"]})


def test_document_is_openapi() -> None:
    validate(openapi())


def test_document_in_docs_is_generated_from_the_code() -> None:
    found = DOCUMENT.read_bytes()

    assert found == openapi_json(), "run: python -m lambda_function.api.openapi > docs/openapi.json"


def test_document_has_the_routes_of_the_function_and_of_the_template() -> None:
    documented = {f"{method.upper()} {path}" for path, methods in openapi()["paths"].items() for method in methods}
    served = {f"{method} {path}" for path, (method, _) in FakeApi(bundle=None).handler.routes.items()}
    resources = read_template(TEMPLATE)["Resources"].values()
    routed = {one["Properties"]["RouteKey"] for one in resources if one["Type"] == "AWS::ApiGatewayV2::Route"}

    assert documented == served == routed - {"$default"}


@pytest.mark.parametrize("name", ["ride", "rides"])
def test_example_of_a_request_is_answered(name: str) -> None:
    content = openapi()["paths"]["/predictions"]["post"]["requestBody"]["content"]["application/json"]
    body = json.dumps(content["examples"][name]["value"]).encode()

    assert FakeApi().predict(body).status == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "schema"),
    [
        ("POST", "/predictions", ride_bytes(), "Prediction"),
        ("POST", "/predictions", rides_bytes(ride_bytes(), b"5"), "Results"),
        ("POST", "/predictions", b"5", "Problem"),
        ("GET", "/model", b"", "ModelFacts"),
        ("GET", "/health", b"", "Health"),
        ("GET", "/nothing", b"", "Problem"),
    ],
)
def test_answer_is_as_documented(method: str, path: str, body: bytes, schema: str) -> None:
    validator(schema).validate(FakeApi().ask(method, path, body).json)


def test_example_of_an_answer_is_valid() -> None:
    (example,) = openapi()["components"]["schemas"]["Results"]["examples"]

    validator("Results").validate(example)


@pytest.mark.parametrize(
    ("change", "is_valid"),
    [
        ({"PULocationID": 1}, True),
        ({"PULocationID": "265"}, True),
        ({"PULocationID": "7"}, True),
        ({"PULocationID": 266}, False),
        ({"PULocationID": "266"}, False),
        ({"PULocationID": "07"}, False),
        ({"PULocationID": "0"}, False),
        ({"PULocationID": 7.0}, True),
        ({"PULocationID": "7.0"}, True),
        ({"PULocationID": 7.5}, False),
        ({"PULocationID": "7.5"}, False),
        ({"DOLocationID": True}, False),
        ({"trip_distance": -0.1}, False),
        ({"trip_distance": "3"}, True),
        ({"trip_distance": "3.66e-1"}, True),
        ({"trip_distance": "-3"}, False),
        ({"trip_distance": "1e999"}, False),
        ({"trip_distance": "far"}, False),
        ({"pickup_datetime": None, "lpep_pickup_datetime": "2021-01-05 08:15:00"}, True),
        ({"lpep_pickup_datetime": 5}, True),
        ({"pickup_datetime": 5}, False),
    ],
)
def test_ride_event_is_documented_as_strictly_as_it_is_checked(change: dict[str, Any], is_valid: bool) -> None:
    event = ride_event(**change)

    assert validator("RideEvent").is_valid(event) == is_valid
    assert (FakeApi().predict(json.dumps(event).encode()).status == 200) == is_valid


def test_limits_and_reasons_are_the_codes_own() -> None:
    schemas = openapi()["components"]["schemas"]

    assert schemas["Rides"]["properties"]["rides"]["maxItems"] == MAX_RIDES
    assert schemas["Problem"]["properties"]["reason"]["enum"] == list(REJECT_REASONS)
