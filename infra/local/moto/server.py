"""The process behind LocalAws: moto over HTTP/1.1 on a socket that it is handed, until its standard input ends.

    python -m infra.local.moto.server LISTENING_FILE_DESCRIPTOR [--limits]

werkzeug's own handler closes each connection after one answer; kept alive, a small request takes 2.8 ms, not 4.8.
"""

import importlib
import io
import logging
import os
import sys
import threading
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.exceptions import InternalServerError
from werkzeug.serving import make_server
from werkzeug.test import run_wsgi_app

from infra.local.moto.kinesis import patch_kinesis

LIMITS_OPTION = "--limits"
"""With it, Kinesis has AWS's limits."""


class KeepAliveHandler(MotoRequestHandler):  # type: ignore[misc] # moto is not typed
    """Reads each body whole and gives each answer a length: then a connection can serve the next request."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave in one packet
    disable_nagle_algorithm = True

    def run_wsgi(self) -> None:
        """Serves one request."""
        environ = self.make_environ()
        environ["wsgi.input"] = io.BytesIO(self._read_body(environ))
        try:
            chunks, status, headers = run_wsgi_app(self.server.app, environ)
        except Exception as error:  # noqa: BLE001 - a crash of moto is one request's answer, not the server's end
            traceback.print_exc()
            chunks, status, headers = run_wsgi_app(InternalServerError(repr(error)), environ)
        self._answer(status, list(headers), b"".join(chunks))

    def _read_body(self, environ: dict[str, object]) -> bytes:
        if "wsgi.input_terminated" in environ:  # chunked: werkzeug's reader knows the end
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
        """Asks for the body at once: left in the buffer, this line would cost every S3 upload a second."""
        go_on: bool = super().handle_expect_100()
        self.wfile.flush()
        return go_on

    def log_request(self, *_: object) -> None:
        """Logs nothing: a line a request is noise."""


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def _load_cloudformation() -> None:
    importlib.import_module("infra.local.moto.cloudformation.change_sets").patch_cloudformation()


def _create_app(cloudformation: Future[None], service: str) -> object:
    """Makes moto's application of one service: once CloudFormation is loaded, for it brings most others with it.

    Two threads that import modules of moto at once meet in a circle, and one of them finds half a module. Kinesis alone
    is there already.
    """
    if service != "kinesis":
        cloudformation.result()
    return create_backend_app(service)


def main(listener_fd: int, *, limits: bool) -> None:
    """Serves until the parent closes our standard input, or dies, which closes it too."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    patch_kinesis(limits=limits)
    cloudformation = ThreadPoolExecutor(1).submit(_load_cloudformation)  # takes a second, Kinesis need not wait for it
    application = DomainDispatcherApplication(partial(_create_app, cloudformation))
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=KeepAliveHandler, fd=listener_fd)
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), limits=LIMITS_OPTION in sys.argv)
