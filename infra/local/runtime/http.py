"""The HTTP API on this machine: plain HTTP on the loopback interface, converted to API Gateway's events.

It requires no signatures and does not throttle. It processes one request at a time, as one execution environment does.
"""

import base64
import json
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from infra.local.ports import HOST, listen_error
from infra.local.runtime.cors import cors_headers
from infra.local.runtime.http_head import Head, read_head
from infra.operate.lambda_event import MAX_PAYLOAD_BYTES
from lambda_function.api.rides import answer_error
from lambda_function.errors import RequestError

IDLE_S = 30.0

_NAMES = frozenset({HOST, "localhost"})

Function = Callable[[dict[str, Any], object], dict[str, Any]]
"""A Lambda entry point."""

OnRequest = Callable[[str, str, int, float], None]
"""Called for each request before its answer goes out: method, path, status, milliseconds that the function took."""


def http_event(
    method: str, target: str, headers: Mapping[str, str], body: bytes, arrival_time_s: float
) -> dict[str, Any]:
    """Convert a request to API Gateway's event, payload format 2.0.

    Args:
        method: As in ``POST``.
        target: Path and query.
        headers: In any case.
        body: Text is passed unchanged, other bytes in base64.
        arrival_time_s: In seconds since the epoch, UTC.

    >>> event = http_event("GET", "/model?full", {"Accept": "*/*"}, b"", 1.0)
    >>> event["rawPath"], event["rawQueryString"], event["headers"]
    ('/model', 'full', {'accept': '*/*'})
    """
    path, _, query = target.partition("?")
    lower = {name.lower(): value for name, value in headers.items()}
    text, is_base64 = _text(body)
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": lower,
        "requestContext": {
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1"},
            "stage": "$default",
            "timeEpoch": int(arrival_time_s * 1000),
        },
        **({"body": text} if body else {}),
        "isBase64Encoded": is_base64,
    }


def _text(body: bytes) -> tuple[str, bool]:
    try:
        return body.decode(), False
    except UnicodeDecodeError:
        return base64.b64encode(body).decode(), True


def response_body(response: Mapping[str, Any]) -> bytes:
    """Return the body that API Gateway would send for a function's response."""
    body: str = response.get("body") or ""
    return base64.b64decode(body) if response.get("isBase64Encoded") else body.encode()


class ApiServer:
    """Serves a function on a port of HOST, inside its `with` block.

    Args:
        function: Answers the events.
        port: 0 for any free port.
        on_request: Called for each request.
        cors_origins: Origins of web pages that may read the answers; ``*`` for all.
        idle_s: For so long a connection may send nothing.

    Raises:
        UserError: The port is taken, or may not be used.
    """

    def __init__(
        self,
        function: Function,
        port: int = 0,
        on_request: OnRequest = lambda *_: None,
        *,
        cors_origins: Collection[str] = (),
        idle_s: float = IDLE_S,
    ) -> None:
        try:
            self._server = _Server((HOST, port), _RequestHandler)
        except OSError as error:
            raise listen_error(port, error) from error
        self._server.function, self._server.on_request, self._server.idle_s = function, on_request, idle_s
        self._server.cors_origins = cors_origins

    @property
    def url(self) -> str:
        """The server's address, as in ``http://127.0.0.1:8080``."""
        return f"http://{HOST}:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def wait(self) -> None:
        """Wait until the process is interrupted."""
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # an idle connection would delay the end
    function: Function
    on_request: OnRequest
    cors_origins: Collection[str]
    idle_s: float

    def __init__(self, address: tuple[str, int], handler: "type[_RequestHandler]") -> None:
        super().__init__(address, handler)
        self._lock = threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report errors of this server; a client that closes its connection early is none."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def invoke(self, event: dict[str, Any]) -> dict[str, Any]:
        """Run the function, one event at a time."""
        with self._lock:
            return self.function(event, None)


