"""The baseline predicts as the course's DictVectorizer and LinearRegression; its solver is SciPy's LSQR."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse.linalg import lsqr

from lambda_function.core.features import RideColumns
from tests.builders import FEBRUARY, JANUARY, ride_columns_of
from tests.course import course_features, course_pipeline
from training.data.rides import Rides
from training.data.synthetic import synthetic_rides
from training.model.baseline import fit_baseline
from training.model.least_squares import TOLERANCE, Vector, solve_least_squares


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
    assert fit_baseline(train_rides).predict(later) == pytest.approx(course_minutes(train_rides, later), abs=1e-3)


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
    assert fit_baseline(train_rides).predict(asked) == pytest.approx(expected, rel=0.01, abs=0.05)


def test_missing_distance_counts_as_zero() -> None:
    train_rides = rides_of((1, 2, 1.0, 10.0), (1, 2, 3.0, 14.0), (1, 2, float("nan"), 8.0))
    asked = ride_columns_of(2, pickup_zone=[1, 1], dropoff_zone=[2, 2], trip_distance_miles=[float("nan"), 2.0])
    assert fit_baseline(train_rides).predict(asked) == pytest.approx([8.0, 12.0], abs=1e-3)


def test_pair_without_training_rides_gets_the_mean_of_the_pairs() -> None:
    train_rides = rides_of((1, 2, 0.0, 10.0), (1, 2, 0.0, 10.0), (1, 2, 0.0, 10.0), (3, 4, 0.0, 20.0))
    asked = ride_columns_of(1, pickup_zone=[9], dropoff_zone=[9], trip_distance_miles=[0.0])
    assert fit_baseline(train_rides).predict(asked) == pytest.approx([15.0])


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
