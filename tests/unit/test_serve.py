"""`ridecast serve`: HTTP on the loopback interface, converted to API Gateway's events and back without loss."""

import base64
import io
import json
import socket
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.cli.demo import bundle_bucket
from infra.local.runtime.http import (
    HOST,
    ApiServer,
    RequestCount,
    http_event,
    model_version,
)
from infra.local.s3 import FolderS3
from infra.operate.lambda_event import MAX_PAYLOAD_BYTES
from lambda_function.api.handler import build_handler
from lambda_function.aws.settings import ServingSettings
from lambda_function.errors import BundleError
from tests.builders import ride_bytes, small_bundle
from training.errors import UserError

PATIENCE_S = 60
JSON = {"Content-Type": "application/json"}
PROBLEM = "application/problem+json"


def echo(event: dict[str, Any], context: object) -> dict[str, Any]:
    """A function that answers with its event."""
    assert context is None
    return {
        "statusCode": 207,
        "headers": {"Content-Type": "application/json", "X-Echo": "1"},
        "body": json.dumps(event),
        "isBase64Encoded": False,
    }


@pytest.fixture(scope="module")
def seen() -> list[tuple[str, str, int]]:
    return []


@pytest.fixture(scope="module")
def echoing(seen: list[tuple[str, str, int]]) -> Iterator[ApiServer]:
    with ApiServer(echo, on_request=lambda method, path, status, _: seen.append((method, path, status))) as server:
        yield server


def connect(server: ApiServer) -> HTTPConnection:
    port = urlsplit(server.url).port
    assert port
    return HTTPConnection(HOST, port, timeout=PATIENCE_S)


def ask(
    server: ApiServer, method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[HTTPResponse, Any]:
    with closing(connect(server)) as connection:
        connection.request(method, target, body, headers or {})
        response = connection.getresponse()
        text = response.read()
    return response, json.loads(text) if text else None


def send_raw(server: ApiServer, sent: bytes) -> bytes:
    """Send bytes that no HTTP client would send; return all bytes until the server closes the connection."""
    port = urlsplit(server.url).port
    with socket.create_connection((HOST, port or 0), timeout=PATIENCE_S) as connection:
        connection.sendall(sent)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_request_is_converted_as_by_api_gateway(echoing: ApiServer) -> None:
    response, event = ask(echoing, "POST", "/a/b?c=d", b'{"e":"\xc3\xa9"}', {**JSON, "X-Mixed": "Case"})

    assert (response.status, response.headers["X-Echo"]) == (207, "1")
    assert (event["version"], event["rawPath"], event["rawQueryString"]) == ("2.0", "/a/b", "c=d")
    assert (event["headers"]["content-type"], event["headers"]["x-mixed"]) == ("application/json", "Case")
    assert (event["body"], event["isBase64Encoded"]) == ('{"e":"é"}', False)
    assert event["requestContext"]["http"]["method"] == "POST"


@pytest.mark.parametrize("method", ["GET", "PUT", "OPTIONS", "BREW"])
def test_every_method_reaches_the_function(echoing: ApiServer, method: str) -> None:
    _, event = ask(echoing, method, "/")

    assert event["requestContext"]["http"]["method"] == method
    assert "body" not in event


def test_head_has_no_body(echoing: ApiServer) -> None:
    response, body = ask(echoing, "HEAD", "/")

    assert (response.status, body) == (207, None)
    assert int(response.headers["Content-Length"]) > 0


def test_one_connection_takes_many_requests(echoing: ApiServer) -> None:
    with closing(connect(echoing)) as connection:
        for number in range(3):
            connection.request("POST", f"/{number}", b"x" * number)
            assert json.loads(connection.getresponse().read())["rawPath"] == f"/{number}"


@given(st.binary(max_size=50))
def test_body_is_passed_byte_for_byte(body: bytes) -> None:
    event = http_event("POST", "/", {}, body, 0.0)
    text = event.get("body", "")

    assert (base64.b64decode(text) if event["isBase64Encoded"] else text.encode()) == body


def test_server_listens_on_the_loopback_interface_only(echoing: ApiServer) -> None:
    assert echoing.url.startswith("http://127.0.0.1:")


def test_taken_port_is_named_with_a_remedy(echoing: ApiServer) -> None:
    port = urlsplit(echoing.url).port

    with pytest.raises(UserError, match=rf"cannot listen on 127\.0\.0\.1:{port} .*choose another port with --port"):
        ApiServer(echo, port or 0)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d" % (MAX_PAYLOAD_BYTES + 1), 413),
        (b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1", 411),
        (b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked", 411),
        (b"GET / HTTP/1.1\r\nHost: evil.example:80", 421),
        (b"GET / HTTP/1.1\r\nHost: evil.example", 421),
        (b"GET / HTTP/9.9\r\nHost: 127.0.0.1", 505),
        (b"nonsense", 400),
    ],
    ids=["too large", "no length", "chunked", "another's name", "another's name alone", "unknown HTTP", "no HTTP"],
)
def test_invalid_request_is_answered_with_a_problem_and_closed(echoing: ApiServer, head: bytes, status: int) -> None:
    answer = send_raw(echoing, head + b"\r\n\r\n")

    response = HTTPResponse(_Read(answer))  # type: ignore[arg-type]
    response.begin()
    assert (response.status, response.headers["Content-Type"]) == (status, PROBLEM)
    assert json.loads(response.read())["status"] == status


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8080", "127.0.0.1:1"])
def test_own_host_names_are_accepted(echoing: ApiServer, host: str) -> None:
    response, _ = ask(echoing, "GET", "/", headers={"Host": host})

    assert response.status == 207


def test_client_that_waits_for_continue_gets_it(echoing: ApiServer) -> None:
    head = (
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    )
    with socket.create_connection((HOST, urlsplit(echoing.url).port or 0), timeout=PATIENCE_S) as connection:
        connection.sendall(head)
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"{}")
        assert connection.recv(100).startswith(b"HTTP/1.1 207 ")


