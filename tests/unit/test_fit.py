"""Fitting: the trees are scikit-learn's, old rides have less weight, and invalid parameters are refused."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor

from lambda_function.core.features import FEATURE_NAMES, feature_matrix
from tests.builders import FEBRUARY, JANUARY, SMALL_PARAMETERS, random_matrix, small_rides
from training.data.months import Month
from training.data.rides import Rides, concat_rides
from training.data.synthetic import synthetic_rides
from training.errors import UserError
from training.model.export import forest_arrays
from training.model.fit import _RIDES_A_BLOCK, age_weights, fit_forest
from training.model.parameters import KNOWN_PARAMETERS, PARAMETERS


def parameters_with(**changes: Any) -> dict[str, Any]:
    return {**SMALL_PARAMETERS, "max_iter": 3, **changes}


def assert_same_trees(first: HistGradientBoostingRegressor, second: HistGradientBoostingRegressor) -> None:
    one, other = forest_arrays(first), forest_arrays(second)
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name], err_msg=name)


def of_matrix(rides: Rides, parameters: dict[str, Any]) -> HistGradientBoostingRegressor:
    """Return scikit-learn's own forest, fitted on the whole matrix."""
    forest = HistGradientBoostingRegressor(early_stopping=False, **parameters)
    return forest.fit(feature_matrix(rides.columns), rides.duration_minutes)


def test_trees_are_those_of_a_forest_fitted_on_the_whole_matrix() -> None:
    assert_same_trees(fit_forest(small_rides(), parameters_with()), of_matrix(small_rides(), parameters_with()))


@pytest.mark.slow
def test_rides_of_several_blocks_give_the_same_trees() -> None:
    # two blocks, and fewer rides than are used to find the bins
    rides = small_rides().take(np.arange(_RIDES_A_BLOCK + 1000) % len(small_rides()))
    parameters = parameters_with(max_iter=1, max_leaf_nodes=4)
    assert_same_trees(fit_forest(rides, parameters), of_matrix(rides, parameters))


def test_fitted_forest_is_scikit_learns_own_and_keeps_no_rides() -> None:
    fitted = fit_forest(small_rides(), parameters_with())
    assert type(fitted) is HistGradientBoostingRegressor
    assert not [name for name, value in vars(fitted).items() if type(value).__name__ == "RideColumns"]


def test_same_rides_and_parameters_give_the_same_trees() -> None:
    parameters = parameters_with(max_features=0.5, half_life_days=5.0)
    assert_same_trees(fit_forest(small_rides(), parameters), fit_forest(small_rides(), parameters))


# Season -------------------------------------------------------------------------------------------------------------


def rides_of_months(n_months: int) -> Rides:
    """Return rides of a year's first months, which take longer from month to month."""
    parts = []
    for month in range(1, n_months + 1):
        rides = synthetic_rides(Month(2019, month), 200, seed=month)
        parts.append(replace(rides, duration_minutes=(rides.duration_minutes + 2 * month).clip(1, 60)))
    return concat_rides(parts)


@pytest.mark.parametrize(("n_months", "splits_by_month"), [(12, True), (11, False), (2, False)])
def test_trees_split_by_month_of_year_only_if_the_rides_have_all_twelve(n_months: int, splits_by_month: bool) -> None:
    features = forest_arrays(fit_forest(rides_of_months(n_months), parameters_with()))["split_feature"]
    assert (FEATURE_NAMES.index("month_of_year") in features) is splits_by_month


# Age ----------------------------------------------------------------------------------------------------------------


def test_weight_halves_with_every_half_life() -> None:
    days = np.array([0, 90, 170, 179, 180])
    assert age_weights(days * 1440, half_life_days=90.0).tolist() == pytest.approx([0.25, 0.5, 0.925875, 0.992328, 1.0])


def test_rides_of_a_day_have_one_weight() -> None:
    assert age_weights(np.array([0, 1439, 1440, 2879]), half_life_days=1.0).tolist() == [0.5, 0.5, 1.0, 1.0]
    assert age_weights(np.empty(0, np.int64), half_life_days=1.0).shape == (0,)


def test_old_rides_have_little_weight_if_the_half_life_is_short() -> None:
    # GIVEN a February in which rides take twice as long as in January
    january, february = synthetic_rides(JANUARY, 1500, seed=1), synthetic_rides(FEBRUARY, 1500, seed=1)
    february = replace(february, duration_minutes=(2 * february.duration_minutes).clip(1, 60))
    both, matrix = concat_rides([january, february]), random_matrix(500)
    of_february = fit_forest(february, parameters_with(max_iter=8)).predict(matrix).mean()
    # THEN a half-life of a day predicts February's durations, and no half-life something in between
    forgetful = fit_forest(both, parameters_with(max_iter=8, half_life_days=1.0)).predict(matrix).mean()
    even = fit_forest(both, parameters_with(max_iter=8)).predict(matrix).mean()
    assert forgetful == pytest.approx(of_february, rel=0.1)
    assert even < 0.9 * of_february


# Parameters ---------------------------------------------------------------------------------------------------------


def test_every_known_parameter_can_be_fitted_with() -> None:
    parameters = {**PARAMETERS, "max_iter": 2, "max_bins": 64, "max_depth": 4, "max_features": 1}
    assert set(parameters) == set(KNOWN_PARAMETERS)
    assert len(forest_arrays(fit_forest(small_rides(), parameters))["leaf_minutes"]) == 2


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("max_iterations", "did you mean max_iter?"),
        ("half_life", "did you mean half_life_days?"),
        ("MAX_LEAF_NODES", "choose among max_iter, max_leaf_nodes"),
        ("early_stopping", "choose among"),
        ("", "choose among"),
    ],
)
def test_unknown_parameter_is_refused_with_a_hint(name: str, remedy: str) -> None:
    with pytest.raises(UserError, match=f"^{name} is no parameter: {re.escape(remedy)}"):
        fit_forest(small_rides(), {name: 1})


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("max_leaf_nodes", 40, "a whole number from 2 to 32"),
        ("max_iter", 0, "a whole number from 1"),
        ("max_iter", 2.0, "a whole number from 1"),
        ("max_iter", True, "a whole number from 1"),
        ("max_iter", None, "a whole number from 1"),
        ("learning_rate", -0.1, "a number above 0"),
        ("learning_rate", 0, "a number above 0"),
        ("learning_rate", float("nan"), "a number above 0"),
        ("l2_regularization", float("inf"), "a number from 0"),
        ("half_life_days", 0.0, "a number above 0"),
        ("max_features", 1.5, "a number above 0, at most 1"),
        ("max_bins", 256, "a whole number from 2 to 255"),
        ("random_state", -1, "a whole number from 0"),
        ("min_samples_leaf", [40], "a whole number from 1"),
    ],
)
def test_value_out_of_range_is_refused_with_the_range(name: str, value: Any, wanted: str) -> None:
    with pytest.raises(UserError, match=f"{name} is .*: give {wanted}"):
        fit_forest(small_rides(), {name: value})
