"""Calibration of a channel: which ticks are due, what is stored and served, and the status for people."""

from contextlib import suppress
from typing import Any

import msgspec
import pytest

from lambda_function.core.calibration import calibration_key, served_version
from lambda_function.core.channel import Channel
from tests.builders import interval_bundle, small_bundle
from tests.builders_channels import gate
from tests.fakes import BUCKET, FakeS3
from tests.kits.labelled_days import (
    FIRST_DAY,
    in_seconds,
    mover_at,
    none_arrives,
    put_days,
    put_hour,
    serve_model,
    serving_bucket,
    shorter,
)
from tests.outcomes import SERVICE_DOWN, AnswerLost, Problem
from training.errors import BucketError, UserError
from training.monitoring.calibration.by_hand import Calibrated, calibrate_by_hand, resume_calibration
from training.monitoring.calibration.calibrator import CalibratorOptions, DueTick, calibrate_due, due_tick
from training.monitoring.calibration.status import CalibrationMode, CalibrationStatus
from training.monitoring.calibration.tick import CalibrationState, decode_state, encode_state, first_state
from training.monitoring.hours import Hour, next_midnight
from training.monitoring.join.join import labelled_key
from training.monitoring.new_york_days import training_end
from training.registry.bucket import Bucket
from training.registry.channel_history import read_channel
from training.registry.channels import rollback, split_channel, stop_calibration, store_bundle

DAILY, HOURLY, OFF = CalibrationMode.DAILY, CalibrationMode.HOURLY, CalibrationMode.OFF
VERSION = interval_bundle().model_version


def run(
    bucket: Bucket, joined: list[Hour], now: Hour, mode: CalibrationMode = DAILY, **options: Any
) -> CalibrationStatus:
    """Run the calibrator at the start of an hour."""
    chosen = CalibratorOptions(**options)
    return calibrate_due(bucket, "stable", mode, joined, mover_at(now.start), now.start, chosen)


def channel(bucket: Bucket) -> Channel:
    """Return the state of the channel."""
    state = read_channel(bucket, "stable").state
    assert state is not None
    return state


def stored(bucket: Bucket, version: str = VERSION) -> list[str]:
    """Return the hours of the stored states."""
    return [key[-18:-5] for key in bucket.keys(f"calibrations/{version}/")]


def state_at(bucket: Bucket, as_of: Hour) -> CalibrationState:
    """Return a stored state."""
    found = bucket.read(calibration_key(VERSION, str(as_of)))
    assert found is not None
    return decode_state(found.body)


# -- daily


def test_a_joined_day_is_learned_once_and_served() -> None:
    bucket = serving_bucket()
    joined = put_days(bucket, FIRST_DAY, 1)
    end = FIRST_DAY + 24
    status = run(bucket, joined, end + 3)
    assert stored(bucket) == [str(end)]
    assert channel(bucket).served_version == served_version(VERSION, str(end))
    assert (channel(bucket).why, channel(bucket).moved_by) == ("calibration", "monitor")
    assert (status.state, status.as_of, status.n_used, status.n_due) == ("active", str(end), 40, 40)
    assert status.text == (
        "The model serves with what it had learned until 2021-02-02 05:00 UTC; 40 of the last day's 40 rides were used."
    )
    before = dict(bucket.s3.objects)
    assert run(bucket, joined, end + 4) == status
    assert bucket.s3.objects == before


def test_a_day_is_not_learned_before_its_last_hour_is_joined() -> None:
    bucket = serving_bucket()
    joined = put_days(bucket, FIRST_DAY, 1)
    status = run(bucket, joined[:-1], FIRST_DAY + 26)
    assert (stored(bucket), status.state) == ([], "learning")
    assert status.text == "No labelled ride has been learned from yet, so the raw model serves."


def test_new_model_learns_from_two_weeks_day_by_day() -> None:
    bucket = serving_bucket()
    joined = put_days(bucket, FIRST_DAY, 17)
    end = FIRST_DAY + 24 * 17
    run(bucket, joined, end + 3)
    assert len(stored(bucket)) == 14
    assert stored(bucket)[-1] == str(end)
    moves = [channel(bucket).why]
    assert moves == ["calibration"]
    assert len(channel(bucket).segments) == 2
    assert state_at(bucket, end).began == str(end + -24 * 14)


