"""API Gateway's payload format 2.0: an HTTP request as the event that a function gets, and its response's body."""

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit


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
