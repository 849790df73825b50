"""The entry point behind the HTTP API: routes to the predictor of the stream.

It is a function of its own from the same package. `lambda_function/handler.py` does not import it, so a cold start on
the stream does not pay for Powertools' event handler.
"""

import base64
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from http import HTTPStatus
from typing import Any

import msgspec
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from aws_lambda_powertools.metrics import MetricUnit

from lambda_function.api.rides import (
    APPLICATION_JSON,
    Answer,
    answer_error,
    answer_rides,
    decode_request,
)
from lambda_function.api.wire import Health, ModelFacts, model_facts
from lambda_function.aws.clients import make_s3_client
from lambda_function.aws.model_store import GetObject, ModelStore
from lambda_function.aws.settings import ServingSettings
from lambda_function.aws.telemetry import MILLISECONDS_PER_S, Stopwatch, Telemetry, add_channel_age
from lambda_function.core.processor import ModelFrom
from lambda_function.errors import PredictorError, RequestError


@dataclass(slots=True, kw_only=True)
class RequestReport:
    """The figures of one request."""

    route: str = ""  # method and path, for example ``POST /predictions``; "" for an unknown route
    status: int = 0
    n_predictions: int = 0
    n_rejects: int = 0  # rides that cannot be predicted
    model_version: str = ""  # in a split the champion's
    candidate_version: str | None = None
    model_switched: bool = False
    refresh_failed: bool = False
    channel_is_stale: bool = False
    channel_age_s: float = 0.0
    request_ms: float = 0.0
    problem: str = ""  # what went wrong with the request or the model, or "". It goes to the log, not to the caller.


class RequestTelemetry(Telemetry):
    """Logs and metrics of the API: one log line and one set of metrics per request, never a payload.

    Metrics with the same meaning have the same names as the stream function's; the dimension `service` separates them.
    """

    def report_request(self, request: RequestReport) -> None:
        """Write one log line and the metrics of a request."""
        log = self.logger.warning if request.problem else self.logger.info
        log("request", extra={"request": {name: getattr(request, name) for name in request.__slots__}})
        metrics = self._metrics()
        metrics.add_metric("Requests", MetricUnit.Count, 1)
        metrics.add_metric("Predictions", MetricUnit.Count, request.n_predictions)
        metrics.add_metric("Rejects", MetricUnit.Count, request.n_rejects)
        metrics.add_metric("ModelSwitches", MetricUnit.Count, int(request.model_switched))
        metrics.add_metric("ModelRefreshFailures", MetricUnit.Count, int(request.refresh_failed))
        if request.channel_is_stale or request.refresh_failed:
            add_channel_age(metrics, request.channel_age_s, is_stale=request.channel_is_stale)
        metrics.add_metric("RequestTime", MetricUnit.Milliseconds, request.request_ms)
        metrics.add_metadata("model_version", request.model_version)  # unbounded: not a dimension
        metrics.flush_metrics()


HEAD, OPTIONS = "HEAD", "OPTIONS"

RETRY_AFTER_S = 5
"""The Retry-After while there is no model; each request tries to load one."""

NO_MODEL = "no model can be loaded: release one to the channel that this API follows, or try again later"
FAILED = "internal error: the function's log has the details"

_encode = msgspec.json.Encoder().encode
_NOT_STORED = {"Cache-Control": "no-store"}