def test_rides_that_the_model_was_trained_on_are_not_learned() -> None:
    bucket = serving_bucket()
    joined = put_days(bucket, FIRST_DAY + -24 * 3, 4)
    run(bucket, joined, FIRST_DAY + 27)
    assert stored(bucket) == [str(FIRST_DAY + 24)]
    assert training_end(interval_bundle().model.manifest) == FIRST_DAY


@pytest.mark.parametrize(
    ("months", "end"),
    [
        (("2021-01", "2021-02"), "2021-03-01T05"),
        (("2026-08-01..2026-08-14",), "2026-08-15T04"),
        (("2026-08-03",), "2026-08-04T04"),
    ],
)
def test_training_ends_with_its_last_day_in_new_york(months: tuple[str, ...], end: str) -> None:
    manifest = msgspec.structs.replace(interval_bundle().model.manifest, train_months=months)
    assert str(training_end(manifest)) == end


def test_days_with_a_clock_change_are_ticks_too() -> None:
    assert str(next_midnight(Hour.parse("2021-03-14T05"))) == "2021-03-15T04"
    assert str(next_midnight(Hour.parse("2021-11-07T04"))) == "2021-11-08T05"


def test_missing_hour_is_waited_for_two_days_and_then_skipped_and_named() -> None:
    bucket = serving_bucket()
    joined = put_days(bucket, FIRST_DAY, 2)
    end = FIRST_DAY + 48
    without = [hour for hour in joined if hour != FIRST_DAY + 30]
    assert run(bucket, without, end + 3).as_of == str(FIRST_DAY + 24)
    status = run(bucket, without, end + 48)
    assert status.as_of == str(end)
    assert state_at(bucket, end).missing_hours == ("2021-02-02T11",)
    assert status.text.endswith("; without labelled rides to read, it skipped 2021-02-02T11.")


def test_damaged_hour_stops_the_tick_until_it_is_late() -> None:
    bucket = serving_bucket()
    joined = put_days(bucket, FIRST_DAY, 1)
    put_hour(bucket, FIRST_DAY + 13)
    bucket.write(labelled_key(FIRST_DAY + 14), b"PAR1 cut short")
    with pytest.raises(BucketError, match="join the hour again"):
        run(bucket, joined, FIRST_DAY + 27)
    assert stored(bucket) == []
    status = run(bucket, joined, FIRST_DAY + 24 + 48)
    assert status.n_used == 80
    assert "2021-02-01T19" in status.text


def test_late_tick_skips_no_hour_that_s3_fails_to_give() -> None:
    s3 = FakeS3()
    bucket = Bucket(s3, BUCKET, n_threads=1)
    serve_model(bucket, interval_bundle())
    joined = put_days(bucket, FIRST_DAY, 1)
    read = ("get", labelled_key(FIRST_DAY + 12))
    s3.calls.clear()
    before = dict(s3.objects)
    run(bucket, joined, FIRST_DAY + 24 + 48)
    s3.objects.clear()
    s3.objects.update(before)
    s3.script = [*[None] * s3.calls.index(read), SERVICE_DOWN]
    with pytest.raises(BucketError, match="ServiceUnavailable"):
        run(bucket, joined, FIRST_DAY + 24 + 48)
    assert stored(bucket) == []
    assert run(bucket, joined, FIRST_DAY + 24 + 48).n_used == 40


def test_days_without_labelled_rides_move_nothing() -> None:
    bucket = serving_bucket()
    joined = put_days(bucket, FIRST_DAY, 1) + [FIRST_DAY + number for number in range(24, 72)]
    run(bucket, joined[:24], FIRST_DAY + 27)
    before = channel(bucket)
    status = run(bucket, joined, FIRST_DAY + 75)
    assert channel(bucket) == before
    assert (status.state, status.n_due) == ("active", 0)
    assert status.text == "The model serves with what it had learned until 2021-02-02 05:00 UTC; no ride came since."
    assert stored(bucket)[-1] == str(FIRST_DAY + 72)


