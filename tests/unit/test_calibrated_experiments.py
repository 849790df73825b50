"""Shadows with live calibration: each version is scored with what it would have learned from the same rides."""

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pytest
from numpy.typing import NDArray

from lambda_function.core.bundle import ModelBundle
from lambda_function.core.features import feature_matrix
from tests.builders_experiments import FIRST_DAY, ExperimentStack, squared_error
from training.experiments.scoring import SERVES_AFTER_HOURS
from training.monitoring.calibration.calibrator import calibrate_due
from training.monitoring.calibration.status import CalibrationMode
from training.monitoring.calibration.tick import CalibrationState, first_state, tick
from training.monitoring.hours import Hour
from training.monitoring.labelled_hour import LabelledHour
from training.monitoring.new_york_days import day_of, first_hour
from training.registry.channels import move_channel

BEGINNING = FIRST_DAY - timedelta(days=3)
DAYS = [BEGINNING + timedelta(days=number) for number in range(5)]
SHORTER = 0.7


def calibrated_stack(mode: CalibrationMode = CalibrationMode.DAILY) -> tuple[ExperimentStack, list[LabelledHour]]:
    """A stack whose rides take 70% of their time since three days before the first day; all days are final."""
    stack = ExperimentStack()
    stack.start(calibration_mode=mode)
    hours = [hour for day in DAYS for hour in stack.store_day(day, n_hours=6, n_rides=30, scale=SHORTER)]
    stack.after(DAYS[-1], hours=48)
    return stack, hours


def daily_states(model: ModelBundle, hours: Sequence[LabelledHour]) -> dict[Hour, CalibrationState]:
    """Return the states of daily ticks by their hour, learned one after the other."""
    state = first_state(model.model_version, first_hour(BEGINNING))
    found: dict[Hour, CalibrationState] = {}
    for day in DAYS:
        end = first_hour(day + timedelta(days=1))
        state = tick(model, state, [hour for hour in hours if day_of(hour.hour) == day], end).state
        found[end] = state
    return found


def expected(model: ModelBundle, hours: Sequence[LabelledHour]) -> list[float]:
    """Return a model's squared errors by day, with the state of the last midnight four hours before each hour."""
    states = daily_states(model, hours)

    def minutes(hour: LabelledHour) -> NDArray[np.float64]:
        state = states.get(first_hour(day_of(hour.hour + -SERVES_AFTER_HOURS)))
        served = model.calibrated(state) if state and state.may_serve else model
        return served.served_minutes(hour.rides, feature_matrix(hour.rides))

    return [squared_error([hour for hour in hours if day_of(hour.hour) == day], minutes) for day in DAYS[3:]]


def test_each_version_is_scored_with_its_own_calibration_replayed_from_the_same_rides() -> None:
    stack, hours = calibrated_stack()
    stack.good_run()
    days = stack.read().days
    assert [one.day for one in days] == DAYS[3:]
    for place, bundle in enumerate((stack.champion, *stack.candidates)):
        found = [day.losses[place].sum_squared_error for day in days]
        assert found == pytest.approx(expected(bundle.model, hours), rel=1e-12)
    raw = ExperimentStack()
    raw.start()
    raw.store_days(2, FIRST_DAY, n_hours=6, n_rides=30, scale=SHORTER)
    raw.after(DAYS[-1], hours=48)
    raw.good_run()
    assert all(
        mine.sum_squared_error < other.sum_squared_error
        for day, plain in zip(days, raw.read().days, strict=True)
        for mine, other in zip(day.losses, plain.losses, strict=True)
    )


def test_a_promoted_candidate_serves_with_the_state_that_the_experiment_has_learned() -> None:
    stack, hours = calibrated_stack()
    stack.good_run()
    (candidate,) = stack.candidates
    version = candidate.model_version
    states = {key: body for key, body in stack.s3.objects.items() if key.startswith(f"calibrations/{version}/")}
    assert len(states) == 5
    move_channel(stack.bucket, "stable", version, candidate.manifest_sha256, mover=stack.mover)
    joined = [hour.hour for hour in hours]
    status = calibrate_due(stack.bucket, "stable", CalibrationMode.DAILY, joined, stack.mover, stack.now)
    assert status.as_of == max(states)[-18:-5]
    assert {key for key in stack.s3.objects if key.startswith(f"calibrations/{version}/")} == states.keys()


def test_an_hourly_experiment_in_a_stack_with_daily_calibration_stores_daily_states_alone() -> None:
    stack, _ = calibrated_stack(CalibrationMode.HOURLY)
    stack.good_run(calibration_mode=CalibrationMode.DAILY)
    keys = [key for key in stack.s3.objects if key.startswith("calibrations/")]
    assert {key[-7:-5] for key in keys} == {"04"}  # midnight in New York
    assert len(stack.read().days) == 2


def test_hours_wait_for_the_ticks_that_they_need() -> None:
    stack = ExperimentStack()
    stack.start(calibration_mode=CalibrationMode.DAILY)
    stack.store_day(FIRST_DAY - timedelta(days=1), n_hours=23)  # the tick of this day waits for its last hour
    stack.store_day(FIRST_DAY)
    stack.after(FIRST_DAY)
    (done,) = stack.good_run()
    assert (done.n_hours, done.n_left, stack.read().days) == (4, 20, ())  # the first four need an earlier tick
    stack.after(FIRST_DAY - timedelta(days=1), hours=48)
    (done,) = stack.good_run()
    assert (done.n_hours, done.days) == (20, (FIRST_DAY,))
