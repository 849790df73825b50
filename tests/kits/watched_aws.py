"""A proxy in front of the local AWS that records each request and its access key, and can delay or hold requests."""

import re
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

HOST = "127.0.0.1"
_PATIENCE_S = 120.0
_ACCESS_KEY = re.compile(r"Credential=([^/]+)/")
_ESTABLISHED = "01"  # a socket's state in /proc/net/tcp
_OF_ONE_CONNECTION = {"connection", "transfer-encoding", "content-length", "date", "server"}


@dataclass(frozen=True, slots=True)
class Request:
    """A request: its operation, or method and path if the service has no operation names, and its access key."""

    what: str
    access_key: str


@dataclass(slots=True)
class WatchedAws:
    """The proxy. Like AWS, it leaves connections open.

    Attributes:
        requests: All requests in the order of arrival.
    """

    port: int
    requests: list[Request] = field(default_factory=list)

    @property
    def endpoint_url(self) -> str:
        """Return the URL for clients."""
        return f"http://{HOST}:{self.port}"

    def asked_since(self, n_requests: int) -> list[str]:
        """Return the operations after the first `n_requests` requests."""
        return [request.what for request in self.requests[n_requests:]]

    def n_connections(self, pid: int) -> int:
        """Count the connections that a process has to the proxy, from /proc."""
        files = [str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()]
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        ours = [row for row in rows if row[3] == _ESTABLISHED and row[2].endswith(f":{self.port:04X}")]
        return sum(f"socket:[{row[9]}]" in files for row in ours)


@contextmanager
def watched_aws(endpoint_url: str, delay_s: float = 0.0) -> Iterator[WatchedAws]:
    """Run a proxy for `endpoint_url` that passes each request on after a delay."""
    over = threading.Event()
    behind = urlsplit(endpoint_url).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._pass_on()

        def do_POST(self) -> None:
            self._pass_on()

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            signed = _ACCESS_KEY.search(self.headers.get("Authorization", ""))
            _, _, operation = self.headers.get("X-Amz-Target", "").partition(".")
            if delay_s and over.wait(delay_s):
                return  # the block has ended, and with it the client
            watched.requests.append(Request(operation or f"{self.command} {self.path}", signed[1] if signed else ""))
            with closing(HTTPConnection(behind, timeout=_PATIENCE_S)) as connection:
                connection.request(self.command, self.path, body, dict(self.headers))
                response = connection.getresponse()
                answer = response.read()
            self.send_response(response.status)
            for name, value in response.getheaders():
                if name.lower() not in _OF_ONE_CONNECTION:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
            """Log nothing."""

    with ThreadingHTTPServer((HOST, 0), Handler) as server:
        watched = WatchedAws(server.server_address[1])
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield watched
        finally:
            over.set()
            server.shutdown()