def test_no_labelled_ride_ever() -> None:
    bucket = serving_bucket()
    assert run(bucket, [], FIRST_DAY + 27).state == "learning"
    assert run(bucket, [FIRST_DAY + number for number in range(48)], FIRST_DAY + 51).state == "learning"
    assert len(channel(bucket).segments) == 1


def test_stack_without_outcomes_is_not_frozen() -> None:
    bucket = serving_bucket()
    joined = put_days(bucket, FIRST_DAY, 2, none_arrives)
    status = run(bucket, joined, FIRST_DAY + 51)
    assert (status.state, status.frozen_reason) == ("learning", None)
    assert status.text == "No outcome of a ride has come yet, so the raw model serves."


def test_channel_without_a_model_has_nothing_to_calibrate() -> None:
    bucket = serving_bucket()
    status = calibrate_due(bucket, "candidate", DAILY, [], mover_at(FIRST_DAY.start), FIRST_DAY.start)
    assert (status.state, status.text) == ("unknown", "candidate holds no model, so none is calibrated.")


# -- hourly


def test_each_joined_hour_is_a_tick_and_whole_days_of_the_past_are_one() -> None:
    bucket = serving_bucket()
    joined = put_days(bucket, FIRST_DAY, 2)
    noon = FIRST_DAY + 48 + 12
    today = [FIRST_DAY + 48 + number for number in range(13)]
    put_hour(bucket, noon)
    status = run(bucket, joined + today, noon + 4, HOURLY)
    hours = [str(FIRST_DAY + 48 + number) for number in range(14)]
    assert stored(bucket) == [str(FIRST_DAY + 24), *hours]
    assert status.as_of == str(noon + 1)
    assert len(channel(bucket).segments) == 2


def test_less_than_a_day_is_learned_and_does_not_serve() -> None:
    bucket = serving_bucket()
    for number in range(22):
        put_hour(bucket, FIRST_DAY + number)
    joined = [FIRST_DAY + number for number in range(22)]
    status = run(bucket, joined, FIRST_DAY + 25, HOURLY)
    assert (status.state, status.as_of, len(stored(bucket))) == ("learning", None, 22)
    assert status.text == "Less than a day has been learned from yet, so the raw model serves."
    put_hour(bucket, FIRST_DAY + 22)
    assert run(bucket, [*joined, FIRST_DAY + 22], FIRST_DAY + 26, HOURLY).as_of == str(FIRST_DAY + 23)


def test_hourly_tick_waits_for_a_missing_hour() -> None:
    joined = [FIRST_DAY + number for number in (0, 1, 3)]
    first = FIRST_DAY + 2
    assert due_tick(first, HOURLY, joined, (FIRST_DAY + 7).start) is None
    late = due_tick(first, HOURLY, joined, (first + 1 + 48).start)
    assert late == DueTick(first + 1, (), (first,))


# -- freeze


def test_outcomes_in_seconds_freeze_and_the_channel_stays() -> None:
    bucket = serving_bucket()
    joined = put_days(bucket, FIRST_DAY, 1) + put_days(bucket, FIRST_DAY + 24, 2, in_seconds)
    run(bucket, joined[:24], FIRST_DAY + 27)
    before = channel(bucket)
    status = run(bucket, joined, FIRST_DAY + 75)
    assert channel(bucket) == before
    assert (status.state, status.as_of, status.n_dropped) == ("frozen", str(FIRST_DAY + 24), 40)
    assert status.since == "2021-02-03T05:00:00+00:00"
    assert status.frozen_reason is not None
    assert status.frozen_reason.startswith("outcomes look like seconds instead of minutes")
    assert status.text.startswith("Calibration is frozen since 2021-02-03 05:00 UTC because outcomes look like seconds")
    assert "rides are predicted with what it had learned until 2021-02-02 05:00 UTC, and each tick" in status.text
    assert "`ridecast models calibrate --off`" in status.text


