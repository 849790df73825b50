"""Compute what a month of rides costs from the load, the measured time a ride and public prices. Pure.

All figures are averages over a steady load. A shard's batch is what arrives within the window: at least one ride, and
at most what an invocation carries. Rounding (Lambda's milliseconds, Kinesis's units) costs half a unit on average.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from infra.operate import prices
from infra.operate.cost_inputs import COURSE, PACKED, PACKED_OUTPUT, VARIANTS, Load, Work

COURSE_STACK = Load(
    rides_per_s=0.0,  # replaced by those of the load
    n_shards=2,
    window_s=1.0,  # Lambda polls once a second if a mapping has no window
    batch_size=100,  # Lambda's default
    memory_mb=512,  # needed to load scikit-learn and the forest
    retention_hours=48.0,
)
"""The course's stack: shards and retention as its Terraform sets them, batches as Lambda does by default:
https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html"""

VCPU_MB = 1769
"""Memory at which Lambda gives a function one vCPU; below it, CPU time takes proportionally longer.
https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html"""

MILLION = 1_000_000
HOURS_PER_MONTH = 730
SECONDS_PER_MONTH = HOURS_PER_MONTH * 3600
DAYS_PER_MONTH = HOURS_PER_MONTH / 24
PUT_UNIT_BYTES = 25 * 1024
ON_DEMAND_UNIT_BYTES = 1024
UNITS_PER_GB = 1024 * 1024
EXTRA_RETENTION_FROM_HOURS = 24
N_STREAMS = 2  # of ride events and predictions; the stream of outcomes is in cost_outcomes.py
MAX_INVOCATION_BYTES = 6 * 1024 * 1024
SHARD_RECORDS_PER_S, SHARD_BYTES_PER_S = 1000, 1024 * 1024
RECORDS_PER_PUT = 500

BASE64 = 4 / 3
_ROUNDING = 0.5  # of a billed millisecond, of a unit of Kinesis

STREAM_PARTS = {"stream_in": "ride events", "stream_out": "predictions", "retention": "retention over 24 hours"}
PARTS = {
    "function": "function",
    "snapstart": "its snapshot",
    **STREAM_PARTS,
    "bucket": "bucket",
    "logs": "logs",
    "metrics": "metrics",
    "alarms": "alarms, dashboard",
    "keys": "keys",
    "api": "HTTP API",
}
"""Labels of the parts of a cost."""


@dataclass(frozen=True, slots=True)
class VariantCost:
    """The cost of one variant."""

    rides_per_invocation: float  # on average
    ms_per_invocation: float  # as billed, on average
    shards_needed: int  # with which the streams and the function keep up with the load
    dollars_a_month: Mapping[str, float]  # by part
    streams_on_demand: float  # dollars a month of both streams on demand with their retention, each read once

    @property
    def total(self) -> float:
        """Dollars a month."""
        return sum(self.dollars_a_month.values())

    @property
    def total_on_demand(self) -> float:
        """Dollars a month with streams on demand."""
        others = (dollars for part, dollars in self.dollars_a_month.items() if part not in STREAM_PARTS)
        return sum(others) + self.streams_on_demand


@dataclass(frozen=True, slots=True)
class Assumptions:
    """Figures that the bench does not measure and the template does not set."""

    ride_bytes: int = 137
    envelope_bytes: int = 650  # of a ride event in Lambda's envelope, in base64
    prediction_bytes: int = 232
    reject_bytes: int = 416
    packing_bytes: int = 20  # that packing adds to a record
    put_ms: float = 10.0  # of one request to Kinesis, inside a region
    parse_us_per_ride: float = 2.0  # the runtime's own parsing of the invocation
    log_bytes: int = 2100  # of an invocation: our line and metrics, and Lambda's own three lines
    platform_log_bytes: int = 400  # Lambda's own three lines
    n_metrics: int = 20  # custom metrics: thirteen of each batch, six of rejects by reason, one of failed invocations
    channel_refresh_s: float = 60.0  # interval at which a function refreshes its channel
    api_ms: float = 1.2  # of one prediction over HTTP: the bench's median in AWS's runtime
    api_log_bytes: int = 1600  # of a request: our line and metrics, Lambda's own three lines, API Gateway's one
    api_answer_bytes: int = 600  # headers included
    n_api_metrics: int = 7  # six of each request, and one of failed invocations


@dataclass(frozen=True, slots=True)
class CostReport:
    """All variants under one load."""

    load: Load
    assumptions: Assumptions
    work: Mapping[str, Work]
    variants: Mapping[str, VariantCost]

    def dollars_per_million(self, variant: str) -> float:
        """Return the cost of a million rides."""
        return self.variants[variant].total * MILLION / (self.load.rides_per_s * SECONDS_PER_MONTH)


def cost(load: Load, work: Mapping[str, Work]) -> CostReport:
    """Compute the cost of a month.

    Args:
        load: Above 0 rides a second, and at least one shard.
        work: By variant; all of `VARIANTS`.
    """
    assumptions = Assumptions()
    course = replace(COURSE_STACK, rides_per_s=load.rides_per_s)
    variants = {
        name: _Variant(name, course if name == COURSE else load, assumptions, work[name]).cost() for name in VARIANTS
    }
    return CostReport(load, assumptions, work, variants)


class _Variant:
    """One variant under one load: its batches, and what they cost."""

    def __init__(self, name: str, load: Load, given: Assumptions, work: Work) -> None:
        self._name = name
        self._load = load
        self._given = given
        self._work = work
        self._rides = load.rides_per_s * SECONDS_PER_MONTH
        self._batch = self._rides_per_invocation()
        # Aggregates for a batch: one of its shard, and one for each output shard; None without packing.
        self._aggregates_in = 1.0 if name == PACKED else None
        self._aggregates_out = min(float(load.n_shards), self._batch) if name in {PACKED_OUTPUT, PACKED} else None
        self._invocations = self._rides / self._batch
        self._ms = self._ms_per_invocation()

    def cost(self) -> VariantCost:
        dollars = self._dollars() if self._name == COURSE else {**self._dollars(), **self._our_dollars()}
        return VariantCost(self._batch, self._ms, self._shards_needed(), dollars, self._streams_on_demand())

    def _rides_per_invocation(self) -> float:
        if self._name == PACKED:  # an envelope holds many rides; 6 MB end a batch long before its records do
            most = MAX_INVOCATION_BYTES / ((self._given.ride_bytes + self._given.packing_bytes) * BASE64)
        else:
            most = min(self._load.batch_size, MAX_INVOCATION_BYTES / self._given.envelope_bytes)
        return max(1.0, min(self._load.rides_per_s / self._load.n_shards * self._load.window_s, most))

    def _ms_per_invocation(self) -> float:
        cpu_us = self._work.us_per_invocation
        cpu_us += self._batch * (self._work.us_per_ride + self._given.parse_us_per_ride)
        cpu_ms = cpu_us / 1000 * max(1.0, VCPU_MB / self._load.memory_mb)
        if self._name == COURSE:
            n_puts = self._batch
        else:
            n_puts = 1.0 if self._aggregates_out else max(1.0, self._batch / RECORDS_PER_PUT)
        return cpu_ms + n_puts * self._given.put_ms + _ROUNDING

    def _shards_needed(self) -> int:
        """A shard takes so many records and bytes a second, and its batches are processed one after the other."""
        n = self._batch
        n_records = max(self._aggregates_in or n, self._aggregates_out or n)
        n_bytes = max(self._given.ride_bytes, self._given.prediction_bytes) + self._given.packing_bytes
        shards_per_ride_s = max(n_records / n / SHARD_RECORDS_PER_S, n_bytes / SHARD_BYTES_PER_S, self._ms / 1000 / n)
        return max(1, math.ceil(self._load.rides_per_s * shards_per_ride_s - 1e-9))

    def _units_in_and_out(self, unit_bytes: int) -> tuple[float, float]:
        """Return the units of Kinesis for a ride event and for a prediction."""
        given = self._given
        return (
            self._units(given.ride_bytes, unit_bytes, self._aggregates_in),
            self._units(given.prediction_bytes, unit_bytes, self._aggregates_out),
        )

    def _units(self, n_bytes: int, unit_bytes: int, n_aggregates: float | None) -> float:
        """Return the units for a ride: of a record of its own, or its share of its batch's aggregates."""
        if n_aggregates is None:
            return float(math.ceil(n_bytes / unit_bytes))
        units = self._batch * (n_bytes + self._given.packing_bytes) / unit_bytes + _ROUNDING * n_aggregates
        return max(n_aggregates, units) / self._batch

    def _dollars(self) -> dict[str, float]:
        """Return the parts that the course's stack has, and ours too."""
        units_in, units_out = self._units_in_and_out(PUT_UNIT_BYTES)
        return {
            "function": lambda_dollars(self._invocations, self._ms, self._load.memory_mb),
            "stream_in": stream_dollars(self._load.n_shards, units_in * self._rides),
            "stream_out": stream_dollars(self._load.n_shards, units_out * self._rides),
            "retention": N_STREAMS * retention_dollars(self._load.n_shards, self._load.retention_hours),
            "logs": log_dollars(self._invocations, self._given.platform_log_bytes),
        }

    def _our_dollars(self) -> dict[str, float]:
        """Return the parts that only our stack has, and our logs, which are longer."""
        inventory = self._load.inventory
        snapshot_gb = inventory.n_snapshots * self._load.memory_mb / 1024
        return {
            "snapstart": prices.SNAPSTART_GB_S.of(snapshot_gb * SECONDS_PER_MONTH),
            "bucket": self._bucket(),
            "logs": log_dollars(self._invocations, self._given.log_bytes),
            "metrics": prices.CUSTOM_METRIC_MONTH.of(self._given.n_metrics + inventory.n_mapping_metrics),
            "alarms": prices.ALARM_METRIC_MONTH.of(inventory.n_alarm_metrics)
            + prices.COMPOSITE_ALARM_MONTH.of(inventory.n_composite_alarms)
            + prices.DASHBOARD_MONTH.of(inventory.n_dashboards),
            "keys": prices.KEY_MONTH.of(inventory.n_keys),
            "api": self._api() if self._load.api_requests_per_s else 0.0,
        }

    def _extra_hours(self) -> float:
        return max(0.0, self._load.retention_hours - EXTRA_RETENTION_FROM_HOURS)

    def _streams_on_demand(self) -> float:
        gb = self._rides * sum(self._units_in_and_out(ON_DEMAND_UNIT_BYTES)) / UNITS_PER_GB
        return (
            prices.KINESIS_STREAM_HOUR.of(N_STREAMS * HOURS_PER_MONTH)
            + prices.KINESIS_GB_IN.of(gb)
            + prices.KINESIS_GB_OUT.of(gb)
            + prices.KINESIS_RETENTION_GB_MONTH.of(gb * self._extra_hours() / HOURS_PER_MONTH)
        )

    def _bucket(self) -> float:
        """Return the cost of refreshes, and of rejects: each object stored, with its event, for the days it is kept."""
        refreshes = min(self._load.n_shards * SECONDS_PER_MONTH / self._given.channel_refresh_s, self._invocations)
        rejects = self._rides * self._load.reject_share
        n_objects = min(self._invocations, rejects)
        gb = rejects * self._given.reject_bytes / 1e9
        return (
            prices.S3_GET.of(refreshes)
            + prices.S3_PUT.of(n_objects)
            + prices.S3_EVENT.of(n_objects)
            + prices.S3_GB_MONTH.of(gb * self._load.kept_days / DAYS_PER_MONTH)
        )

    def _api(self) -> float:
        requests = self._load.api_requests_per_s * SECONDS_PER_MONTH
        return (
            prices.HTTP_API_REQUEST.of(requests)
            + lambda_dollars(requests, self._given.api_ms + _ROUNDING, self._load.api_memory_mb)
            + log_dollars(requests, self._given.api_log_bytes)
            + prices.GB_TO_INTERNET.of(requests * self._given.api_answer_bytes / 1e9)
            + prices.CUSTOM_METRIC_MONTH.of(self._given.n_api_metrics)
        )


def lambda_dollars(invocations: float, ms: float, memory_mb: int) -> float:
    """Return the cost of invocations of a function on arm64."""
    gb_s = memory_mb / 1024 * ms / 1000
    return invocations * (prices.LAMBDA_REQUEST.of(1) + prices.LAMBDA_GB_S.of(gb_s))


def log_dollars(invocations: float, n_bytes: int) -> float:
    """Return the cost of the log lines of invocations."""
    return prices.LOGS_GB.of(invocations * n_bytes / 1e9)


def stream_dollars(n_shards: int, put_units: float) -> float:
    """Return the cost of a stream's shards, and of the units put onto it."""
    return prices.KINESIS_SHARD_HOUR.of(n_shards * HOURS_PER_MONTH) + prices.KINESIS_PUT_UNIT.of(put_units)


def retention_dollars(n_shards: int, retention_hours: float) -> float:
    """Return the cost of keeping a stream's records longer than the hours that are free."""
    shard_hours = n_shards * HOURS_PER_MONTH if retention_hours > EXTRA_RETENTION_FROM_HOURS else 0
    return prices.KINESIS_RETENTION_SHARD_HOUR.of(shard_hours)
