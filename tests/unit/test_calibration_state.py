"""Live calibration: what a tick learns, when it keeps its weights, and that the same rides give the same bytes."""

import re
from functools import cache
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lambda_function.core.bundle import ModelBundle
from lambda_function.core.calibration import CalibrationTable, load_calibration, ride_cells
from lambda_function.core.features import RideColumns, feature_matrix
from lambda_function.core.intervals import half_minutes
from tests.builders import interval_bundle, small_bundle
from tests.kits.live_rides import labelled_hour
from training.data.months import Month
from training.data.rides import take_columns
from training.data.synthetic import synthetic_rides
from training.errors import UserError
from training.monitoring.calibration.tick import (
    HALF_LIFE_HOURS,
    CalibrationState,
    Tick,
    decode_state,
    encode_state,
    first_state,
    hour_sums,
    interval_scale_of,
    tick,
    weights_of,
)
from training.monitoring.hours import Hour
from training.monitoring.labelled_hour import LabelledHour

MIDNIGHT = Hour.parse("2021-02-01T05")
NEXT = MIDNIGHT + 24


@cache
def model() -> ModelBundle:
    """Return the small model with intervals."""
    return interval_bundle().model


@cache
def rides(n_rides: int = 600) -> RideColumns:
    """Return made-up rides of February, by column."""
    columns = synthetic_rides(Month(2021, 2), n_rides, seed=3).columns
    wide = (columns.pickup_zone, columns.dropoff_zone, columns.pickup_minute)
    pickup, dropoff, minute = (column.astype(np.int64) for column in wide)
    return RideColumns(pickup, dropoff, columns.trip_distance_miles, minute)


def predicted(columns: RideColumns, state: CalibrationState | None = None) -> NDArray[np.float64]:
    """Return the minutes that a state gives rides; without one, the forest's own."""
    one = model().calibrated(state) if state else model()
    minutes: NDArray[np.float64] = one.served_minutes(columns, feature_matrix(columns))
    return minutes


def first() -> CalibrationState:
    """Return the state before the first tick."""
    return first_state(model().model_version, MIDNIGHT)


def hour_of(number: int, outcomes: NDArray[np.float64], columns: RideColumns | None = None) -> LabelledHour:
    """Return the hour of the day with this number, whose rides have these outcomes."""
    return labelled_hour(MIDNIGHT + number, rides(len(outcomes)) if columns is None else columns, outcomes)


def tick_with(
    outcomes: NDArray[np.float64], state: CalibrationState | None = None, end: Hour | None = None, number: int = 0
) -> Tick:
    """Tick once with an hour of rides that have these outcomes."""
    return tick(model(), state or first(), [hour_of(number, outcomes)], end or NEXT)


def usual(n_rides: int = 600, times: float = 1.0, seed: int = 1) -> NDArray[np.float64]:
    """Return outcomes that are so many times the forest's minutes, with some noise."""
    noise = np.random.default_rng(seed).normal(1.0, 0.15, n_rides).clip(0.6, 1.4)
    outcomes: NDArray[np.float64] = predicted(rides(n_rides)) * times * noise
    return outcomes.clip(1, 60)


# -- what it learns


def test_first_state_changes_no_prediction() -> None:
    assert predicted(rides(), first()).tolist() == predicted(rides()).tolist()


def test_faster_city_makes_predictions_shorter_day_by_day() -> None:
    state, errors = first(), []
    for day in range(6):
        outcomes = usual(times=0.6, seed=day)
        errors.append(float(np.mean(predicted(rides(), state) - outcomes)))
        hour = labelled_hour(MIDNIGHT + 24 * day, rides(), outcomes)
        state = tick(model(), state, [hour], MIDNIGHT + 24 * (day + 1)).state
    assert errors[0] > 4.5
    assert abs(errors[-1]) < 1.0
    assert errors[0] > errors[1] > errors[2]


