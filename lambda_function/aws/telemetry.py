"""Telemetry: one structured log line and one set of metrics per batch, never a payload."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import ClassVar

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

MILLISECONDS_PER_S = 1000


@dataclass(slots=True, kw_only=True)
class BatchReport:
    """The figures of one batch."""

    stream: str
    shard_id: str
    first_sequence_number: str
    n_records: int
    max_record_age_ms: float  # from the oldest record's arrival to the start of the batch
    n_predictions: int = 0
    n_without_pickup_time: int = 0  # rides that were predicted as of their arrival
    rejects_by_reason: Counter[str] = field(default_factory=Counter)  # counts, by `events.REJECT_REASONS`
    n_rejects_in_queue: int = 0  # rejects that went to the queue, because the bucket did not take them
    n_rejects_not_stored: int = 0  # rejects that neither bucket nor queue took
    n_retried: int = 0  # records given back to Lambda: all from the first that is not finished
    n_resent: int = 0  # entries of PutRecords that were sent more than once
    retry_from: str = ""  # the sequence number reported, or ""
    model_version: str = ""  # the served version of the newest records; in a split the champion's
    candidate_version: str | None = None  # the candidate's, in a split
    older_model_versions: list[str] = field(default_factory=list)  # of records that arrived before its segment
    model_switched: bool = False
    refresh_failed: bool = False
    channel_is_stale: bool = False  # the last look at the channel is older than the activation delay
    channel_age_s: float = 0.0  # since that look
    predict_ms: float = 0.0
    publish_ms: float = 0.0
    problem: str = ""  # what went wrong with the batch or the model, or ""


@dataclass(slots=True, kw_only=True)
class ArchiveReport:
    """The figures of one batch of the archive."""

    stream: str
    kind: str
    shard_id: str
    first_sequence_number: str
    n_records: int
    n_objects: int  # one for each hour of arrival
    n_bytes: int  # of the objects


class FunctionTelemetry:
    """Logs and metrics of one function. Metrics are printed to standard output in CloudWatch's embedded format."""

    FAILED: ClassVar[str]
    """The metric that counts failed invocations."""

    def __init__(self, service_name: str, namespace: str, log_level: str) -> None:
        self.logger = Logger(service=service_name, level=log_level)
        self._service_name = service_name
        self._namespace = namespace

    def failed(self, error: Exception) -> None:
        """Log and count an invocation that ends with an exception; of a batch, all records come again."""
        self.logger.exception("invocation failed", extra={"error": type(error).__name__})
        metrics = self._metrics()
        metrics.add_metric(self.FAILED, MetricUnit.Count, 1)
        metrics.flush_metrics()

    def _metrics(self) -> EphemeralMetrics:
        return EphemeralMetrics(namespace=self._namespace, service=self._service_name)


class ArchiveTelemetry(FunctionTelemetry):
    """Logs and metrics of the archive."""

    FAILED = "FailedArchiveInvocations"

    def report(self, batch: ArchiveReport) -> None:
        """Write one log line and the metrics of a batch."""
        self.logger.info("batch", extra={"batch": _facts(batch)})
        metrics = self._metrics()
        metrics.add_metric("ArchivedRecords", MetricUnit.Count, batch.n_records)
        metrics.add_metric("ArchivedBytes", MetricUnit.Bytes, batch.n_bytes)
        metrics.flush_metrics()


class Telemetry(FunctionTelemetry):
    """Logs and metrics of the function on the stream of ride events."""

    FAILED = "FailedInvocations"

    def report(self, batch: BatchReport) -> None:
        """Write one log line and the metrics of a batch."""
        n_rejects = batch.rejects_by_reason.total()
        log = self.logger.warning if batch.problem or n_rejects else self.logger.info
        log("batch", extra={"batch": _facts(batch)})
        metrics = self._metrics()
        count, milliseconds = MetricUnit.Count, MetricUnit.Milliseconds
        metrics.add_metric("Records", count, batch.n_records)
        metrics.add_metric("Predictions", count, batch.n_predictions)
        metrics.add_metric("RidesWithoutPickupTime", count, batch.n_without_pickup_time)
        metrics.add_metric("Rejects", count, n_rejects)
        metrics.add_metric("RejectsInQueue", count, batch.n_rejects_in_queue)
        metrics.add_metric("RejectsNotStored", count, batch.n_rejects_not_stored)
        metrics.add_metric("RetriedRecords", count, batch.n_retried)
        metrics.add_metric("ResentEntries", count, batch.n_resent)
        metrics.add_metric("ModelSwitches", count, int(batch.model_switched))
        metrics.add_metric("ModelRefreshFailures", count, int(batch.refresh_failed))
        if batch.channel_is_stale or batch.refresh_failed:
            add_channel_age(metrics, batch.channel_age_s, is_stale=batch.channel_is_stale)
        metrics.add_metric("RecordAge", milliseconds, batch.max_record_age_ms)
        metrics.add_metric("PredictTime", milliseconds, batch.predict_ms)
        metrics.add_metric("PublishTime", milliseconds, batch.publish_ms)
        metrics.add_metadata("model_version", batch.model_version)  # unbounded: not a dimension
        metrics.flush_metrics()
        for reason, n in batch.rejects_by_reason.items():
            by_reason = self._metrics()
            by_reason.add_dimension("reason", reason)
            by_reason.add_metric("RejectsByReason", count, n)
            by_reason.flush_metrics()


def add_channel_age(metrics: EphemeralMetrics, age_s: float, *, is_stale: bool) -> None:
    """Add the age of the last good look at the channel. Only after a problem: a metric that is not written is free."""
    metrics.add_metric("StaleChannel", MetricUnit.Count, int(is_stale))
    metrics.add_metric("ChannelAge", MetricUnit.Seconds, age_s)


@dataclass(slots=True)
class Stopwatch:
    """Measure milliseconds since construction."""

    clock: Callable[[], float] = perf_counter
    _started_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._started_s = self.clock()

    def ms(self) -> float:
        """Return the elapsed milliseconds."""
        return (self.clock() - self._started_s) * MILLISECONDS_PER_S


def _facts(batch: BatchReport | ArchiveReport) -> dict[str, object]:
    return {name: getattr(batch, name) for name in batch.__slots__}
