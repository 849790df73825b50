"""Telemetry of the monitor: one structured log line and one set of metrics a run."""

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar

from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from lambda_function.aws.telemetry import FunctionTelemetry
from training.experiments.advance import Advanced
from training.monitoring.hours import Hour
from training.monitoring.monitor.figures import merge_errors
from training.monitoring.monitor.monitor import MonitorRun
from training.monitoring.monitor.status import MonitorStatus

_GROUP_METRICS = {"data": ("DataAlarm", "DataEvidence"), "performance": ("PerformanceAlarm", "PerformanceEvidence")}
"""By group: 1 while its alarm is on, and its evidence."""

_SECONDS_PER_HOUR = 3600


class MonitorTelemetry(FunctionTelemetry):
    """Logs and metrics of the monitor."""

    FAILED: ClassVar[str] = "MonitorFailures"

    def ran(self, run: MonitorRun, now: datetime, run_ms: float, experiments: Sequence[Advanced] = ()) -> None:
        """Write the log line and the metrics of a run; the line is a warning if a step failed."""
        log = self.logger.warning if run.failures else self.logger.info
        facts = {**_facts(run), "experiments": [_experiment_facts(one) for one in experiments]}
        log("monitor", extra={"monitor": facts, "run_ms": round(run_ms)})
        metrics = self._metrics()
        metrics.add_metric(self.FAILED, MetricUnit.Count, len(run.failures))
        _add_errors(metrics, run)
        _add_experiments(metrics, experiments)
        if run.status:
            _add_status(metrics, run.status, now)
        metrics.flush_metrics()


def _facts(run: MonitorRun) -> dict[str, object]:
    status = run.status
    return {
        "stored": status is not None,
        "model_version": status.served_version if status else None,
        "hours": [one.hour for one in run.hours],
        "n_new_days": run.n_days,
        "n_hours_left": run.n_left,
        "states": {one.group: one.state for one in status.groups} if status else {},
        "calibration": status.calibration.state if status else None,
        "frozen_reason": status.calibration.frozen_reason if status else None,
        "n_events_sent": run.n_sent,
        "n_events_left": len(status.pending) if status else 0,
        "missing": list(status.missing) if status else [],
        "failures": [f"{one.step}: {type(one.error).__name__}: {one.error}" for one in run.failures],
    }


def _experiment_facts(one: Advanced) -> dict[str, object]:
    return {
        "name": one.name,
        "n_hours": one.n_hours,
        "new_days": [str(day) for day in one.days],
        "n_hours_left": one.n_left,
        "answers": {candidate: verdict.answer for candidate, verdict in one.answers.items()},
        "n_events_sent": one.n_sent,
    }


def _add_experiments(metrics: EphemeralMetrics, experiments: Sequence[Advanced]) -> None:
    running = [one for one in experiments if one.experiment and one.experiment.is_running]
    metrics.add_metric("ExperimentsRunning", MetricUnit.Count, len(running))
    metrics.add_metric("ExperimentDays", MetricUnit.Count, sum(len(one.days) for one in experiments))
    metrics.add_metric("ExperimentAnswers", MetricUnit.Count, sum(len(one.answers) for one in experiments))


def _add_errors(metrics: EphemeralMetrics, run: MonitorRun) -> None:
    """Add the errors of the hours that the run added."""
    errors = merge_errors(one.figures.errors for one in run.hours)
    metrics.add_metric("MonitoredRides", MetricUnit.Count, errors.raw.n)
    served, raw = errors.served, errors.raw
    values = {
        "ServedRmse": served.rmse_minutes,
        "RawRmse": raw.rmse_minutes,
        "ServedCoverage": served.coverage,
        "ServedBias": served.bias_minutes,
    }
    for name, value in values.items():
        if value is not None:
            metrics.add_metric(name, MetricUnit.NoUnit, value)


def _add_status(metrics: EphemeralMetrics, status: MonitorStatus, now: datetime) -> None:
    for group in status.groups:
        alarm, evidence = _GROUP_METRICS[group.group]
        metrics.add_metric(alarm, MetricUnit.Count, int(group.state == "alarm"))
        metrics.add_metric(evidence, MetricUnit.NoUnit, group.evidence)
    metrics.add_metric("CalibrationFrozen", MetricUnit.Count, int(status.calibration.state == "frozen"))
    if status.last_judged is not None:
        quiet_s = (now - Hour.parse(status.last_judged).end).total_seconds()
        metrics.add_metric("HoursWithoutJudgedRides", MetricUnit.Count, max(0.0, quiet_s / _SECONDS_PER_HOUR))
