"""What the function behind the HTTP API says of itself: one log line and one set of metrics a request, never a payload.

The names are those of the stream's function where they mean the same; the dimension `service` tells the two apart.
"""

from dataclasses import dataclass

from aws_lambda_powertools.metrics import MetricUnit

from lambda_function.telemetry import Telemetry


@dataclass(slots=True, kw_only=True)
class RequestReport:
    """One request in figures.

    Attributes:
        route: Method and path, as in ``POST /predictions``; "" where there is no such.
        n_rejects: Rides that cannot be predicted.
        problem: What kept the request or the model from being all well, or "". For the log, not for the caller.
    """

    route: str = ""
    status: int = 0
    n_predictions: int = 0
    n_rejects: int = 0
    model_version: str = ""
    model_switched: bool = False
    refresh_failed: bool = False
    request_ms: float = 0.0
    problem: str = ""


class RequestTelemetry(Telemetry):
    """Logs and metrics of the function behind the HTTP API."""

    def report_request(self, request: RequestReport) -> None:
        """Writes one log line and the metrics of a request."""
        log = self.logger.warning if request.problem else self.logger.info
        log("request", extra={"request": {name: getattr(request, name) for name in request.__slots__}})
        metrics = self._metrics()
        metrics.add_metric("Requests", MetricUnit.Count, 1)
        metrics.add_metric("Predictions", MetricUnit.Count, request.n_predictions)
        metrics.add_metric("Rejects", MetricUnit.Count, request.n_rejects)
        metrics.add_metric("ModelSwitches", MetricUnit.Count, int(request.model_switched))
        metrics.add_metric("ModelRefreshFailures", MetricUnit.Count, int(request.refresh_failed))
        metrics.add_metric("RequestTime", MetricUnit.Milliseconds, request.request_ms)
        metrics.add_metadata("model_version", request.model_version)  # unbounded: not a dimension
        metrics.flush_metrics()
