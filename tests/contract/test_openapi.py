"""docs/openapi.json is valid, generated from the present code, and matches the answers of the routes."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from openapi_spec_validator import validate

from infra.local.runtime.http_head import read_head
from infra.stack.template import TEMPLATE, read_template
from lambda_function.api.handler import allowed_methods
from lambda_function.api.openapi import openapi, openapi_json
from lambda_function.api.rides import MAX_BODY_BYTES, MAX_RIDES, answer_error
from lambda_function.core.events import REJECT_REASONS
from lambda_function.errors import RequestError
from tests.builders import interval_bundle, ride_bytes, ride_event
from tests.fakes_api import FakeApi, Response, rides_bytes

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
    routes = FakeApi(bundle=None).handler.routes.items()
    served = {f"{one} {path}" for path, (method, _) in routes for one in allowed_methods(method)}
    resources = read_template(TEMPLATE)["Resources"].values()
    routed = {one["Properties"]["RouteKey"] for one in resources if one["Type"] == "AWS::ApiGatewayV2::Route"}

    assert documented == served
    assert {route for route in served if not route.startswith("HEAD ")} == routed - {"$default", "OPTIONS /{proxy+}"}


def examples(node: Any) -> dict[str, Any]:
    """Return the examples of a request or an answer by name."""
    return {
        name: one["value"] for content in node["content"].values() for name, one in content.get("examples", {}).items()
    }


PREDICT = openapi()["paths"]["/predictions"]["post"]


@pytest.mark.parametrize("name", examples(PREDICT["requestBody"]))
def test_example_of_a_request_is_answered_as_in_the_example_of_its_answer(name: str) -> None:
    body = json.dumps(examples(PREDICT["requestBody"])[name]).encode()
    response = FakeApi(interval_bundle()).predict(body)

    assert response.status == 200
    assert form(response.json) == form(examples(PREDICT["responses"]["200"])[name])


def test_example_of_rides_that_are_not_all_predicted_is_such_an_answer() -> None:
    (example,) = examples(PREDICT["responses"]["207"]).values()
    response = FakeApi(interval_bundle()).predict(rides_bytes(ride_bytes(), ride_bytes(trip_distance=-1)))

    assert response.status == 207
    assert form(response.json) == form(example)
    assert response.json["results"][1] == example["results"][1]


@pytest.mark.parametrize("path", ["/model", "/health"])
def test_example_of_another_answer_is_such_an_answer(path: str) -> None:
    (example,) = examples(openapi()["paths"][path]["get"]["responses"]["200"]).values()

    assert form(FakeApi(interval_bundle()).ask("GET", path).json) == form(example)


def form(value: Any) -> Any:
    """Return the names and types of a decoded document; metrics, features and ids are free."""
    if isinstance(value, list):
        return [form(one) for one in value]
    if not isinstance(value, dict):
        return type(value)
    free = ("validate_metrics", "feature_names", "ride_id")
    return {name: form(one) for name, one in value.items() if name not in free}


def refusals() -> dict[str, Response]:
    """Cause each problem of the document; return the answers by the problem's name."""
    api, without_model, failing = FakeApi(), FakeApi(bundle=None), FakeApi()
    failing.s3.script = [RuntimeError("a fault")]
    return {
        "BadRequest": api.predict(b""),
        "NotFound": api.ask("POST", "/predictions/"),
        "MethodNotAllowed": api.ask("PUT", "/predictions"),
        "LengthRequired": chunked(),
        "TooLarge": api.predict(b" " * (MAX_BODY_BYTES + 1)),
        "UnsupportedMediaType": api.ask("POST", "/predictions", ride_bytes(), "text/plain"),
        "Unprocessable": api.predict(b"[]"),
        "Failed": failing.predict(ride_bytes()),
        "NoModel": without_model.predict(ride_bytes()),
    }


def chunked() -> Response:
    """Return the local server's answer to a request whose body comes in chunks."""
    head = (b"Host: localhost\r\n", b"Transfer-Encoding: chunked\r\n", b"\r\n")
    lines = iter(head)
    try:
        read_head(b"POST /predictions HTTP/1.1\r\n", lambda _: next(lines), MAX_BODY_BYTES)
    except RequestError as error:
        answer = answer_error(error)
        return Response(answer.status, dict(answer.headers), answer.body)
    raise AssertionError


def test_each_problem_is_served_as_its_example() -> None:
    problems, served = openapi()["components"]["responses"], refusals()

    assert problems.keys() == served.keys()
    for name, response in served.items():
        (example,) = examples(problems[name]).values()
        assert (response.status, response.json) == (example["status"], example)
        assert PREDICT["responses"][str(response.status)] == {"$ref": f"#/components/responses/{name}"}
        assert problems[name].get("headers", {}).keys() <= response.headers.keys()


def test_every_example_is_valid() -> None:
    document = openapi()
    for schema, value in all_examples(document):
        Draft202012Validator({**schema, "components": document["components"]}).validate(value)
    assert len(list(all_examples(document))) >= 15


def all_examples(node: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    """Find every example of a document with its schema."""
    if isinstance(node, dict) and "schema" in node and "examples" in node:
        yield from ((node["schema"], one["value"]) for one in node["examples"].values())
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from all_examples(child)


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
