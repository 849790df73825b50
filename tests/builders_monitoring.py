"""Build days and references of monitoring."""

from collections.abc import Sequence

import numpy as np

from training.monitoring.monitor.days import Days
from training.monitoring.monitor.quantities import DATA_QUANTITIES, day_kinds
from training.monitoring.monitor.reference import Reference

N_EDGES = 19


def days_of(n_rides: Sequence[int], *, first_day: str = "2021-01-01", has_interval: bool = True, seed: int = 0) -> Days:
    """Return days in a row with so many rides each, whose bins are drawn with equal shares."""
    rng = np.random.default_rng(seed)
    n = np.array(n_rides, np.float64)
    day = np.datetime64(first_day, "D") + np.arange(len(n))
    shares = np.full(N_EDGES + 2, 1 / (N_EDGES + 2))
    return Days(
        day=day,
        kind=day_kinds(day),
        counts={name: rng.multinomial(np.array(n_rides), shares).astype(np.float64) for name in DATA_QUANTITIES},
        n=n,
        sum_error=rng.normal(0, np.sqrt(n)).round(2),
        sum_squared_error=(16 * n + rng.random(len(n))).round(4),
        n_with_interval=n if has_interval else 0 * n,
        n_within=rng.binomial(np.array(n_rides), 0.8).astype(np.float64) if has_interval else np.full(len(n), np.nan),
        var_error=np.where(n > 1, 16.0, np.nan),
        var_squared_error=np.where(n > 1, 900.0, np.nan),
    )


def reference_of(days: Days) -> Reference:
    """Return a reference of days with edges from 1 to 19."""
    return Reference({name: np.arange(1.0, N_EDGES + 1) for name in DATA_QUANTITIES}, days)
