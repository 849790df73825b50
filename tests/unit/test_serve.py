"""`ridecast serve`: HTTP on the loopback interface, converted to API Gateway's events and back without loss."""

import base64
import io
import json
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.cli.demo import bundle_bucket
from infra.local.ports import HOST
from infra.local.runtime.http import (
    ApiServer,
    RequestCount,
    http_event,
    model_version,
)
from infra.local.runtime.http_head import MAX_HEADERS, MAX_LINE_BYTES, read_head
from infra.operate.lambda_event import MAX_PAYLOAD_BYTES
from lambda_function.api.handler import build_handler
from lambda_function.aws.settings import ServingSettings
from lambda_function.errors import BundleError, RequestError
from tests.builders import ride_bytes, small_bundle
from training.errors import UserError
from training.registry.folder_s3 import FolderS3

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


def send_raw(server: ApiServer, sent: bytes, *, then_end: bool = False) -> bytes:
    """Send bytes that no HTTP client would send; return all bytes until the server closes the connection."""
    port = urlsplit(server.url).port
    with socket.create_connection((HOST, port or 0), timeout=PATIENCE_S) as connection:
        connection.sendall(sent)
        if then_end:
            connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def read_response(answer: bytes) -> HTTPResponse:
    response = HTTPResponse(_Read(answer))  # type: ignore[arg-type]
    response.begin()
    return response


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


def test_answer_without_a_body_has_no_length() -> None:
    for status, method in ((204, "OPTIONS"), (200, "HEAD")):
        with ApiServer(lambda *_, status=status: {"statusCode": status, "headers": {}, "body": ""}) as server:
            response, body = ask(server, method, "/")
            assert (response.status, response.headers["Content-Length"], body) == (status, None, None)


PAGE = {"Origin": "https://page.example"}
PREFLIGHT = {**PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}


def cors(response: HTTPResponse) -> dict[str, str]:
    return {name: text for name, text in response.headers.items() if name.startswith("Access-Control-")}


@pytest.mark.parametrize(
    "origins", [["https://page.example"], ["https://other.example", "https://page.example"], ["*"]]
)
def test_page_of_a_listed_origin_may_ask_and_read(folder: Path, origins: list[str]) -> None:
    bucket = bundle_bucket(folder)
    settings = ServingSettings(bucket=bucket.name, model_channel="bundle", service_name="ridecast-serve-cors")
    with ApiServer(build_handler(settings, bucket.s3), cors_origins=origins) as server:
        preflight, _ = ask(server, "OPTIONS", "/predictions", headers=PREFLIGHT)
        answer, _ = ask(server, "POST", "/predictions", ride_bytes(), {**JSON, **PAGE})
        refusal, _ = ask(server, "POST", "/predictions", b"{", {**JSON, **PAGE})

    origin = "*" if "*" in origins else PAGE["Origin"]
    assert (preflight.status, answer.status, refusal.status) == (204, 200, 400)
    assert {one.headers["Access-Control-Allow-Origin"] for one in (preflight, answer, refusal)} == {origin}
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"].split(",")
    assert "content-type" in preflight.headers["Access-Control-Allow-Headers"].split(",")


@pytest.mark.parametrize("origins", [[], ["https://page.example.evil"], ["http://page.example"]])
def test_page_of_another_origin_may_read_nothing(origins: list[str]) -> None:
    with ApiServer(echo, cors_origins=origins) as server:
        for method, headers in (("OPTIONS", PREFLIGHT), ("GET", PAGE)):
            response, _ = ask(server, method, "/", headers=headers)
            assert not cors(response)


def test_request_without_an_origin_gets_no_cors_headers() -> None:
    with ApiServer(echo, cors_origins=["*"]) as server:
        response, _ = ask(server, "GET", "/")
        assert not cors(response)


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

    with pytest.raises(UserError, match=rf"cannot listen on 127\.0\.0\.1:{port}: .*choose another port with --port"):
        ApiServer(echo, port or 0)


OURS = b"Host: 127.0.0.1\r\n"
POST = b"POST / HTTP/1.1\r\n" + OURS
TOO_LONG = b"a" * MAX_LINE_BYTES

