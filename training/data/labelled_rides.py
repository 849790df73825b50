"""Make rides to learn from out of labelled rides by column: cleaned as TLC's rides are, with a source a month.

This needs numpy alone, so the columns may come from Parquet or from plain arrays.
"""

import hashlib
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from lambda_function.core.bundle import Manifest
from training.data.labelled import FOLDER
from training.data.months import Month
from training.data.rides import (
    MAX_DURATION_MINUTES,
    MIN_DURATION_MINUTES,
    Rides,
    Source,
    compact_columns,
    count_dropped,
    month_facts,
)

DROP_REASONS = ("not_labelled", "pickup_time_missing", "duration_out_of_range")
"""Why a row is dropped, in the order of the checks: it has no prediction or no outcome; its event has no pickup time,
so that `pickup_time` is the arrival's; its duration is out of range. The stream's decoder has checked the zones.

A ride whose outcomes contradict each other is kept with the first one's duration."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledRows:
    """Labelled rides by column, in an order that depends on the rides alone: by pickup, then by ride id."""

    pickup_time: NDArray[np.datetime64]  # datetime64[s] (n,), New York wall-clock time, ascending
    pickup_zone: NDArray[np.int16]
    dropoff_zone: NDArray[np.int16]
    trip_distance_miles: NDArray[np.float64]  # 0 if it is missing
    duration_minutes: NDArray[np.float64]  # NaN without an outcome
    has_pickup_time: NDArray[np.bool_]
    is_labelled: NDArray[np.bool_]  # has a prediction and an outcome

    def __len__(self) -> int:
        return len(self.pickup_time)

    def between(self, start: np.datetime64, end: np.datetime64) -> "LabelledRows":
        """Return the rows with a pickup from a time on and before another; the columns are not copied."""
        begin, stop = np.searchsorted(self.pickup_time, np.array([start, end]).astype("M8[s]"))
        return LabelledRows(*(getattr(self, one.name)[begin:stop] for one in fields(self)))

    def usable(self) -> tuple[NDArray[np.bool_], dict[str, int]]:
        """Return which rows training keeps, bool (n,), and the number of the others by `DROP_REASONS`."""
        minutes = self.duration_minutes
        checks = (
            self.is_labelled,
            self.has_pickup_time,
            (minutes >= MIN_DURATION_MINUTES) & (minutes <= MAX_DURATION_MINUTES),
        )
        dropped = dict.fromkeys(DROP_REASONS, 0)
        return count_dropped(checks, dropped), dropped


def rides_of_month(rows: LabelledRows, month: Month) -> Rides:
    """Return the clean rides with a pickup in a month or in days of one; there may be none."""
    rows = rows.between(month.start, month.end)
    is_usable, dropped = rows.usable()
    kept = np.flatnonzero(is_usable)
    pickup_time, duration_minutes = rows.pickup_time[kept], rows.duration_minutes[kept]
    columns = compact_columns(
        rows.pickup_zone[kept], rows.dropoff_zone[kept], rows.trip_distance_miles[kept], pickup_time
    )
    rides = Rides(columns, pickup_time, duration_minutes, ())
    facts = month_facts(month, columns, pickup_time, duration_minutes)
    source = Source(f"{FOLDER}/{month}", month, _digest(rides), len(rows), len(rides), dropped, facts)
    return replace(rides, sources=(source,))


def is_labelled(manifest: Manifest) -> bool:
    """Return whether a model has learned from labelled rides."""
    return any(part.file.startswith(f"{FOLDER}/") for part in manifest.data)


def _digest(rides: Rides) -> str:
    """Return the digest of the rides' values: files are cut by arrival, which does not change what is learned."""
    digest = hashlib.sha256()
    for column in rides.arrays():
        digest.update(np.ascontiguousarray(column).view(np.uint8))
    return digest.hexdigest()