def test_after_the_freeze_it_learns_again() -> None:
    bucket = serving_bucket()
    joined = put_days(bucket, FIRST_DAY, 1) + put_days(bucket, FIRST_DAY + 24, 1, none_arrives)
    assert run(bucket, joined, FIRST_DAY + 51).state == "frozen"
    joined += put_days(bucket, FIRST_DAY + 48, 3)
    status = run(bucket, joined, FIRST_DAY + 24 * 5 + 3)
    assert (status.state, status.as_of) == ("active", str(FIRST_DAY + 24 * 5))


def test_model_that_begins_frozen_serves_raw() -> None:
    bucket = serving_bucket()
    joined = put_days(bucket, FIRST_DAY, 1, in_seconds)
    status = run(bucket, joined, FIRST_DAY + 27)
    assert (status.state, status.as_of) == ("frozen", None)
    assert "rides are predicted with the raw model" in status.text
    assert channel(bucket).served_version == VERSION


# -- two at once, ends in between, damage


def test_run_that_ended_before_its_move_is_completed_by_the_next() -> None:
    bucket, other = serving_bucket(), serving_bucket()
    joined = put_days(bucket, FIRST_DAY, 1)
    put_days(other, FIRST_DAY, 1)
    run(other, joined, FIRST_DAY + 27)
    key = calibration_key(VERSION, str(FIRST_DAY + 24))
    found = other.read(key)
    assert found is not None
    bucket.write(key, found.body)
    assert run(bucket, joined, FIRST_DAY + 28).as_of == str(FIRST_DAY + 24)
    assert channel(bucket).segments[0].calibration == channel(other).segments[0].calibration


def test_loser_of_two_ticks_at_once_goes_on_from_the_winners_state() -> None:
    """The winner has read the hour's labelled rides after their second join: its state is another one."""
    bucket, winner = serving_bucket(), serving_bucket()
    joined = put_days(bucket, FIRST_DAY, 2)
    put_days(winner, FIRST_DAY, 1, shorter)
    put_hour(winner, FIRST_DAY + 14)
    run(winner, joined[:24], FIRST_DAY + 27)
    key = calibration_key(VERSION, str(FIRST_DAY + 24))
    theirs = winner.read(key)
    assert theirs is not None

    def lose() -> bool:
        bucket.write_once(key, theirs.body)
        return True

    run(bucket, joined, FIRST_DAY + 51, has_time=lose)
    assert state_at(bucket, FIRST_DAY + 24) == decode_state(theirs.body)
    assert state_at(bucket, FIRST_DAY + 48).scores != state_at(bucket, FIRST_DAY + 24).scores
    assert channel(bucket).served_version == served_version(VERSION, str(FIRST_DAY + 48))


def test_run_without_time_leaves_the_ticks_to_the_next_one() -> None:
    bucket = serving_bucket()
    joined = put_days(bucket, FIRST_DAY, 3)
    left = iter([True, True, False])
    assert run(bucket, joined, FIRST_DAY + 75, has_time=lambda: next(left)).as_of == str(FIRST_DAY + 48)
    assert run(bucket, joined, FIRST_DAY + 75).as_of == str(FIRST_DAY + 72)


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"format":2}'])
def test_damaged_state_is_passed_over_and_named(damage: bytes) -> None:
    bucket = serving_bucket()
    joined = put_days(bucket, FIRST_DAY, 2)
    run(bucket, joined[:24], FIRST_DAY + 27)
    key = calibration_key(VERSION, str(FIRST_DAY + 25))
    bucket.write(key, damage)
    status = run(bucket, joined, FIRST_DAY + 51)
    assert status.as_of == str(FIRST_DAY + 48)
    assert f"{key} is no state of a calibration and was passed over" in status.text


