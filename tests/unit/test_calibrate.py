"""Calibration: rides held out, intervals that contain the wanted share of every kind of ride, and their stretch."""

from dataclasses import astuple, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lambda_function.core.features import MINUTES_PER_DAY, RideColumns, feature_matrix
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
    EARLIER_SHARE,
    MAX_CALIBRATION_RIDES,
    MIN_CALIBRATION_RIDES,
    MIN_DAYS,
    RANGE,
    SHARE_TAKEN,
    Predict,
    calibrate,
    calibration_mask,
    measure_stretch,
    split_calibration,
    usual_pickup_zones,
)

RANGE_MINUTES = (1.0, 60.0)
RIDES = synthetic_rides(JANUARY, 8_000, seed=5)


def made_up(n: int, seed: int = 0, no_distance_share: float = 0.0) -> tuple[NDArray[np.float64], Rides]:
    """Return predictions, and rides that end a tenth of them to either side, or a half without a distance."""
    rng = np.random.default_rng(seed)
    rides = RIDES.take(np.sort(rng.choice(len(RIDES), n, replace=False)))
    miles = np.where(rng.random(n) < no_distance_share, 0.0, 2.0)
    minutes = rng.uniform(2, 40, n)
    spread = np.where(miles > 0, 0.1, 0.5) * minutes
    actual = (minutes + rng.normal(0, 1, n) * spread).clip(*RANGE_MINUTES)
    columns = replace(rides.columns, trip_distance_miles=miles)
    return minutes, replace(rides, columns=columns, duration_minutes=actual)


def of_one_kind(minutes: NDArray[np.float64], rides: Rides) -> tuple[NDArray[np.float64], Rides]:
    """Return the same with one pickup zone without a place: all rides with a distance are then unusual."""
    return minutes, replace(rides, columns=replace(rides.columns, pickup_zone=np.full(len(rides), 264)))


def interval_of(minutes: NDArray[np.float64], rides: Rides, level: float = 0.8) -> Interval:
    interval = calibrate(minutes, rides, RIDES, level)
    assert interval is not None
    assert problem_of(interval, RANGE_MINUTES) is None
    return interval


def covered(interval: Interval, minutes: NDArray[np.float64], rides: Rides) -> NDArray[np.bool_]:
    """Return which rides end within their interval."""
    low, high = IntervalTables.of(interval, RANGE_MINUTES).bounds(minutes, feature_matrix(rides.columns))
    within: NDArray[np.bool_] = (low <= rides.duration_minutes) & (rides.duration_minutes <= high)
    return within


def fresh_coverage(level: float = 0.8) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.bool_]]:
    """Return coverage, predicted minutes and missing distance of rides that nothing was calibrated on, five times."""
    within, predicted, missing = [], [], []
    for seed in range(5):
        minutes, rides = made_up(6_000, seed, no_distance_share=0.2)
        interval = interval_of(minutes[::2], rides.take(slice(None, None, 2)), level)
        fresh = rides.take(slice(1, None, 2))
        within.append(covered(interval, minutes[1::2], fresh))
        predicted.append(minutes[1::2])
        missing.append(fresh.columns.trip_distance_miles == 0)
    return np.concatenate(within), np.concatenate(predicted), np.concatenate(missing)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_intervals_contain_the_wanted_share_of_later_rides(level: float) -> None:
    within, _, _ = fresh_coverage(level)
    assert within.mean() == pytest.approx(level, abs=0.02)
    assert interval_of(*made_up(500), level).level == level


def test_each_kind_of_ride_has_its_share_although_one_is_five_times_less_predictable() -> None:
    within, _, missing = fresh_coverage()
    assert within[missing].mean() == pytest.approx(0.8, abs=0.03)
    assert within[~missing].mean() == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize(("low", "high"), [(2, 8), (8, 20), (20, 40)])
def test_short_and_long_rides_have_their_share(low: float, high: float) -> None:
    within, minutes, _ = fresh_coverage()
    assert within[(minutes >= low) & (minutes < high)].mean() == pytest.approx(0.8, abs=0.03)


@given(st.integers(MIN_CALIBRATION_RIDES, 1_500), st.integers(0, 1_000), st.floats(0.05, 0.95))
def test_intervals_contain_at_least_the_wanted_share_of_the_calibration_rides(n: int, seed: int, level: float) -> None:
    """In published form: rounding to tenths and hundredths and the table's steps lose none."""
    minutes, rides = of_one_kind(*made_up(n, seed))
    assert covered(interval_of(minutes, rides, level), minutes, rides).mean() >= level


