"""Made-up rides are like real ones, are reproducible, and contain more than a linear model can learn."""

import hashlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression

from lambda_function.core.features import ZONE_PLACES, RideColumns, feature_matrix
from tests.builders import FEBRUARY, JANUARY
from training.data.months import Month
from training.data.rides import Rides
from training.data.synthetic import synthetic_rides


def as_bytes(rides: Rides) -> list[bytes]:
    return [array.tobytes() for array in rides.arrays()]


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), n_rides=st.integers(1, 500), month=st.integers(1, 12))
def test_rides_of_any_seed_are_clean(seed: int, n_rides: int, month: int) -> None:
    rides = synthetic_rides(Month(2020, month), n_rides, seed)
    assert len(rides) == n_rides
    assert ((rides.duration_minutes >= 1) & (rides.duration_minutes <= 60)).all()
    assert ((rides.pickup_time >= Month(2020, month).start) & (rides.pickup_time < Month(2020, month).end)).all()
    assert (np.diff(rides.pickup_time) >= np.timedelta64(0, "s")).all()
    for zones in (rides.columns.pickup_zone, rides.columns.dropoff_zone):
        assert ((zones >= 1) & (zones <= 265)).all()
    assert np.isfinite(rides.columns.trip_distance_miles).all()


def test_same_seed_and_month_give_the_same_bytes_and_others_do_not() -> None:
    once, again, other = (synthetic_rides(JANUARY, 1000, seed) for seed in (7, 7, 8))
    assert as_bytes(once) == as_bytes(again)
    assert once.sources == again.sources
    assert as_bytes(once) != as_bytes(other)
    assert once.sources != other.sources
    assert as_bytes(once)[:2] != as_bytes(synthetic_rides(FEBRUARY, 1000, 7))[:2]


def test_source_names_made_up_rides_and_the_digest_of_all_columns_in_64_bits() -> None:
    rides = synthetic_rides(JANUARY, 1000, 7)
    (source,) = rides.sources
    assert (source.file, source.month, source.n_rows, source.n_kept) == ("synthetic", JANUARY, 1000, 1000)
    digest = hashlib.sha256(rides.pickup_time.astype(np.int64))
    for zones in (rides.columns.pickup_zone, rides.columns.dropoff_zone):
        digest.update(zones.astype(np.int64))
    digest.update(rides.columns.trip_distance_miles)
    digest.update(np.round(rides.duration_minutes * 60).astype(np.int64))
    assert source.sha256 == digest.hexdigest()


def test_bad_values_of_real_months_are_included() -> None:
    columns = synthetic_rides(JANUARY, 50_000, 7).columns
    assert 0.02 < (columns.trip_distance_miles <= 0).mean() < 0.06
    assert (columns.trip_distance_miles > 1000).any()
    nowhere = np.isnan(ZONE_PLACES[columns.pickup_zone, 0]) | np.isnan(ZONE_PLACES[columns.dropoff_zone, 0])
    assert 0.001 < nowhere.mean() < 0.004


def test_trees_learn_what_a_linear_model_cannot() -> None:
    train, validate = synthetic_rides(JANUARY, 10_000, 7), synthetic_rides(FEBRUARY, 5_000, 7)

    def matrix(rides: RideColumns) -> NDArray[np.float64]:
        return np.nan_to_num(feature_matrix(rides))

    def rmse_minutes(model: HistGradientBoostingRegressor | LinearRegression) -> float:
        model.fit(matrix(train.columns), train.duration_minutes)
        error = model.predict(matrix(validate.columns)) - validate.duration_minutes
        return float(np.sqrt(np.mean(error * error)))

    trees = HistGradientBoostingRegressor(max_iter=60, random_state=0)
    assert rmse_minutes(trees) < 0.7 * rmse_minutes(LinearRegression())
