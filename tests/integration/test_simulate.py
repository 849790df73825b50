"""The simulation: made-up rides of a few days through the whole stack in virtual time."""

from dataclasses import replace
from datetime import date

import msgspec
import pytest

from infra.cli.simulate import simulate_command
from infra.local.simulate.options import SimulateOptions, check_months
from infra.local.simulate.page import build_page
from infra.local.simulate.result import SimulationResult
from infra.local.simulate.simulate import SoFar, simulate
from infra.local.simulate.timeline import draw_timeline
from tests.builders import SMALL_PARAMETERS
from training.data.months import Month, parse_months
from training.errors import UserError

pytestmark = pytest.mark.slow

SHORT = SimulateOptions(
    train_months=(Month(2019, 12),),
    months=(Month.of_days(date(2020, 1, 1), date(2020, 1, 6)),),
    rides_a_month=900,
    synthetic=True,
    parameters=SMALL_PARAMETERS,
)
TWO_DAYS = replace(SHORT, rides_a_month=400, months=(Month.of_days(date(2020, 3, 7), date(2020, 3, 8)),))
"""On the second day clocks go forward."""

MONTHS_END = replace(SHORT, rides_a_month=200, months=(Month.of_days(date(2020, 1, 31), date(2020, 1, 31)),))


class Silent:
    """A display that shows nothing, or is interrupted on a day."""

    def __init__(self, interrupted_on: int = -1) -> None:
        self.n_days = 0
        self._interrupted_on = interrupted_on

    def step(self, text: str) -> None:
        """Show nothing."""

    def day(self, so_far: SoFar) -> None:
        """Count the day."""
        self.n_days += 1
        assert so_far.months()[-1].n_served == so_far.months()[-1].n_rides
        if self.n_days == self._interrupted_on:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def result() -> SimulationResult:
    return simulate(SHORT, Silent())


def test_every_ride_is_predicted_archived_and_labelled_and_the_audit_finds_nothing(result: SimulationResult) -> None:
    audit = result.audit
    assert audit.is_sound
    assert audit.n_ride_events == audit.n_labelled == result.n_rides == 900
    assert sum(one.n_served for one in result.days) == 900
    assert audit.n_hours == 6 * 24


def test_result_has_errors_of_all_models_by_month_and_day(result: SimulationResult) -> None:
    (month,) = result.months
    assert month.period == "2020-01"
    assert None not in (month.linear_rmse, month.course_rmse, month.frozen_rmse, month.served_rmse)
    assert [one.period for one in result.days] == [f"2020-01-0{day}" for day in range(1, 7)]


def test_calibration_follows_the_planted_shift_and_the_frozen_model_does_not(result: SimulationResult) -> None:
    last = result.days[-1]
    assert last.served_rmse is not None
    assert last.frozen_rmse is not None
    assert last.served_rmse < 0.9 * last.frozen_rmse
    calibrations = [one for one in result.moves if one.why == "calibration"]
    assert sum(one.n_moves for one in calibrations) == 6
    assert all(one.by == "monitor" for one in calibrations)


def test_loop_begins_with_the_month_and_says_why_it_does_not_retrain() -> None:
    (run,) = simulate(MONTHS_END, Silent()).runs
    assert (run.trigger, run.outcome, run.candidate) == ("schedule", "refused", None)
    assert "labelled rides" in run.text


def test_without_calibration_what_is_served_is_the_first_model() -> None:
    alone = simulate(replace(TWO_DAYS, calibration=False, retraining=False), Silent())
    assert alone.audit.is_sound
    assert alone.runs == ()
    assert [one.why for one in alone.moves] == ["publish"]
    for one in (*alone.months, *alone.days):
        assert one.served_rmse == one.frozen_rmse
        assert one.served_coverage == one.frozen_coverage


def test_same_options_give_the_same_result() -> None:
    first, again = (msgspec.json.encode(simulate(MONTHS_END, Silent())) for _ in range(2))
    assert first == again


def test_timeline_and_page_are_drawn_from_the_result_alone(result: SimulationResult) -> None:
    stored = msgspec.json.decode(msgspec.json.encode(result), type=SimulationResult)
    assert draw_timeline(stored) == draw_timeline(result)
    page = build_page(stored)
    assert page == build_page(result)
    assert b"<script" not in page
    assert b"http://" not in page.replace(b'xmlns:xlink="http://www.w3.org/1999/xlink"', b"")


def test_interruption_ends_the_simulation_and_its_work_in_the_background() -> None:
    with pytest.raises(KeyboardInterrupt):
        simulate(TWO_DAYS, Silent(interrupted_on=1))


@pytest.mark.parametrize(
    ("train", "months", "problem"),
    [
        ("2019-12,2020-02", "2020-02..2020-03", "2020-02 is a training month already"),
        ("2020-05", "2020-02..2020-03", "2020-02 lies before 2020-05"),
    ],
)
def test_months_that_the_first_model_knows_cannot_be_simulated(train: str, months: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        check_months(parse_months(train), parse_months(months))


def test_command_refuses_months_that_run_backwards_in_one_sentence() -> None:
    with pytest.raises(UserError, match="runs backwards"):
        simulate_command(first="2020-06", last="2020-01")
