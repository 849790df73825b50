"""Values of days for people: quantiles of a data quantity, bias, squared error and coverage, and what is usual."""

import numpy as np

from training.monitoring.monitor.days import Days, Floats

USUAL_LEVELS = (0.05, 0.95)
"""The shares of reference days below the two ends of what is usual."""


def pooled(days: Days) -> Days:
    """Return all days, at least one, as if they were one: counts and sums are added, the first day names it.

    The variances within days are left out (NaN).
    """
    counts = {name: table.sum(axis=0, keepdims=True) for name, table in days.counts.items()}
    n, sum_error, sum_squared_error, n_within, n_with_interval, *_ = (
        column.sum(keepdims=True) for column in days.columns()
    )
    unknown = np.array([np.nan])
    return Days(
        days.day[:1],
        days.kind[:1],
        counts,
        n,
        sum_error,
        sum_squared_error,
        n_within,
        n_with_interval,
        unknown,
        unknown,
    )


def count_quantiles(counts: Floats, edges: Floats, level: float) -> Floats:
    """Return a quantile of each day's values (n,) from its counts; NaN for a day without values.

    It is interpolated between the edges, and never beyond them.

    Args:
        counts: Rides a bin, float64 (n, len(edges) + 2); the last column counts missing values and is not used.
        edges: Ascending (m,).
        level: Between 0 and 1.

    >>> count_quantiles(np.array([[1.0, 2.0, 1.0, 0.0], [0.0, 0.0, 0.0, 9.0]]), np.array([10.0, 20.0]), 0.5).tolist()
    [15.0, nan]
    """
    present = counts[:, :-1]
    total = present.sum(axis=1)
    if not len(edges):
        return np.full(len(counts), np.nan)
    below = present.cumsum(axis=1)[:, :-1] / np.maximum(total, 1e-12)[:, None]
    values = np.array([np.interp(level, shares, edges) for shares in below])
    return np.where(total > 0, values, np.nan)


def missing_shares(counts: Floats) -> Floats:
    """Return the share of each day's rides without a value (n,), 0 to 1; NaN for a day without rides."""
    return _ratio(counts[:, -1], counts.sum(axis=1))


def error_values(quantity: str, days: Days) -> Floats:
    """Return `bias` (minutes), `mse` (square minutes) or `coverage` (0 to 1) of each day (n,); NaN if unknown."""
    if quantity == "coverage":
        return _ratio(days.n_within, days.n_with_interval)
    return _ratio(days.sum_error if quantity == "bias" else days.sum_squared_error, days.n)


def usual_range(values: Floats) -> tuple[float, float]:
    """Return the values below which 5 % and 95 % of the known ones lie; NaN if none is known."""
    known = values[~np.isnan(values)]
    if not len(known):
        return np.nan, np.nan
    low, high = np.quantile(known, USUAL_LEVELS)
    return float(low), float(high)


def _ratio(sums: Floats, n: Floats) -> Floats:
    ratios: Floats = np.divide(sums, n, out=np.full(len(n), np.nan), where=n > 0)
    return ratios
