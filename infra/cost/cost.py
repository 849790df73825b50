"""What a million rides cost: from the load, the measured time a ride and public prices to dollars. Pure.

Everything is an average over a steady load, and every term a ride falls, or stays, as the load grows. A shard's batch
is what arrives within the window, one ride at least, and no more than an invocation carries. Rounding (Lambda's
milliseconds, Kinesis's payload units) costs half a unit on average.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from infra.cost import prices
from infra.cost.load import ONE_BY_ONE, PACKED, PACKED_OUTPUT, VARIANTS, Assumptions, Load, Work

Service = Literal["lambda", "kinesis_in", "kinesis_out", "s3", "cloudwatch"]

MILLION = 1_000_000
HOURS_PER_MONTH = 730
MAX_INVOCATION_BYTES = 6 * 1024 * 1024
PUT_UNIT_BYTES = 25 * 1024
SHARD_RECORDS_PER_S, SHARD_BYTES_PER_S = 1000, 1024 * 1024
RECORDS_PER_PUT = 500
EXTRA_RETENTION_FROM_HOURS = 24

_BASE64 = 4 / 3
_ROUNDING = 0.5
_BILLED_MS = 1.0


@dataclass(frozen=True, slots=True)
class VariantCost:
    """What one way of doing it costs.

    Attributes:
        rides_per_invocation: On average.
        ms_per_invocation: As billed, on average.
        shards_needed: Shards with which the streams and the function keep up with the load.
        dollars_per_million: By service.
    """

    rides_per_invocation: float
    ms_per_invocation: float
    shards_needed: int
    dollars_per_million: Mapping[Service, float]

    @property
    def total(self) -> float:
        """Dollars for a million rides."""
        return sum(self.dollars_per_million.values())


@dataclass(frozen=True, slots=True)
class CostReport:
    """All variants under one load."""

    load: Load
    assumptions: Assumptions
    work: Mapping[str, Work]
    variants: Mapping[str, VariantCost]

    def dollars_a_month(self, variant: str) -> float:
        """Returns a month's dollars."""
        return self.variants[variant].total * self.load.rides_per_s * 3600 * HOURS_PER_MONTH / MILLION


def cost(load: Load, work: Mapping[str, Work], assumptions: Assumptions | None = None) -> CostReport:
    """Works out what a million rides cost.

    Args:
        load: Above 0 rides a second, and at least one shard.
        work: By variant; all of `VARIANTS`.
        assumptions: The rest.
    """
    given = assumptions or Assumptions()
    variants = {name: _Variant(name, load, given, work[name]).cost() for name in VARIANTS}
    return CostReport(load, given, work, variants)


