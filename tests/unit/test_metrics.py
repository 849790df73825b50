"""Errors by slice, computed a block at a time, intervals included; and arrival scenarios."""

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from lambda_function.core.features import feature_matrix
from lambda_function.core.intervals import KINDS, Interval
from tests.builders import FEBRUARY, SMALL_PARAMETERS, ride_columns_of, small_bundle, small_rides, training_facts
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
    side_by_side,
)
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
    assert sides.model_days.n_rides.tolist() == n_rides.tolist()
    assert sides.model_days.squares.tolist() == (4 * n_rides).tolist()
    assert sides.baseline_days.squares.tolist() == (9 * n_rides).tolist()


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
