"""Calibration: intervals that hold the share asked for, of every kind of ride, from rides that fitted nothing."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lambda_function.core.features import feature_matrix
from lambda_function.core.intervals import (
    KINDS,
    MIN_HALF_MINUTES,
    Interval,
    IntervalTables,
    problem_of,
    ride_kinds,
    usual_cells,
)
from tests.builders import JANUARY, ride_columns_of, small_rides
from training.data.rides import Rides
from training.data.synthetic import synthetic_rides
from training.model.calibrate import (
    EDGES_MINUTES,
    MIN_CALIBRATION_RIDES,
    TYPICAL_HALF_MINUTES,
    calibrate,
    usual_pickup_zones,
)

RANGE_MINUTES = (1.0, 60.0)
RIDES = synthetic_rides(JANUARY, 8_000, seed=5)


def made_up(n: int, seed: int = 0, no_distance_share: float = 0.0) -> tuple[NDArray[np.float64], Rides]:
    """Predictions and rides that end a tenth of that to either side, or a half where there is no distance."""
    rng = np.random.default_rng(seed)
    rides = RIDES.take(np.sort(rng.choice(len(RIDES), n, replace=False)))
    miles = np.where(rng.random(n) < no_distance_share, 0.0, 2.0)
    minutes = rng.uniform(2, 40, n)
    spread = np.where(miles > 0, 0.1, 0.5) * minutes
    actual = (minutes + rng.normal(0, 1, n) * spread).clip(*RANGE_MINUTES)
    columns = replace(rides.columns, trip_distance_miles=miles)
    return minutes, Rides(columns, rides.pickup_time, actual, rides.sources)


def of_one_kind(minutes: NDArray[np.float64], rides: Rides) -> tuple[NDArray[np.float64], Rides]:
    """The same, but for where the rides begin: nowhere, which makes them unusual, all that have a distance."""
    columns = replace(rides.columns, pickup_zone=np.full(len(rides), 264))
    return minutes, Rides(columns, rides.pickup_time, rides.duration_minutes, rides.sources)


def interval_of(minutes: NDArray[np.float64], rides: Rides, level: float = 0.8) -> Interval:
    interval = calibrate(minutes, rides, RIDES, level)
    assert interval is not None
    assert problem_of(interval, RANGE_MINUTES) is None
    return interval


def held(interval: Interval, minutes: NDArray[np.float64], rides: Rides) -> NDArray[np.bool_]:
    """Which rides end within their interval."""
    low, high = IntervalTables.of(interval, RANGE_MINUTES).bounds(minutes, feature_matrix(rides.columns))
    within: NDArray[np.bool_] = (low <= rides.duration_minutes) & (rides.duration_minutes <= high)
    return within


def held_of_fresh_rides(level: float = 0.8) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.bool_]]:
    """Of rides that nothing was calibrated on, five times: whether held, predicted minutes, whether without miles."""
    within, predicted, missing = [], [], []
    for seed in range(5):
        minutes, rides = made_up(6_000, seed, no_distance_share=0.2)
        interval = interval_of(minutes[::2], rides.take(slice(None, None, 2)), level)
        fresh = rides.take(slice(1, None, 2))
        within.append(held(interval, minutes[1::2], fresh))
        predicted.append(minutes[1::2])
        missing.append(fresh.columns.trip_distance_miles == 0)
    return np.concatenate(within), np.concatenate(predicted), np.concatenate(missing)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_intervals_hold_the_share_asked_for_of_rides_to_come(level: float) -> None:
    within, _, _ = held_of_fresh_rides(level)
    assert within.mean() == pytest.approx(level, abs=0.02)
    assert interval_of(*made_up(500), level).level == level


def test_each_kind_of_ride_has_its_share_held_though_one_is_five_times_less_predictable() -> None:
    within, _, missing = held_of_fresh_rides()
    assert within[missing].mean() == pytest.approx(0.8, abs=0.03)
    assert within[~missing].mean() == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize(("low", "high"), [(2, 8), (8, 20), (20, 40)])
def test_short_and_long_rides_have_their_share_held(low: float, high: float) -> None:
    within, minutes, _ = held_of_fresh_rides()
    assert within[(minutes >= low) & (minutes < high)].mean() == pytest.approx(0.8, abs=0.03)


@given(st.integers(MIN_CALIBRATION_RIDES, 1_500), st.integers(0, 1_000), st.floats(0.05, 0.95))
def test_at_least_the_share_asked_for_of_the_calibration_rides_is_held(n: int, seed: int, level: float) -> None:
    """As they are sent: tenths, hundredths and the table's steps take none away."""
    minutes, rides = of_one_kind(*made_up(n, seed))
    assert held(interval_of(minutes, rides, level), minutes, rides).mean() >= level