@dataclass(slots=True)
class HttpHandler:
    """The function with its parts. `clock` returns seconds since the epoch. It handles one request at a time.

    Attributes:
        routes: Path → method and the function that answers. A path that takes GET takes HEAD too, and each OPTIONS.
    """

    models: ModelStore
    telemetry: RequestTelemetry
    clock: Callable[[], float] = time.time
    routes: dict[str, tuple[str, Callable[[], Answer]]] = field(init=False)
    _resolver: APIGatewayHttpResolver = field(init=False)
    _report: RequestReport = field(default_factory=RequestReport, init=False)
    _loaded_at_s: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.routes = {
            "/predictions": ("POST", self._predict),
            "/model": ("GET", self._model),
            "/health": ("GET", self._health),
            "/openapi.json": ("GET", _openapi),
        }
        self._resolver = APIGatewayHttpResolver()
        for path, (method, answer) in self.routes.items():
            answers = dict.fromkeys(allowed_methods(method), answer) | {OPTIONS: _methods_of(method)}
            for one, answer_one in answers.items():
                self._resolver.route(re.escape(path), one)(self._answering(f"{one} {path}", answer_one))
        self._resolver.not_found(self._no_such_route)
        self._resolver.exception_handler(RequestError)(self._refused)
        self._resolver.exception_handler(Exception)(self._failed)

    def __call__(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        """Answer one request: an event of API Gateway's payload format 2.0."""
        stopwatch = Stopwatch()
        self._report = RequestReport()
        if _is_http_event(event):
            response = self._resolver.resolve({**event, "headers": _text_headers(event)}, context)
        else:
            response = self._refused_format(event)
        if _method(event) == HEAD:
            response["body"] = ""
        self._report.status = response["statusCode"]
        self._report.request_ms = stopwatch.ms()
        self.telemetry.report_request(self._report)
        return response

    def _answering(self, route: str, answer: Callable[[], Answer]) -> Callable[[], Response[str]]:
        def call() -> Response[str]:
            self._report.route = route
            return _response(answer())

        return call

    def _predict(self) -> Answer:
        event = self._resolver.current_event.raw_event
        _check_content_type(event)
        request = decode_request(_body(event))
        arrival_time_s = self._arrival_time_s(event)
        answer = answer_rides(request, self._serving(arrival_time_s), arrival_time_s)
        self._report.n_predictions, self._report.n_rejects = answer.n_predictions, answer.n_problems
        return answer

    def _model(self) -> Answer:
        model = self._serving(self.clock()).model
        loaded_at = datetime.fromtimestamp(self._loaded_at_s, UTC).isoformat(timespec="seconds")
        facts: ModelFacts = model_facts(model, loaded_at)
        return Answer(HTTPStatus.OK, _encode(facts), headers=_NOT_STORED)

    def _health(self) -> Answer:
        model = self._serving(self.clock()).model
        is_stale = self._report.refresh_failed or self._report.channel_is_stale
        health = Health("stale" if is_stale else "ok", model.model_version)
        return Answer(HTTPStatus.OK, _encode(health), headers=_NOT_STORED)

    def _serving(self, arrival_time_s: float) -> ModelFrom:
        """Return the model of a request's arrival, in a split both; read the channel first if that is due."""
        try:
            refreshed = self.models.refresh([arrival_time_s])
        except PredictorError as error:
            self._report.refresh_failed, self._report.problem = True, str(error)
            headers = {"Retry-After": str(RETRY_AFTER_S)}
            raise RequestError(HTTPStatus.SERVICE_UNAVAILABLE, NO_MODEL, headers=headers) from error
        if refreshed.switched:
            self._loaded_at_s = self.clock()
        self._report.model_version = refreshed.model.served_version
        self._report.candidate_version = refreshed.models[0].candidate_version
        self._report.model_switched = refreshed.switched
        self._report.refresh_failed = refreshed.error is not None
        self._report.channel_is_stale, self._report.channel_age_s = refreshed.is_stale, refreshed.channel_age_s
        self._report.problem = str(refreshed.error or "")
        return refreshed.models[0]

    def _arrival_time_s(self, event: dict[str, Any]) -> float:
        arrival_ms = event.get("requestContext", {}).get("timeEpoch")
        return self.clock() if arrival_ms is None else arrival_ms / MILLISECONDS_PER_S

    def _no_such_route(self, _: NotFoundError) -> Response[str]:
        path = self._resolver.current_event.path
        if path not in self.routes:
            problem = f"there is no such path: use one of {', '.join(self.routes)}"
            return self._refused(RequestError(HTTPStatus.NOT_FOUND, problem))
        method, _answer = self.routes[path]
        problem = f"{path} takes {method} only"
        headers = _methods_of(method)().headers
        return self._refused(RequestError(HTTPStatus.METHOD_NOT_ALLOWED, problem, headers=headers))

    def _refused(self, error: RequestError) -> Response[str]:
        self._report.n_rejects += bool(error.reason)
        return _response(answer_error(error))

    def _refused_format(self, event: Any) -> dict[str, Any]:
        """Refuse an event of another format, such as a REST API's; the resolver cannot read it."""
        problem = f"{_source(event)} has arrived: invoke this function by an HTTP API with payload format 2.0"
        self._report.problem = problem
        answer = answer_error(RequestError(HTTPStatus.BAD_REQUEST, problem))
        return {
            "statusCode": answer.status.value,
            "headers": {"Content-Type": answer.content_type},
            "body": answer.body.decode(),
            "isBase64Encoded": False,
        }

    def _failed(self, error: Exception) -> Response[str]:
        self.telemetry.failed(error)
        self._report.problem = type(error).__name__
        return _response(answer_error(RequestError(HTTPStatus.INTERNAL_SERVER_ERROR, FAILED)))


def allowed_methods(method: str) -> tuple[str, ...]:
    """Return the methods that a route answers: HEAD as GET, without a body."""
    return (method, HEAD) if method == "GET" else (method,)


def _methods_of(method: str) -> Callable[[], Answer]:
    """Return the function that answers OPTIONS. API Gateway adds the headers that other origins' pages need (CORS)."""
    allow = ", ".join((*allowed_methods(method), OPTIONS))
    return lambda: Answer(HTTPStatus.NO_CONTENT, b"", content_type="", headers={"Allow": allow})


def _is_http_event(event: Any) -> bool:
    """Return whether an event is a request in API Gateway's payload format 2.0."""
    return isinstance(event, dict) and isinstance(event.get("rawPath"), str) and bool(_method(event))


def _method(event: Any) -> str:
    """Return the method of a request in payload format 2.0; "" if an event has none."""
    context = event.get("requestContext") if isinstance(event, dict) else None
    http = context.get("http") if isinstance(context, dict) else None
    method = http.get("method") if isinstance(http, dict) else None
    return method.upper() if isinstance(method, str) else ""


def _source(event: Any) -> str:
    """Name what sent an event that is not in payload format 2.0."""
    if not isinstance(event, dict) or "httpMethod" not in event:
        return "an event that is no HTTP request"
    context = event.get("requestContext")
    if isinstance(context, dict) and "elb" in context:
        return "an Application Load Balancer's event"
    return "a REST API's event, in payload format 1.0,"


def _text_headers(event: dict[str, Any]) -> dict[str, str]:
    """Return the headers by name in lower case. Test events have null in place of all of them, or of one."""
    headers = event.get("headers")
    found = headers.items() if isinstance(headers, dict) else ()
    return {name.lower(): text for name, text in found if isinstance(text, str)}


def _openapi() -> Answer:
    from lambda_function.api.openapi import openapi_json  # noqa: PLC0415 - loaded only for this route

    return Answer(HTTPStatus.OK, openapi_json())


def _check_content_type(event: dict[str, Any]) -> None:
    content_type: str = event["headers"].get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != APPLICATION_JSON:
        raise RequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"send JSON with the header content-type: {APPLICATION_JSON}",
            headers={"Accept": APPLICATION_JSON},
        )


def _body(event: dict[str, Any]) -> bytes:
    text: str = event.get("body") or ""
    return base64.b64decode(text) if event.get("isBase64Encoded") else text.encode("utf-8", "surrogatepass")


def _response(answer: Answer) -> Response[str]:
    return Response(answer.status.value, answer.content_type or None, answer.body.decode(), dict(answer.headers))


def build_handler(settings: ServingSettings, s3: GetObject) -> HttpHandler:
    """Build the handler around a client."""
    return HttpHandler(
        ModelStore(
            s3,
            settings.bucket,
            settings.model_channel,
            settings.model_refresh_s,
            signing_key=settings.model_signing_key,
            activation_delay_s=settings.model_activation_delay_s,
        ),
        RequestTelemetry(settings.service_name, settings.metrics_namespace, settings.log_level),
    )


@cache
def _cold_start() -> HttpHandler:
    """Read the settings and build the client, once per execution environment."""
    return build_handler(ServingSettings.from_env(), make_s3_client())


def lambda_handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer one HTTP request.

    Args:
        event: A request from API Gateway's HTTP API, payload format 2.0.
        context: Lambda's context.

    Returns:
        Status, headers and body.
    """
    return _cold_start()(event, context)