@pytest.mark.parametrize("name", ["9999-12-31T23", "notes"])
def test_state_of_the_future_stops_no_ticks(name: str) -> None:
    bucket = serving_bucket()
    joined = put_days(bucket, FIRST_DAY, 2)
    key = calibration_key(VERSION, name)
    bucket.write(key, encode_state(first_state(VERSION, Hour.parse("9999-12-31T23"))))
    status = run(bucket, joined, FIRST_DAY + 51)
    assert status.as_of == str(FIRST_DAY + 48)
    assert f"{key} is no state of a calibration and was passed over" in status.text
    by_hand(bucket, 1, FIRST_DAY + 51)
    assert channel(bucket).served_version == served_version(VERSION, str(FIRST_DAY + 49))


def test_state_of_another_model_under_this_ones_name_is_passed_over() -> None:
    bucket = serving_bucket()
    joined = put_days(bucket, FIRST_DAY, 1)
    foreign = encode_state(first_state("green-2021-02-000000000000", FIRST_DAY + 23))
    bucket.write(calibration_key(VERSION, str(FIRST_DAY + 23)), foreign)
    assert run(bucket, joined, FIRST_DAY + 27).as_of == str(FIRST_DAY + 24)


def test_damaged_object_in_the_place_of_a_tick_is_an_error_that_names_it() -> None:
    bucket = serving_bucket()
    joined = put_days(bucket, FIRST_DAY, 1)
    bucket.write(calibration_key(VERSION, str(FIRST_DAY + 24)), b"{}")
    with pytest.raises(BucketError, match=r"2021-02-02T05\.json .* remove it, and the next run stores it again"):
        run(bucket, joined, FIRST_DAY + 27)


def test_same_labelled_rides_give_the_same_bytes_in_any_bucket() -> None:
    one, other = serving_bucket(), serving_bucket()
    for day in range(3):
        put_days(one, FIRST_DAY + 24 * day, 1)
    for day in (2, 0, 1):
        put_days(other, FIRST_DAY + 24 * day, 1)
    joined = [FIRST_DAY + number for number in range(72)]
    for day in (1, 2, 3):  # this one ran each day, the other once
        run(one, joined[: 24 * day], FIRST_DAY + (24 * day + 3))
    run(other, joined[::-1], FIRST_DAY + 75)
    states = [{key: b.s3.objects[key] for key in b.keys("calibrations/")} for b in (one, other)]
    assert states[0] == states[1]
    assert len(states[0]) == 3


@pytest.mark.parametrize("problem", [Problem.DOWN, Problem.NO_ANSWER], ids=lambda one: one.name)
@pytest.mark.parametrize("is_answer_lost", [False, True], ids=["refused", "answer lost"])
def test_run_that_fails_at_any_call_to_s3_is_completed_by_the_next(problem: Problem, is_answer_lost: bool) -> None:
    undisturbed = serving_bucket()
    joined = put_days(undisturbed, FIRST_DAY, 1)
    before = dict(undisturbed.s3.objects)
    run(undisturbed, joined, FIRST_DAY + 27)
    as_of = str(FIRST_DAY + 24)
    key = calibration_key(VERSION, as_of)
    for n_good in range(100):
        outcome = AnswerLost(problem) if is_answer_lost else problem.error()
        s3 = FakeS3(dict(before), [*[None] * n_good, outcome])
        bucket = Bucket(s3, BUCKET, n_threads=1)
        with suppress(BucketError):
            run(bucket, joined, FIRST_DAY + 27)
        was_reached = not s3.script
        s3.script.clear()
        assert run(bucket, joined, FIRST_DAY + 28).as_of == as_of
        assert s3.objects[key] == undisturbed.s3.objects[key]
        assert channel(bucket).served_version == served_version(VERSION, as_of)
        assert len(channel(bucket).segments) == 2
        if not was_reached:
            return
    pytest.fail("a run makes fewer calls")


# -- other moves of the channel


def test_promoted_model_gets_states_of_its_own() -> None:
    bucket = serving_bucket()
    joined = put_days(bucket, FIRST_DAY, 2)
    run(bucket, joined, FIRST_DAY + 51)
    serve_model(bucket, small_bundle(2), FIRST_DAY + 52)
    other = small_bundle(2).model_version
    assert channel(bucket).served_version == other
    status = run(bucket, joined, FIRST_DAY + 53)
    assert channel(bucket).served_version == served_version(other, str(FIRST_DAY + 48))
    assert status.as_of == str(FIRST_DAY + 48)
    assert len(stored(bucket, other)) == 2


