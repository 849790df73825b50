"""Labelled rides by column, with their source: the values that all of training passes around.

A ride takes 36 bytes: whole numbers have 32 bits. That changes no feature, because features are float64 anyway.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lambda_function.core.features import RideColumns
from training.data.months import Month

MIN_DURATION_MINUTES, MAX_DURATION_MINUTES = 1.0, 60.0
"""The rides that cleaning leaves, both ends included: others have a meter left running or switched on by mistake."""

_ONE_DAY = np.timedelta64(1, "D")
# Odd constants of splitmix64 (Steele, Lea and Flood 2014): they spread small differences over all 64 bits.
_SPREAD, _STIR = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)
_HALF = np.uint64(32)


@dataclass(frozen=True, slots=True)
class MonthFacts:
    """A summary of a month's clean rides: the values that the data contract checks."""

    n_rides_by_day: tuple[int, ...]  # one entry a day, from the first of the month, or of the days taken from it
    n_duplicates: int  # rides that equal an earlier one in both times, both zones and distance
    n_without_distance: int  # rides whose distance is 0, negative or missing
    median_duration_minutes: float  # of all rides; 0 if there are none
    median_distance_miles: float  # of the rides that have a distance; 0 if none has


@dataclass(frozen=True, slots=True)
class Source:
    """The file that a month's rides come from."""

    file: str  # the file's name without its folder, `synthetic`, or as in `labelled/2026-08`
    month: Month  # the month taken from it; of labelled rides, the days
    sha256: str  # digest of the whole file, in hexadecimal; of labelled rides, of the rides left
    n_rows: int  # rows in the file; of a file of several months, those with a pickup in this one
    n_kept: int  # rows left after cleaning
    dropped: dict[str, int]  # number of rows dropped, by reason
    facts: MonthFacts  # the summary of the rows left


@dataclass(frozen=True, slots=True, eq=False)
class Rides:
    """Labelled rides by column, sorted by pickup."""

    columns: RideColumns  # the input of the features; a distance that TLC does not give is NaN
    pickup_time: NDArray[np.datetime64]  # datetime64[s] (n,), New York wall-clock time, ascending
    duration_minutes: NDArray[np.float64]  # float64 (n,), 1 to 60
    sources: tuple[Source, ...]  # the months' files, ascending by month; a part of the rides still names all of them

    def __len__(self) -> int:
        return len(self.duration_minutes)

    @property
    def months(self) -> tuple[Month, ...]:
        """The months of the sources, ascending."""
        return tuple(source.month for source in self.sources)

    def head(self, n_rides: int) -> "Rides":
        """Return the first rides, or all if there are fewer."""
        return self.take(slice(max(n_rides, 0)))

    def take(self, rows: slice | NDArray[np.bool_] | NDArray[np.intp]) -> "Rides":
        """Return the rides in these rows: a slice, which copies nothing, a mask or indices."""
        columns = take_columns(self.columns, rows)
        return Rides(columns, self.pickup_time[rows], self.duration_minutes[rows], self.sources)

    def arrays(self) -> list[NDArray[Any]]:
        """Return the columns of RideColumns, pickup_time and duration_minutes."""
        return [*_column_arrays(self.columns), self.pickup_time, self.duration_minutes]


Load = Callable[[Sequence[Month]], Rides]
"""Load the rides of months, at least one, sorted by pickup."""


def take_columns(columns: RideColumns, rows: slice | NDArray[np.bool_] | NDArray[np.intp]) -> RideColumns:
    """Return the columns of these rows: a slice, which copies nothing, a mask or indices."""
    return RideColumns(*(column[rows] for column in _column_arrays(columns)))


def _column_arrays(columns: RideColumns) -> list[NDArray[Any]]:
    return [getattr(columns, name) for name in RideColumns.__slots__]


def compact_columns(
    pickup_zone: NDArray[Any],
    dropoff_zone: NDArray[Any],
    trip_distance_miles: NDArray[np.float64],
    pickup_time: NDArray[np.datetime64],
) -> RideColumns:
    """Return columns in as few bytes as represent them exactly; zones 1 to 265 may have any numeric type.

    Zones have 32 bits, not 16, because numbering zone pairs multiplies them. Minutes fit until the year 6053.
    """
    pickup_minute: NDArray[Any] = pickup_time.astype("datetime64[m]").astype(np.int32)
    zones: list[NDArray[Any]] = [zone.astype(np.int32) for zone in (pickup_zone, dropoff_zone)]
    return RideColumns(zones[0], zones[1], np.asarray(trip_distance_miles, np.float64), pickup_minute)


def concat_rides(parts: Iterable[Rides]) -> Rides:
    """Join rides, at least one part, in the order given; the caller sorts the parts by time.

    Each part is released as soon as it is joined. With a generator of parts the peak memory is that of all rides and
    one more part, not twice that of all.
    """
    joined: list[NDArray[Any]] = []
    sources: list[Source] = []
    for part in parts:
        arrays = part.arrays()
        if joined:
            joined = [_append(one, more) for one, more in zip(joined, arrays, strict=True)]
        else:
            joined = [array.copy() for array in arrays]
        sources += part.sources
        del part, arrays
    *columns, pickup_time, duration_minutes = joined
    return Rides(RideColumns(*columns), pickup_time, duration_minutes, tuple(sources))


def _append(joined: NDArray[Any], more: NDArray[Any]) -> NDArray[Any]:
    """Lengthen an array without other references: realloc keeps a large one's pages, a new array would double them."""
    n_before = len(joined)
    joined.resize(n_before + len(more), refcheck=False)
    joined[n_before:] = more
    return joined


def count_dropped(checks: Sequence[NDArray[np.bool_]], dropped: dict[str, int]) -> NDArray[np.bool_]:
    """Return the mask of the rows that pass all checks, and add the others to `dropped`.

    Args:
        checks: For each reason of `dropped`, in its order, which rows pass: bool (n,).
        dropped: Counts by reason. A row counts for the first check that it fails.
    """
    keep = np.ones(len(checks[0]), np.bool_)
    for reason, good in zip(dropped, checks, strict=True):
        dropped[reason] += int(np.count_nonzero(keep & ~good))
        keep &= good
    return keep


def month_facts(
    month: Month,
    columns: RideColumns,
    pickup_time: NDArray[np.datetime64],
    duration_minutes: NDArray[np.float64],
) -> MonthFacts:
    """Summarise the rides of a month, all of which begin in it. Needs memory for about five numbers a ride."""
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
    """Count different rides by a 64-bit hash: of 3 million, two share one by chance once in 4 million months."""
    distance = np.nan_to_num(columns.trip_distance_miles, nan=-1.0)
    hashes = pickup_time.astype(np.int64).view(np.uint64) * _SPREAD
    for column in (columns.pickup_zone, columns.dropoff_zone, distance, duration_minutes):
        hashes ^= column.astype(np.float64).view(np.uint64)
        hashes ^= hashes >> _HALF
        hashes *= _STIR
    hashes ^= hashes >> _HALF
    hashes.sort()
    return int(np.count_nonzero(hashes[1:] != hashes[:-1])) + min(len(hashes), 1)
