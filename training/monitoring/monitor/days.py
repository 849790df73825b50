"""Rides counted and summed by day: what the detectors read of a model's reference and of the days that it served.

All values are sums or counts over a day's judged rides (labelled, with a pickup time, 1 to 60 minutes), or follow from
them. An error is the forest's own prediction, before live calibration, minus the actual minutes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Days:
    """Days by column, one entry a day, ascending."""

    day: NDArray[np.datetime64]  # datetime64[D] (n,)
    kind: NDArray[np.int8]  # int8 (n,), the kind of day: weekday, weekend or holiday
    counts: Mapping[str, Floats]  # float64 (n, bins + 1) by data quantity: rides a bin, the last column those without
    n: Floats  # judged rides
    sum_error: Floats  # minutes
    sum_squared_error: Floats  # square minutes
    n_within: Floats  # rides that ended within their interval; NaN without intervals
    n_with_interval: Floats
    var_error: Floats  # variance of the rides' errors within the day, square minutes
    var_squared_error: Floats  # variance of their squared errors, minutes to the fourth power

    def __len__(self) -> int:
        return len(self.day)

    def take(self, rows: slice | NDArray[np.bool_] | NDArray[np.intp]) -> "Days":
        """Return the days in these rows: a slice, a mask or indices."""
        counts = {name: table[rows] for name, table in self.counts.items()}
        return Days(self.day[rows], self.kind[rows], counts, *(column[rows] for column in self.columns()))

    @staticmethod
    def concat(first: "Days", second: "Days") -> "Days":
        """Return the days of both, the first ones before; both have the same data quantities and bins."""
        counts = {name: np.concatenate([table, second.counts[name]]) for name, table in first.counts.items()}
        columns = (np.concatenate(pair) for pair in zip(first.columns(), second.columns(), strict=True))
        day, kind = np.concatenate([first.day, second.day]), np.concatenate([first.kind, second.kind])
        return Days(day, kind, counts, *columns)

    def columns(self) -> tuple[Floats, ...]:
        """Return the columns (n,) after `counts`, in their order."""
        return (
            self.n,
            self.sum_error,
            self.sum_squared_error,
            self.n_within,
            self.n_with_interval,
            self.var_error,
            self.var_squared_error,
        )
