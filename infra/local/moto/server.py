"""The server process of LocalAws: moto over HTTP/1.1 on an inherited socket, until standard input ends.

    python -m infra.local.moto.server LISTENING_FILE_DESCRIPTOR [--limits] [--state FILE]

werkzeug's own handler closes the connection after each answer. With keep-alive a small request takes 2.8 ms instead
of 4.8 ms.
"""

import importlib
import io
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.exceptions import InternalServerError
from werkzeug.serving import make_server
from werkzeug.test import run_wsgi_app

from infra.local.moto.kinesis import patch_kinesis
from infra.local.moto.state_file import StateFile

LIMITS_OPTION = "--limits"
"""Gives Kinesis AWS's limits."""

_LOCAL_NAMES = {"127.0.0.1", "localhost"}

STATE_OPTION = "--state"
"""Keeps records and objects in a file."""


def is_local(host: str | None, origin: str | None) -> bool:
    """Return whether a request may be answered: a web page of another site must not read or change what is here.

    A page names its site in `Origin`, or reaches this machine by a name of its own.

    >>> is_local("127.0.0.1:4566", None), is_local("bucket.localhost:80", "http://localhost:80"), is_local(None, None)
    (True, True, True)
    >>> is_local("example.com", None), is_local("127.0.0.1:4566", "https://example.com"), is_local("localhost", "null")
    (False, False, False)
    """
    addresses = [f"//{host}"] * (host is not None) + [origin or "null"] * (origin is not None)
    try:
        names = [urlsplit(address).hostname or "" for address in addresses]
    except ValueError:  # half an IPv6 address
        return False
    return all(name in _LOCAL_NAMES or name.endswith(".localhost") for name in names)


class KeepAliveHandler(MotoRequestHandler):  # type: ignore[misc] # moto is not typed
    """A handler that reads each body completely and sends a Content-Length, so that a connection can be reused."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body go out in one packet
    disable_nagle_algorithm = True
    before_answer: Callable[[], None] = staticmethod(lambda: None)

    def run_wsgi(self) -> None:
        """Serve one request."""
        environ = self.make_environ()
        environ["wsgi.input"] = io.BytesIO(self._read_body(environ))
        if not is_local(self.headers.get("Host"), self.headers.get("Origin")):
            self._answer("403 Forbidden", [], b"the local AWS answers programs and pages of this machine only\n")
            return
        try:
            chunks, status, headers = run_wsgi_app(self.server.app, environ)
            self.before_answer()
        except Exception as error:  # noqa: BLE001 - an error in moto fails one request, not the server
            traceback.print_exc()
            chunks, status, headers = run_wsgi_app(InternalServerError(repr(error)), environ)
        self._answer(status, list(headers), b"".join(chunks))

    def _read_body(self, environ: dict[str, object]) -> bytes:
        if "wsgi.input_terminated" in environ:  # chunked: werkzeug's reader finds the end
            body: bytes = environ["wsgi.input"].read()  # type: ignore[attr-defined]
            return body
        length = int(self.headers.get("Content-Length") or 0)
        whole: bytes = self.rfile.read(length)
        return whole

    def _answer(self, status: str, headers: list[tuple[str, str]], body: bytes) -> None:
        code, _, message = status.partition(" ")
        self.send_response(int(code), message)
        for name, value in headers:
            self.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in headers):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def handle_expect_100(self) -> bool:
        """Send `100 Continue` at once: left in the buffer, it would delay every S3 upload by a second."""
        go_on: bool = super().handle_expect_100()
        self.wfile.flush()
        return go_on

    def log_request(self, *_: object) -> None:
        """Log nothing."""


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def _load_cloudformation() -> None:
    importlib.import_module("infra.local.moto.cloudformation.change_sets").patch_cloudformation()
    importlib.import_module("infra.local.moto.enforcement").patch_enforcement()
    importlib.import_module("infra.local.moto.events").patch_events()
    importlib.import_module("infra.local.moto.missing_calls").patch_missing_calls()
    importlib.import_module("infra.local.moto.durable").patch_durable_calls()


def _keep(path: Path) -> None:
    """Keep records and objects in a file."""
    persistence = importlib.import_module("infra.local.moto.persistence")
    state = StateFile(path)
    persistence.patch_persistence(state)
    KeepAliveHandler.before_answer = staticmethod(partial(persistence.store_changes, state))


def _create_app(cloudformation: Future[None], service: str) -> object:
    """Create moto's application for one service after CloudFormation is loaded, which imports most other services.

    If two threads import modules of moto at the same time, its circular imports can leave one of them with a partly
    imported module. That failed one request in thousands of runs, even to Kinesis.
    """
    cloudformation.result()
    return create_backend_app(service)


def main(listener_fd: int, *, limits: bool, state_path: Path | None = None) -> None:
    """Serve until the parent closes our standard input, or ends, which closes it too."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    patch_kinesis(limits=limits)
    if state_path:
        _keep(state_path)
    cloudformation = ThreadPoolExecutor(1).submit(_load_cloudformation)  # a second; the socket accepts meanwhile
    application = DomainDispatcherApplication(partial(_create_app, cloudformation))
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=KeepAliveHandler, fd=listener_fd)
    server.serve_forever()


if __name__ == "__main__":
    given = sys.argv[2:]
    kept_in = Path(given[given.index(STATE_OPTION) + 1]) if STATE_OPTION in given else None
    main(int(sys.argv[1]), limits=LIMITS_OPTION in given, state_path=kept_in)
