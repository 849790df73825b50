"""Rides whose durations are known, by column, with where they come from: what training passes around.

A ride takes 36 bytes: whole numbers stand in 32 bits, which changes no feature, for these are float64 anyway.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lambda_function.features import RideColumns
from training.data.month_facts import MonthFacts
from training.data.months import Month


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
