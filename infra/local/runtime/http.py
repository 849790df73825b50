"""The HTTP API on this machine: plain HTTP on the loopback interface, converted to API Gateway's events.

It requires no signatures and does not throttle. It processes one request at a time, as one execution environment does.
"""

import base64
import json
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

from infra.operate.lambda_event import MAX_PAYLOAD_BYTES
from lambda_function.api.rides import answer_error
from lambda_function.errors import RequestError
from training.errors import UserError

HOST = "127.0.0.1"

_NAMES = frozenset({HOST, "localhost"})
_IDLE_S = 30.0

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
    parts = urlsplit(target)
    lower = {name.lower(): value for name, value in headers.items()}
    text, is_base64 = _text(body)
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": parts.path,
        "rawQueryString": parts.query,
        "headers": lower,
        "requestContext": {
            "http": {"method": method, "path": parts.path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1"},
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

    Raises:
        UserError: The port is taken, or may not be used.
    """

    def __init__(self, function: Function, port: int = 0, on_request: OnRequest = lambda *_: None) -> None:
        try:
            self._server = _Server((HOST, port), _RequestHandler)
        except OSError as error:
            raise UserError(
                f"cannot listen on {HOST}:{port} ({error.strerror or error})",
                "choose another port with --port, or 0 for a free one",
            ) from error
        self._server.function, self._server.on_request = function, on_request

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

    def __init__(self, address: tuple[str, int], handler: "type[_RequestHandler]") -> None:
        super().__init__(address, handler)
        self._lock = threading.Lock()

    def invoke(self, event: dict[str, Any]) -> dict[str, Any]:
        """Run the function, one event at a time."""
        with self._lock:
            return self.function(event, None)


class _RequestHandler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = default_request_version = "HTTP/1.1"
    timeout = _IDLE_S
    wbufsize = -1  # headers and body in one packet
    disable_nagle_algorithm = True

    def __getattr__(self, name: str) -> Any:
        """Route every HTTP method to the function, which refuses those that it does not support."""
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def version_string(self) -> str:
        """Return the Server header, without versions."""
        return "ridecast"

    def handle_expect_100(self) -> bool:
        """Send `100 Continue` at once: curl waits for it."""
        accepted = super().handle_expect_100()
        self.wfile.flush()
        return accepted

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's signature
        """Log nothing: `on_request` is called instead."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """Refuse an invalid HTTP request in the API's format."""
        self._refuse(HTTPStatus(code), message or HTTPStatus(code).phrase)

    def _answer(self) -> None:
        try:
            body = self._body()
        except RequestError as error:
            self._refuse(error.status, error.detail)
            return
        event = http_event(self.command, self.path, dict(self.headers.items()), body, time.time())
        start_s = time.perf_counter()
        response = self.server.invoke(event)
        took_ms = (time.perf_counter() - start_s) * 1000
        self.server.on_request(self.command, urlsplit(self.path).path, response["statusCode"], took_ms)
        self._send(response["statusCode"], response["headers"], response_body(response))

    def _body(self) -> bytes:
        if (
            self.headers.get("host", HOST).partition(":")[0] not in _NAMES
        ):  # protects against DNS rebinding by a web page
            raise RequestError(HTTPStatus.MISDIRECTED_REQUEST, f"the host must be {HOST} or localhost")
        length = self.headers.get("content-length", "0")
        if "transfer-encoding" in self.headers or not length.isdecimal():
            raise RequestError(HTTPStatus.LENGTH_REQUIRED, "send the body in one piece, with a Content-Length")
        if int(length) > MAX_PAYLOAD_BYTES:
            raise RequestError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request may have {MAX_PAYLOAD_BYTES:,} bytes at most"
            )
        return self.rfile.read(int(length))

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Answer without the function and close the connection: the rest of the request is not read."""
        self.close_connection = True
        answer = answer_error(RequestError(status, detail))
        self.server.on_request(self.command or "-", urlsplit(getattr(self, "path", "")).path, status, 0.0)
        self._send(status, {"Content-Type": answer.content_type, "Connection": "close"}, answer.body)

    def _send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
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