def test_withdrawn_calibration_does_not_come_back_but_the_next_one_serves() -> None:
    bucket = serving_bucket()
    joined = put_days(bucket, FIRST_DAY, 3)
    run(bucket, joined[:24], FIRST_DAY + 27)
    run(bucket, joined[:48], FIRST_DAY + 51)
    first = served_version(VERSION, str(FIRST_DAY + 24))
    rollback(bucket, "stable", first, mover=mover_at((FIRST_DAY + 52).start, "ada"))
    run(bucket, joined[:48], FIRST_DAY + 53)
    assert channel(bucket).served_version == first
    run(bucket, joined, FIRST_DAY + 75)
    assert channel(bucket).served_version == served_version(VERSION, str(FIRST_DAY + 72))


def test_arms_of_a_split_learn_from_the_same_rides_and_move_together() -> None:
    # GIVEN a calibrated champion, and a split with a candidate that has learned nothing
    bucket, candidate = serving_bucket(), small_bundle(2)
    joined = put_days(bucket, FIRST_DAY, 3)
    run(bucket, joined[:24], FIRST_DAY + 27)
    store_bundle(bucket, candidate)
    gate(bucket, 2, against=VERSION)
    at = mover_at((FIRST_DAY + 28).start, "ada")
    split_channel(bucket, "stable", candidate.model_version, 0.2, "one", mover=at)
    # WHEN the next day is joined
    status = run(bucket, joined[:48], FIRST_DAY + 51)
    # THEN one move has the references of both, and each has learned from all rides of its own replay
    as_of = str(FIRST_DAY + 48)
    versions = (served_version(VERSION, as_of), served_version(candidate.model_version, as_of))
    assert channel(bucket).segments[0].served_versions == versions
    assert len(channel(bucket).segments) == 4
    assert stored(bucket, candidate.model_version) == stored(bucket)
    assert status.text.endswith(
        f" The candidate {candidate.model_version} serves with what it had learned until 2021-02-03 05:00 UTC."
    )
    # AND both start again after a stop
    stop_calibration(bucket, "stable", mover_at((FIRST_DAY + 52).start, "ada"))
    assert channel(bucket).segments[0].served_versions == (VERSION, candidate.model_version)
    resume_calibration(bucket, "stable", mover_at((FIRST_DAY + 53).start, "ada"))
    assert channel(bucket).segments[0].served_versions == versions


def test_mode_off_ticks_never() -> None:
    bucket = serving_bucket()
    joined = put_days(bucket, FIRST_DAY, 1)
    status = run(bucket, joined, FIRST_DAY + 27, OFF)
    assert (status.state, status.text) == ("off", "No calibration is scheduled: the raw model serves.")
    assert stored(bucket) == []


def test_stopped_calibration_stays_off_until_it_is_resumed() -> None:
    bucket = serving_bucket()
    joined = put_days(bucket, FIRST_DAY, 3)
    run(bucket, joined[:48], FIRST_DAY + 51)
    stop_calibration(bucket, "stable", mover_at((FIRST_DAY + 52).start, "ada"))
    status = run(bucket, joined, FIRST_DAY + 75)
    assert channel(bucket).served_version == VERSION
    assert (status.state, status.as_of) == ("off", None)
    assert status.text == (
        "Calibration was stopped by ada at 2021-02-03 09:00 UTC, so the raw model serves;"
        " `ridecast models calibrate --resume` starts it again."
    )
    resume_calibration(bucket, "stable", mover_at((FIRST_DAY + 76).start, "ada"))
    assert channel(bucket).served_version == served_version(VERSION, str(FIRST_DAY + 48))
    assert run(bucket, joined, FIRST_DAY + 77).as_of == str(FIRST_DAY + 72)