def test_each_request_is_reported(echoing: ApiServer, seen: list[tuple[str, str, int]]) -> None:
    seen.clear()
    ask(echoing, "GET", "/one?two")
    send_raw(echoing, b"GET / HTTP/1.1\r\nHost: other\r\n\r\n")

    assert seen == [("GET", "/one", 207), ("GET", "/", 421)]


def test_requests_are_counted_and_cannot_write_to_the_terminal() -> None:
    lines: list[str] = []
    count = RequestCount(lines.append)
    count("GET", "/\x1b[2J\n", 200, 1.25)
    count("GET", "/", 503, 0.0)

    assert (count.n_requests, count.n_errors) == (2, 1)
    assert lines == ["GET /\\x1b[2J\\n 200 1.2 ms", "GET / 503 0.0 ms"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    bundle = small_bundle()
    folder = tmp_path / bundle.model_version
    folder.mkdir()
    for name, data in bundle.files.items():
        (folder / name).write_bytes(data)
    return folder


def test_bundle_in_a_folder_is_served(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bucket = bundle_bucket(folder)
    settings = ServingSettings(bucket=bucket.name, model_channel="bundle", service_name="ridecast-serve")
    function = build_handler(settings, bucket.s3)

    assert model_version(function) == small_bundle().model_version
    with ApiServer(function) as server:
        response, prediction = ask(server, "POST", "/predictions", ride_bytes(), JSON)
    assert (response.status, prediction["version"]) == (200, small_bundle().model_version)
    assert "request" in capsys.readouterr().out


def test_damaged_bundle_is_not_served(folder: Path) -> None:
    (folder / "forest.npz").write_bytes(b"")

    with pytest.raises(BundleError, match=r"forest\.npz"):
        bundle_bucket(folder)


def test_function_without_a_model_has_no_version(tmp_path: Path) -> None:
    empty: Any = FolderS3(tmp_path)
    settings = ServingSettings(bucket="file:nothing", model_channel="stable", service_name="ridecast-serve-nothing")

    assert model_version(build_handler(settings, empty)) == ""


class _Read:
    """The part of a socket that HTTPResponse uses."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)
