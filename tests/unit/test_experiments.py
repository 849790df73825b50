"""Experiments from start to stop: days from labelled rides, once and in order, whatever fails on the way."""

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lambda_function.core.bundle import MANIFEST, ModelBundle, bundle_key
from lambda_function.core.features import feature_matrix
from tests.builders import small_rides
from tests.builders_experiments import FIRST_DAY, NAME, ExperimentStack, decided_experiment, squared_error
from tests.builders_monitored import monitored_bundle
from tests.outcomes import SERVICE_DOWN, AnswerLost, Meanwhile, S3Outcome
from training.errors import BucketError, NoSuchVersionError, UserError
from training.experiments.experiment import (
    Experiment,
    experiment_key,
    experiment_names,
    experiments,
    read_experiment,
    verdict_of,
)
from training.experiments.start import stop_experiment
from training.monitoring.calibration.status import CalibrationMode
from training.monitoring.hours import SECOND
from training.monitoring.join.join import labelled_key
from training.monitoring.labelled_hour import LabelledHour
from training.monitoring.new_york_days import hours_of_day

NEXT_DAY = FIRST_DAY + timedelta(days=1)
JSON = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "shadow", "split", "2026-08-03", "0001-01-01", "9999-12-31", "daily", "trial"]),
    st.just([]),
    st.just({}),
)
"""What a wrong value may be."""


def plain(model: ModelBundle) -> Callable[[LabelledHour], NDArray[np.float64]]:
    """Return what predicts an hour with a model as it was trained."""
    return lambda hour: model.served_minutes(hour.rides, feature_matrix(hour.rides))


def running(n_days: int = 1, n_hours: int = 24) -> ExperimentStack:
    """A stack with an experiment, joined hours of days, and a time at which all of them can be appended."""
    stack = ExperimentStack()
    stack.start()
    stack.store_days(n_days, n_hours=n_hours)
    stack.after(FIRST_DAY + timedelta(days=n_days - 1), hours=4 if n_hours == 24 else 48)
    return stack


# -- days


def test_a_day_is_appended_once_all_its_hours_are_joined() -> None:
    stack = ExperimentStack()
    assert stack.start().first_day == FIRST_DAY
    hours = stack.store_day(FIRST_DAY)
    stack.after(FIRST_DAY)
    (done,) = stack.good_run()
    assert (done.n_hours, done.days, done.n_left) == (24, (FIRST_DAY,), 0)
    experiment = stack.read()
    (day,) = experiment.days
    assert (experiment.so_far, day.missing_hours) == ((), ())
    assert [one.n_rides for one in day.losses] == [72, 72]
    for loss, bundle in zip(day.losses, (stack.champion, *stack.candidates), strict=True):
        assert loss.sum_squared_error == pytest.approx(squared_error(hours, plain(bundle.model)), rel=1e-12)
    (again,) = stack.good_run()
    assert (again.n_hours, again.days, stack.read()) == (0, (), experiment)


def test_rides_without_an_outcome_of_1_to_60_minutes_do_not_count() -> None:
    stack = ExperimentStack()
    stack.start()
    hour, *_ = hours_of_day(FIRST_DAY)
    rides = small_rides().head(5)
    minutes = np.array([np.nan, 0.5, 1.0, 60.0, 61.0])
    made = stack.store_hour(hour, rides, duration_minutes=minutes)
    stack.after(FIRST_DAY)
    stack.good_run()
    (scored,) = stack.read().so_far
    assert [one.n_rides for one in scored.losses] == [2, 2]
    assert scored.losses[0].sum_squared_error == pytest.approx(squared_error([made], plain(stack.champion.model)))


def test_several_candidates_and_experiments_share_the_rides() -> None:
    stack = ExperimentStack(candidates=(monitored_bundle(2), monitored_bundle(3)))
    stack.start("both")
    one = stack.candidates[1].model_version
    stack.start("one", candidates=(one,))
    stack.store_day(FIRST_DAY)
    stack.after(FIRST_DAY)
    stack.good_run()
    both, alone = stack.read("both").days[0].losses, stack.read("one").days[0].losses
    assert (both[0], both[2]) == alone
    assert both[1] != both[2]
    assert [one.name for one in experiments(stack.bucket)] == ["both", "one"]


def test_a_day_waits_two_days_for_a_missing_hour_and_then_names_it() -> None:
    stack = ExperimentStack()
    stack.start()
    stack.store_day(FIRST_DAY, n_hours=23)
    stack.store_day(NEXT_DAY)
    stack.after(NEXT_DAY)
    assert stack.good_run()[0].days == ()
    stack.after(FIRST_DAY, hours=48)
    assert stack.good_run()[0].days == (FIRST_DAY, NEXT_DAY)
    first, second = stack.read().days
    assert (first.missing_hours, first.losses[0].n_rides) == ((str(hours_of_day(FIRST_DAY)[-1]),), 69)
    assert (second.missing_hours, second.losses[0].n_rides) == ((), 72)


