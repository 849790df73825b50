"""Lambda's Invoke on the local AWS: moto runs no code, so it forwards the invocations of a function to this process."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer

from infra.local.aws import LocalAws
from infra.local.moto.names import ERROR_HEADER, RUNTIME_TAG
from infra.local.ports import HOST
from infra.local.runtime.in_process import Runtime


@contextmanager
def invocable(aws: LocalAws, function_arn: str, runtime: Runtime) -> Iterator[None]:
    """Let every client of the local AWS invoke a function, by its name or an alias, while the block lasts.

    Args:
        aws: The local AWS; it must not be enforcing yet.
        function_arn: The function, without an alias.
        runtime: Runs it, one event at a time; no other thread may call it meanwhile.
    """
    functions = aws.client("lambda")
    with _Server((HOST, 0), _RequestHandler) as server:
        server.runtime = runtime
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        functions.tag_resource(Resource=function_arn, Tags={RUNTIME_TAG: f"{HOST}:{server.server_address[1]}"})
        try:
            yield
        finally:
            functions.untag_resource(Resource=function_arn, TagKeys=[RUNTIME_TAG])
            server.shutdown()
            thread.join()


class _Server(HTTPServer):
    runtime: Runtime


class _RequestHandler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        """Run the function on the event in the body; a failed invocation is answered as Lambda answers it."""
        event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            body, headers = json.dumps(self.server.runtime(event)), {}
        except Exception as error:  # noqa: BLE001 - a failed invocation is an answer
            body = json.dumps({"errorType": type(error).__name__, "errorMessage": str(error)})
            headers = {ERROR_HEADER: "Unhandled"}
        self.send_response(HTTPStatus.OK)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Log nothing."""