REFUSED: dict[str, tuple[bytes, int]] = {
    "length over the limit": (POST + b"Content-Length: %d\r\n\r\n" % (MAX_PAYLOAD_BYTES + 1), 413),
    "length of 5,000 digits": (POST + b"Content-Length: " + b"9" * 5_000 + b"\r\n\r\n", 413),
    "negative length": (POST + b"Content-Length: -1\r\n\r\n", 400),
    "length with a sign": (POST + b"Content-Length: +5\r\n\r\nhello", 400),
    "list of lengths": (POST + b"Content-Length: 5, 5\r\n\r\nhello", 400),
    "two lengths": (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", 400),
    "length and encoding": (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked": (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
    "absolute target": (b"GET http://evil.example/ HTTP/1.1\r\n" + OURS + b"\r\n", 400),
    "absolute target that is no URL": (b"GET http://[ HTTP/1.1\r\n" + OURS + b"\r\n", 400),
    "target *": (b"OPTIONS * HTTP/1.1\r\n" + OURS + b"\r\n", 400),
    "target without a slash": (b"GET model HTTP/1.1\r\n" + OURS + b"\r\n", 400),
    "target of CONNECT": (b"CONNECT evil.example:443 HTTP/1.1\r\n" + OURS + b"\r\n", 400),
    "target with control characters": (b"GET /\x1b[2J HTTP/1.1\r\n" + OURS + b"\r\n", 400),
    "target with bytes over 127": (b"GET /\xc3\xa9 HTTP/1.1\r\n" + OURS + b"\r\n", 400),
    "target with a fragment": (b"GET /a#b HTTP/1.1\r\n" + OURS + b"\r\n", 400),
    "target with %00": (b"GET /%00 HTTP/1.1\r\n" + OURS + b"\r\n", 400),
    "target with another percent": (b"GET /%zz HTTP/1.1\r\n" + OURS + b"\r\n", 400),
    "long line": (b"GET /" + TOO_LONG + b" HTTP/1.1\r\n" + OURS + b"\r\n", 414),
    "long header": (POST + b"X: " + TOO_LONG + b"\r\n\r\n", 431),
    "many headers": (POST + b"X: a\r\n" * MAX_HEADERS + b"\r\n", 431),
    "folded header": (POST + b"X: a\r\n b\r\n\r\n", 400),
    "space before the colon": (POST + b"Content-Length : 5\r\n\r\nhello", 400),
    "header without a colon": (POST + b"nonsense\r\n\r\n", 400),
    "header with a byte 0": (POST + b"X: a\0b\r\n\r\n", 400),
    "header behind a lone CR": (POST + b"X: a\rContent-Length: 5\r\n\r\nhello", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\n" + OURS + b"Host: evil.example\r\n\r\n", 400),
    "another's host": (b"GET / HTTP/1.1\r\nHost: evil.example:80\r\n\r\n", 421),
    "HTTP/0.9": (b"GET /\r\n\r\n", 505),
    "preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "method that is no name": (b"G@T( / HTTP/1.1\r\n" + OURS + b"\r\n", 400),
    "no HTTP": (b"nonsense\r\n\r\n", 400),
}
"""Requests that a client must not send, and the status that each gets."""


@pytest.mark.parametrize(("sent", "status"), REFUSED.values(), ids=REFUSED)
def test_invalid_request_is_answered_with_a_problem_and_closed(
    echoing: ApiServer, sent: bytes, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    response = read_response(send_raw(echoing, sent))

    assert (response.status, response.headers["Content-Type"]) == (status, PROBLEM)
    assert (response.headers["Connection"], json.loads(response.read())["status"]) == ("close", status)
    assert capsys.readouterr().err == ""


def test_body_that_stops_is_refused_after_a_time_and_one_that_ends_early_at_once() -> None:
    part = POST + b"Content-Length: 5\r\n\r\nhell"
    with ApiServer(echo, idle_s=0.05) as impatient, ApiServer(echo) as patient:
        assert read_response(send_raw(impatient, part)).status == 408
        assert read_response(send_raw(patient, part, then_end=True)).status == 400


def test_connection_that_ends_within_the_headers_is_no_request(
    echoing: ApiServer, seen: list[tuple[str, str, int]]
) -> None:
    seen.clear()

    assert read_response(send_raw(echoing, POST, then_end=True)).status == 400
    assert seen == [("-", "", 400)]


def test_repeated_header_is_joined_as_by_api_gateway(echoing: ApiServer) -> None:
    answer = send_raw(echoing, POST + b"X-Two: 1\r\nx-two:\t2 \r\nConnection: close\r\n\r\n")

    assert json.loads(read_response(answer).read())["headers"]["x-two"] == "1,2"


@given(st.binary(max_size=100), st.lists(st.binary(max_size=40), max_size=5))
def test_any_bytes_are_a_request_or_an_error(request_line: bytes, lines: list[bytes]) -> None:
    reader = io.BytesIO(b"\r\n".join([*lines, b"", b""]))

    with suppress(RequestError):
        head = read_head(request_line, reader.readline, max_body_bytes=10)
        assert head.target.startswith("/")
        assert 0 <= head.n_body_bytes <= 10


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
