"""A fake of Lambda's Runtime API: each request of a runtime arrives as a call, which waits until the test answers it.

AWS's emulator does not support restore. The runtime client, which is part of Lambda's own Python runtime, does; this is
the service that it calls.
"""

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue
from typing import Any, Self

PATIENCE_S = 120.0
HOST = "127.0.0.1"

RESTORE, INVOCATION = "restore/next", "invocation/next"
RESPONSE, ERROR = "invocation/response", "invocation/error"
INIT_ERROR, RESTORE_ERROR = "init/error", "restore/error"

_VERSION = "/2018-06-01/runtime/"
_CREDENTIALS = "/2021-04-23/credentials"
_ID = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
_INVOCATION = {
    "Content-Type": "application/json",  # without it the client ends with a segmentation fault
    "Lambda-Runtime-Aws-Request-Id": _ID,
    "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:123456789012:function:predictor:1",
}

Answer = tuple[Mapping[str, str], bytes]


@dataclass(frozen=True, slots=True)
class Call:
    """A request or report of a runtime.

    Attributes:
        name: Its path, without the version and without an invocation's id.
        body: Its decoded body.
        error_type: The error's type, from a header.
    """

    name: str
    body: Any
    error_type: str
    _answers: SimpleQueue[Answer | None] = field(default_factory=SimpleQueue)

    def answer(self, body: object = None, headers: Mapping[str, str] | None = None) -> None:
        """Answer the runtime."""
        self._answers.put((headers or {}, json.dumps(body).encode()))

    def hang_up(self) -> None:
        """Close the connection without an answer."""
        self._answers.put(None)

    def wait_for_answer(self) -> Answer | None:
        """Wait for the answer; None if there will be none."""
        return self._answers.get()


class RuntimeApi:
    """The service, inside its `with` block, for one runtime or for its copies.

    Attributes:
        access_key: The access key of the credentials that the function gets now; "" for no credentials.
    """

    def __init__(self, access_key: str) -> None:
        self.access_key = access_key
        self._calls: list[Call] = []
        self._held: list[Call] = []
        self._arrived = threading.Condition()
        self._server = _Server(self)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for call in self._held:
            call.hang_up()
        self._server.shutdown()
        self._server.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables that Lambda sets for SnapStart: no keys, but an address that returns them."""
        address = f"{HOST}:{self._server.server_address[1]}"
        return {
            "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start",
            "AWS_LAMBDA_RUNTIME_API": address,
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://{address}{_CREDENTIALS}",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": "local",
        }

    def take(self, call: Call) -> None:
        """Hold a call for its test. Reports are answered at once."""
        with self._arrived:
            self._calls.append(call)
            self._held.append(call)
            self._arrived.notify_all()
        if call.name not in {RESTORE, INVOCATION}:
            call.answer()

    def wait_for(self, *names: str) -> Call:
        """Wait for the next call with one of these names, and remove it from the arrived calls."""
        ends = {*names, INIT_ERROR, RESTORE_ERROR}  # after these there is nothing to wait for
        with self._arrived:
            self._arrived.wait_for(lambda: any(call.name in ends for call in self._calls), PATIENCE_S)
            found = next((call for call in self._calls if call.name in names), None)
            assert found, f"the runtime called {self._calls}, and never {names}"
            self._calls.remove(found)
        return found

    def invoke(self, asking: Call, event: Mapping[str, Any]) -> Call:
        """Answer a runtime's call INVOCATION with an event; return the result: RESPONSE or ERROR."""
        asking.answer(event, {**_INVOCATION, "Lambda-Runtime-Deadline-Ms": str(int((time.time() + PATIENCE_S) * 1000))})
        return self.wait_for(RESPONSE, ERROR)


class _Server(ThreadingHTTPServer):
    def __init__(self, api: RuntimeApi) -> None:
        self.api = api
        super().__init__((HOST, 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        if self.path == _CREDENTIALS:
            self._give_credentials(self.server.api.access_key)
        else:
            self._pass_on(HTTPStatus.OK)

    def do_POST(self) -> None:
        self._pass_on(HTTPStatus.ACCEPTED)

    def _pass_on(self, status: HTTPStatus) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        name = self.path.removeprefix(_VERSION).replace(f"{_ID}/", "")
        call = Call(name, json.loads(body or b"null"), self.headers.get("Lambda-Runtime-Function-Error-Type", ""))
        self.server.api.take(call)
        answer = call.wait_for_answer()
        if answer is not None:
            self._send(status, *answer)

    def _give_credentials(self, key: str) -> None:
        until = "2099-01-01T00:00:00Z"
        given = {"AccessKeyId": key, "SecretAccessKey": "local", "Token": "local", "Expiration": until}
        self._send(HTTPStatus.OK if key else HTTPStatus.INTERNAL_SERVER_ERROR, {}, json.dumps(given).encode())

    def _send(self, status: HTTPStatus, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
        """Log nothing."""
