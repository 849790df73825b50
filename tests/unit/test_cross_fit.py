"""Predictions out of fold: no ride is predicted by a model that learned from its week."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import ride_columns_of
from training.data.rides import Rides
from training.model.calibrate import Predict
from training.model.cross_fit import FEW_RIDES, MAX_FIT_RIDES, find_folds, predict_out_of_fold

MONDAY = int(np.datetime64("2021-01-04", "D").astype(np.int64))
MANY = FEW_RIDES // 4


def rides_of(n_by_day: dict[int, int]) -> Rides:
    """Return rides by day, numbered from a Monday; each takes a number of minutes that tells its week."""
    day = np.repeat(list(n_by_day), list(n_by_day.values()))
    minute = (MONDAY + day) * 1440
    columns = ride_columns_of(len(day), pickup_minute=minute.tolist())
    return Rides(columns, minute.astype("datetime64[m]").astype("datetime64[s]"), 10.0 + day // 7, ())


def days_of_folds(rides: Rides) -> list[set[int]]:
    """Return the days in each fold."""
    fold = find_folds(rides)
    assert fold is not None
    day = rides.columns.pickup_minute // 1440 - MONDAY
    return [set(day[fold == number].tolist()) for number in range(fold.max() + 1)]


class Fits:
    """Fits whose predictions are the number of the fit; `rides` are those of each fit."""

    def __init__(self) -> None:
        self.rides: list[Rides] = []

    def __call__(self, rides: Rides) -> Predict:
        """Fit on rides."""
        number = float(len(self.rides))
        self.rides.append(rides)
        return lambda some: np.full(len(some), number)


def test_all_rides_of_a_week_are_in_the_same_of_four_folds() -> None:
    folds = days_of_folds(rides_of(dict.fromkeys(range(35), MANY)))
    assert folds == [{*range(7), *range(28, 35)}, {*range(7, 14)}, {*range(14, 21)}, {*range(21, 28)}]


def test_weeks_without_rides_make_no_fold() -> None:
    folds = days_of_folds(rides_of(dict.fromkeys([0, 1, 70, 140, 210], MANY)))
    assert folds == [{0, 1}, {70}, {140}, {210}]


def test_less_than_four_weeks_are_divided_by_day() -> None:
    assert days_of_folds(rides_of(dict.fromkeys(range(5), MANY))) == [{0, 4}, {1}, {2}, {3}]
    assert days_of_folds(rides_of(dict.fromkeys(range(2), 2 * MANY))) == [{0}, {1}]


def test_few_rides_have_two_folds() -> None:
    assert days_of_folds(rides_of(dict.fromkeys([0, 7, 14, 21], 10))) == [{0, 14}, {7, 21}]


@pytest.mark.parametrize("rides", [rides_of({}), rides_of({3: 50})], ids=["no ride", "one day"])
def test_rides_of_one_day_have_no_folds(rides: Rides) -> None:
    assert find_folds(rides) is None
    assert predict_out_of_fold(rides, Fits(), 0) is None


@given(n_by_day=st.dictionaries(st.integers(0, 80), st.integers(1, 40), min_size=2), seed=st.integers(0, 9))
def test_each_ride_is_predicted_by_the_model_that_learned_from_all_other_folds(
    n_by_day: dict[int, int], seed: int
) -> None:
    rides = rides_of(dict(sorted(n_by_day.items())))
    fits = Fits()
    minutes, fold = predict_out_of_fold(rides, fits, len(rides)), find_folds(rides)
    assert minutes is not None
    assert fold is not None
    assert minutes.tolist() == fold.tolist()
    for number, learned in enumerate(fits.rides):
        assert len(learned) == np.count_nonzero(fold != number)
        assert not np.isin(learned.columns.pickup_minute, rides.columns.pickup_minute[fold == number]).any()


def test_only_the_last_rides_are_predicted_and_the_models_learn_from_all() -> None:
    rides = rides_of(dict.fromkeys(range(28), 10))
    fits = Fits()
    minutes, fold = predict_out_of_fold(rides, fits, 77), find_folds(rides)
    assert minutes is not None
    assert fold is not None
    assert minutes.tolist() == fold[-77:].tolist()
    assert sum(map(len, fits.rides)) == len(rides)


def test_models_learn_from_a_sample_of_very_many_rides() -> None:
    rides = rides_of(dict.fromkeys(range(28), MAX_FIT_RIDES // 10))
    fits = Fits()
    predict_out_of_fold(rides, fits, 10)
    for learned in fits.rides:
        assert 0.9 * MAX_FIT_RIDES / 2 <= len(learned) <= MAX_FIT_RIDES
        n_by_day = np.unique(learned.columns.pickup_minute, return_counts=True)[1]
        assert np.ptp(n_by_day) <= 1