def test_resume_needs_something_recent() -> None:
    bucket = serving_bucket()
    with pytest.raises(UserError, match="nothing learned in the last 14 days is stored"):
        resume_calibration(bucket, "stable", mover_at(FIRST_DAY.start))


# -- by hand


def by_hand(bucket: Bucket, n_days: int, now: Hour, *, resume: bool = False) -> Calibrated:
    """Calibrate by hand with days from the first on."""
    days = FIRST_DAY, FIRST_DAY + 24 * n_days
    return calibrate_by_hand(bucket, "stable", days, mover_at(now.start, "ada"), resume=resume)


def test_days_by_hand_are_learned_and_served_and_the_last_day_is_measured_before_it_is_learned() -> None:
    bucket = serving_bucket()
    put_days(bucket, FIRST_DAY, 3)
    done = by_hand(bucket, 3, FIRST_DAY + 75)
    assert channel(bucket).served_version == served_version(VERSION, str(FIRST_DAY + 72))
    assert (done.n_hours, done.n_missing) == (3, 69)
    assert done.raw.n == done.before.n == 40
    assert abs(done.before.sum_error) < done.raw.sum_error
    assert done.before.sum_squared_error < done.raw.sum_squared_error
    assert done.raw.coverage is not None
    scheduled = serving_bucket()
    run(scheduled, put_days(scheduled, FIRST_DAY, 3), FIRST_DAY + 75)
    assert state_at(scheduled, FIRST_DAY + 72) == state_at(bucket, FIRST_DAY + 72)


def test_days_by_hand_that_end_frozen_move_nothing() -> None:
    bucket = serving_bucket()
    put_days(bucket, FIRST_DAY, 1)
    put_days(bucket, FIRST_DAY + 24, 1, in_seconds)
    done = by_hand(bucket, 2, FIRST_DAY + 75)
    assert done.moved is None
    assert done.state.frozen is not None
    assert (channel(bucket).served_version, stored(bucket)) == (VERSION, [])


def test_days_by_hand_without_labelled_rides_are_refused() -> None:
    with pytest.raises(UserError, match="no labelled ride from 2021-02-01T05 to 2021-02-02T05 teaches anything"):
        by_hand(serving_bucket(), 1, FIRST_DAY + 27)


def test_days_that_the_model_was_trained_on_are_refused() -> None:
    bucket = serving_bucket()
    with pytest.raises(UserError, match="was trained on rides until 2021-02-01T05"):
        calibrate_by_hand(bucket, "stable", (FIRST_DAY + -24, FIRST_DAY), mover_at(FIRST_DAY.start))


def test_days_by_hand_replace_what_the_schedule_has_learned_and_it_goes_on_from_there() -> None:
    bucket = serving_bucket()
    joined = put_days(bucket, FIRST_DAY, 4)
    run(bucket, joined[:72], FIRST_DAY + 75)
    done = by_hand(bucket, 2, FIRST_DAY + 76)
    as_of = FIRST_DAY + 73
    assert channel(bucket).served_version == served_version(VERSION, str(as_of))
    assert done.state == state_at(bucket, as_of)
    assert done.state.weights == state_at(bucket, FIRST_DAY + 48).weights != state_at(bucket, FIRST_DAY + 72).weights
    again = by_hand(bucket, 2, FIRST_DAY + 77)
    assert again.moved is not None
    assert not again.moved.has_moved
    assert run(bucket, joined, FIRST_DAY + 99).as_of == str(FIRST_DAY + 96)
    assert stored(bucket)[-2:] == [str(as_of), str(FIRST_DAY + 96)]


def test_stopped_calibration_needs_resume_by_hand_too() -> None:
    bucket = serving_bucket()
    put_days(bucket, FIRST_DAY, 1)
    stop_calibration(bucket, "stable", mover_at((FIRST_DAY + 25).start, "ada"))
    with pytest.raises(UserError, match="was stopped by ada"):
        by_hand(bucket, 1, FIRST_DAY + 27)
    by_hand(bucket, 1, FIRST_DAY + 27, resume=True)
    assert channel(bucket).served_version == served_version(VERSION, str(FIRST_DAY + 24))
