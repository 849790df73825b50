"""How rides get through a variant: how many an invocation, in what time, in how much of the streams. Pure.

A shard's batch is what arrives within the window, one ride at least, and no more than an invocation carries. Rounding
(Lambda's milliseconds, Kinesis's units) costs half a unit on average.
"""

import math
from dataclasses import dataclass

from infra.cost.load import (
    COURSE,
    COURSE_BATCH_SIZE,
    COURSE_WINDOW_S,
    PACKED,
    PACKED_OUTPUT,
    Assumptions,
    Load,
    Work,
)

MAX_INVOCATION_BYTES = 6 * 1024 * 1024
SHARD_RECORDS_PER_S, SHARD_BYTES_PER_S = 1000, 1024 * 1024
RECORDS_PER_PUT = 500

_BASE64 = 4 / 3
_ROUNDING = 0.5
_BILLED_MS = 1.0


@dataclass(frozen=True, slots=True)
class Batches:
    """One variant's batches under one load."""

    name: str
    load: Load
    given: Assumptions
    work: Work

    def rides_per_invocation(self) -> float:
        """Returns them, on average."""
        shard_rides_per_s = self.load.rides_per_s / self.load.n_shards
        if self.name == COURSE:
            return max(1.0, min(shard_rides_per_s * COURSE_WINDOW_S, COURSE_BATCH_SIZE))
        if self.name == PACKED:  # an envelope holds many rides; 6 MB end a batch long before its records do
            most = MAX_INVOCATION_BYTES / ((self.given.ride_bytes + self.given.packing_bytes) * _BASE64)
        else:
            most = min(self.load.batch_size, MAX_INVOCATION_BYTES / self.given.envelope_bytes)
        return max(1.0, min(shard_rides_per_s * self.load.window_s, most))

    def ms_per_invocation(self) -> float:
        """Returns them as billed, on average."""
        n = self.rides_per_invocation()
        cpu_us = self.work.us_per_invocation + n * (self.work.us_per_ride + self.given.parse_us_per_ride)
        return cpu_us / 1000 + self._n_puts(n) * self.given.put_ms + _ROUNDING * _BILLED_MS

    def _n_puts(self, n: float) -> float:
        if self.name == COURSE:
            return n
        return 1.0 if self._packs_output() else max(1.0, n / RECORDS_PER_PUT)

    def units_in(self, unit_bytes: int) -> float:
        """Returns the units that a ride event takes; packed, a batch is one aggregate of its shard."""
        return self._units(self.given.ride_bytes, unit_bytes, 1.0 if self.name == PACKED else None)

    def units_out(self, unit_bytes: int) -> float:
        """Returns the units that a prediction takes; packed, a batch is one aggregate for each output shard."""
        n_aggregates = min(float(self.load.n_shards), self.rides_per_invocation())
        return self._units(self.given.prediction_bytes, unit_bytes, n_aggregates if self._packs_output() else None)

    def shards_needed(self) -> int:
        """A shard takes so many records and bytes a second, and its batches go to the function one after the other."""
        n, packing = self.rides_per_invocation(), self.given.packing_bytes
        records_in = 1 / n if self.name == PACKED else 1.0
        records_out = min(self.load.n_shards, n) / n if self._packs_output() else 1.0
        bytes_in = self.given.ride_bytes + packing
        bytes_out = self.given.prediction_bytes + packing
        shards_per_ride_s = max(
            max(records_in, records_out) / SHARD_RECORDS_PER_S,
            max(bytes_in, bytes_out) / SHARD_BYTES_PER_S,
            self.ms_per_invocation() / 1000 / n,
        )
        return max(1, math.ceil(self.load.rides_per_s * shards_per_ride_s - 1e-9))

    def _packs_output(self) -> bool:
        return self.name in {PACKED_OUTPUT, PACKED}

    def _units(self, n_bytes: int, unit_bytes: int, n_aggregates: float | None) -> float:
        """Returns the units that fall to a ride: of a record of its own, or of its batch's so many aggregates."""
        if n_aggregates is None:
            return float(math.ceil(n_bytes / unit_bytes))
        n = self.rides_per_invocation()
        units = n * (n_bytes + self.given.packing_bytes) / unit_bytes + _ROUNDING * n_aggregates
        return max(n_aggregates, units) / n
