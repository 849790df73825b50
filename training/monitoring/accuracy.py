"""Sums of errors of rides, and what missing outcomes may hide. The order of the rides does not matter."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from training.data.rides import MAX_DURATION_MINUTES, MIN_DURATION_MINUTES
from training.monitoring.summary import Sums, Third

_N_THIRDS = 3
_BLOCK_RIDES = 100_000  # summed at once: a list of so many numbers takes 3 MB


@dataclass(frozen=True, slots=True, eq=False)
class Errors:
    """Errors of rides, by column (n,): predicted minus actual minutes, and the interval; NaN without one."""

    error: NDArray[np.float64]
    width: NDArray[np.float64]
    is_within: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        minutes: NDArray[np.float64],
        low: NDArray[np.float64],
        high: NDArray[np.float64],
        duration: NDArray[np.float64],
    ) -> "Errors":
        """Return the errors of predictions and intervals (n,) of rides that took these minutes (n,)."""
        return cls(minutes - duration, high - low, (low <= duration) & (duration <= high))

    def sums(self) -> Sums:
        """Return the sums; they do not depend on the order of the rides."""
        error = self.error
        square = error * error
        has_interval = ~np.isnan(self.width)
        return Sums(
            n=len(error),
            sum_error=exact_sum(error),
            sum_squared_error=exact_sum(square),
            sum_absolute_error=exact_sum(np.abs(error)),
            n_with_interval=int(np.count_nonzero(has_interval)),
            n_within_interval=int(np.count_nonzero(self.is_within)),
            sum_width_minutes=exact_sum(self.width[has_interval]),
            sum_fourth_power=exact_sum(square * square),
        )

    def sums_by(self, number: NDArray[np.intp], n: int) -> list[Sums]:
        """Return the sums of n slices, given each ride's slice; rides of slice n are in none."""
        error = self.error
        square = error * error
        has_interval = ~np.isnan(self.width)
        columns = [
            _by(number, None, n),
            _by(number, error, n),
            _by(number, square, n),
            _by(number, np.abs(error), n),
            _by(number[has_interval], None, n),
            _by(number[self.is_within], None, n),
            _by(number[has_interval], self.width[has_interval], n),
            _by(number, square * square, n),
        ]
        return [Sums(**dict(zip(Sums.__struct_fields__, one, strict=True))) for one in zip(*columns, strict=True)]


def _by(number: NDArray[np.intp], weights: NDArray[np.float64] | None, n: int) -> list[float]:
    return np.bincount(number, weights, minlength=n + 1)[:n].tolist()  # type: ignore[no-any-return]


def exact_sum(values: NDArray[np.float64]) -> float:
    """Return the sum of values (n,), rounded once: the same in any order."""
    blocks = (values[start : start + _BLOCK_RIDES].tolist() for start in range(0, len(values), _BLOCK_RIDES))
    return math.fsum(chain.from_iterable(blocks))


def merge_sums(parts: Iterable[Sums]) -> Sums:
    """Add up sums; the order does not matter."""
    sums = list(parts)
    return Sums(
        n=sum(one.n for one in sums),
        sum_error=math.fsum(one.sum_error for one in sums),
        sum_squared_error=math.fsum(one.sum_squared_error for one in sums),
        sum_absolute_error=math.fsum(one.sum_absolute_error for one in sums),
        n_with_interval=sum(one.n_with_interval for one in sums),
        n_within_interval=sum(one.n_within_interval for one in sums),
        sum_width_minutes=math.fsum(one.sum_width_minutes for one in sums),
        sum_fourth_power=math.fsum(one.sum_fourth_power for one in sums),
    )


@dataclass(frozen=True, slots=True, eq=False)
class PredictedRides:
    """Rides with a prediction, by column (n,). NaN stands for no interval and for no outcome."""

    version: NDArray[np.int64]  # index in `versions`
    versions: tuple[str, ...]
    predicted_minutes: NDArray[np.float64]
    low_minutes: NDArray[np.float64]
    high_minutes: NDArray[np.float64]
    duration_minutes: NDArray[np.float64]

    @property
    def in_range(self) -> NDArray[np.bool_]:
        """Whether each ride took 1 to 60 minutes; False without outcome."""
        duration = self.duration_minutes
        inside: NDArray[np.bool_] = (duration >= MIN_DURATION_MINUTES) & (duration <= MAX_DURATION_MINUTES)
        return inside

    @property
    def has_outcome(self) -> NDArray[np.bool_]:
        """Whether each ride has an outcome."""
        return ~np.isnan(self.duration_minutes)

    def errors(self, rows: NDArray[np.bool_]) -> Errors:
        """Return the errors of some of the rides, which have outcomes."""
        columns = (self.predicted_minutes, self.low_minutes, self.high_minutes, self.duration_minutes)
        return Errors.of(*(column[rows] for column in columns))


def sums_by_version(rides: PredictedRides) -> dict[str, Sums]:
    """Return the sums of each version that predicted a ride."""
    in_range = rides.in_range
    return {
        rides.versions[index]: rides.errors(in_range & (rides.version == index)).sums()
        for index in np.unique(rides.version).tolist()
    }


def rmse_bounds_minutes(rides: PredictedRides) -> tuple[float, float] | None:
    """Return the least and the greatest RMSE of all rides if those without outcome took 1 to 60 minutes; None if none.

    A ride that was predicted at p has a squared error of at most (p - 1)² or (60 - p)².
    """
    in_range = rides.in_range
    missing = rides.predicted_minutes[~rides.has_outcome]
    n = int(np.count_nonzero(in_range)) + len(missing)
    if not n:
        return None
    errors = rides.predicted_minutes[in_range] - rides.duration_minutes[in_range]
    known = exact_sum(errors * errors)
    least = np.clip(missing, MIN_DURATION_MINUTES, MAX_DURATION_MINUTES) - missing
    greatest = np.maximum(np.abs(missing - MIN_DURATION_MINUTES), np.abs(MAX_DURATION_MINUTES - missing))
    return (
        math.sqrt((known + exact_sum(least * least)) / n),
        math.sqrt((known + exact_sum(greatest * greatest)) / n),
    )


def outcome_share_by_third(rides: PredictedRides) -> tuple[Third, ...]:
    """Return the thirds of rides by predicted minutes, shortest first. Equal predictions are in the same third."""
    predicted, has_outcome = rides.predicted_minutes, rides.has_outcome
    n = len(predicted)
    ranked = np.sort(predicted)
    ends = [float(ranked[-(-n * third // _N_THIRDS) - 1]) for third in range(1, _N_THIRDS + 1)] if n else []
    thirds: list[Third] = []
    above = -math.inf
    for end in ends:
        rows = (predicted > above) & (predicted <= end)
        if rows.any():
            low, high = float(predicted[rows].min()), float(predicted[rows].max())
            with_outcome = int(np.count_nonzero(has_outcome & rows))
            thirds.append(Third(low=low, high=high, n=int(np.count_nonzero(rows)), n_with_outcome=with_outcome))
        above = end
    return tuple(thirds)
