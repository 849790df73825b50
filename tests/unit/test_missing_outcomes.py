"""Whatever outcomes are missing, the true error lies within the bounds, and the thirds tell where they are missing."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.monitoring.accuracy import PredictedRides, outcome_share_by_third, rmse_bounds_minutes

MINUTES = st.floats(1, 60)
RIDES = st.lists(st.tuples(MINUTES, MINUTES, st.booleans()), min_size=1, max_size=30)
"""Predicted minutes, true minutes, whether the outcome is there."""


def rides_of(predicted: NDArray[np.float64], known: NDArray[np.float64]) -> PredictedRides:
    """Rides of one version, without intervals."""
    n = len(predicted)
    none = np.full(n, np.nan)
    return PredictedRides(np.zeros(n, np.int64), ("green-2021-01-000000000000",), predicted, none, none, known)


@given(RIDES)
def test_true_error_is_within_the_bounds_for_any_pattern_of_missing_outcomes(
    rides: list[tuple[float, float, bool]],
) -> None:
    predicted, true, has_outcome = map(np.array, zip(*rides, strict=True))
    bounds = rmse_bounds_minutes(rides_of(predicted, np.where(has_outcome, true, np.nan)))
    assert bounds is not None
    error = predicted - true
    rmse = math.sqrt(float(error @ error) / len(error))
    assert bounds[0] - 1e-9 <= rmse <= bounds[1] + 1e-9
    if has_outcome.all():
        assert bounds[1] - bounds[0] <= 1e-9


@given(st.lists(st.tuples(MINUTES, st.booleans()), min_size=1, max_size=30))
def test_bounds_are_reached_by_the_worst_and_the_best_outcomes(rides: list[tuple[float, bool]]) -> None:
    predicted, has_outcome = map(np.array, zip(*rides, strict=True))
    bounds = rmse_bounds_minutes(rides_of(predicted, np.where(has_outcome, 10.0, np.nan)))
    worst = np.where(predicted < 30.5, 60.0, 1.0)
    for bound, missing in zip(bounds or (), (predicted, worst), strict=True):
        error = predicted - np.where(has_outcome, 10.0, missing)
        assert math.isclose(bound, math.sqrt(float(error @ error) / len(error)), abs_tol=1e-9)


@given(RIDES)
def test_thirds_hold_each_ride_once_from_short_to_long(rides: list[tuple[float, float, bool]]) -> None:
    predicted, true, has_outcome = map(np.array, zip(*rides, strict=True))
    thirds = outcome_share_by_third(rides_of(predicted, np.where(has_outcome, true, np.nan)))
    assert sum(third.n for third in thirds) == len(rides)
    assert sum(third.n_with_outcome for third in thirds) == has_outcome.sum()
    ends = [end for third in thirds for end in (third.low, third.high)]
    assert ends == sorted(ends)
    for third in thirds:
        inside = (third.low <= predicted) & (predicted <= third.high)
        assert [third.n, third.n_with_outcome] == [np.count_nonzero(inside), np.count_nonzero(inside & has_outcome)]
    if len(set(predicted.tolist())) == len(rides) >= 3:
        assert max(third.n for third in thirds) - min(third.n for third in thirds) <= 1
