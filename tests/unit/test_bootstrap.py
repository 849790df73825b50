"""The bootstrap over days, for models that are equal, better, or better on a few days only."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.evaluation.bootstrap import LEVEL, Comparison, compare_days

N_DAYS, RIDES_A_DAY = 28, 50
DAY = np.repeat(np.arange(N_DAYS), RIDES_A_DAY)

seeds = st.integers(0, 2**32 - 1)


def squares(seed: int, scale: float = 4.0) -> NDArray[np.float64]:
    """Return squared errors of rides that are independent within a day."""
    values: NDArray[np.float64] = np.random.default_rng(seed).normal(0, scale, len(DAY)) ** 2
    return values


def compare(candidate: NDArray[np.float64], champion: NDArray[np.float64], day: NDArray[np.int64] = DAY) -> Comparison:
    """Compare two models by their squared errors a ride."""
    return compare_days(np.bincount(day), np.bincount(day, candidate), np.bincount(day, champion))


def as_list(comparison: Comparison) -> list[float]:
    return [comparison.difference_rmse_minutes, comparison.low, comparison.high]


@given(seed=seeds)
def test_model_is_neither_better_nor_worse_than_itself(seed: int) -> None:
    assert as_list(compare(squares(seed), squares(seed))) == [0, 0, 0]


@given(seed=seeds)
def test_model_better_on_every_ride_has_an_interval_below_zero(seed: int) -> None:
    comparison = compare(0.5 * squares(seed), squares(seed))
    assert comparison.low < comparison.difference_rmse_minutes < comparison.high < 0


@given(seed=seeds)
def test_exchanging_the_models_exchanges_the_signs(seed: int) -> None:
    one, other = squares(seed), squares(seed + 1)
    there, back = compare(one, other), compare(other, one)
    assert back.difference_rmse_minutes == -there.difference_rmse_minutes
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low), abs=1e-9)


def test_difference_is_that_of_the_two_rmses() -> None:
    one, other = squares(1), squares(2)
    difference = np.sqrt(one.mean()) - np.sqrt(other.mean())
    comparison = compare(one, other)
    assert comparison.difference_rmse_minutes == pytest.approx(difference, abs=1e-12)
    assert (comparison.n_days, comparison.n_rides, comparison.level) == (N_DAYS, N_DAYS * RIDES_A_DAY, LEVEL)


def test_better_results_on_two_days_do_not_make_a_better_model() -> None:
    champion = squares(1)
    candidate = np.where(DAY < 2, 0.1, 1.0) * champion
    comparison = compare(candidate, champion)
    assert comparison.difference_rmse_minutes < 0 <= comparison.high


def test_differences_between_days_widen_the_interval() -> None:
    """Drawing single rides would miss this: a day's rides all gain or all lose."""
    gain = np.where(np.arange(N_DAYS) % 2, 0.7, 1.2)[DAY]
    alike_within_days = compare(gain * squares(1), squares(1))
    mixed_within_days = compare(np.random.default_rng(3).permuted(gain) * squares(1), squares(1))
    assert (alike_within_days.high - alike_within_days.low) > 2 * (mixed_within_days.high - mixed_within_days.low)


def test_days_without_rides_are_left_out() -> None:
    with_gap = compare_days(np.array([10, 0, 30]), np.array([90.0, 0.0, 120.0]), np.array([100.0, 0.0, 130.0]))
    without = compare_days(np.array([10, 30]), np.array([90.0, 120.0]), np.array([100.0, 130.0]))
    assert with_gap == without
    assert with_gap.n_days == 2


def test_single_day_is_a_point() -> None:
    comparison = compare(np.array([9.0, 9.0]), np.array([16.0, 16.0]), np.array([5, 5]))
    assert as_list(comparison) == [-1, -1, -1]
