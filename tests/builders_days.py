"""Builders of days for the detectors: steady days drawn at random, of any size, and changed ones."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from training.monitoring.monitor.days import Days, Floats
from training.monitoring.monitor.quantities import DATA_QUANTITIES, N_BINS, day_kinds
from training.monitoring.monitor.reference import Reference

FIRST_DAY = np.datetime64("2023-01-02", "D")
"""A Monday."""

_MEAN_SQUARE, _VAR_SQUARE, _COVERED = 16.0, 900.0, 0.8


def steady_days(
    n_days: int,
    *,
    n_rides: int | NDArray[np.integer] = 2_200,
    first: np.datetime64 = FIRST_DAY,
    seed: int = 0,
    shift: float = 0.0,
    bias_minutes: float = 0.0,
    alike: float = 3_000.0,
) -> Days:
    """Return days in a row whose rides are drawn from the same shares, but for an effect of the day.

    Args:
        n_days: How many.
        n_rides: Of every day, or of each (n_days,).
        first: The first day.
        seed: Of the draw.
        shift: Shares move to the left by so much: 0 is none, 1 doubles the first bin.
        bias_minutes: Added to the mean error.
        alike: Shares vary from day to day as those of a sample of so many rides.
    """
    rng = np.random.default_rng(seed)
    day = first + np.arange(n_days).astype("timedelta64[D]")
    n = np.broadcast_to(np.asarray(n_rides), n_days).astype(np.float64)
    shares = np.full(N_BINS + 1, 1.0)
    shares[0] += shift
    shares[-1] = 0.2  # some values are missing
    shares /= shares.sum()
    counts = {name: _draw(rng, n, shares * alike) for name in DATA_QUANTITIES}
    some = np.maximum(n, 1)
    bias = bias_minutes + rng.normal(0, 0.05, n_days) + rng.normal(0, 1, n_days) * np.sqrt(_MEAN_SQUARE / some)
    square = _MEAN_SQUARE + bias_minutes**2 + rng.normal(0, 0.3, n_days)
    square += rng.normal(0, 1, n_days) * np.sqrt(_VAR_SQUARE / some)
    return Days(
        day=day,
        kind=day_kinds(day),
        counts=counts,
        n=n,
        sum_error=bias * n,
        sum_squared_error=square.clip(0.1) * n,
        n_within=rng.binomial(n.astype(np.int64), _COVERED).astype(np.float64),
        n_with_interval=n.copy(),
        var_error=np.full(n_days, _MEAN_SQUARE),
        var_squared_error=np.full(n_days, _VAR_SQUARE),
    )


def _draw(rng: np.random.Generator, n: Floats, shares: Floats) -> Floats:
    """Return counts (n_days, bins + 1)."""
    of_days = rng.dirichlet(shares, size=len(n))
    return rng.multinomial(n.astype(np.int64), of_days).astype(np.float64)


def without_intervals(days: Days) -> Days:
    """Return the days as of a model that has no intervals."""
    return replace(days, n_within=np.full(len(days), np.nan), n_with_interval=np.zeros(len(days)))


def without_values(days: Days, quantity: str) -> Days:
    """Return the days with a data quantity missing from all rides."""
    table = np.zeros_like(days.counts[quantity])
    table[:, -1] = days.n
    return replace(days, counts={**days.counts, quantity: table})


def reference_of(days: Days) -> Reference:
    """Return a reference with these days; edges are 1 to 19."""
    return Reference({name: np.arange(1.0, N_BINS) for name in DATA_QUANTITIES}, days)
