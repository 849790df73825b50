"""Errors by slice, computed a block at a time, intervals included; arrival scenarios; and slices."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lambda_function.core.features import RideColumns, feature_matrix
from lambda_function.core.intervals import KINDS, Interval
from tests.builders import (
    FEBRUARY,
    JANUARY,
    SMALL_PARAMETERS,
    ride_columns_of,
    small_bundle,
    small_rides,
    training_facts,
)
from tests.builders_report import months_result, slice_result
from training.data.rides import Rides
from training.data.synthetic import synthetic_rides
from training.evaluation.metrics import (
    ANY_TIME,
    BLOCK_RIDES,
    DELAYS_MINUTES,
    PredictionErrors,
    Predictor,
    arrival_scenarios,
    evaluate,
    measure,
    measure_errors,
    predictor,
    side_by_side,
)
from training.evaluation.slices import by_day, slicings, zone_pairs
from training.model.baseline import fit_baseline
from training.model.export import export_bundle
from training.model.fit import fit_forest
from training.model.results import Measured, MonthsResult, SliceResult, worse_than_baseline

RIDES = synthetic_rides(FEBRUARY, 1500, seed=7)


def off_by(error_minutes: float, **intervals: NDArray[np.float64]) -> Predictor:
    """Return a predictor with the same error on every ride."""
    return lambda rides: PredictionErrors(np.full(len(rides), error_minutes), **intervals)


def off_by_hour(rides: Rides) -> PredictionErrors:
    """Predict with an error of as many minutes as the hour of the pickup."""
    return PredictionErrors((rides.columns.pickup_minute // 60 % 24).astype(np.float64))


def slice_of(result: MonthsResult, by: str, name: str) -> SliceResult:
    (found,) = [one for one in result.slices if (one.by, one.name) == (by, name)]
    return found


@pytest.fixture(scope="module")
def result() -> MonthsResult:
    return evaluate(small_bundle().model, fit_baseline(small_rides()), RIDES, small_rides())


def test_result_has_the_errors_of_both_models(result: MonthsResult) -> None:
    baseline_minutes = fit_baseline(small_rides()).predict(RIDES.columns)
    model_minutes = small_bundle().model.predict(feature_matrix(RIDES.columns))
    assert result.months == ("2021-02",)
    assert result.model == measure_errors(model_minutes, RIDES.duration_minutes)
    assert result.baseline == measure_errors(baseline_minutes, RIDES.duration_minutes)


def test_slice_has_the_errors_of_its_rides(result: MonthsResult) -> None:
    at_eight = RIDES.take(RIDES.columns.pickup_minute // 60 % 24 == 8)
    alone = evaluate(small_bundle().model, fit_baseline(small_rides()), at_eight, small_rides())
    found = slice_of(result, "hour", "08")
    assert (found.model, found.baseline) == (alone.model, alone.baseline)


def test_slices_without_rides_are_left_out_and_the_others_contain_every_ride(result: MonthsResult) -> None:
    assert all(one.model.n_rides for one in result.slices)
    for by in ("hour", "weekday", "boroughs", "distance", "zone pair"):
        assert sum(one.model.n_rides for one in result.slices if one.by == by) == len(RIDES)
    assert not [one for one in result.slices if one.name == "Staten Island to EWR"]


def test_figures_are_rounded_and_have_no_negative_zero() -> None:
    result = side_by_side(off_by(-1 / 3e6), off_by(2 / 3), RIDES, small_rides()).result
    assert result.baseline == Measured(len(RIDES), 0.6667, 0.6667, 0.6667)
    assert b"-0.0" not in msgspec.json.encode(result)


def test_bundle_without_intervals_has_no_coverage(result: MonthsResult) -> None:
    assert (result.coverage, result.width_minutes) == (None, None)
    assert {(one.coverage, one.width_minutes) for one in result.slices} == {(None, None)}


def test_coverage_is_that_of_the_published_intervals() -> None:
    interval = Interval(0.8, (), (10.0,), dict.fromkeys(KINDS, (2.0, 4.0)))
    fitted = fit_forest(small_rides(), SMALL_PARAMETERS)
    model = export_bundle(fitted, small_rides(), training_facts(), interval).model
    matrix = feature_matrix(RIDES.columns)
    bounds = model.interval_bounds(matrix, model.predict(matrix))
    assert bounds
    low, high = bounds
    inside = (low <= RIDES.duration_minutes) & (RIDES.duration_minutes <= high)
    outside = np.maximum(np.maximum(low - RIDES.duration_minutes, RIDES.duration_minutes - high), 0)
    assert predictor(model)(RIDES).score_minutes == pytest.approx(high - low + 10 * outside)  # 2 / (1 - 0.8)
    result = evaluate(model, fit_baseline(small_rides()), RIDES, small_rides())
    assert result.coverage == round(float(inside.mean()), 4)
    assert result.width_minutes == round(float((high - low).mean()), 4)
    assert 0.2 < result.coverage < 1.0


def test_coverage_and_width_are_means_over_the_slices_rides() -> None:
    def covers_mornings(rides: Rides) -> PredictionErrors:
        hour = rides.columns.pickup_minute // 60 % 24
        return PredictionErrors(np.zeros(len(rides)), (hour < 12).astype(np.float64), hour.astype(np.float64))

    result = side_by_side(covers_mornings, off_by(1.0), RIDES, small_rides()).result
    hours = RIDES.columns.pickup_minute // 60 % 24
    assert result.coverage == round(float((hours < 12).mean()), 4)
    assert result.width_minutes == round(float(hours.mean()), 4)
    morning, evening = slice_of(result, "hour", "08"), slice_of(result, "hour", "20")
    assert (morning.coverage, morning.width_minutes) == (1.0, 8.0)
    assert (evening.coverage, evening.width_minutes) == (0.0, 20.0)


def test_sums_by_day_have_both_predictors_squares() -> None:
    sides = side_by_side(off_by(2.0), off_by(3.0), RIDES, small_rides())
    n_rides = np.unique(RIDES.pickup_time.astype("datetime64[D]"), return_counts=True)[1]
    assert [sums[:, 0].tolist() for sums in sides.days.squares] == [
        n_rides.tolist(),
        (4 * n_rides).tolist(),
        (9 * n_rides).tolist(),
    ]
    assert sides.days.covered is None


def test_sums_by_day_and_slice_are_those_of_the_slices() -> None:
    sides = side_by_side(off_by(2.0, covered=np.ones(len(RIDES))), off_by_hour, RIDES, small_rides())
    n_rides, model, baseline = (sums.sum(axis=0) for sums in sides.slice_days.squares)
    slices = sides.result.slices
    assert n_rides.tolist() == [one.model.n_rides for one in slices]
    assert np.sqrt(model / n_rides) == pytest.approx([one.model.rmse_minutes for one in slices], abs=1e-4)
    assert np.sqrt(baseline / n_rides) == pytest.approx([one.baseline.rmse_minutes for one in slices], abs=1e-4)
    days = np.unique(RIDES.pickup_time.astype("datetime64[D]"))
    assert len(sides.slice_days.squares.n_rides) == len(days)
    assert sides.slice_days.covered is None  # only one of them has intervals


def test_several_blocks_give_the_same_as_one() -> None:
    many = synthetic_rides(FEBRUARY, BLOCK_RIDES + 1000, seed=3)
    seen: list[int] = []

    def counted(rides: Rides) -> PredictionErrors:
        seen.append(len(rides))
        return off_by_hour(rides)

    error = off_by_hour(many).error_minutes
    expected = measure_errors(many.duration_minutes + error, many.duration_minutes)
    assert measure(counted, many) == expected
    assert seen == [BLOCK_RIDES, 1000]


def test_slices_worse_than_the_baseline_come_largest_first() -> None:
    slices = (
        slice_result("hour", "03", 6.1, 5),
        slice_result("hour", "04", 6.0, 50),
        slice_result("airport", "EWR", 8.0, 9),
    )
    assert worse_than_baseline(months_result(*slices)) == [slices[2], slices[0]]


# Rides without a pickup time ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "delay"), DELAYS_MINUTES.items())
def test_late_ride_has_the_time_of_its_arrival(name: str, delay: int) -> None:
    rides = ride_columns_of(2, pickup_minute=[1000, 1435])
    assert arrival_scenarios(rides)[name].pickup_minute.tolist() == [1000 + delay, 1435 + delay]


def test_only_the_time_differs() -> None:
    rides = small_rides().columns
    scenarios = arrival_scenarios(rides)
    assert list(scenarios) == [*DELAYS_MINUTES, ANY_TIME]
    for scenario in scenarios.values():
        assert scenario.pickup_zone is rides.pickup_zone
        assert scenario.dropoff_zone is rides.dropoff_zone
        assert scenario.trip_distance_miles is rides.trip_distance_miles
        assert scenario.pickup_minute.dtype == rides.pickup_minute.dtype


def test_replay_comes_within_a_week_at_any_hour_and_is_the_same_every_time() -> None:
    rides = small_rides().columns
    first, again = (arrival_scenarios(rides)[ANY_TIME].pickup_minute for _ in range(2))
    assert first.tolist() == again.tolist()
    delay = first - rides.pickup_minute
    assert delay.min() >= 0
    assert delay.max() < 7 * 24 * 60
    by_day = np.bincount(delay // 1440, minlength=7) / len(delay)
    assert by_day == pytest.approx([1 / 7] * 7, abs=0.04)


# Slices ---------------------------------------------------------------------------------------------------------------

NOTHING_KNOWN = np.zeros((266, 266), np.bool_)
TUESDAY_8_15 = 26_830_575
CITY_HALL, GREENPOINT, JFK, LAGUARDIA, NEWARK, OUTSIDE = 209, 112, 132, 138, 1, 265


def slices_of(ride: RideColumns, by: str, known: Rides | None = None) -> list[str]:
    """Return the names of the slices that a ride is in, of all slicings of a kind."""
    cuts = [cut for cut in slicings(zone_pairs(known) if known else NOTHING_KNOWN) if cut.by == by]
    assert cuts
    return [cut.names[number] for cut in cuts if (number := int(cut.number(ride)[0])) < len(cut.names)]


def test_hour_and_weekday_are_those_of_the_pickup_in_new_york() -> None:
    ride = ride_columns_of(pickup_minute=[TUESDAY_8_15])
    assert (slices_of(ride, "hour"), slices_of(ride, "weekday")) == (["08"], ["Tuesday"])
    last_minute_of_sunday = ride_columns_of(pickup_minute=[TUESDAY_8_15 - 8 * 60 - 15 - 24 * 60 - 1])
    assert slices_of(last_minute_of_sunday, "hour") == ["23"]
    assert slices_of(last_minute_of_sunday, "weekday") == ["Sunday"]


@pytest.mark.parametrize(
    ("pickup", "dropoff", "name"),
    [
        (CITY_HALL, GREENPOINT, "Manhattan to Brooklyn"),
        (GREENPOINT, CITY_HALL, "Brooklyn to Manhattan"),
        (NEWARK, JFK, "EWR to Queens"),
        (CITY_HALL, OUTSIDE, "Manhattan to unknown"),
    ],
)
def test_boroughs_have_a_direction(pickup: int, dropoff: int, name: str) -> None:
    assert slices_of(ride_columns_of(pickup_zone=[pickup], dropoff_zone=[dropoff]), "boroughs") == [name]


@pytest.mark.parametrize(
    ("miles", "name"),
    [
        (0.01, "under 1 mile"),
        (0.99, "under 1 mile"),
        (1.0, "1 to 2"),
        (4.99, "2 to 5"),
        (5.0, "5 to 10"),
        (19.99, "10 to 20"),
        (60.0, "20 miles or more"),
        (60.01, "missing"),
        (0.0, "missing"),
        (-1.0, "missing"),
        (float("nan"), "missing"),
        (float("inf"), "missing"),
    ],
)
def test_distance_band_includes_its_lower_edge_and_missing_is_as_in_the_features(miles: float, name: str) -> None:
    assert slices_of(ride_columns_of(trip_distance_miles=[miles]), "distance") == [name]


@pytest.mark.parametrize(
    ("pickup", "dropoff", "names"),
    [
        (JFK, CITY_HALL, ["JFK"]),
        (CITY_HALL, LAGUARDIA, ["LaGuardia"]),
        (JFK, NEWARK, ["JFK", "Newark"]),
        (CITY_HALL, GREENPOINT, []),
    ],
)
def test_ride_counts_for_each_airport_at_either_end(pickup: int, dropoff: int, names: list[str]) -> None:
    assert slices_of(ride_columns_of(pickup_zone=[pickup], dropoff_zone=[dropoff]), "airport") == names


def test_zone_pair_is_unseen_without_a_training_ride_in_that_direction() -> None:
    known = small_rides().take(slice(0, 1))
    there = ride_columns_of(pickup_zone=known.columns.pickup_zone, dropoff_zone=known.columns.dropoff_zone)
    back = ride_columns_of(pickup_zone=there.dropoff_zone, dropoff_zone=there.pickup_zone)
    assert there.pickup_zone[0] != there.dropoff_zone[0]
    assert slices_of(there, "zone pair", known) == ["known"]
    assert slices_of(back, "zone pair", known) == ["unseen"]


def test_days_are_those_from_the_first_ride_to_the_last() -> None:
    rides = synthetic_rides(JANUARY, 500, seed=7)
    cut = by_day(rides)
    assert (cut.names[0], cut.names[-1], len(cut.names)) == ("2021-01-01", "2021-01-31", 31)
    days = [cut.names[number] for number in cut.number(rides.columns)]
    assert days == rides.pickup_time.astype("datetime64[D]").astype(str).tolist()


@given(
    pickup=st.integers(1, 265),
    dropoff=st.integers(1, 265),
    miles=st.floats(),
    minute=st.integers(0, 60_000_000),
)
def test_every_ride_is_in_one_slice_of_each_kind(pickup: int, dropoff: int, miles: float, minute: int) -> None:
    ride = ride_columns_of(
        pickup_zone=[pickup], dropoff_zone=[dropoff], trip_distance_miles=[miles], pickup_minute=[minute]
    )
    for by in ("hour", "weekday", "boroughs", "distance", "zone pair"):
        assert len(slices_of(ride, by)) == 1


def test_columns_of_fewer_bits_give_the_same_slices() -> None:
    wide = small_rides().columns
    narrow = replace(
        wide,
        pickup_zone=wide.pickup_zone.astype(np.int16),
        dropoff_zone=wide.dropoff_zone.astype(np.int16),
        pickup_minute=wide.pickup_minute.astype(np.int32),
    )
    for cut in (*slicings(zone_pairs(small_rides())), by_day(small_rides())):
        assert cut.number(narrow).dtype == np.intp
        assert (cut.number(narrow) == cut.number(wide)).all()
