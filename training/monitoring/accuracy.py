"""Sums of errors of an hour's rides, and what missing outcomes may hide. The order of the rides does not matter."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data.rides import MAX_DURATION_MINUTES, MIN_DURATION_MINUTES
from training.monitoring.summary import Sums, Third

_N_THIRDS = 3


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


def sums_by_version(rides: PredictedRides) -> dict[str, Sums]:
    """Return the sums of each version that predicted a ride."""
    in_range = rides.in_range
    return {
        rides.versions[index]: _sums(rides, in_range & (rides.version == index))
        for index in np.unique(rides.version).tolist()
    }


def _sums(rides: PredictedRides, rows: NDArray[np.bool_]) -> Sums:
    duration = rides.duration_minutes[rows]
    low, high = rides.low_minutes[rows], rides.high_minutes[rows]
    error = rides.predicted_minutes[rows] - duration
    has_interval = ~np.isnan(low)
    return Sums(
        n=len(error),
        sum_error=_exact_sum(error),
        sum_squared_error=_exact_sum(error * error),
        sum_absolute_error=_exact_sum(np.abs(error)),
        n_with_interval=int(np.count_nonzero(has_interval)),
        n_within_interval=int(np.count_nonzero((low <= duration) & (duration <= high))),
        sum_width_minutes=_exact_sum((high - low)[has_interval]),
    )


def rmse_minutes(by_version: dict[str, Sums]) -> float | None:
    """Return the RMSE over all versions; None without rides.

    >>> rmse_minutes({"a": Sums(n=1, sum_squared_error=9.0), "b": Sums(n=1, sum_squared_error=16.0)})
    3.5355339059327378
    """
    n = sum(sums.n for sums in by_version.values())
    return math.sqrt(math.fsum(sums.sum_squared_error for sums in by_version.values()) / n) if n else None


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
    known = _exact_sum(errors * errors)
    least = np.clip(missing, MIN_DURATION_MINUTES, MAX_DURATION_MINUTES) - missing
    greatest = np.maximum(np.abs(missing - MIN_DURATION_MINUTES), np.abs(MAX_DURATION_MINUTES - missing))
    return (
        math.sqrt((known + _exact_sum(least * least)) / n),
        math.sqrt((known + _exact_sum(greatest * greatest)) / n),
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


def _exact_sum(values: NDArray[np.float64]) -> float:
    """Return the sum, rounded once: the same in any order."""
    return math.fsum(values.tolist())
