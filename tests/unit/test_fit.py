"""Fitting: the trees are scikit-learn's, old rides have less weight, and invalid parameters are refused.

The baseline predicts as the course's DictVectorizer and LinearRegression; its solver is SciPy's LSQR.
"""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse.linalg import lsqr
from sklearn.ensemble import HistGradientBoostingRegressor

from lambda_function.core.features import FEATURE_NAMES, RideColumns, feature_matrix
from tests.builders import FEBRUARY, JANUARY, SMALL_PARAMETERS, random_matrix, ride_columns_of, small_rides
from tests.course import course_pipeline
from training.data.months import Month
from training.data.rides import Rides, concat_rides
from training.data.synthetic import synthetic_rides
from training.errors import UserError
from training.model.baseline import fit_baseline
from training.model.course import course_features
from training.model.export import forest_arrays
from training.model.fit import _RIDES_A_BLOCK, age_weights, fit_forest
from training.model.least_squares import TOLERANCE, Vector, solve_least_squares
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


def test_weight_halves_with_every_half_life_and_is_that_of_the_day() -> None:
    days = np.array([0, 90, 170, 179, 180])
    assert age_weights(days * 1440, half_life_days=90.0).tolist() == pytest.approx([0.25, 0.5, 0.925875, 0.992328, 1.0])
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


# Baseline -------------------------------------------------------------------------------------------------------------


def rides_of(*rides: tuple[int, int, float, float]) -> Rides:
    """Return rides of pickup zone, dropoff zone, miles and minutes."""
    pickup, dropoff, miles, minutes = (np.array(column) for column in zip(*rides, strict=True))
    columns = RideColumns(pickup, dropoff, miles, np.zeros(len(rides), np.int64))
    return Rides(columns, np.full(len(rides), JANUARY.start), minutes, ())


def course_minutes(train_rides: Rides, rides: RideColumns) -> NDArray[np.float64]:
    minutes: NDArray[np.float64] = course_pipeline(train_rides).predict(course_features(rides))
    return minutes


@pytest.mark.parametrize("n_rides", [1, 2, 50, 5_000])
def test_predicts_what_the_courses_pipeline_predicts_for_pairs_seen_and_unseen(n_rides: int) -> None:
    train_rides, later = synthetic_rides(JANUARY, n_rides, seed=3), synthetic_rides(FEBRUARY, 1_000, seed=4).columns
    assert fit_baseline(train_rides).regression_minutes(later) == pytest.approx(
        course_minutes(train_rides, later), abs=1e-3
    )


hundredths_of_a_mile, seconds = st.integers(0, 2_000), st.integers(60, 3_600)
few_rides = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, 3), hundredths_of_a_mile, seconds), min_size=1, max_size=12
)


@given(rides=few_rides)
def test_any_few_rides_are_fitted_as_the_course_fits_them(rides: list[tuple[int, int, int, int]]) -> None:
    two_pairs = [(8, 8, 1.0, 10.0), (9, 8, 2.0, 20.0)]  # with one pair at one distance, scikit-learn's solver diverges
    train_rides = rides_of(*two_pairs, *((one, other, miles / 100, s / 60) for one, other, miles, s in rides))
    asked = ride_columns_of(3, pickup_zone=[1, 2, 9], dropoff_zone=[1, 3, 9], trip_distance_miles=[0, 5, 1])
    expected = course_minutes(train_rides, asked)  # slopes of thousands of minutes a mile, partly rounding errors, too
    assert fit_baseline(train_rides).regression_minutes(asked) == pytest.approx(expected, rel=0.01, abs=0.05)


def test_missing_distance_counts_as_zero() -> None:
    train_rides = rides_of((1, 2, 1.0, 10.0), (1, 2, 3.0, 14.0), (1, 2, float("nan"), 8.0))
    asked = ride_columns_of(2, pickup_zone=[1, 1], dropoff_zone=[2, 2], trip_distance_miles=[float("nan"), 2.0])
    assert fit_baseline(train_rides).regression_minutes(asked) == pytest.approx([8.0, 12.0], abs=1e-3)


def test_predictions_are_between_1_and_60_minutes_whatever_the_distance() -> None:
    train_rides = rides_of((1, 2, 1.0, 10.0), (1, 2, 3.0, 14.0))
    miles = [-9.0, 2.0, 292_611.0]
    asked = ride_columns_of(3, pickup_zone=[1, 1, 1], dropoff_zone=[2, 2, 2], trip_distance_miles=miles)
    assert fit_baseline(train_rides).predict(asked) == pytest.approx([1.0, 12.0, 60.0], abs=1e-3)


def test_pair_without_training_rides_gets_the_mean_of_the_pairs() -> None:
    train_rides = rides_of((1, 2, 0.0, 10.0), (1, 2, 0.0, 10.0), (1, 2, 0.0, 10.0), (3, 4, 0.0, 20.0))
    asked = ride_columns_of(1, pickup_zone=[9], dropoff_zone=[9], trip_distance_miles=[0.0])
    assert fit_baseline(train_rides).regression_minutes(asked) == pytest.approx([15.0])


def test_same_rides_give_the_same_bits() -> None:
    once, again = (fit_baseline(synthetic_rides(JANUARY, 3_000, seed=3)) for _ in range(2))
    assert once.pair_minutes.tobytes() == again.pair_minutes.tobytes()
    assert once.minutes_per_mile == again.minutes_per_mile


# The solver ---------------------------------------------------------------------------------------------------------


def solve(rows: Vector, wanted: Vector) -> Vector:
    """Solve for a matrix whose products are sums in numpy's order."""
    return solve_least_squares(
        lambda vector: (rows * vector).sum(axis=1), lambda vector: (rows.T * vector).sum(axis=1), wanted
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scale", [1.0, 1e3, 1e6])
@pytest.mark.parametrize("has_perfect_fit", [False, True])
@pytest.mark.parametrize("columns", [range(5), [0, 0, 1]], ids=["one fit", "many fits"])
def test_solver_stops_where_scipys_stops(
    seed: int, scale: float, has_perfect_fit: bool, columns: list[int] | range
) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(30, 5))[:, list(columns)]
    rows[:, -1] *= scale
    wanted = rows[:, :-1].sum(axis=1) if has_perfect_fit else rng.normal(size=30)
    expected = lsqr(rows, wanted, atol=TOLERANCE, btol=TOLERANCE)[0]
    assert solve(rows, wanted) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("rows", "wanted"), [(np.ones((3, 2)), np.zeros(3)), (np.zeros((3, 2)), np.ones(3))])
def test_solver_finds_zeros_for_a_zero_matrix_or_target(rows: Vector, wanted: Vector) -> None:
    assert solve(rows, wanted).tolist() == [0.0, 0.0]
