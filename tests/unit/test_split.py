"""Rides held out for calibration: evenly over time, more of those without a distance, the same ones every time."""

from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_function.core.features import RideColumns
from tests.builders import JANUARY, ride_columns_of, small_rides
from training.data.rides import Rides
from training.data.synthetic import synthetic_rides
from training.model.calibrate import MAX_CALIBRATION_RIDES, MIN_CALIBRATION_RIDES, calibration_mask, split_calibration

RIDES = synthetic_rides(JANUARY, 5_000, seed=3)


def held_out(n: int, miles: list[float] | None = None) -> np.ndarray:
    columns = ride_columns_of(n) if miles is None else ride_columns_of(n, trip_distance_miles=miles)
    return calibration_mask(columns).nonzero()[0]


def test_one_ride_in_twenty_is_held_out_evenly_over_time() -> None:
    rows = held_out(2_000)
    assert len(rows) == 100
    assert set(np.diff(rows)) == {20}
    assert rows[0] < 20
    assert rows[-1] >= 1_980


@pytest.mark.parametrize("missing", [0.0, -1.0, 60.1, float("nan")])
def test_one_ride_in_five_is_held_out_of_those_without_a_distance(missing: float) -> None:
    rows = held_out(2_000, [missing, 2.0] * 1_000)
    without, with_distance = rows[rows % 2 == 0], rows[rows % 2 == 1]
    assert (len(without), len(with_distance)) == (200, 50)


@given(st.integers(0, 5_000))
def test_each_ride_is_in_one_part_and_both_keep_their_order(n_rides: int) -> None:
    rides = RIDES.head(n_rides)
    fit, calibration = split_calibration(rides)
    assert len(fit) + len(calibration) == n_rides
    for part in (fit, calibration):
        assert (np.diff(part.pickup_time.astype(np.int64)) >= 0).all()
    both = np.concatenate([fit.duration_minutes, calibration.duration_minutes])
    np.testing.assert_array_equal(np.sort(both), np.sort(rides.duration_minutes))


def test_same_rides_are_split_in_the_same_way() -> None:
    def minutes(part: int) -> list[float]:
        rides: Rides = split_calibration(small_rides())[part]
        return list(rides.duration_minutes)

    assert (minutes(0), minutes(1)) == (minutes(0), minutes(1))


@pytest.mark.parametrize("n_rides", [0, 1, 20, 900])
def test_too_few_rides_are_all_to_fit_on(n_rides: int) -> None:
    fit, calibration = split_calibration(RIDES.head(n_rides))
    assert (len(fit), len(calibration)) == (n_rides, 0)


def test_enough_rides_for_the_fewest_to_calibrate_on_are_split() -> None:
    assert len(held_out(20 * MIN_CALIBRATION_RIDES)) == MIN_CALIBRATION_RIDES


def test_no_more_are_held_out_than_tell_anything() -> None:
    one = ride_columns_of()
    n_rides = 20 * MAX_CALIBRATION_RIDES + 1
    many = RideColumns(*(np.broadcast_to(column, n_rides) for column in astuple(one)))
    assert MAX_CALIBRATION_RIDES * 0.9 < calibration_mask(many).sum() <= MAX_CALIBRATION_RIDES
