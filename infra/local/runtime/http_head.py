"""The head of an HTTP/1 request: request line and headers, read strictly. What is ambiguous is refused, never guessed.

RFC 9110 and 9112 define the grammar. Some of what they leave to a server is refused here too: an absolute target, since
this is no proxy, and the same length twice.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from lambda_function.errors import RequestError

MAX_LINE_BYTES = 65_536
MAX_HEADERS = 100

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_METHOD = re.compile(_NAME)
_VERSION = re.compile(r"HTTP/([0-9])\.([0-9])")
_HEADER = re.compile(rf"({_NAME}):([\t\x20-\x7e\x80-\xff]*)")
_TARGET = re.compile(r"/(?:[!$&-;=?-Z_a-z~]|%(?!00)[0-9A-Fa-f]{2})*")  # RFC 3986, without the byte 0
_LENGTH = re.compile(r"[0-9]+")
_MAX_LENGTH_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request that is valid.

    Attributes:
        target: Path and query, as sent; begins with ``/``.
        headers: By name in lower case. Values of a repeated header are joined by commas, as API Gateway does.
        n_body_bytes: Of the body that follows.
        keeps_connection: Whether another request may follow on the same connection.
        awaits_continue: Whether the client waits for `100 Continue` before it sends the body.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    n_body_bytes: int
    keeps_connection: bool
    awaits_continue: bool


def read_head(request_line: bytes, read_line: Callable[[int], bytes], max_body_bytes: int) -> Head:
    r"""Read the head of a request.

    Args:
        request_line: Its first line.
        read_line: Returns the next line, or its first bytes up to the given number.
        max_body_bytes: Longer bodies are refused.

    Raises:
        RequestError: The head is not valid, or announces a body that is not accepted. The connection must be closed.

    >>> lines = iter([b"Host: localhost\r\n", b"Content-Length: 2\r\n", b"\r\n"])
    >>> head = read_head(b"POST /predictions HTTP/1.1\r\n", lambda _: next(lines), max_body_bytes=10)
    >>> head.method, head.target, head.n_body_bytes, head.keeps_connection
    ('POST', '/predictions', 2, True)
    """
    method, target, minor_version = _request_line(_text(request_line))
    headers = _headers(read_line)
    if minor_version and len(headers.get("host", ())) != 1:
        raise RequestError(HTTPStatus.BAD_REQUEST, "send one Host header")
    joined = {name: ",".join(values) for name, values in headers.items()}
    connection = {word.strip().lower() for word in joined.get("connection", "").split(",")}
    return Head(
        method=method,
        target=target,
        headers=joined,
        n_body_bytes=_body_length(joined, max_body_bytes),
        keeps_connection="close" not in connection if minor_version else "keep-alive" in connection,
        awaits_continue=bool(minor_version) and joined.get("expect", "").lower() == "100-continue",
    )


def _text(line: bytes) -> str:
    """Return a line without its end; every byte is one character."""
    return line.removesuffix(b"\n").removesuffix(b"\r").decode("latin-1")


def _request_line(line: str) -> tuple[str, str, int]:
    """Return method, target and the version's second digit."""
    words = line.split(" ")
    if len(words) == 2:  # noqa: PLR2004 - HTTP/0.9: method and target
        raise RequestError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "HTTP/1.1 is supported, and HTTP/0.9 is not")
    method, target, version = words if len(words) == 3 else ("", "", "")  # noqa: PLR2004 - one space between them
    numbers = _VERSION.fullmatch(version)
    if numbers is None:
        raise RequestError(HTTPStatus.BAD_REQUEST, "the first line is not that of an HTTP request")
    if numbers[1] != "1":
        raise RequestError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, f"HTTP/1.1 is supported, and {version} is not")
    if not _METHOD.fullmatch(method):
        raise RequestError(HTTPStatus.BAD_REQUEST, "the method is not valid")
    if not _TARGET.fullmatch(target):
        raise RequestError(HTTPStatus.BAD_REQUEST, "the target must be a path that begins with /, percent-encoded")
    return method, target, int(numbers[2])


def _headers(read_line: Callable[[int], bytes]) -> dict[str, list[str]]:
    """Read the headers and the empty line behind them; return the values by name in lower case."""
    found: dict[str, list[str]] = {}
    for _ in range(MAX_HEADERS + 1):
        line = read_line(MAX_LINE_BYTES + 1)
        if len(line) > MAX_LINE_BYTES:
            break
        if not line.endswith(b"\n"):
            raise RequestError(HTTPStatus.BAD_REQUEST, "the request ends within its headers")
        if not (text := _text(line)):
            return found
        header = _HEADER.fullmatch(text)
        if header is None:
            raise RequestError(HTTPStatus.BAD_REQUEST, "a line of the headers is not valid")
        found.setdefault(header[1].lower(), []).append(header[2].strip(" \t"))
    what = f"a request may have {MAX_HEADERS} headers of {MAX_LINE_BYTES:,} bytes at most"
    raise RequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, what)


def _body_length(headers: Mapping[str, str], max_body_bytes: int) -> int:
    length = headers.get("content-length", "0")
    if not _LENGTH.fullmatch(length):  # two of them are joined by a comma
        raise RequestError(HTTPStatus.BAD_REQUEST, "send one Content-Length, a whole number of bytes")
    if "transfer-encoding" in headers:
        if "content-length" in headers:
            raise RequestError(HTTPStatus.BAD_REQUEST, "send a Content-Length or a Transfer-Encoding, not both")
        raise RequestError(HTTPStatus.LENGTH_REQUIRED, "send the body in one piece, with a Content-Length")
    if len(length) > _MAX_LENGTH_DIGITS or int(length) > max_body_bytes:
        raise RequestError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body of a request may have {max_body_bytes:,} bytes at most"
        )
    return int(length)
