"""A server between a client and the local AWS that cuts off successful answers."""

import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

_SERVICE = re.compile(r"Credential=[^/]*/[^/]*/[^/]*/([^/]*)/")
_OWN_HEADERS = {"connection", "content-length", "transfer-encoding"}

Cut = Callable[[str, bytes], bytes]
"""Returns what is left of an answer of a service, which has the name that signatures give it."""


@contextmanager
def cutting(endpoint_url: str, cut: Cut) -> Iterator[str]:
    """Pass requests on to an endpoint, cut the successful answers, and yield the server's own address.

    What is left has the status of the answer, and a length that fits.
    """
    target = urlsplit(endpoint_url).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with closing(HTTPConnection(target, timeout=60)) as connection:
                connection.request(self.command, self.path, body, dict(self.headers))
                answer = connection.getresponse()
                whole = answer.read()
            signed = _SERVICE.search(self.headers.get("Authorization", ""))
            sent = cut(signed[1], whole) if answer.status < 300 and signed else whole
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _OWN_HEADERS:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = do_PUT = do_HEAD = handle_any  # noqa: N815 - names of http.server

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
