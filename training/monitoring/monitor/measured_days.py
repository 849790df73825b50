"""Count and measure rides by day: histograms of the data quantities, and exact sums of errors.

Predictions have hundredths of a minute, as on the wire, and errors are rounded to hundredths. Sums of whole hundredths
are exact, so the order of the rides does not matter.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lambda_function.core.features import MINUTES_PER_DAY, feature_matrix
from lambda_function.core.intervals import Interval, IntervalTables
from training.data.rides import MAX_DURATION_MINUTES, MIN_DURATION_MINUTES, Rides
from training.monitoring.monitor.days import Days
from training.monitoring.monitor.quantities import count_all, day_kinds, quantity_values

_BLOCK_RIDES = 1 << 17
_PER_MINUTE = 100
_RANGE_MINUTES = MIN_DURATION_MINUTES, MAX_DURATION_MINUTES
_VARIANCE_DECIMALS = 4
_LOW = 1 << 20
"""Divides a fourth power of hundredths, which has up to 51 bits, into two numbers whose sums over a block are exact."""

_Totals = dict[str, NDArray[np.int64]]


def measure_days(
    rides: Rides,
    raw_minutes: NDArray[np.float64],
    edges: Mapping[str, NDArray[np.float64]],
    interval: Interval | None,
) -> Days:
    """Return the New York days of the pickups of rides, ascending; a day without rides is left out.

    Args:
        rides: Rides of 1 to 60 minutes (n,), in any order, at least one.
        raw_minutes: The forest's own predictions (n,), from 1 to 60.
        edges: The ascending ends of the bins of each data quantity.
        interval: The intervals around the predictions; None if the model has none.
    """
    day = rides.columns.pickup_minute // MINUTES_PER_DAY
    first_day, n_days = int(day.min()), int(np.ptp(day)) + 1
    tables = None if interval is None else IntervalTables.of(interval, _RANGE_MINUTES)
    errors: _Totals = {}
    counts: _Totals = {}
    for start in range(0, len(rides), _BLOCK_RIDES):
        block = slice(start, start + _BLOCK_RIDES)
        matrix = feature_matrix(rides.take(block).columns)
        minutes, group = np.round(raw_minutes[block], 2), day[block] - first_day
        _add(counts, count_all(quantity_values(matrix, minutes), edges, group, n_days))
        _add(errors, _measure(matrix, minutes, rides.duration_minutes[block], tables, group, n_days))
    return _to_days(first_day, counts, errors, has_interval=tables is not None)


def _add(totals: _Totals, more: Mapping[str, NDArray[np.int64]]) -> None:
    for name, values in more.items():
        totals[name] = totals[name] + values if name in totals else values


def _measure(
    matrix: NDArray[np.float64],
    minutes: NDArray[np.float64],
    duration_minutes: NDArray[np.float64],
    tables: IntervalTables | None,
    group: NDArray[np.integer],
    n_days: int,
) -> _Totals:
    """Return sums (n_days,) over rides: of whole numbers so small that float64 adds them up exactly."""
    error = np.rint((minutes - duration_minutes) * _PER_MINUTE).astype(np.int64)
    square = error * error
    fourth_power = square * square
    low, high = tables.bounds(minutes, matrix) if tables else (minutes, minutes)
    values = {
        "n": np.ones(len(error), np.int64),
        "error": error,
        "square": square,
        "fourth_power_high": fourth_power // _LOW,
        "fourth_power_low": fourth_power % _LOW,
        "within": (low <= duration_minutes) & (duration_minutes <= high),
    }
    return {name: np.bincount(group, one, n_days).astype(np.int64) for name, one in values.items()}


def _to_days(first_day: int, counts: _Totals, errors: _Totals, *, has_interval: bool) -> Days:
    rows = errors["n"].nonzero()[0]
    day = (first_day + rows).astype("datetime64[D]")
    n, error, square, high, low, within = (errors[name][rows].tolist() for name in errors)
    fourth_power = [one * _LOW + other for one, other in zip(high, low, strict=True)]
    n_float = np.array(n, np.float64)
    return Days(
        day=day,
        kind=day_kinds(day),
        counts={name: table[rows].astype(np.float64) for name, table in counts.items()},
        n=n_float,
        sum_error=np.array(error) / _PER_MINUTE,
        sum_squared_error=np.array(square) / _PER_MINUTE**2,
        n_within=np.array(within, np.float64) if has_interval else np.full(len(n), np.nan),
        n_with_interval=n_float if has_interval else np.zeros(len(n)),
        var_error=_variances(n, error, square, _PER_MINUTE**2),
        var_squared_error=_variances(n, square, fourth_power, _PER_MINUTE**4),
    )


def _variances(n: list[int], sums: list[int], squares: list[int], unit: int) -> NDArray[np.float64]:
    """Return the variance of whole numbers on each day, from exact sums, over `unit`; NaN with fewer than two."""
    exact = (
        (count * square - one * one) / (count * count * unit) if count > 1 else np.nan
        for count, one, square in zip(n, sums, squares, strict=True)
    )
    return np.array([round(one, _VARIANCE_DECIMALS) for one in exact])