@dataclass(frozen=True, slots=True)
class _Variant:
    name: str
    load: Load
    given: Assumptions
    work: Work

    def cost(self) -> VariantCost:
        n = self._rides_per_invocation()
        ms = self._ms_per_invocation(n)
        dollars: dict[Service, float] = {
            "lambda": self._lambda(n, ms),
            "kinesis_in": self._stream(self._units_in(n)),
            "kinesis_out": self._stream(self._units_out(n)),
            "s3": self._s3(n),
            "cloudwatch": self._cloudwatch(n),
        }
        return VariantCost(n, ms, self._shards_needed(n, ms), dollars)

    def _packs_output(self) -> bool:
        return self.name in {PACKED_OUTPUT, PACKED}

    def _rides_per_invocation(self) -> float:
        if self.name == ONE_BY_ONE:
            return 1.0
        if self.name == PACKED:  # an envelope holds many rides; 6 MB end a batch long before its records do
            most = MAX_INVOCATION_BYTES / ((self.given.ride_bytes + self.given.packing_bytes) * _BASE64)
        else:
            most = min(self.load.batch_size, MAX_INVOCATION_BYTES / self.given.envelope_bytes)
        return max(1.0, min(self.load.rides_per_s / self.load.n_shards * self.load.window_s, most))

    def _ms_per_invocation(self, n: float) -> float:
        cpu_us = self.work.us_per_invocation + n * (self.work.us_per_ride + self.given.parse_us_per_ride)
        n_puts = 1.0 if self._packs_output() else max(1.0, n / RECORDS_PER_PUT)
        return cpu_us / 1000 + n_puts * self.given.put_ms + _ROUNDING * _BILLED_MS

    def _lambda(self, n: float, ms: float) -> float:
        gb_s = self.load.memory_mb / 1024 * ms / 1000
        return MILLION / n * (prices.LAMBDA_REQUEST.of(1) + prices.LAMBDA_GB_S.of(gb_s))

    def _units_in(self, n: float) -> float:
        """Returns PUT payload units a ride; packed, a batch is one aggregate of its shard."""
        return self._packed_units(self.given.ride_bytes, n, 1.0) if self.name == PACKED else 1.0

    def _units_out(self, n: float) -> float:
        """Returns PUT payload units a ride; packed, a batch goes out as one aggregate for each output shard."""
        n_aggregates = min(float(self.load.n_shards), n)
        return self._packed_units(self.given.prediction_bytes, n, n_aggregates) if self._packs_output() else 1.0

    def _packed_units(self, n_bytes: int, n: float, n_aggregates: float) -> float:
        units = n * (n_bytes + self.given.packing_bytes) / PUT_UNIT_BYTES + _ROUNDING * n_aggregates
        return max(n_aggregates, units) / n

    def _stream(self, units_per_ride: float) -> float:
        shard_hours = self._per_million(self.load.n_shards / 3600)
        extra = shard_hours if self.load.retention_hours > EXTRA_RETENTION_FROM_HOURS else 0.0
        return (
            prices.KINESIS_SHARD_HOUR.of(shard_hours)
            + prices.KINESIS_RETENTION_SHARD_HOUR.of(extra)
            + prices.KINESIS_PUT_UNIT.of(units_per_ride * MILLION)
        )

    def _s3(self, n: float) -> float:
        """Looks at the channel, and stores rejects for a month; the one-by-one function does neither."""
        if self.name == ONE_BY_ONE:
            return 0.0
        looks = min(self._per_million(self.load.n_shards / self.given.channel_look_s), MILLION / n)
        n_reject_objects = MILLION * min(1 / n, self.load.reject_share)
        reject_gb = MILLION * self.load.reject_share * self.given.reject_bytes / 1e9
        return prices.S3_GET.of(looks) + prices.S3_PUT.of(n_reject_objects) + prices.S3_GB_MONTH.of(reject_gb)

    def _cloudwatch(self, n: float) -> float:
        is_ours = self.name != ONE_BY_ONE
        n_bytes = self.given.log_bytes if is_ours else self.given.platform_log_bytes
        metric_months = self._per_million(self.given.n_metrics / (HOURS_PER_MONTH * 3600)) if is_ours else 0.0
        return prices.LOGS_GB.of(MILLION / n * n_bytes / 1e9) + prices.CUSTOM_METRIC_MONTH.of(metric_months)

    def _per_million(self, units_per_s: float) -> float:
        """Returns how much of something that goes on all the time falls to a million rides."""
        return units_per_s * MILLION / self.load.rides_per_s

    def _shards_needed(self, n: float, ms: float) -> int:
        """A shard takes so many records and bytes a second, and its batches go to the function one after the other."""
        packing = self.given.packing_bytes
        records_in = 1 / n if self.name == PACKED else 1.0
        records_out = min(self.load.n_shards, n) / n if self._packs_output() else 1.0
        bytes_in = self.given.ride_bytes + packing
        bytes_out = self.given.prediction_bytes + packing
        shards_per_ride_s = max(
            max(records_in, records_out) / SHARD_RECORDS_PER_S,
            max(bytes_in, bytes_out) / SHARD_BYTES_PER_S,
            ms / 1000 / n,
        )
        return max(1, math.ceil(self.load.rides_per_s * shards_per_ride_s - 1e-9))
