"""The bootstrap over days: what it must say of models that are equal, better, or better on a few days only."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.evaluation.bootstrap import LEVEL, Comparison, compare_by_day, compare_day_sums

N_DAYS, RIDES_A_DAY = 28, 50
DAY = np.repeat(np.arange(N_DAYS), RIDES_A_DAY)

seeds = st.integers(0, 2**32 - 1)


def squares(seed: int, scale: float = 4.0) -> NDArray[np.float64]:
    """Squared errors of rides, in no way alike within a day."""
    values: NDArray[np.float64] = np.random.default_rng(seed).normal(0, scale, len(DAY)) ** 2
    return values


def as_list(comparison: Comparison) -> list[float]:
    return [comparison.difference_rmse_minutes, comparison.low, comparison.high]


@given(seed=seeds)
def test_model_is_neither_better_nor_worse_than_itself(seed: int) -> None:
    assert as_list(compare_by_day(squares(seed), squares(seed), DAY)) == [0, 0, 0]


@given(seed=seeds)
def test_model_better_on_every_ride_has_an_interval_below_zero(seed: int) -> None:
    comparison = compare_by_day(0.5 * squares(seed), squares(seed), DAY)
    assert comparison.low < comparison.difference_rmse_minutes < comparison.high < 0


@given(seed=seeds)
def test_exchanging_the_models_exchanges_the_signs(seed: int) -> None:
    one, other = squares(seed), squares(seed + 1)
    there, back = compare_by_day(one, other, DAY), compare_by_day(other, one, DAY)
    assert back.difference_rmse_minutes == -there.difference_rmse_minutes
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low), abs=1e-9)


@given(seed=seeds)
def test_order_of_the_rides_makes_no_difference(seed: int) -> None:
    one, other = squares(seed), squares(seed + 1)
    order = np.random.default_rng(seed).permutation(len(DAY))
    shuffled = compare_by_day(one[order], other[order], DAY[order])
    assert as_list(shuffled) == pytest.approx(as_list(compare_by_day(one, other, DAY)), abs=1e-9)


def test_days_sums_say_the_same_as_the_rides() -> None:
    one, other = squares(1), squares(2)
    sums = (values.reshape(N_DAYS, RIDES_A_DAY).sum(axis=1) for values in (one, other))
    from_sums = compare_day_sums(np.full(N_DAYS, RIDES_A_DAY), *sums)
    assert as_list(from_sums) == pytest.approx(as_list(compare_by_day(one, other, DAY)), abs=1e-9)
    assert (from_sums.n_days, from_sums.n_rides, from_sums.level) == (N_DAYS, N_DAYS * RIDES_A_DAY, LEVEL)


def test_difference_is_that_of_the_two_rmses() -> None:
    one, other = squares(1), squares(2)
    difference = np.sqrt(one.mean()) - np.sqrt(other.mean())
    assert compare_by_day(one, other, DAY).difference_rmse_minutes == pytest.approx(difference, abs=1e-12)


def test_good_luck_on_two_days_is_not_taken_for_a_better_model() -> None:
    champion = squares(1)
    candidate = np.where(DAY < 2, 0.1, 1.0) * champion
    comparison = compare_by_day(candidate, champion, DAY)
    assert comparison.difference_rmse_minutes < 0 <= comparison.high


def test_days_that_differ_widen_the_interval_though_rides_are_as_many() -> None:
    """What drawing single rides would miss: here a day's rides all gain or all lose."""
    gain = np.where(np.arange(N_DAYS) % 2, 0.7, 1.2)[DAY]
    alike_within_days = compare_by_day(gain * squares(1), squares(1), DAY)
    mixed_within_days = compare_by_day(np.random.default_rng(3).permuted(gain) * squares(1), squares(1), DAY)
    assert (alike_within_days.high - alike_within_days.low) > 2 * (mixed_within_days.high - mixed_within_days.low)


def test_higher_level_gives_a_wider_interval() -> None:
    narrow, wide = (compare_by_day(squares(1), squares(2), DAY, level=level) for level in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_days_without_rides_are_left_out() -> None:
    with_gap = compare_day_sums(np.array([10, 0, 30]), np.array([90.0, 0.0, 120.0]), np.array([100.0, 0.0, 130.0]))
    without = compare_day_sums(np.array([10, 30]), np.array([90.0, 120.0]), np.array([100.0, 130.0]))
    assert with_gap == without
    assert with_gap.n_days == 2


def test_single_day_is_a_point() -> None:
    comparison = compare_by_day(np.array([9.0, 9.0]), np.array([16.0, 16.0]), np.array([5, 5]))
    assert as_list(comparison) == [-1, -1, -1]
