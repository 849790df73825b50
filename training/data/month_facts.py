"""What a month's rides look like on the whole: the few values that the data contract judges it by."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lambda_function.features import RideColumns
from training.data.months import Month

_ONE_DAY = np.timedelta64(1, "D")
# Odd constants of splitmix64 (Steele, Lea and Flood 2014): they spread what little differs over all 64 bits.
_SPREAD, _STIR = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)
_HALF = np.uint64(32)


@dataclass(frozen=True, slots=True)
class MonthFacts:
    """A month's clean rides, summed up.

    Attributes:
        n_rides_by_day: From the first of the month on, one entry a day.
        n_duplicates: Rides that equal another one in both times, both zones and distance, beyond the first of them.
        n_without_distance: Rides whose distance is 0, less than 0 or not given.
        median_duration_minutes: Of all rides; 0 where there are none.
        median_distance_miles: Of the rides that have a distance; 0 where none has.
    """

    n_rides_by_day: tuple[int, ...]
    n_duplicates: int
    n_without_distance: int
    median_duration_minutes: float
    median_distance_miles: float


def month_facts(
    month: Month,
    columns: RideColumns,
    pickup_time: NDArray[np.datetime64],
    duration_minutes: NDArray[np.float64],
) -> MonthFacts:
    """Sums up the rides of one month, all of which begin in it.

    Needs memory for about five numbers a ride, for as long as it runs.
    """
    n_days = int((month.end - month.start) // _ONE_DAY)
    days = ((pickup_time - month.start) // _ONE_DAY).astype(np.int64)
    has_distance = columns.trip_distance_miles > 0
    return MonthFacts(
        n_rides_by_day=tuple(np.bincount(days, minlength=n_days).tolist()),
        n_duplicates=len(columns) - _n_distinct(columns, pickup_time, duration_minutes),
        n_without_distance=len(columns) - int(np.count_nonzero(has_distance)),
        median_duration_minutes=_median(duration_minutes),
        median_distance_miles=_median(columns.trip_distance_miles[has_distance]),
    )


def _median(values: NDArray[np.float64]) -> float:
    return float(np.median(values)) if len(values) else 0.0


def _n_distinct(
    columns: RideColumns, pickup_time: NDArray[np.datetime64], duration_minutes: NDArray[np.float64]
) -> int:
    """Counts different rides by a 64-bit hash: of 3 million, two share one by chance once in 4 million months."""
    distance = np.nan_to_num(columns.trip_distance_miles, nan=-1.0)
    hashes = pickup_time.astype(np.int64).view(np.uint64) * _SPREAD
    for column in (columns.pickup_zone, columns.dropoff_zone, distance, duration_minutes):
        hashes ^= column.astype(np.float64).view(np.uint64)
        hashes ^= hashes >> _HALF
        hashes *= _STIR
    hashes ^= hashes >> _HALF
    hashes.sort()
    return int(np.count_nonzero(hashes[1:] != hashes[:-1])) + min(len(hashes), 1)
