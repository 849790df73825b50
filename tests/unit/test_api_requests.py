"""Paths, methods, content types and sizes: what the API takes, and how it refuses the rest."""

import pytest

from lambda_function.api.openapi import openapi_json
from lambda_function.api.rides import MAX_BODY_BYTES
from tests.builders import ride_bytes
from tests.fakes_api import JSON, FakeApi, assert_is_problem


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.mark.parametrize("content_type", [None, "", "text/plain", "application/x-ndjson", "application/jsonx"])
def test_other_content_types_are_refused(api: FakeApi, content_type: str | None) -> None:
    response = api.ask("POST", "/predictions", ride_bytes(), content_type)

    assert_is_problem(response, 415)
    assert response.headers["Accept"] == JSON


@pytest.mark.parametrize("content_type", ["Application/JSON", "application/json; charset=utf-8"])
def test_json_is_taken_however_it_is_spelt(api: FakeApi, content_type: str) -> None:
    assert api.ask("POST", "/predictions", ride_bytes(), content_type).status == 200


def test_body_is_taken_up_to_its_limit_and_not_beyond(api: FakeApi) -> None:
    longest = ride_bytes().ljust(MAX_BODY_BYTES)

    assert api.predict(longest).status == 200
    assert_is_problem(api.predict(longest + b" "), 413)


@pytest.mark.parametrize("path", ["/", "/nothing", "/predictions/1", "/openapiXjson", "/model/", "//model"])
def test_unknown_path_is_not_found(api: FakeApi, path: str) -> None:
    assert_is_problem(api.ask("GET", path), 404)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "BREW"])
@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/predictions", "POST"), ("/model", "GET"), ("/health", "GET"), ("/openapi.json", "GET")],
)
def test_other_methods_are_refused_and_told_which_is_allowed(
    api: FakeApi, method: str, path: str, allowed: str
) -> None:
    response = api.ask(method, path)

    if method == allowed:
        assert response.status != 405
    else:
        assert_is_problem(response, 405)
        assert response.headers["Allow"] == allowed


def test_document_is_served_as_it_is_generated(api: FakeApi) -> None:
    response = api.ask("GET", "/openapi.json")

    assert (response.status, response.headers["Content-Type"]) == (200, JSON)
    assert response.body == openapi_json()