@given(st.integers(MIN_CALIBRATION_RIDES, 1_500), st.integers(0, 1_000))
def test_a_higher_level_gives_wider_intervals(n: int, seed: int) -> None:
    minutes, rides = made_up(n, seed, no_distance_share=0.3)
    narrow, wide = interval_of(minutes, rides, 0.5), interval_of(minutes, rides, 0.9)
    for kind in KINDS:
        assert (np.array(narrow.half_minutes[kind]) <= wide.half_minutes[kind]).all()


def test_kind_with_few_rides_has_the_widths_of_all() -> None:
    minutes, rides = of_one_kind(*made_up(1_000))
    few = replace(rides.columns, trip_distance_miles=np.r_[np.zeros(MIN_CALIBRATION_RIDES - 1), np.ones(941)])
    half_minutes = interval_of(minutes, replace(rides, columns=few)).half_minutes
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
    interval = interval_of(exact, replace(rides, duration_minutes=exact))
    halves = {half for stair in interval.half_minutes.values() for half in stair}
    assert halves == {MIN_HALF_MINUTES}


# Usual pickup zones -------------------------------------------------------------------------------------------------


def rides_from(zones: list[int]) -> Rides:
    return replace(small_rides().head(len(zones)), columns=ride_columns_of(len(zones), pickup_zone=zones))


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


# Rides held out ------------------------------------------------------------------------------------------------------


def held_out(n: int, miles: list[float] | None = None) -> NDArray[np.intp]:
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


@pytest.mark.parametrize("n_rides", [0, 1, 20, 900])
def test_too_few_rides_are_all_to_fit_on(n_rides: int) -> None:
    fit, calibration = split_calibration(RIDES.head(n_rides))
    assert (len(fit), len(calibration)) == (n_rides, 0)


def test_number_of_calibration_rides_has_limits() -> None:
    assert len(held_out(20 * MIN_CALIBRATION_RIDES)) == MIN_CALIBRATION_RIDES
    many = RideColumns(
        *(np.broadcast_to(column, 20 * MAX_CALIBRATION_RIDES + 1) for column in astuple(ride_columns_of()))
    )
    assert MAX_CALIBRATION_RIDES * 0.9 < calibration_mask(many).sum() <= MAX_CALIBRATION_RIDES


# Interval stretch ----------------------------------------------------------------------------------------------------

MONTH_RIDES = synthetic_rides(JANUARY, 20_000, seed=3)
DAY = MONTH_RIDES.columns.pickup_minute // MINUTES_PER_DAY
PREDICTED_MINUTES = 15.0


def constant(_: Rides) -> Predict:
    """Fit a model that always predicts the same."""
    return lambda rides: np.full(len(rides), PREDICTED_MINUTES)


def later_days_times(factor: float) -> Rides:
    """Return rides around the prediction, those of the last quarter of the days so many times further off."""
    is_later = DAY - DAY.min() >= int(31 * EARLIER_SHARE)
    noise = np.random.default_rng(1).normal(0, 2, len(DAY)) * np.where(is_later, factor, 1.0)
    return replace(MONTH_RIDES, duration_minutes=(PREDICTED_MINUTES + noise).clip(1, 60))


@pytest.mark.parametrize("factor", [1.0, 1.2, 1.4, 0.9])
def test_half_of_the_stretch_that_later_days_need_is_taken(factor: float) -> None:
    expected = 1 + SHARE_TAKEN * (factor - 1)
    assert measure_stretch(later_days_times(factor), constant) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize(("factor", "bound"), [(3.0, RANGE[1]), (0.3, RANGE[0])])
def test_unusual_week_stretches_by_no_more_than_the_range(factor: float, bound: float) -> None:
    assert measure_stretch(later_days_times(factor), constant) == bound


def test_second_model_learns_from_the_earlier_days_only() -> None:
    seen: list[Rides] = []

    def fit(rides: Rides) -> Predict:
        seen.append(rides)
        return constant(rides)

    measure_stretch(MONTH_RIDES, fit)
    days = seen[0].columns.pickup_minute // MINUTES_PER_DAY
    assert int(days.max() - DAY.min()) < 31 * EARLIER_SHARE


@pytest.mark.parametrize("rows", [DAY.min() + 1 > DAY, DAY.min() + MIN_DAYS - 1 > DAY, slice(None, None, 40)])
def test_few_days_and_few_rides_stretch_nothing(rows: slice | NDArray[np.bool_]) -> None:
    assert measure_stretch(MONTH_RIDES.take(rows), constant) == 1.0
