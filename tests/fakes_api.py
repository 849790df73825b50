"""The API function on fakes, requests to it, and the check of its problem responses."""

import itertools
import json
from dataclasses import dataclass, field
from typing import Any

from infra.local.runtime.http import http_event
from lambda_function.api.handler import HttpHandler, RequestTelemetry
from lambda_function.aws.model_store import ModelStore
from tests.builders import ARRIVAL_TIME_S, small_bundle
from tests.fakes import BUCKET, FakeClock, FakeS3, publish_bundle
from training.model.bundle import ExportedBundle

JSON = "application/json"
PROBLEM = "application/problem+json"

_service_numbers = itertools.count()


@dataclass(slots=True)
class Response:
    """A response of the API."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Return the decoded body."""
        return json.loads(self.body)


@dataclass(slots=True)
class FakeApi:
    """The API function on fakes, with a model in its channel unless `bundle` is None."""

    bundle: ExportedBundle | None = field(default_factory=small_bundle)
    clock: FakeClock = field(default_factory=FakeClock)
    s3: FakeS3 = field(default_factory=FakeS3)
    handler: HttpHandler = field(init=False)

    def __post_init__(self) -> None:
        if self.bundle:
            publish_bundle(self.s3, self.bundle)
        self.s3.calls.clear()
        self.handler = HttpHandler(
            ModelStore(self.s3, BUCKET, "stable", 60.0, self.clock),
            RequestTelemetry(f"ridecast-api-test-{next(_service_numbers)}", "ridecast", "INFO"),
            self.clock,
        )

    def ask(self, method: str, path: str, body: bytes = b"", content_type: str | None = JSON) -> Response:
        """Send a request that arrives at ARRIVAL_TIME_S."""
        headers = {} if content_type is None else {"Content-Type": content_type}
        return self.take(http_event(method, path, headers, body, ARRIVAL_TIME_S))

    def take(self, event: dict[str, Any]) -> Response:
        """Handle an event of API Gateway."""
        answer = self.handler(event, None)
        body: str = answer["body"]
        assert answer["isBase64Encoded"] is False
        return Response(answer["statusCode"], answer["headers"], body.encode())

    def predict(self, body: bytes) -> Response:
        """Request predictions."""
        return self.ask("POST", "/predictions", body)


def rides_bytes(*events: bytes) -> bytes:
    """Build a request body with several rides."""
    return b'{"rides": [' + b" , ".join(events) + b"]}"


def assert_is_problem(response: Response, status: int, path: str = "") -> None:
    """Check that a response is a problem with this status and this path of the invalid field."""
    assert (response.status, response.headers["Content-Type"]) == (status, PROBLEM)
    assert response.json["status"] == status
    assert response.json["title"]
    assert response.json["detail"]
    assert response.json.get("path", "") == path
    assert response.json.keys() <= {"title", "status", "detail", "reason", "path"}
