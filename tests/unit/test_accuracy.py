"""Sums of errors of an hour, and what missing outcomes may hide."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from training.monitoring.accuracy import (
    PredictedRides,
    merge_sums,
    outcome_share_by_third,
    rmse_bounds_minutes,
    sums_by_version,
)

MINUTES = arrays(np.float64, 30, elements=st.floats(1, 60))


def rides_of(
    predicted: Any, duration: Any, low: Any = math.nan, high: Any = math.nan, version: Any = 0
) -> PredictedRides:
    predicted = np.asarray(predicted, np.float64)
    low, high, version = (np.broadcast_to(value, predicted.shape) for value in (low, high, version))
    return PredictedRides(version.astype(np.int64), ("b", "a"), predicted, low, high, np.asarray(duration, np.float64))


def test_sums_are_of_rides_of_1_to_60_minutes() -> None:
    [sums] = sums_by_version(rides_of([10, 10, 10, 10, 10], [8, 0.9, 61, math.nan, 12], 9, 12)).values()
    assert (sums.n, sums.sum_error, sums.sum_squared_error, sums.sum_absolute_error) == (2, 0, 8, 4)
    assert (sums.n_with_interval, sums.n_within_interval, sums.sum_width_minutes) == (2, 1, 6)


def test_each_version_has_its_sums_and_one_without_interval_counts_none() -> None:
    sums = sums_by_version(rides_of([10, 20], [11, 18], version=[0, 1]))
    assert {name: one.sum_error for name, one in sums.items()} == {"b": -1, "a": 2}
    assert sums["a"].n_with_interval == sums["a"].n_within_interval == 0
    assert merge_sums(sums.values()).rmse_minutes == pytest.approx(math.sqrt(2.5))


def test_sums_give_means_of_the_errors_and_none_without_rides() -> None:
    [sums] = sums_by_version(rides_of([10, 10], [8, 11], 9, 12)).values()
    assert (sums.bias_minutes, sums.mean_squared_error, sums.coverage) == (0.5, 2.5, 0.5)
    assert sums.sum_fourth_power == 17
    none = merge_sums([])
    assert (none.bias_minutes, none.mean_squared_error, none.rmse_minutes, none.coverage) == (None,) * 4


@given(MINUTES, MINUTES, st.permutations(range(30)))
def test_order_of_the_rides_does_not_change_a_bit(predicted: Any, duration: Any, order: list[int]) -> None:
    rides, others = rides_of(predicted, duration), rides_of(predicted[order], duration[order])
    assert sums_by_version(rides) == sums_by_version(others)
    assert rmse_bounds_minutes(rides) == rmse_bounds_minutes(others)
    assert outcome_share_by_third(rides) == outcome_share_by_third(others)


def test_bounds_meet_when_no_outcome_is_missing_and_need_a_ride() -> None:
    bounds = rmse_bounds_minutes(rides_of([10, 20], [12, 18]))
    assert bounds == (2, 2)
    assert rmse_bounds_minutes(rides_of([], [])) is None


def test_thirds_show_where_outcomes_are_missing() -> None:
    predicted = np.arange(1.0, 10.0)
    thirds = outcome_share_by_third(rides_of(predicted, np.where(predicted > 7, math.nan, 5.0)))
    assert [(one.low, one.high, one.n, one.n_with_outcome) for one in thirds] == [
        (1, 3, 3, 3),
        (4, 6, 3, 3),
        (7, 9, 3, 1),
    ]
    assert outcome_share_by_third(rides_of([], [])) == ()
    assert [one.n for one in outcome_share_by_third(rides_of([5.0] * 4, [5.0] * 4))] == [4]