@pytest.mark.parametrize("summary", [{"pass_number": 0}, {"n_waiting": 1}], ids=["joined early", "rides wait"])
def test_an_hour_whose_join_is_not_done_is_not_scored_yet(summary: dict[str, int]) -> None:
    stack = ExperimentStack()
    stack.start()
    stack.store_day(FIRST_DAY)
    last = hours_of_day(FIRST_DAY)[-1]
    stack.store_hour(last, summary=summary)
    stack.after(FIRST_DAY)
    assert (stack.good_run()[0].n_hours, stack.read().days) == (23, ())
    stack.store_hour(last, summary={"pass_number": SECOND})
    assert stack.good_run()[0].days == (FIRST_DAY,)


def test_damaged_labelled_rides_are_a_missing_hour_after_two_days() -> None:
    stack = running()
    last = hours_of_day(FIRST_DAY)[-1]
    stack.s3.objects[labelled_key(last)] = b"PAR1"
    assert stack.good_run()[0].days == ()
    stack.after(FIRST_DAY, hours=48)
    stack.good_run()
    assert stack.read().days[0].missing_hours == (str(last),)


def test_a_scored_hour_is_not_scored_again_after_the_second_pass_of_its_join() -> None:
    stack = ExperimentStack()
    stack.start()
    first, *others = hours_of_day(FIRST_DAY)
    stack.store_hour(first)
    stack.now = first.end + timedelta(hours=4)
    stack.good_run()
    stack.store_hour(first, small_rides().head(9), summary={"pass_number": SECOND})
    for hour in others:
        stack.store_hour(hour)
    stack.after(FIRST_DAY)
    stack.good_run()
    assert stack.read().days[0].losses[0].n_rides == 24 * 3


def test_what_time_does_not_suffice_for_is_left_to_the_next_run() -> None:
    stack = running(2, n_hours=2)
    left_s = iter([50.0, 31.0])  # the first hour takes 19 s
    (done,) = stack.good_run(time_left_s=lambda: next(left_s))
    assert (done.n_hours, done.n_left, done.days) == (1, 3, ())
    (done,) = stack.good_run()
    assert (done.n_hours, done.days) == (3, (FIRST_DAY, NEXT_DAY))


def test_days_end_with_the_answer() -> None:
    stack = ExperimentStack()
    stack.start(first_look_days=2, margin_percent=90.0)
    stack.store_days(9, n_hours=1, n_rides=60)
    stack.after(FIRST_DAY + timedelta(days=8), hours=48)
    (done,) = stack.good_run()
    version = stack.candidates[0].model_version
    experiment = stack.read()
    assert (done.answers[version].answer, done.days) == ("equivalent", tuple(one.day for one in experiment.days))
    assert len(experiment.days) < 9
    assert (experiment.so_far, experiment.is_running) == ((), False)
    assert stack.good_run() == ()


def test_without_rides_an_experiment_ends_undecided_with_its_budget() -> None:
    stack = ExperimentStack()
    stack.start(budget_days=8)
    stack.after(FIRST_DAY + timedelta(days=7), hours=48)
    (done,) = stack.good_run()
    assert (len(done.days), done.answers[stack.candidates[0].model_version].answer) == (8, "undecided")


def test_the_same_rides_give_the_same_bytes_in_one_run_or_in_many() -> None:
    at_once, by_hours = running(), ExperimentStack()
    at_once.good_run()
    by_hours.start()
    for n_hours in (7, 16, 24):
        by_hours.store_day(FIRST_DAY, n_hours)
        by_hours.now = hours_of_day(FIRST_DAY)[n_hours - 1].end + timedelta(hours=4)
        by_hours.good_run()
    key = experiment_key(NAME)
    assert by_hours.s3.objects[key] == at_once.s3.objects[key]


# -- start and stop


def test_the_first_day_is_after_the_start_and_after_the_training_of_every_version() -> None:
    stack = ExperimentStack()
    stack.now += timedelta(hours=5)  # one o'clock at night in New York
    assert stack.start().first_day == NEXT_DAY
    stack.now = stack.now.replace(year=2021, month=1, day=10)  # in the month that both were trained on
    assert stack.start("early").first_day == date(2021, 2, 1)