def test_change_in_one_cell_is_learned_there() -> None:
    cells = ride_cells(rides(2000), feature_matrix(rides(2000)))
    is_weekend = cells // 3 % 2 == 1
    outcomes = np.where(is_weekend, usual(2000, 0.7), usual(2000))
    state = first()
    for day in range(5):
        hour = labelled_hour(MIDNIGHT + 24 * day, rides(2000), outcomes)
        state = tick(model(), state, [hour], MIDNIGHT + 24 * (day + 1)).state
    factor = predicted(rides(2000), state) / predicted(rides(2000))
    assert factor[is_weekend].mean() < 0.8
    assert factor[~is_weekend].mean() == pytest.approx(1.0, abs=0.05)


def test_weights_solve_the_ridge_regression_of_all_rides() -> None:
    """The sums by cell are another way to write the regression on p·z with the Huber weights, ride by ride."""
    outcomes = usual(times=0.9)
    table = CalibrationTable.of(first(), model().manifest.duration_range_minutes)
    sums, _ = hour_sums(model(), table, hour_of(0, outcomes))
    raw = predicted(rides()).clip(1, 60)
    matrix = feature_matrix(rides())
    cells = ride_cells(rides(), matrix)
    half = np.maximum(half_of(raw, matrix), 0.3)
    z = np.zeros((len(raw), 10))
    z[:, 0], z[np.arange(len(raw)), 1 + cells // 6], z[:, 5] = 1.0, 1.0, cells // 3 % 2
    z[:, 6] = np.log(raw.round(1) / 12).round(6)
    z[np.arange(len(raw)), 7 + cells % 3] = 1.0
    weight = np.minimum(1, 2 / np.maximum(np.abs(outcomes - raw) / half, 1e-9))
    x = z * raw[:, np.newaxis]
    expected = np.linalg.solve(
        x.T @ (x * weight[:, np.newaxis]) + np.eye(10) * 200 * 337.5, x.T @ (weight * (outcomes - raw))
    )
    assert weights_of(sums.cell_sums.tolist()) == pytest.approx(expected.tolist(), abs=2e-6)


def half_of(raw: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return half the width of intervals in minutes (n,)."""
    interval = model().manifest.interval
    assert interval is not None
    return half_minutes(interval, raw, matrix)


def test_old_outcomes_count_half_after_the_half_life() -> None:
    learned = tick_with(usual(times=0.5)).state
    n_hours = int(HALF_LIFE_HOURS)
    later = tick_with(usual(1), learned, NEXT + n_hours, number=24)
    one_ride = tick_with(usual(1)).state
    for old, new, single in zip(learned.cell_sums, later.state.cell_sums, one_ride.cell_sums, strict=True):
        assert new[0] - single[0] == pytest.approx(old[0] / 2, rel=0.02, abs=5.0)
    assert sum(later.state.scores) == pytest.approx(sum(learned.scores) / 2 + 1)


def test_time_without_rides_or_in_a_freeze_makes_outcomes_older_too() -> None:
    learned = tick_with(usual(times=0.7)).state
    idle = tick(model(), learned, [], NEXT + 48).state
    assert idle.weights == learned.weights
    assert not idle.has_new_weights
    after, at_once = (tick_with(usual(), state, NEXT + 72, number=80).state for state in (idle, learned))
    assert after.weights == at_once.weights
    assert after.cell_sums == at_once.cell_sums


@pytest.mark.parametrize(("spread", "low", "high"), [(0.5, 0.5, 0.9), (1.0, 0.93, 1.07), (2.0, 1.3, 3.0)])
def test_intervals_follow_the_spread_of_the_errors(spread: float, low: float, high: float) -> None:
    columns = rides(4000)
    raw, matrix = predicted(columns), feature_matrix(columns)
    half = half_of(raw, matrix)
    noise = np.random.default_rng(5).normal(0, half / 1.2816 * spread)
    scale = tick_with((raw + noise).clip(raw / 2.9, raw * 2.9).clip(1, 60)).state.interval_scale
    assert low < scale < high


def test_interval_scale_stays_within_its_bounds() -> None:
    scores = [0.0] * 120
    assert interval_scale_of([1e9, *scores[1:]], 0.8) == 0.5
    assert interval_scale_of([*scores[1:], 1e9], 0.8) == 3.0


def test_model_without_intervals_is_calibrated_and_has_no_scale() -> None:
    plain = small_bundle().model
    state = first_state(plain.model_version, MIDNIGHT)
    columns = rides()
    outcomes = plain.predict(feature_matrix(columns)).clip(1, 60) * 0.7
    done = tick(plain, state, [labelled_hour(MIDNIGHT, columns, outcomes.clip(1, 60))], NEXT).state
    assert done.weights[0] < 0
    assert done.interval_scale == 1.0


def test_outliers_and_outcomes_beyond_an_hour_teach_nothing() -> None:
    outcomes = usual()
    odd = outcomes.copy()
    odd[:10], odd[10:20], odd[20:25] = predicted(rides())[:10] * 3.5, predicted(rides())[10:20] / 3.5, 70.0
    kept = np.arange(len(outcomes)) >= 25
    some = labelled_hour(MIDNIGHT, take_columns(rides(), kept), outcomes[kept])
    assert tick_with(odd).state.weights == tick(model(), first(), [some], NEXT).state.weights
    assert tick_with(odd).state.n_dropped >= 20
    assert tick_with(odd).state.n_used == int(np.count_nonzero(kept))


# -- the same rides, the same bytes


@given(order=st.permutations(range(4)))
def test_order_of_files_changes_no_byte(order: list[int]) -> None:
    hours = [hour_of(number, usual(50, 0.8, seed=number)) for number in range(4)]
    done = tick(model(), first(), [hours[number] for number in order], NEXT).state
    assert encode_state(done) == encode_state(tick(model(), first(), hours, NEXT).state)


@given(cuts=st.lists(st.integers(0, 200), max_size=3), times=st.floats(0.5, 1.5))
def test_sums_of_parts_add_up(cuts: list[int], times: float) -> None:
    outcomes = usual(200, times)
    table = CalibrationTable.of(first(), model().manifest.duration_range_minutes)
    ends = [0, *sorted(cuts), 200]
    parts = [
        hour_sums(model(), table, hour_of(0, outcomes[start:end], take_columns(rides(200), slice(start, end))))[0]
        for start, end in pairwise(ends)
    ]
    total = parts[0]
    for part in parts[1:]:
        total += part
    whole, _ = hour_sums(model(), table, hour_of(0, outcomes))
    np.testing.assert_allclose(total.cell_sums, whole.cell_sums, rtol=1e-12, atol=1e-9)
    assert total.scores.tolist() == whole.scores.tolist()
    assert total.ratios.median == whole.ratios.median


@given(seed=st.integers(0, 1000), times=st.floats(0.3, 3.0), missing=st.floats(0, 0.9))
def test_every_state_decodes_again_and_can_serve(seed: int, times: float, missing: float) -> None:
    outcomes = usual(80, times, seed)
    outcomes[np.random.default_rng(seed).random(80) < missing] = np.nan
    state = tick_with(outcomes).state
    assert decode_state(encode_state(state)) == state
    served = load_calibration(state.model_version, state.as_of, None, encode_state(state))
    assert (served.weights, served.interval_scale) == (state.weights, state.interval_scale)
    minutes = predicted(rides(80), state)
    assert ((minutes >= 1) & (minutes <= 60)).all()


def test_stored_numbers_have_no_more_digits_than_processors_agree_on() -> None:
    state = tick_with(usual(times=0.77)).state
    assert all(weight == round(weight, 6) for weight in state.weights)
    assert all(value == float(f"{value:.12g}") for row in (*state.cell_sums, state.scores) for value in row)


# -- the freeze


def test_usual_outcomes_freeze_nothing() -> None:
    done = tick_with(usual())
    assert (done.frozen, done.state.frozen, done.state.frozen_since) == (None, None, None)
    assert done.state.has_new_weights


@pytest.mark.parametrize(
    ("unit", "times", "looks"),
    [
        ("seconds", 60.0, r"\(their median is \d\d times the prediction\)"),
        ("hours", 1 / 60, r"\(their median is a \d\dth of the prediction\)"),
        ("milliseconds", 6e4, r"\(their median is \d\d,\d\d\d times the prediction\)"),
        ("days", 1 / 1440, r"\(their median is a 1,\d\d\dth of the prediction\)"),
    ],
)
def test_outcomes_in_another_unit_freeze_and_are_recognised(unit: str, times: float, looks: str) -> None:
    done = tick_with(predicted(rides()) * times * 1.02)
    assert done.frozen is not None
    assert done.frozen.reason == "dropped"
    assert re.fullmatch(f"outcomes look like {unit} instead of minutes {looks}", done.frozen.text)


def garbage(share: float) -> NDArray[np.float64]:
    """Return outcomes of which a share are an hour, whatever the ride."""
    outcomes = usual()
    chosen = np.flatnonzero(predicted(rides()) < 18)
    outcomes[chosen[: round(share * len(outcomes))]] = 60.0
    return outcomes


def test_more_than_a_tenth_of_garbage_freezes() -> None:
    assert tick_with(garbage(0.05)).frozen is None
    frozen = tick_with(garbage(0.2)).frozen
    assert frozen is not None
    assert frozen.text == "20% of 600 outcomes are over 3 times the prediction or below a third of it"


def missing(share: float, n_rides: int = 600) -> NDArray[np.float64]:
    """Return outcomes of which a share are missing at random."""
    outcomes = usual(n_rides)
    outcomes[np.random.default_rng(2).random(n_rides) < share] = np.nan
    return outcomes


@pytest.mark.parametrize(("share", "reason"), [(0.3, None), (0.5, None), (0.7, "missing"), (1.0, "missing")])
def test_fewer_than_half_of_the_outcomes_freeze(share: float, reason: str | None) -> None:
    frozen = tick_with(missing(share)).frozen
    assert (frozen and frozen.reason) == reason


def without_long_rides(n_rides: int, longest: float) -> NDArray[np.float64]:
    """Return outcomes of which those of longer rides are missing."""
    outcomes = usual(n_rides)
    return np.where(outcomes > longest, np.nan, outcomes)


def test_outcomes_that_are_missing_by_duration_freeze() -> None:
    longest = float(np.quantile(usual(), 0.85))
    frozen = tick_with(without_long_rides(600, longest)).frozen
    assert frozen is not None
    assert frozen.reason == "missing by duration"
    assert "100% of the third that is predicted to be shortest" in frozen.text


def test_few_rides_that_miss_by_duration_show_over_three_days() -> None:
    longest = float(np.quantile(usual(60), 0.93))
    state, reasons = first(), []
    for day in range(3):
        hour = labelled_hour(MIDNIGHT + 24 * day, rides(60), without_long_rides(60, longest))
        done = tick(model(), state, [hour], MIDNIGHT + 24 * (day + 1))
        state = done.state
        reasons.append(done.frozen and done.frozen.reason)
    assert reasons[0] is None
    assert reasons[-1] == "missing by duration"


@pytest.mark.parametrize("n_rides", [1, 2, 3])
def test_few_odd_outcomes_are_chance(n_rides: int) -> None:
    outcomes = usual(40)
    outcomes[:n_rides] = 60.0
    assert tick_with(outcomes).frozen is None
    assert tick_with(np.full(n_rides, np.nan)).frozen is None


def test_outcomes_that_agree_with_the_model_and_not_with_what_was_learned_are_said_to() -> None:
    """Outcomes that grow by 15 % a day are followed; the right ones are too small then, for good."""
    state, end = first(), MIDNIGHT
    for day in range(12):
        hour = labelled_hour(end, rides(), predicted(rides()).clip(1, 12) * 1.15**day)
        state, end = tick(model(), state, [hour], end + 24).state, end + 24
    assert state.frozen is None
    for _ in range(2):
        hour = labelled_hour(end, rides(), predicted(rides()).clip(1, 12))
        state, end = tick(model(), state, [hour], end + 24).state, end + 24
        assert state.frozen is not None
        assert state.frozen.endswith(
            "% are so far from the model without calibration: what was learned may be wrong, and"
            " `ridecast models calibrate --off` serves the model alone"
        )


def test_frozen_tick_keeps_the_weights_and_the_next_one_does_not_learn_its_rides() -> None:
    learned = tick_with(usual(times=0.8)).state
    frozen = tick_with(usual() * 60, learned, NEXT + 24, number=24).state
    assert (frozen.weights, frozen.interval_scale) == (learned.weights, learned.interval_scale)
    assert (frozen.cell_sums, frozen.scores) == (learned.cell_sums, learned.scores)
    assert not frozen.has_new_weights
    assert frozen.frozen_since == str(NEXT + 24)
    still = tick_with(usual() * 60, frozen, NEXT + 48, number=48).state
    assert still.frozen_since == str(NEXT + 24)
    after = tick_with(usual(times=0.8), still, NEXT + 72, number=72).state
    assert (after.frozen, after.frozen_since) == (None, None)
    directly = tick_with(usual(times=0.8), learned, NEXT + 72, number=72).state
    assert after.weights == directly.weights


def test_an_hour_with_few_rides_is_judged_with_those_of_the_day() -> None:
    """By hourly ticks: 20 rides an hour in seconds; the first hour may be chance, the day is not."""
    state = tick_with(usual(480)).state
    reasons = []
    for number in range(24):
        outcomes = usual(20) * (60 if number % 2 else 1)
        done = tick_with(outcomes, state, NEXT + number + 1, number=24 + number)
        state = done.state
        reasons.append(done.frozen is not None)
    assert not reasons[0]
    assert all(reasons[8:])


# -- no rides, and wrong input


@pytest.mark.parametrize("hours", [[], [hour_of(0, np.empty(0), rides(0))]], ids=["no hour", "an hour without rides"])
def test_day_without_rides_changes_nothing_and_freezes_nothing(hours: list[LabelledHour]) -> None:
    learned = tick_with(usual(times=0.8)).state
    moved = [labelled_hour(NEXT, one.rides, one.duration_minutes) for one in hours]
    done = tick(model(), learned, moved, NEXT + 24)
    assert done.frozen is None
    assert (done.state.weights, done.state.has_new_weights) == (learned.weights, False)
    assert done.state.n_due == 0


def test_rides_without_outcome_alone_teach_nothing() -> None:
    done = tick_with(np.full(5, np.nan))
    assert not done.state.has_learned
    assert (done.state.n_due, done.state.n_outcomes, done.state.n_used) == (5, 0, 0)


def test_tick_for_the_past_is_refused() -> None:
    learned = tick_with(usual(50)).state
    for end in (MIDNIGHT, NEXT):
        with pytest.raises(UserError, match=f"a tick at {end} is not later than the state"):
            tick(model(), learned, [], end)


def test_state_of_another_model_is_refused() -> None:
    other = msgspec.structs.replace(first(), model_version="green-2021-02-000000000000")
    with pytest.raises(UserError, match="the state is of green-2021-02-000000000000, and the model is"):
        tick(model(), other, [], NEXT)


@pytest.mark.parametrize("number", [-1, 24])
def test_hour_outside_the_tick_is_refused(number: int) -> None:
    with pytest.raises(UserError, match="is not one of those from"):
        tick(model(), first(), [hour_of(number, usual(5))], NEXT)


def test_hour_that_comes_twice_is_refused() -> None:
    with pytest.raises(UserError, match="came twice"):
        tick(model(), first(), [hour_of(1, usual(5)), hour_of(1, usual(5))], NEXT)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda data: data[:-50], "is no state of a calibration"),
        (lambda data: b'{"x":' * 100_000, "nested too deeply"),
        (lambda data: b"\xff", "is no state of a calibration"),
        (lambda data: data.replace(b'"format":1', b'"format":2'), "has format 2"),
        (lambda data: data.replace(b'"weights":[0.0,', b'"weights":['), "has 9 weights"),
        (lambda data: data.replace(b'"scores":[0.0,', b'"scores":['), "is no state of a calibration"),
    ],
)
def test_damaged_or_later_state_is_refused_in_words(change: object, problem: str) -> None:
    assert callable(change)
    with pytest.raises(ValueError, match=problem):
        decode_state(change(encode_state(first())))
