"""What a month of rides costs: from the load, the measured time a ride and public prices to dollars. Pure.

Everything is an average over a steady load. What falls to a million rides falls, or stays, as the load grows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from infra.cost import prices
from infra.cost.batches import Batches
from infra.cost.load import COURSE, VARIANTS, Assumptions, Load, Work

Part = Literal[
    "function",
    "snapstart",
    "stream_in",
    "stream_out",
    "retention",
    "bucket",
    "logs",
    "metrics",
    "alarms",
    "keys",
    "api",
]

STREAM_PARTS: tuple[Part, ...] = ("stream_in", "stream_out", "retention")

MILLION = 1_000_000
HOURS_PER_MONTH = 730
SECONDS_PER_MONTH = HOURS_PER_MONTH * 3600
DAYS_PER_MONTH = HOURS_PER_MONTH / 24
PUT_UNIT_BYTES = 25 * 1024
ON_DEMAND_UNIT_BYTES = 1024
UNITS_PER_GB = 1024 * 1024
EXTRA_RETENTION_FROM_HOURS = 24
N_STREAMS = 2

_ROUNDING_MS = 0.5


@dataclass(frozen=True, slots=True)
class VariantCost:
    """What one way of doing it costs.

    Attributes:
        rides_per_invocation: On average.
        ms_per_invocation: As billed, on average.
        shards_needed: Shards with which the streams and the function keep up with the load.
        dollars_a_month: By part.
        streams_on_demand: What both streams and what they keep would cost a month on demand, each read once.
    """

    rides_per_invocation: float
    ms_per_invocation: float
    shards_needed: int
    dollars_a_month: Mapping[Part, float]
    streams_on_demand: float

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
class CostReport:
    """All variants under one load."""

    load: Load
    assumptions: Assumptions
    work: Mapping[str, Work]
    variants: Mapping[str, VariantCost]

    def dollars_per_million(self, variant: str) -> float:
        """Returns what falls to a million rides."""
        return self.variants[variant].total * MILLION / (self.load.rides_per_s * SECONDS_PER_MONTH)


def cost(load: Load, work: Mapping[str, Work], assumptions: Assumptions | None = None) -> CostReport:
    """Works out what a month costs.

    Args:
        load: Above 0 rides a second, and at least one shard.
        work: By variant; all of `VARIANTS`.
        assumptions: The rest.
    """
    given = assumptions or Assumptions()
    variants = {name: _Variant(Batches(name, load, given, work[name])).cost() for name in VARIANTS}
    return CostReport(load, given, work, variants)


class _Variant:
    def __init__(self, batches: Batches) -> None:
        self.batches = batches
        self.load = batches.load
        self.given = batches.given
        self.rides = batches.load.rides_per_s * SECONDS_PER_MONTH
        self.invocations = self.rides / batches.rides_per_invocation()

    def cost(self) -> VariantCost:
        batches = self.batches
        dollars = self._course() if batches.name == COURSE else {**self._course(), **self._ours()}
        return VariantCost(
            batches.rides_per_invocation(),
            batches.ms_per_invocation(),
            batches.shards_needed(),
            dollars,
            self._streams_on_demand(),
        )

    def _course(self) -> dict[Part, float]:
        """What the course's stack has, and so has ours."""
        return {
            "function": _lambda(self.invocations, self.batches.ms_per_invocation(), self.load.memory_mb),
            "stream_in": self._stream(self.batches.units_in(PUT_UNIT_BYTES)),
            "stream_out": self._stream(self.batches.units_out(PUT_UNIT_BYTES)),
            "logs": _logs(self.invocations, self.given.platform_log_bytes),
        }

    def _ours(self) -> dict[Part, float]:
        """What it has not, and the logs, of which it has less."""
        stands = self.load.inventory
        snapshot_gb = stands.n_snapshots * self.load.memory_mb / 1024
        return {
            "snapstart": prices.SNAPSTART_GB_S.of(snapshot_gb * SECONDS_PER_MONTH),
            "retention": self._retention(),
            "bucket": self._bucket(),
            "logs": _logs(self.invocations, self.given.log_bytes),
            "metrics": prices.CUSTOM_METRIC_MONTH.of(self.given.n_metrics + stands.n_mapping_metrics),
            "alarms": prices.ALARM_METRIC_MONTH.of(stands.n_alarm_metrics)
            + prices.COMPOSITE_ALARM_MONTH.of(stands.n_composite_alarms)
            + prices.DASHBOARD_MONTH.of(stands.n_dashboards),
            "keys": prices.KEY_MONTH.of(stands.n_keys),
            "api": self._api() if self.load.api_requests_per_s else 0.0,
        }

    def _stream(self, units_per_ride: float) -> float:
        shard_hours = self.load.n_shards * HOURS_PER_MONTH
        return prices.KINESIS_SHARD_HOUR.of(shard_hours) + prices.KINESIS_PUT_UNIT.of(units_per_ride * self.rides)

    def _retention(self) -> float:
        shard_hours = N_STREAMS * self.load.n_shards * HOURS_PER_MONTH
        return prices.KINESIS_RETENTION_SHARD_HOUR.of(shard_hours) if self._extra_hours() else 0.0

    def _extra_hours(self) -> float:
        is_course = self.batches.name == COURSE
        return 0.0 if is_course else max(0.0, self.load.retention_hours - EXTRA_RETENTION_FROM_HOURS)

    def _streams_on_demand(self) -> float:
        units_per_ride = self.batches.units_in(ON_DEMAND_UNIT_BYTES) + self.batches.units_out(ON_DEMAND_UNIT_BYTES)
        gb = self.rides * units_per_ride / UNITS_PER_GB
        return (
            prices.KINESIS_STREAM_HOUR.of(N_STREAMS * HOURS_PER_MONTH)
            + prices.KINESIS_GB_IN.of(gb)
            + prices.KINESIS_GB_OUT.of(gb)
            + prices.KINESIS_RETENTION_GB_MONTH.of(gb * self._extra_hours() / HOURS_PER_MONTH)
        )

    def _bucket(self) -> float:
        """Looks at the channel, and rejects: each object stored, told of, and kept as long as the template says."""
        looks = min(self.load.n_shards * SECONDS_PER_MONTH / self.given.channel_look_s, self.invocations)
        n_objects = min(self.invocations, self.rides * self.load.reject_share)
        kept_months = self.load.kept_days / DAYS_PER_MONTH
        gb = self.rides * self.load.reject_share * self.given.reject_bytes / 1e9
        return (
            prices.S3_GET.of(looks)
            + prices.S3_PUT.of(n_objects)
            + prices.S3_EVENT.of(n_objects)
            + prices.S3_GB_MONTH.of(gb * kept_months)
        )

    def _api(self) -> float:
        requests = self.load.api_requests_per_s * SECONDS_PER_MONTH
        return (
            prices.HTTP_API_REQUEST.of(requests)
            + _lambda(requests, self.given.api_ms + _ROUNDING_MS, self.load.api_memory_mb)
            + _logs(requests, self.given.api_log_bytes)
            + prices.GB_TO_INTERNET.of(requests * self.given.api_answer_bytes / 1e9)
            + prices.CUSTOM_METRIC_MONTH.of(self.given.n_api_metrics)
        )


def _lambda(invocations: float, ms: float, memory_mb: int) -> float:
    gb_s = memory_mb / 1024 * ms / 1000
    return invocations * (prices.LAMBDA_REQUEST.of(1) + prices.LAMBDA_GB_S.of(gb_s))


def _logs(invocations: float, n_bytes: int) -> float:
    return prices.LOGS_GB.of(invocations * n_bytes / 1e9)