@given(st.integers(MIN_CALIBRATION_RIDES, 1_500), st.integers(0, 1_000))
def test_a_higher_level_gives_wider_intervals(n: int, seed: int) -> None:
    minutes, rides = made_up(n, seed, no_distance_share=0.3)
    narrow, wide = interval_of(minutes, rides, 0.5), interval_of(minutes, rides, 0.9)
    for kind in KINDS:
        assert (np.array(narrow.half_minutes[kind]) <= wide.half_minutes[kind]).all()


def test_kind_with_few_rides_takes_the_widths_of_all() -> None:
    minutes, rides = of_one_kind(*made_up(1_000))
    few = replace(rides.columns, trip_distance_miles=np.r_[np.zeros(MIN_CALIBRATION_RIDES - 1), np.ones(941)])
    rides = Rides(few, rides.pickup_time, rides.duration_minutes, rides.sources)
    half_minutes = interval_of(minutes, rides).half_minutes
    assert half_minutes["no_distance"] == half_minutes["busy_hours"] == half_minutes["quiet_hours"]
    assert half_minutes["no_distance"] != half_minutes["unusual_pickup"]


@pytest.mark.parametrize("n", [0, 1, MIN_CALIBRATION_RIDES - 1])
def test_too_few_rides_give_no_interval(n: int) -> None:
    minutes, rides = made_up(n)
    assert calibrate(minutes, rides, RIDES) is None


def test_too_few_rides_for_so_high_a_level_give_no_interval() -> None:
    minutes, rides = made_up(100)
    assert calibrate(minutes, rides, RIDES, 0.98) is not None
    assert calibrate(minutes, rides, RIDES, 0.995) is None


def test_model_that_is_never_off_has_the_narrowest_intervals() -> None:
    _, rides = made_up(500)
    exact = rides.duration_minutes.round(1)
    rides = Rides(rides.columns, rides.pickup_time, exact, rides.sources)
    halves = {half for stair in interval_of(exact, rides).half_minutes.values() for half in stair}
    assert halves == {MIN_HALF_MINUTES}


def test_same_rides_give_the_same_interval() -> None:
    assert interval_of(*made_up(500)) == interval_of(*made_up(500))


def test_steps_and_their_typical_widths_go_together() -> None:
    assert len(TYPICAL_HALF_MINUTES) == len(EDGES_MINUTES) + 1
    assert min(TYPICAL_HALF_MINUTES) >= MIN_HALF_MINUTES
    assert sorted(EDGES_MINUTES) == list(EDGES_MINUTES)


# Usual pickup zones -------------------------------------------------------------------------------------------------


def rides_from(zones: list[int]) -> Rides:
    some = small_rides().head(len(zones))
    return Rides(ride_columns_of(len(zones), pickup_zone=zones), some.pickup_time, some.duration_minutes, some.sources)


def test_zone_is_usual_from_one_pickup_in_four_hundred_on() -> None:
    assert usual_pickup_zones(rides_from([130] * 397 + [74] * 2 + [7])) == (7, 74, 130)
    assert usual_pickup_zones(rides_from([130] * 796 + [74] * 2 + [7] + [41])) == (74, 130)


def test_zone_without_a_place_is_never_usual() -> None:
    assert usual_pickup_zones(rides_from([264] * 10 + [265] * 10 + [130])) == (130,)


def test_zones_that_are_usual_make_their_rides_so() -> None:
    zones = usual_pickup_zones(RIDES)
    kinds = ride_kinds(feature_matrix(RIDES.columns), usual_cells(zones))
    unusual = np.isin(RIDES.columns.pickup_zone, zones, invert=True)
    assert (kinds[unusual] >= KINDS.index("unusual_pickup")).all()