def test_starting_again_returns_the_experiment_and_other_options_are_refused() -> None:
    stack = ExperimentStack()
    made = stack.start()
    stack.now += timedelta(days=3)
    assert stack.start() == made
    assert stack.start(champion=stack.champion.model_version) == made
    for other in ({"margin_percent": 3.0}, {"budget_days": 14}, {"candidates": (stack.champion.model_version,)}):
        with pytest.raises(UserError, match="an experiment trial with other options, started at 2026-08-03T00:00:00"):
            stack.start(**other)
    assert experiment_names(stack.bucket) == (NAME,)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"name": "No/name"}, "'No/name' is no name of an experiment"),
        ({"candidates": ()}, "an experiment needs one candidate or several different ones"),
        ({"channel": "empty"}, "empty holds no model to compare with"),
        ({"margin_percent": -1.0}, "the margin is -1.0%"),
        ({"first_look_days": 9, "budget_days": 8}, "the first look is after 9 days and the budget is 8 days"),
    ],
)
def test_senseless_options_are_refused_in_a_sentence(options: dict[str, Any], problem: str) -> None:
    stack = ExperimentStack()
    with pytest.raises(UserError, match=problem):
        stack.start(**options)
    assert experiment_names(stack.bucket) == ()


def test_a_candidate_must_be_stored_and_must_not_be_the_champion() -> None:
    stack = ExperimentStack()
    with pytest.raises(NoSuchVersionError):
        stack.start(candidates=("green-2021-01-000000000000",))
    with pytest.raises(UserError, match="is the champion already"):
        stack.start(candidates=(stack.champion.model_version,))


def test_a_stopped_experiment_keeps_its_days_and_gets_no_more() -> None:
    stack = running(n_hours=1)
    stack.good_run()
    stopped = stop_experiment(stack.bucket, NAME, stack.mover, "a newer candidate")
    assert stopped.stopped
    assert (stopped.stopped.by, stopped.stopped.why, len(stopped.days)) == ("ada", "a newer candidate", 1)
    stack.now += timedelta(hours=1)
    assert stop_experiment(stack.bucket, NAME, stack.mover, "again") == stopped
    stack.store_day(NEXT_DAY, n_hours=1)
    stack.after(NEXT_DAY, hours=48)
    assert stack.good_run() == ()
    with pytest.raises(UserError, match="there is no experiment 'other'"):
        stop_experiment(stack.bucket, "other", stack.mover, "")


# -- what fails


def outcome_of(stack: ExperimentStack) -> dict[str, bytes]:
    """What must be the same in the end, whatever failed on the way."""
    return {key: body for key, body in stack.s3.objects.items() if key.startswith(("experiments/", "calibrations/"))}


@pytest.mark.slow
@pytest.mark.parametrize("fault", [SERVICE_DOWN, AnswerLost()], ids=["refused", "answer lost"])
def test_any_call_may_fail_and_the_next_run_appends_the_same_day(fault: S3Outcome) -> None:
    stack = ExperimentStack()
    stack.start("one", calibration_mode=CalibrationMode.DAILY)
    stack.start("two")
    stack.store_days(2, n_hours=1)
    stack.after(NEXT_DAY, hours=48)
    begun, now = dict(stack.s3.objects), stack.now
    stack.s3.calls.clear()
    stack.good_run()
    calls, wanted = list(stack.s3.calls), outcome_of(stack)
    assert len(read(stack, "one").days) == 2
    for place, call in enumerate(calls):
        stack.s3.objects.clear()
        stack.s3.objects.update(begun)
        stack.now = now
        stack.s3.script = [*[None] * place, fault]
        try:
            done = stack.run()
            assert place == len(calls) or any(one.problem for one in done) or isinstance(fault, AnswerLost), call
        except BucketError:
            assert call == ("list", "experiments/")
        stack.s3.script = []
        stack.good_run()
        assert outcome_of(stack) == wanted, call


def read(stack: ExperimentStack, name: str) -> Experiment:
    found = read_experiment(stack.bucket, name)
    assert found
    return found


def test_of_two_runs_at_once_one_stores_its_days_and_nothing_is_there_twice() -> None:
    stack, alone = running(2, n_hours=2), running(2, n_hours=2)
    alone.good_run()
    n_calls = next(place for place, call in enumerate(alone.s3.calls) if call == ("put", experiment_key(NAME)))
    n_before = len(stack.s3.calls)
    other: list[Any] = []

    def run_other() -> None:
        stack.s3.script = []
        other.extend(stack.good_run())

    stack.s3.script = [*[None] * (n_calls - n_before), Meanwhile(run_other)]
    stack.good_run()
    assert other[0].days == (FIRST_DAY, NEXT_DAY)
    assert stack.read() == alone.read()


