"""The HTTP API on this machine: plain HTTP on the loopback interface in, API Gateway's events to the very same handler.

What API Gateway does besides is not here: nobody has to sign, and nothing is throttled. It takes one request at a time,
as one execution environment does.
"""

import base64
import json
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from infra.errors import PortTakenError
from lambda_function.api.rides import answer_error
from lambda_function.errors import RequestError


# MERGED FROM infra/http/event.py
# API Gateway's payload format 2.0: an HTTP request as the event that a function gets, and its response's body.
def http_event(
    method: str, target: str, headers: Mapping[str, str], body: bytes, arrival_time_s: float
) -> dict[str, Any]:
    """Builds the event that API Gateway would make of a request: payload format 2.0.

    Args:
        method: As in ``POST``.
        target: Path and query.
        headers: Of any case.
        body: Text as it stands, anything else in base64.
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
    """Returns the body that API Gateway would send of a function's response."""
    body: str = response.get("body") or ""
    return base64.b64decode(body) if response.get("isBase64Encoded") else body.encode()


HOST = "127.0.0.1"

MAX_REQUEST_BYTES = 6 * 1024 * 1024
"""What Lambda takes of an invocation: API Gateway refuses more on its own."""

_NAMES = frozenset({HOST, "localhost"})
_IDLE_S = 30.0

Function = Callable[[dict[str, Any], object], dict[str, Any]]
"""An entry point as Lambda has it."""

Seen = Callable[[str, str, int, float], None]
"""Is told of each request before its answer goes out: method, path, status, milliseconds that the function took."""


class ApiServer:
    """Serves a function on a port of HOST, inside of its `with` block.

    Args:
        function: Answers the events.
        port: 0 for any that is free.
        seen: Is told of each request.

    Raises:
        PortTakenError: Somebody else listens there.
    """

    def __init__(self, function: Function, port: int = 0, seen: Seen = lambda *_: None) -> None:
        try:
            self._server = _Server((HOST, port), _RequestHandler)
        except OSError as error:
            raise PortTakenError(f"{HOST}:{port}", error.strerror or str(error)) from error
        self._server.function, self._server.seen = function, seen

    @property
    def url(self) -> str:
        """Where it listens, as in ``http://127.0.0.1:8080``."""
        return f"http://{HOST}:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def wait(self) -> None:
        """Waits until the process is interrupted."""
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # an idle connection would hold up the end
    function: Function
    seen: Seen

    def __init__(self, address: tuple[str, int], handler: "type[_RequestHandler]") -> None:
        super().__init__(address, handler)
        self._lock = threading.Lock()

    def invoke(self, event: dict[str, Any]) -> dict[str, Any]:
        """Runs the function, which takes one event at a time."""
        with self._lock:
            return self.function(event, None)


class _RequestHandler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = default_request_version = "HTTP/1.1"
    timeout = _IDLE_S
    wbufsize = -1  # head and body in one packet
    disable_nagle_algorithm = True

    def __getattr__(self, name: str) -> Any:
        """Every method is answered, if only by saying that it is not allowed."""
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def version_string(self) -> str:
        """Names no versions: who asks has no use for them."""
        return "ridecast"

    def handle_expect_100(self) -> bool:
        """Says that a large body may come, at once: curl would wait for it."""
        may_come = super().handle_expect_100()
        self.wfile.flush()
        return may_come

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's signature
        """Says nothing: `seen` is told."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """Refuses what is no HTTP, in the API's own form."""
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
        self.server.seen(self.command, urlsplit(self.path).path, response["statusCode"], took_ms)
        self._send(response["statusCode"], response["headers"], response_body(response))

    def _body(self) -> bytes:
        if self.headers.get("host", HOST).partition(":")[0] not in _NAMES:  # a page that has had its name point here
            raise RequestError(HTTPStatus.MISDIRECTED_REQUEST, f"this is {HOST}, and nothing else")
        length = self.headers.get("content-length", "0")
        if "transfer-encoding" in self.headers or not length.isdecimal():
            raise RequestError(HTTPStatus.LENGTH_REQUIRED, "send the body in one piece, and say how long it is")
        if int(length) > MAX_REQUEST_BYTES:
            raise RequestError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request has {MAX_REQUEST_BYTES:,} bytes at most"
            )
        return self.rfile.read(int(length))

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Answers without the function, and hangs up: what is left of the request is not read."""
        self.close_connection = True
        answer = answer_error(RequestError(status, detail))
        self.server.seen(self.command or "-", urlsplit(getattr(self, "path", "")).path, status, 0.0)
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
    """Returns a command that asks for a ride."""
    ride = {"PULocationID": 130, "DOLocationID": 205, "trip_distance": 3.66, "pickup_datetime": "2021-01-05T08:15:00"}
    event = json.dumps({"ride": ride, "ride_id": 256})
    return f"curl {url}/predictions -H 'content-type: application/json' -d '{event}'"


class RequestCount:
    """Counts requests, and tells of each in a line.

    Attributes:
        n_errors: Answers of the function's own fault: a status of 500 or more.
    """

    def __init__(self, tell: Callable[[str], object]) -> None:
        self.n_requests = 0
        self.n_errors = 0
        self._tell = tell
        self._lock = threading.Lock()

    def __call__(self, method: str, path: str, status: int, took_ms: float) -> None:
        """Takes one request."""
        with self._lock:
            self.n_requests += 1
            self.n_errors += status >= HTTPStatus.INTERNAL_SERVER_ERROR
        self._tell(f"{method} {_printable(path)} {status} {took_ms:.1f} ms")


def _printable(path: str) -> str:
    """Escapes what would move a terminal's cursor or begin another line."""
    return path.encode("unicode_escape").decode()


def model_version(function: Function) -> str:
    """Asks a function which model it serves; "" if it has none."""
    response = function(http_event("GET", "/model", {}, b"", time.time()), None)
    return str(json.loads(response["body"]).get("model_version", ""))
