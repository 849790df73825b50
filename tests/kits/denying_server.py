"""An AWS on loopback that denies everything."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def server_that_denies() -> Iterator[str]:
    """Start the server and return its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Deny) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class _Deny(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._deny()

    def do_PUT(self) -> None:
        self._deny()

    def log_message(self, *args: object) -> None:
        """Log nothing."""

    def _deny(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(403)
        self.send_header("Content-Length", "0")
        self.end_headers()