def test_a_run_that_meets_a_stop_leaves_it_in_force() -> None:
    stack, alone = running(n_hours=1), running(n_hours=1)

    def stop() -> None:
        stack.s3.script = []
        stop_experiment(stack.bucket, NAME, stack.mover, "enough")

    alone.s3.calls.clear()
    alone.good_run()
    stack.s3.calls.clear()
    place = alone.s3.calls.index(("put", experiment_key(NAME)))
    stack.s3.script = [*[None] * place, Meanwhile(stop)]
    (done,) = stack.good_run()
    assert (done.days, stack.read().days) == ((), ())
    assert stack.read().stopped


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"{", "is no experiment (Input data was truncated)"),
        (b'{"format": 2}', "has format 2, and this version of ridecast reads 1"),
        (b'{"format": 1, "name": "bad"}', "is no experiment (Object missing required field"),
        (b"\xff", "is no experiment ("),
    ],
)
def test_a_damaged_object_is_named_and_stops_no_other_experiment(body: bytes, problem: str) -> None:
    stack = running(n_hours=1)
    stack.s3.objects["experiments/bad.json"] = body
    stack.s3.objects["experiments/No Name.json"] = body
    damaged, good = stack.run()
    assert (damaged.name, damaged.experiment, good.days) == ("bad", None, (FIRST_DAY,))
    assert f"s3://ridecast-test/experiments/bad.json {problem}" in str(damaged.problem)
    with pytest.raises(BucketError, match=r"bad\.json"):
        experiments(stack.bucket)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"days": [{"day": "2026-08-04", "losses": [{"n_rides": 1, "sum_squared_error": 1.0}] * 2}]},
        {"so_far": [{"hour": "2026-08-04T04", "losses": []}]},
        {"rules": {"alpha": 2.0}},
        {"first_day": "9999-12-20"},
        {"first_day": "0001-01-01"},
        {"candidates": []},
        {"share": 0.1},
        {"mode": "split", "share": 1.5},
        {"days": [{"day": "2026-08-03", "losses": [{"n_rides": -1, "sum_squared_error": 1.0}] * 2}]},
    ],
)
def test_an_object_that_contradicts_itself_is_damaged(change: dict[str, Any]) -> None:
    stack = ExperimentStack()
    stack.start()
    body = msgspec.to_builtins(stack.read())
    stack.s3.objects[experiment_key(NAME)] = msgspec.json.encode({**body, **change})
    (done,) = stack.run()
    assert "is no experiment" in str(done.problem)


@given(st.data())
def test_no_change_of_an_object_stops_the_others(data: st.DataObject) -> None:
    stack = ExperimentStack()
    stack.start("good")
    facts = msgspec.to_builtins(decided_experiment())
    place: Any = facts
    while True:
        step = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[step], dict | list) or not place[step] or data.draw(st.booleans()):
            break
        place = place[step]
    place[step] = data.draw(JSON)
    stack.s3.objects[experiment_key(NAME)] = msgspec.json.encode(facts)
    stack.after(FIRST_DAY, hours=48)
    assert [one.days for one in stack.run() if one.name == "good"] == [(FIRST_DAY,)]


def test_a_version_that_does_not_load_stops_its_experiments_alone() -> None:
    stack = ExperimentStack(candidates=(monitored_bundle(2), monitored_bundle(3)))
    for name, bundle in zip(("good", "bad"), stack.candidates, strict=True):
        stack.start(name, candidates=(bundle.model_version,))
    stack.store_day(FIRST_DAY)
    stack.after(FIRST_DAY)
    key = bundle_key(stack.candidates[1].model_version, "forest.npz")
    whole = stack.s3.objects[key]
    stack.s3.objects[key] = b"damaged"
    bad, good = stack.run()
    assert (bad.days, good.days, good.problem) == ((), (FIRST_DAY,), None)
    assert bad.problem
    stack.s3.objects[key] = whole
    assert stack.good_run()[0].days == (FIRST_DAY,)


def test_a_verdict_of_no_candidate_is_refused() -> None:
    stack = running(n_hours=1)
    with pytest.raises(ValueError, match="not in"):
        verdict_of(stack.read(), stack.champion.model_version)


def test_a_manifest_that_does_not_decode_starts_nothing() -> None:
    stack = ExperimentStack()
    stack.s3.objects[bundle_key(stack.candidates[0].model_version, MANIFEST)] = b"{"
    with pytest.raises(Exception, match=r"manifest\.json"):
        stack.start()
    assert experiment_names(stack.bucket) == ()
