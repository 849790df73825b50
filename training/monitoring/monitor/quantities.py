"""The quantities that monitoring watches, their histograms, and the kinds of days that are alike.

Data quantities are features and predicted minutes: a day has a histogram of each. Its bins are twentieths of the
training rides, and one more bin counts missing values. Performance quantities are means of a day's errors.
"""

from collections.abc import Mapping
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from lambda_function.core.features import FEATURE_NAMES
from lambda_function.core.holidays import WORKING_DAY, special_days

MINUTE_OF_DAY, PREDICTED = "minute_of_day", "predicted_minutes"

DATA_QUANTITIES = (
    "trip_distance_miles",
    MINUTE_OF_DAY,
    "pickup_uptown_miles",
    "pickup_crosstown_miles",
    "dropoff_uptown_miles",
    "dropoff_crosstown_miles",
    "straight_line_miles",
    PREDICTED,
)
"""Features by their names, and the forest's own predictions. Day of week and month are the calendar's, not the rides';
longitude and latitude are the same places as uptown and crosstown miles."""

PLAIN_NAMES = {
    "trip_distance_miles": "trip distance",
    MINUTE_OF_DAY: "time of day",
    "pickup_uptown_miles": "pickup uptown",
    "pickup_crosstown_miles": "pickup crosstown",
    "dropoff_uptown_miles": "drop-off uptown",
    "dropoff_crosstown_miles": "drop-off crosstown",
    "straight_line_miles": "straight line",
    PREDICTED: "prediction",
}
"""Data quantities for people. Uptown and crosstown are miles along and across Manhattan's avenues."""

PERFORMANCE_QUANTITIES = ("bias", "mse", "coverage")

UNITS = {
    **dict.fromkeys(DATA_QUANTITIES, "miles"),
    MINUTE_OF_DAY: "minutes",
    PREDICTED: "minutes",
    "bias": "minutes",
    "mse": "minutes²",
    "coverage": "share",
}
"""The unit of each quantity's values."""

N_BINS = 20
"""The bins of a histogram, apart from the one for missing values; fewer where values repeat."""

_COLUMNS = {name: FEATURE_NAMES.index(name) for name in DATA_QUANTITIES if name != PREDICTED}
_SHARES = np.arange(1, N_BINS) / N_BINS
_EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday; Monday is 0
_DAYS_A_WEEK, _SATURDAY = 7, 5
_MINUTES_PER_HOUR = 60
_PREDICTION_DECIMALS = 2  # as on the wire: the last bits of a sum move no ride to another bin


def time_of_day(minute: float) -> str:
    """Return a minute of the day as a clock shows it.

    >>> time_of_day(845.4)
    '14:05'
    """
    hours, minutes = divmod(int(minute), _MINUTES_PER_HOUR)
    return f"{hours:02d}:{minutes:02d}"


class DayKind(IntEnum):
    """Kinds of days. A day is compared with reference days of its kind."""

    WEEKDAY = 0
    WEEKEND = 1
    HOLIDAY = 2  # public holidays, and the days between Christmas and New Year


def day_kinds(day: NDArray[np.datetime64]) -> NDArray[np.int8]:
    """Return the DayKind of each calendar day (n,), datetime64[D], as int8 (n,).

    >>> day_kinds(np.array(["2020-03-13", "2020-03-14", "2020-12-25"], "datetime64[D]")).tolist()
    [0, 1, 2]
    """
    number = day.astype("datetime64[D]").astype(np.int64)
    is_weekend = (number + _EPOCH_WEEKDAY) % _DAYS_A_WEEK >= _SATURDAY
    kinds = np.where(is_weekend, DayKind.WEEKEND, DayKind.WEEKDAY)
    kinds[special_days(number) != WORKING_DAY] = DayKind.HOLIDAY
    return kinds.astype(np.int8)


def quantity_values(matrix: NDArray[np.float64], raw_minutes: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return the values (n,) of each of DATA_QUANTITIES; NaN means missing.

    Args:
        matrix: Features (n, n_features).
        raw_minutes: The forest's own predictions (n,), before any calibration. They are rounded to hundredths.
    """
    values = {name: matrix[:, column] for name, column in _COLUMNS.items()}
    return {**values, PREDICTED: np.round(raw_minutes, _PREDICTION_DECIMALS)}


def find_edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the 19 values (m,) that divide the others into twentieths, ascending; fewer if some are equal.

    Each edge is one of the values. Missing values (NaN) count for nothing; there are no edges if all are missing.

    >>> find_edges(np.arange(40.0))[:3].tolist()
    [1.0, 3.0, 5.0]
    """
    present = values[~np.isnan(values)]
    if not len(present):
        return np.empty(0)
    return np.unique(np.quantile(present, _SHARES, method="inverted_cdf"))


def bin_counts(
    values: NDArray[np.float64],
    edges: NDArray[np.float64],
    group: NDArray[np.integer] | None = None,
    n_groups: int = 1,
) -> NDArray[np.int64]:
    """Count values by group and bin. A value on an edge is of the bin that begins there. Counts of parts add up.

    Args:
        values: Values (n,); NaN means missing.
        edges: Ascending edges (m,).
        group: The group of each value (n,), from 0; all are of the first group if None.
        n_groups: The number of groups.

    Returns:
        int64 (n_groups, m + 2): the bins from left to right; the last column counts missing values.

    >>> bin_counts(np.array([0.5, 2.0, 9.0, np.nan]), np.array([1.0, 2.0])).tolist()
    [[1, 0, 2, 1]]
    """
    n_columns = len(edges) + 2
    bins = np.searchsorted(edges, values, side="right")
    bins[np.isnan(values)] = n_columns - 1
    if group is not None:
        bins += group * n_columns
    return np.bincount(bins, minlength=n_groups * n_columns).reshape(n_groups, n_columns)


def count_all(
    values: Mapping[str, NDArray[np.float64]],
    edges: Mapping[str, NDArray[np.float64]],
    group: NDArray[np.integer] | None = None,
    n_groups: int = 1,
) -> dict[str, NDArray[np.int64]]:
    """Return `bin_counts` of every quantity, by its name."""
    return {name: bin_counts(values[name], edges[name], group, n_groups) for name in edges}
