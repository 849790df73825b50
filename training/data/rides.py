"""Rides whose durations are known, by column, with where they come from: what training passes around.

A ride takes 36 bytes: whole numbers stand in 32 bits, which changes no feature, for these are float64 anyway.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lambda_function.core.features import RideColumns
from training.data.months import Month

MIN_DURATION_MINUTES, MAX_DURATION_MINUTES = 1.0, 60.0
"""The rides kept, both ends included: what lies outside is a meter left running or switched on by mistake."""

# MERGED FROM training/data/month_facts.py
# What a month's rides look like on the whole: the few values that the data contract judges it by.
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


@dataclass(frozen=True, slots=True)
class Source:
    """Where a month's rides come from and what became of its rows.

    Attributes:
        file: The file's name without its folder, or ``synthetic``.
        month: The month taken from it.
        sha256: Digest of the whole file, in hexadecimal.
        n_rows: Rows in the file; of a file of several months, those with a pickup in this one.
        n_kept: Rows left after cleaning.
        dropped: Rows dropped, by DROP_REASONS.
        facts: What the rides kept look like on the whole.
    """

    file: str
    month: Month
    sha256: str
    n_rows: int
    n_kept: int
    dropped: dict[str, int]
    facts: MonthFacts


@dataclass(frozen=True, slots=True, eq=False)
class Rides:
    """Rides whose durations are known, by column, sorted by pickup.

    Attributes:
        columns: What the features are computed from. A distance that TLC does not give is NaN.
        pickup_time: datetime64[s] (n,), New York wall-clock time, ascending.
        duration_minutes: float64 (n,), 1 to 60.
        sources: The months' files, ascending by month; a part of the rides still names all of them.
    """

    columns: RideColumns
    pickup_time: NDArray[np.datetime64]
    duration_minutes: NDArray[np.float64]
    sources: tuple[Source, ...]

    def __len__(self) -> int:
        return len(self.duration_minutes)

    def head(self, n_rides: int) -> "Rides":
        """The first rides, or all where there are fewer."""
        return self.take(slice(max(n_rides, 0)))

    def take(self, rows: slice | NDArray[np.bool_] | NDArray[np.intp]) -> "Rides":
        """The rides in these rows: a slice, which copies nothing, a mask or indices."""
        columns = RideColumns(
            pickup_zone=self.columns.pickup_zone[rows],
            dropoff_zone=self.columns.dropoff_zone[rows],
            trip_distance_miles=self.columns.trip_distance_miles[rows],
            pickup_minute=self.columns.pickup_minute[rows],
        )
        return Rides(columns, self.pickup_time[rows], self.duration_minutes[rows], self.sources)


def compact_columns(
    pickup_zone: NDArray[Any],
    dropoff_zone: NDArray[Any],
    trip_distance_miles: NDArray[np.float64],
    pickup_time: NDArray[np.datetime64],
) -> RideColumns:
    """Columns in as few bytes as hold them exactly, of zones 1 to 265 in any type of number.

    32 bits and not 16 for the zones: they are multiplied where pairs of them are numbered. Minutes fit until 6053.
    """
    pickup_minute: NDArray[Any] = pickup_time.astype("datetime64[m]").astype(np.int32)
    return RideColumns(
        _int32(pickup_zone), _int32(dropoff_zone), np.asarray(trip_distance_miles, np.float64), pickup_minute
    )


def concat_rides(parts: Iterable[Rides]) -> Rides:
    """Joins rides, at least one part, one after the other: the caller brings them in the order of time.

    A part that nobody else holds, as those of a generator, is forgotten as soon as it is joined: the memory needed is
    that of all rides and of one part more, not twice that of all.
    """
    joined: list[NDArray[Any]] = []
    sources: list[Source] = []
    for part in parts:
        arrays = _arrays(part)
        joined = [_append(one, more) for one, more in zip(joined, arrays, strict=True)] if joined else _copies(arrays)
        sources += part.sources
        del part, arrays
    *columns, pickup_time, duration_minutes = joined
    return Rides(RideColumns(*columns), pickup_time, duration_minutes, tuple(sources))


def _arrays(rides: Rides) -> list[NDArray[Any]]:
    columns = rides.columns
    return [
        columns.pickup_zone,
        columns.dropoff_zone,
        columns.trip_distance_miles,
        columns.pickup_minute,
        rides.pickup_time,
        rides.duration_minutes,
    ]


def _copies(arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
    return [array.copy() for array in arrays]


def _append(joined: NDArray[Any], more: NDArray[Any]) -> NDArray[Any]:
    """Lengthens an array of ours: a large one keeps its pages and gets more, where a new array would double them."""
    n_before = len(joined)
    joined.resize(n_before + len(more), refcheck=False)
    joined[n_before:] = more
    return joined


def _int32(numbers: NDArray[Any]) -> NDArray[Any]:
    return numbers.astype(np.int32)
