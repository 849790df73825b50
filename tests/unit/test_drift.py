"""Intervals are stretched by half of what the later training days ask for, and left alone where too little is known."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from lambda_function.core.features import MINUTES_PER_DAY
from tests.builders import JANUARY
from training.data.rides import Rides
from training.data.synthetic import synthetic_rides
from training.model.calibrate import EARLIER_SHARE, MIN_DAYS, RANGE, SHARE_TAKEN, Predict, drift_stretch

RIDES = synthetic_rides(JANUARY, 20_000, seed=3)
PREDICTED_MINUTES = 15.0


def constant(_: Rides) -> Predict:
    """Fits a model that always says the same."""
    return lambda rides: np.full(len(rides), PREDICTED_MINUTES)


def rides_off_by(spread_minutes: Callable[[NDArray[np.int64]], NDArray[np.float64]]) -> Rides:
    """Rides that end so far around the prediction, by the day of the month from 0."""
    day = RIDES.columns.pickup_minute // MINUTES_PER_DAY
    noise = np.random.default_rng(1).normal(0, 1, len(RIDES))
    minutes = PREDICTED_MINUTES + noise * spread_minutes(day - day.min())
    return Rides(RIDES.columns, RIDES.pickup_time, minutes.clip(1, 60), RIDES.sources)


def later_days_times(factor: float) -> Rides:
    """Rides of which those of the last quarter of the days are so much further off."""
    first_later = int(31 * EARLIER_SHARE)
    return rides_off_by(lambda day: np.where(day >= first_later, 2.0 * factor, 2.0))


def test_days_that_are_all_alike_ask_for_nothing() -> None:
    assert drift_stretch(later_days_times(1.0), constant) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("factor", [1.2, 1.4, 0.9])
def test_half_of_what_later_days_ask_for_is_taken(factor: float) -> None:
    expected = 1 + SHARE_TAKEN * (factor - 1)
    assert drift_stretch(later_days_times(factor), constant) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize(("factor", "bound"), [(3.0, RANGE[1]), (0.3, RANGE[0])])
def test_an_odd_week_stretches_by_no_more_than_is_allowed(factor: float, bound: float) -> None:
    assert drift_stretch(later_days_times(factor), constant) == bound


def test_model_learns_from_the_earlier_days_only() -> None:
    seen: list[Rides] = []

    def fit(rides: Rides) -> Predict:
        seen.append(rides)
        return constant(rides)

    drift_stretch(RIDES, fit)
    days = seen[0].columns.pickup_minute // MINUTES_PER_DAY
    first = int(RIDES.columns.pickup_minute.min()) // MINUTES_PER_DAY
    assert int(days.max()) - first < 31 * EARLIER_SHARE


@pytest.mark.parametrize("n_days", [1, MIN_DAYS - 1])
def test_few_days_say_nothing(n_days: int) -> None:
    day = RIDES.columns.pickup_minute // MINUTES_PER_DAY
    assert drift_stretch(RIDES.take(day < day.min() + n_days), constant) == 1.0


def test_few_rides_say_nothing() -> None:
    assert drift_stretch(RIDES.take(slice(None, None, 40)), constant) == 1.0
