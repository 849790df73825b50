"""Telemetry of the join: one structured log line and one set of metrics an hour."""

from typing import ClassVar

import msgspec
from aws_lambda_powertools.metrics import MetricUnit

from lambda_function.aws.telemetry import FunctionTelemetry
from training.monitoring.summary import HourSummary

_METRICS = {
    "RideEventsJoined": "n_ride_events",
    "LabelledRides": "n_labelled",
    "RidesWithoutOutcome": "n_without_outcome",
    "LostRides": "n_lost",
    "ConflictingPredictions": "n_conflicting",
    "SkewedPredictions": "n_skewed",
    "UnrecomputedRides": "n_unrecomputed",
    "WaitingRides": "n_waiting",
    "ContradictingOutcomes": "n_contradicting",
    "OutcomeRejects": "n_outcomes_rejected",
}
"""Metrics and the numbers of the summary that they have."""

_FAULTS = ("n_lost", "n_conflicting", "n_skewed", "n_unrecomputed", "damaged_objects")


class JoinTelemetry(FunctionTelemetry):
    """Logs and metrics of the join."""

    FAILED: ClassVar[str] = "FailedJoins"

    def joined(self, summary: HourSummary, join_ms: float) -> None:
        """Write the log line and the metrics of an hour; the line is a warning if the audit has found a fault."""
        log = self.logger.warning if any(getattr(summary, name) for name in _FAULTS) else self.logger.info
        log("hour", extra={"hour": msgspec.to_builtins(summary), "join_ms": round(join_ms)})
        metrics = self._metrics()
        metrics.add_metric("JoinedHours", MetricUnit.Count, 1)
        for name, field in _METRICS.items():
            metrics.add_metric(name, MetricUnit.Count, getattr(summary, field))
        metrics.add_metric("DamagedArchiveObjects", MetricUnit.Count, len(summary.damaged_objects))
        metrics.flush_metrics()

    def hour_failed(self, hour: str, error: Exception) -> None:
        """Log and count an hour that was not joined; it is due again at the next run."""
        self.logger.exception("hour failed", extra={"hour": hour, "error": type(error).__name__})
        metrics = self._metrics()
        metrics.add_metric(self.FAILED, MetricUnit.Count, 1)
        metrics.flush_metrics()