class _RequestHandler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = default_request_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet
    disable_nagle_algorithm = True
    requestline = ""  # the base logs it
    _head: Head

    def setup(self) -> None:
        """Prepare the connection."""
        super().setup()
        self.request.settimeout(self.server.idle_s)

    def __getattr__(self, name: str) -> Any:
        """Route every HTTP method to the function, which refuses those that it does not support."""
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def version_string(self) -> str:
        """Return the Server header, without versions."""
        return "ridecast"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's signature
        """Log nothing: `on_request` is called instead."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """Refuse a request line that is too long, in the API's format."""
        self.command, self.path = "-", ""
        self._refuse(HTTPStatus(code), message or HTTPStatus(code).phrase)

    def parse_request(self) -> bool:
        """Read the head in place of the base's method, which is too lenient; return whether the request is valid."""
        self.command, self.path, self.request_version = "-", "", self.protocol_version
        try:
            self._head = read_head(self.raw_requestline, self.rfile.readline, MAX_PAYLOAD_BYTES)
        except RequestError as error:
            self._refuse(error.status, error.detail)
            return False
        self.command, self.path = self._head.method, self._head.target
        self.close_connection = not self._head.keeps_connection
        return True

    def _answer(self) -> None:
        try:
            body = self._body()
        except RequestError as error:
            self._refuse(error.status, error.detail)
            return
        event = http_event(self.command, self.path, self._head.headers, body, time.time())
        start_s = time.perf_counter()
        response = self.server.invoke(event)
        took_ms = (time.perf_counter() - start_s) * 1000
        self.server.on_request(self.command, event["rawPath"], response["statusCode"], took_ms)
        cors = cors_headers(self.command, self._head.headers, self.server.cors_origins)
        self._send(response["statusCode"], {**response["headers"], **cors}, response_body(response))

    def _body(self) -> bytes:
        host = self._head.headers.get("host", HOST)
        if host.partition(":")[0] not in _NAMES:  # protects against DNS rebinding by a web page
            raise RequestError(HTTPStatus.MISDIRECTED_REQUEST, f"the host must be {HOST} or localhost")
        if self._head.awaits_continue:
            self.send_response_only(HTTPStatus.CONTINUE)
            self.end_headers()
            self.wfile.flush()  # curl waits for it
        try:
            body = self.rfile.read(self._head.n_body_bytes)
        except TimeoutError as error:
            raise RequestError(HTTPStatus.REQUEST_TIMEOUT, "the body is shorter than its Content-Length") from error
        if len(body) < self._head.n_body_bytes:
            raise RequestError(HTTPStatus.BAD_REQUEST, "the body is shorter than its Content-Length")
        return body

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Answer without the function and close the connection: the rest of the request is not read."""
        self.close_connection = True
        answer = answer_error(RequestError(status, detail))
        self.server.on_request(self.command, self.path.partition("?")[0], status, 0.0)
        self._send(status, {"Content-Type": answer.content_type, "Connection": "close"}, answer.body)

    def _send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if body or (self.command != "HEAD" and status != HTTPStatus.NO_CONTENT):  # of HEAD it would be GET's, not 0
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()


def example_curl(url: str) -> str:
    """Return a curl command that requests a prediction."""
    ride = {"PULocationID": 130, "DOLocationID": 205, "trip_distance": 3.66, "pickup_datetime": "2021-01-05T08:15:00"}
    event = json.dumps({"ride": ride, "ride_id": 256})
    return f"curl {url}/predictions -H 'content-type: application/json' -d '{event}'"


class RequestCount:
    """Counts requests and writes one line for each.

    Attributes:
        n_errors: Answers with a status of 500 or more.
    """

    def __init__(self, write_line: Callable[[str], object]) -> None:
        self.n_requests = 0
        self.n_errors = 0
        self._write_line = write_line
        self._lock = threading.Lock()

    def __call__(self, method: str, path: str, status: int, took_ms: float) -> None:
        """Count one request."""
        with self._lock:
            self.n_requests += 1
            self.n_errors += status >= HTTPStatus.INTERNAL_SERVER_ERROR
        self._write_line(f"{method} {_printable(path)} {status} {took_ms:.1f} ms")


def _printable(path: str) -> str:
    """Escape control characters, which could move a terminal's cursor or begin a line."""
    return path.encode("unicode_escape").decode()


def model_version(function: Function) -> str:
    """Return the version of the model that a function serves; "" if it has none."""
    response = function(http_event("GET", "/model", {}, b"", time.time()), None)
    return str(json.loads(response["body"]).get("model_version", ""))
