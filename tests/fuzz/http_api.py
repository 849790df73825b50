"""Requests at the HTTP API: each is answered with a documented status, in JSON, and nothing of what is inside."""

import base64
import json
import logging
from random import Random
from typing import Any

from lambda_function.api.handler import HttpHandler, build_handler
from lambda_function.aws.settings import ServingSettings
from tests.builders import interval_bundle, ride_bytes
from tests.fakes import BUCKET, FakeS3, publish_bundle
from tests.fuzz.mutate import TOKENS, mutate

_SERVICE = "ridecast-fuzz-http"
_INSIDE = ("Traceback", "lambda_function", BUCKET, "Error:", 'File "')
_ALLOWED = {200, 207, 400, 404, 405, 413, 415, 422}
_RIDE = ride_bytes()
BODIES = (
    _RIDE,
    b'{"rides":[' + b",".join([_RIDE] * 3) + b"]}",
    b'{"rides":[]}',
    b'{"rides":[1,null,"x",{}]}',
    b'{"rides":[' + b",".join([b"{}"] * 1_001) + b"]}",
    b"",
)
PATHS = ("/predictions",) * 8 + ("/model", "/health", "/openapi.json", "/", "//", "/predictions/", "/%00", "/../model")
METHODS = ("POST",) * 8 + ("GET", "PUT", "DELETE", "OPTIONS", "TRACE")
TYPES = ("application/json",) * 8 + ("application/json; charset=utf-8", "text/plain", "", "\x00", "a" * 1_000)

_handlers: list[HttpHandler] = []


def _the_handler() -> HttpHandler:
    if not _handlers:
        s3 = FakeS3()
        publish_bundle(s3, interval_bundle())
        settings = ServingSettings(bucket=BUCKET, model_channel="stable", service_name=_SERVICE)
        _handlers.append(build_handler(settings, s3))
        logging.getLogger(_SERVICE).propagate = False  # pytest keeps whatever reaches the root logger
    return _handlers[0]


def make_request(random: Random) -> dict[str, bytes]:
    """Makes a request, as the bytes of its parts."""
    body = mutate(random, BODIES)
    token = random.choice(TOKENS)[:2_000].decode("utf-8", "replace").encode()
    return {
        "method": random.choice(METHODS).encode(),
        "path": random.choice(PATHS).encode() + (token if random.random() < 0.05 else b""),
        "type": random.choice(TYPES).encode(),
        "body": body,
        "header": token,
    }


def run_request(request: dict[str, bytes]) -> None:
    """Asks: a status that is documented, a body that is JSON and tells nothing of what is inside."""
    answer = _the_handler()(_event(request), None)
    assert answer["statusCode"] in _ALLOWED, answer
    body = answer["body"]
    json.loads(body)
    if answer["statusCode"] >= 400:
        assert not any(word in body for word in _INSIDE), body
        assert len(body) < 8_000
    for name, value in answer.get("headers", {}).items():
        assert "\n" not in f"{name}{value}"


def _event(request: dict[str, bytes]) -> dict[str, Any]:
    """Returns the request as API Gateway brings it: what is no text comes in base64."""
    path, method = request["path"].decode(), request["method"].decode()
    try:
        body, is_base64 = request["body"].decode(), False
    except UnicodeDecodeError:
        body, is_base64 = base64.b64encode(request["body"]).decode(), True
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"content-type": request["type"].decode(), "x-anything": request["header"].decode()},
        "requestContext": {
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "f"},
            "stage": "$default",
            "timeEpoch": 1_609_834_500_250,
        },
        "body": body,
        "isBase64Encoded": is_base64,
    }
