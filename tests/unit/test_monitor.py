"""A run of the monitor: figures, days, judgement, status and events; what fails, and two runs at once."""

from contextlib import suppress
from dataclasses import replace
from datetime import date, timedelta

import msgspec
import numpy as np
import pytest

from lambda_function.core.bundle import bundle_key
from lambda_function.core.features import feature_matrix
from tests.builders import small_rides
from tests.builders_days import reference_of, steady_days, without_values
from tests.builders_monitored import (
    DAY,
    REFERENCE_DAYS,
    FakeBus,
    MonitoredStack,
    monitored_bundle,
    reference_bytes,
)
from tests.outcomes import DENIED, SERVICE_DOWN, AnswerLost, Meanwhile, S3Outcome
from training.errors import BucketError
from training.model.bundle import REFERENCE
from training.monitoring.calibration.status import CalibrationMode
from training.monitoring.join.join import labelled_key
from training.monitoring.monitor.acknowledge import acknowledge
from training.monitoring.monitor.day_figures import DayFigures, is_testable, load_days
from training.monitoring.monitor.detectors import THRESHOLD
from training.monitoring.monitor.figures import Figures, figures_key, merge
from training.monitoring.monitor.monitor import MonitorOptions
from training.monitoring.monitor.quantities import PLAIN_NAMES
from training.monitoring.monitor.status import STATUS_KEY, Event, MonitorStatus, encode_status
from training.monitoring.new_york_days import hours_of_day
from training.monitoring.summary import summary_key
from training.registry.channel_history import read_history
from training.registry.channels import Mover, rollback

NEXT_DAY = DAY + timedelta(days=1)
MONDAY = np.datetime64("2026-08-03")


def steady(n_days: int) -> MonitoredStack:
    """A stack that has served some steady days, and the monitor has judged them."""
    stack = MonitoredStack()
    stack.store_days(steady_days(n_days, first=MONDAY, seed=5))
    stack.good_run()
    return stack


# -- hours and days


def test_joined_hours_get_figures_and_a_whole_day_is_stored() -> None:
    stack = MonitoredStack()
    stack.store_day()
    run = stack.good_run()
    assert (len(run.hours), run.n_days, run.n_left) == (24, 1, 0)
    (day,) = load_days(stack.bucket, stack.version, [DAY])
    rides = small_rides().head(72)
    error = np.round(stack.bundle.model.predict(feature_matrix(rides.columns)), 2) - rides.duration_minutes
    assert (day.figures.n_judged, len(day.hours), day.missing_hours) == (72, 24, ())
    assert day.figures.errors.raw.sum_squared_error == pytest.approx((error**2).sum(), rel=1e-12)
    status = stack.status
    assert (status.model_version, status.last_day, status.n_days) == (stack.version, DAY, 1)
    assert status.recent[0].value == pytest.approx(np.sqrt((error**2).mean()), rel=1e-12)
    assert status.latest is None


def test_a_second_run_adds_nothing_and_says_the_same() -> None:
    stack = MonitoredStack()
    stack.store_day(n_hours=3)
    stack.good_run()
    objects, first, n_events = dict(stack.s3.objects), stack.status, len(stack.bus.taken)
    run = stack.good_run()
    assert (run.hours, run.n_days, run.n_sent, len(stack.bus.taken)) == ((), 0, 0, n_events)
    assert {key for key, body in stack.s3.objects.items() if objects[key] != body} == {STATUS_KEY}
    same = msgspec.structs.replace(stack.status, written_at=first.written_at, run_id=first.run_id)
    assert same == msgspec.structs.replace(first, pending=())


def test_hours_of_a_day_that_is_not_over_are_shown() -> None:
    stack = MonitoredStack()
    hours = stack.store_day(n_hours=2)
    stack.good_run()
    latest = stack.status.latest
    assert latest
    assert (latest.first, latest.last, latest.n_hours) == (str(hours[0]), str(hours[1]), 2)
    assert (latest.n_rides, latest.n_judged, latest.rmse_raw) == (6, 6, latest.rmse_served)
    assert (stack.status.last_day, stack.status.last_judged) == (None, str(hours[1]))


def test_until_the_first_whole_day_the_quantities_are_those_of_the_hours_so_far() -> None:
    stack = MonitoredStack()
    hours = stack.store_day(n_hours=2)
    stack.good_run()
    before = {one.name: one for one in stack.status.quantities}
    rides = small_rides().head(6)
    minutes = np.round(stack.bundle.model.predict(feature_matrix(rides.columns)), 2)
    assert before["bias"].today == pytest.approx((minutes - rides.duration_minutes).mean(), abs=1e-6)
    assert before["predicted_minutes"].reference is not None
    assert {one.state for one in before.values()} == {"unknown"}
    stack.store_hour(hours[2], small_rides().take(slice(100, 140)))
    stack.good_run()
    after = {one.name: one for one in stack.status.quantities}
    assert after["bias"].today != before["bias"].today


def test_a_day_waits_two_days_for_a_missing_hour_and_then_names_it() -> None:
    stack = MonitoredStack()
    *_, last = stack.store_day(n_hours=23)
    assert stack.good_run().n_days == 0
    stack.now = last.end + timedelta(hours=48)
    assert stack.good_run().n_days == 1
    (day,) = load_days(stack.bucket, stack.version, [DAY])
    assert day.missing_hours == (str(last),)
    assert "Hours that were not joined: 1, on 1 of the last 1 days" in stack.status.missing[0]
    assert stack.states() == {"data": "unknown", "performance": "unknown"}


def test_a_missing_hour_that_is_joined_in_time_is_in_its_day() -> None:
    stack = MonitoredStack()
    *_, last = stack.store_day(n_hours=23)
    stack.good_run()
    stack.store_hour(last)
    stack.now = last.end + timedelta(hours=47)
    assert stack.good_run().n_days == 1
    (day,) = load_days(stack.bucket, stack.version, [DAY])
    assert (day.missing_hours, len(day.hours)) == ((), 24)


def test_days_are_stored_in_order() -> None:
    stack = MonitoredStack()
    *_, last = stack.store_day(n_hours=23)
    stack.store_day(NEXT_DAY)
    stack.now = hours_of_day(NEXT_DAY)[-1].end + timedelta(hours=4)
    assert stack.good_run().n_days == 0
    stack.store_hour(last)
    assert stack.good_run().n_days == 2


def test_damaged_labelled_rides_are_a_missing_hour() -> None:
    stack = MonitoredStack()
    *_, last = stack.store_day()
    stack.s3.objects[labelled_key(last)] = b"PAR1"
    assert (len(stack.good_run().hours), stack.status.n_days) == (23, 0)
    stack.now = last.end + timedelta(hours=48)
    stack.good_run()
    (day,) = load_days(stack.bucket, stack.version, [DAY])
    assert day.missing_hours == (str(last),)


def test_hours_that_were_joined_early_only_and_damaged_summaries_are_missing_hours_after_two_days() -> None:
    stack = MonitoredStack()
    hours = stack.store_day()
    stack.store_hour(hours[1], summary={"pass_number": 0})
    for hour in hours[2:6]:
        stack.s3.objects[summary_key(hour)] = b"{}"
    assert (len(stack.good_run().hours), stack.status.n_days) == (19, 0)
    stack.now = hours[-1].end + timedelta(hours=48)
    assert stack.good_run().n_days == 1
    (day,) = load_days(stack.bucket, stack.version, [DAY])
    assert day.missing_hours == tuple(map(str, hours[1:6]))


def test_a_day_of_which_some_hours_are_not_counted_is_not_judged() -> None:
    reference = reference_of(REFERENCE_DAYS)
    part = Figures(n_judged=3, counts={name: (3, *[0] * 20) for name in reference.edges})
    whole = DayFigures(day=DAY, model_version="green-2023-03-abcdef123456", figures=part)
    assert is_testable(whole, reference.edges)
    mixed = msgspec.structs.replace(whole, figures=merge([part, Figures(n_judged=2)]))
    assert not is_testable(mixed, reference.edges)


def test_foreign_objects_beside_days_and_acknowledgements_are_passed_over() -> None:
    stack = MonitoredStack()
    stack.store_day()
    stack.s3.objects[f"monitor/days/{stack.version}/2026-08-01.json.bak"] = b""
    stack.s3.objects[f"monitor/acknowledged/{stack.version}/data-2026-13-45.json"] = b""
    assert stack.good_run().n_days == 1


@pytest.mark.parametrize("summary", [{"pass_number": 0}, {"n_waiting": 1}])
def test_an_hour_whose_join_is_not_done_has_no_figures_yet(summary: dict[str, int]) -> None:
    stack = MonitoredStack()
    hour, *_ = hours_of_day(DAY)
    stack.store_hour(hour, summary=summary)
    assert stack.good_run().hours == ()
    stack.store_hour(hour)
    assert len(stack.good_run().hours) == 1


def test_hours_that_were_joined_early_are_shown_anew_at_each_run_and_count_for_no_day() -> None:
    stack = MonitoredStack(options=MonitorOptions(mode=CalibrationMode.OFF, shows_early=True))
    hours = hours_of_day(DAY)
    stack.store_hour(hours[0], summary={"pass_number": 0})
    first = stack.good_run()
    stack.store_hour(hours[0], small_rides().head(5), summary={"pass_number": 0})
    second = stack.good_run()
    assert [run.status.latest.n_judged for run in (first, second) if run.status and run.status.latest] == [3, 5]
    for hour in hours[1:]:
        stack.store_hour(hour)
    assert stack.good_run().n_days == 0
    stack.store_hour(hours[0], small_rides().head(5))
    assert stack.good_run().n_days == 1


def test_rides_that_wait_for_ever_are_left_out_after_two_days() -> None:
    stack = MonitoredStack()
    hour, *_ = hours_of_day(DAY)
    stack.store_hour(hour, summary={"n_waiting": 1})
    stack.now = hour.end + timedelta(hours=48)
    assert len(stack.good_run().hours) == 1


def test_a_run_stops_in_time_and_the_next_one_goes_on() -> None:
    stack = MonitoredStack()
    stack.store_day()
    left = iter([900.0, 800.0, 790.0, 790.0, *np.arange(780.0, 0.0, -100.0)])
    run = stack.good_run(time_left_s=lambda: next(left, 0.0))
    assert 0 < len(run.hours) < 24
    assert run.n_left == 24 - len(run.hours)
    again = stack.good_run()
    assert (len(again.hours), again.n_days) == (run.n_left, 1)


# -- the model


def test_the_first_day_of_a_model_is_the_first_that_it_served_from_its_beginning() -> None:
    stack = MonitoredStack()
    stack.store_day(DAY)
    stack.store_day(NEXT_DAY, n_hours=1)
    other = monitored_bundle(2, reference_bytes())
    noon = hours_of_day(DAY)[8].start + timedelta(minutes=30)
    stack.serve(other, noon)
    stack.now = hours_of_day(NEXT_DAY)[0].end + timedelta(hours=4)
    run = stack.good_run()
    assert {one.model_version for one in run.hours} == {other.model_version}
    assert [one.hour for one in run.hours] == [
        str(hour) for hour in (*hours_of_day(DAY)[9:], hours_of_day(NEXT_DAY)[0])
    ]
    assert (run.n_days, stack.status.last_day) == (0, None)
    stack.store_day(NEXT_DAY)
    stack.now += timedelta(days=1)
    assert stack.good_run().n_days == 1
    assert stack.status.last_day == NEXT_DAY


def test_after_a_rollback_the_days_of_the_good_model_go_on_without_a_gap() -> None:
    stack = steady(20)
    begin = stack.status.last_day
    assert begin
    stack.serve(monitored_bundle(2, reference_bytes()), stack.now)
    stack.good_run()
    assert (stack.status.n_days, stack.states()) == (0, {"data": "unknown", "performance": "unknown"})
    rollback(stack.bucket, "stable", stack.version, mover=Mover("ada", lambda: stack.now))
    stack.good_run()
    assert (stack.status.model_version, stack.status.last_day, stack.status.n_days) == (stack.version, begin, 20)


def test_a_channel_without_a_model_is_said() -> None:
    stack = MonitoredStack(options=replace(MonitoredStack().options, channel="other"))
    stack.good_run()
    assert stack.status.missing == ("The channel other holds no model: release one with `ridecast models release`.",)
    assert stack.status.model_version is None


def test_a_model_without_reference_has_errors_and_is_not_judged() -> None:
    stack = MonitoredStack(monitored_bundle(1))
    stack.store_day()
    stack.good_run()
    status = stack.status
    assert stack.states() == {"data": "unknown", "performance": "unknown"}
    assert "train the model again with this version of ridecast" in status.missing[0]
    assert [one.name for one in status.quantities if one.today is not None] == ["bias", "mse", "coverage"]
    assert status.recent


def test_a_damaged_reference_is_said_and_errors_are_shown() -> None:
    stack = MonitoredStack()
    stack.s3.objects[bundle_key(stack.version, REFERENCE)] = b"{}"
    stack.store_hour(hours_of_day(DAY)[0])
    run = stack.run()
    assert "its SHA-256 differs" in stack.status.missing[0]
    assert stack.states() == {"data": "unknown", "performance": "unknown"}
    assert all("reference.json" in str(one.error) for one in run.failures)


def test_nothing_joined_is_said() -> None:
    stack = MonitoredStack()
    stack.good_run()
    assert "No ride was judged yet" in stack.status.missing[-1]


def test_a_day_without_judged_rides_is_said() -> None:
    stack = MonitoredStack()
    hour, later, *_ = hours_of_day(DAY)
    stack.store_hour(hour)
    stack.store_hour(later, duration_minutes=np.full(3, 900.0))
    stack.now = hour.end + timedelta(hours=23)
    stack.good_run()
    assert not stack.status.missing
    stack.now = hour.end + timedelta(hours=24)
    stack.good_run()
    assert f"after the hour {hour} was judged" in stack.status.missing[0]


# -- alarms


def test_steady_days_raise_no_alarm() -> None:
    stack = steady(30)
    assert stack.states() == {"data": "ok", "performance": "ok"}
    assert stack.status.groups[0].text.startswith("Nothing unusual in 30 days, until 2026-09-01")
    quantities = {one.name: one for one in stack.status.quantities}
    assert len(quantities) == 11
    bias = quantities["bias"]
    assert bias.usual_low is not None
    assert bias.usual_high is not None
    assert bias.usual_low < 0.0 < bias.usual_high
    assert {one.state for one in quantities.values()} == {"ok"}


def test_after_an_acknowledgement_the_evidence_is_none_and_the_text_tells_of_the_alarm() -> None:
    stack = MonitoredStack()
    stack.store_days(steady_days(12, first=MONDAY, seed=5, shift=6.0))
    stack.good_run()
    assert stack.status.groups[0].evidence > THRESHOLD
    acknowledge(stack.bucket, "data", Mover("ada", lambda: stack.now))
    stack.good_run()
    data = stack.status.groups[0]
    assert (data.state, data.evidence) == ("ok", 0.0)
    assert data.text == "The alarm of 2026-08-06 was acknowledged, and there was none since, until 2026-08-14."
    assert {one.evidence for one in stack.status.quantities if one.group == "data"} == {0.0}


def test_changed_rides_raise_an_alarm_that_stays_until_it_is_acknowledged() -> None:
    stack = steady(20)
    changed = steady_days(10, first=np.datetime64("2026-08-23"), seed=6, shift=3.0)
    stack.store_days(changed)
    stack.good_run()
    data, performance = stack.status.groups
    assert (data.state, performance.state) == ("alarm", "ok")
    assert data.since is not None
    assert data.quantity is not None
    assert date(2026, 8, 22) <= data.since <= date(2026, 8, 25)
    assert PLAIN_NAMES[data.quantity].capitalize() in data.text
    assert [one["before"] for one in stack.bus.taken if one.get("state") == "alarm"] == ["ok"]
    acknowledge(stack.bucket, "data", Mover("ada", lambda: stack.now))
    stack.good_run()
    assert stack.states() == {"data": "ok", "performance": "ok"}
    last = stack.bus.taken[-1]
    assert (last["group"], last["state"], last["before"]) == ("data", "ok", "alarm")


def test_a_new_model_ends_an_alarm() -> None:
    stack = steady(20)
    stack.store_days(steady_days(10, first=np.datetime64("2026-08-23"), seed=6, bias_minutes=3.0))
    stack.good_run()
    assert stack.states()["performance"] == "alarm"
    stack.serve(monitored_bundle(2, reference_bytes()), stack.now)
    stack.good_run()
    assert stack.states() == {"data": "unknown", "performance": "unknown"}
    assert [(one["before"], one["state"]) for one in stack.bus.taken if one.get("group") == "performance"] == [
        ("unknown", "ok"),
        ("ok", "alarm"),
        ("alarm", "unknown"),
    ]


def test_a_feature_that_is_missing_throughout_raises_an_alarm_that_says_so() -> None:
    stack = steady(20)
    steady_ones = steady_days(8, first=np.datetime64("2026-08-23"), seed=6)
    stack.store_days(without_values(steady_ones, "trip_distance_miles"))
    stack.good_run()
    data, _ = stack.status.groups
    assert (data.state, data.quantity) == ("alarm", "trip_distance_miles")
    assert "missing in 100.0% of the rides" in data.text
    assert next(one for one in stack.status.quantities if one.name == "trip_distance_miles").today is None


# -- calibration


def test_a_run_calibrates_the_channel_and_announces_its_move() -> None:
    stack = MonitoredStack(options=MonitorOptions(stack="ridecast"))
    stack.good_run()
    stack.store_day(DAY)
    stack.now = hours_of_day(DAY)[-1].end + timedelta(hours=4)
    stack.good_run()
    calibration = stack.status.calibration
    assert (calibration.state, calibration.as_of) == ("active", "2026-08-04T04")
    stack.good_run()
    assert stack.status.served_version == f"{stack.version}+2026-08-04T04"
    moves = [one for one in stack.bus.taken if one["DetailType"] == "ridecast channel move"]
    assert [(one["served_version"], one["why"], one["moved_by"]) for one in moves] == [
        (stack.version, "promote", "ada"),
        (f"{stack.version}+2026-08-04T04", "calibration", "monitor"),
    ]
    assert (stack.status.n_days, stack.status.last_day) == (1, DAY)


def test_hours_that_were_joined_before_their_horizon_calibrate_nothing() -> None:
    stack = MonitoredStack(options=MonitorOptions(mode=CalibrationMode.HOURLY))
    for hour in hours_of_day(DAY)[:3]:
        stack.store_hour(hour, summary={"pass_number": 0})
    for later in (6, 25):  # of outcomes that come a day late, the horizon is 25 hours after the hour
        stack.now = hours_of_day(DAY)[0].end + timedelta(hours=later)
        stack.good_run()
        assert stack.status.calibration.state == "learning"
        assert stack.status.calibration.since is None


# -- what fails


def complete_world() -> MonitoredStack:
    """A stack with an alarm to raise, an hour and a day to add, and a move to announce."""
    stack = steady(12)
    stack.store_days(steady_days(4, first=np.datetime64("2026-08-15"), seed=6, shift=9.0))
    hour, *_ = hours_of_day(date(2026, 8, 19))
    stack.store_hour(hour)
    stack.now = hours_of_day(date(2026, 8, 21))[-1].end + timedelta(hours=10)
    stack.serve(stack.bundle, stack.now, "candidate")
    stack.s3.calls.clear()
    return stack


def outcome_of(stack: MonitoredStack) -> tuple[object, ...]:
    """What must be the same in the end, whatever failed on the way."""
    status = stack.status
    kept = {key: body for key, body in stack.s3.objects.items() if key.startswith(("monitor/figures", "monitor/days"))}
    return kept, status.groups, status.quantities, status.recent, status.announced, status.pending, status.missing


@pytest.mark.slow
@pytest.mark.parametrize("fault", [SERVICE_DOWN, AnswerLost()], ids=["refused", "answer lost"])
def test_any_call_may_fail_and_the_next_run_completes_without_losing_an_event(fault: S3Outcome) -> None:
    good = complete_world()
    good.good_run()
    wanted, events = outcome_of(good), good.bus.ids()
    n_calls = len(good.s3.calls)
    begin = complete_world()
    begun, sent = dict(begin.s3.objects), list(begin.bus.taken)
    for place in range(n_calls):
        stack = begin
        stack.s3.objects.clear()
        stack.s3.objects.update(begun)
        stack.bus.taken[:] = sent
        stack.now = hours_of_day(date(2026, 8, 21))[-1].end + timedelta(hours=10)
        stack.s3.script = [*[None] * place, fault]
        with suppress(BucketError):  # of the status itself
            stack.run()
        stack.s3.script = []
        stack.good_run()
        assert outcome_of(stack) == wanted, good.s3.calls[place]
        assert {one.rpartition("/2026")[0] for one in stack.bus.ids()} == {one.rpartition("/2026")[0] for one in events}


def test_a_step_that_fails_leaves_what_was_said_before() -> None:
    stack = steady(20)
    before = stack.status
    stack.s3.objects["channels/stable.json"] = b"{"
    run = stack.run()
    assert {one.step for one in run.failures} == {"model", "calibration", "channel moves"}
    assert stack.status.groups == before.groups
    assert stack.status.pending == ()


def test_of_two_runs_at_once_one_stores_the_status_and_sends() -> None:
    stack = complete_world()
    other = FakeBus()
    mine = stack.bus
    n_before = len(mine.taken)
    now = stack.now

    def run_other() -> None:
        stack.bus, stack.s3.script = other, []
        assert stack.run().status is not None
        stack.bus, stack.now = mine, now

    good = complete_world()
    good.good_run()
    place = good.s3.calls.index(("put", STATUS_KEY))
    stack.s3.script = [*[None] * place, Meanwhile(run_other)]
    run = stack.run()
    assert (run.status, run.failures, len(mine.taken)) == (None, (), n_before)
    assert len(other.taken) == 2
    assert outcome_of(stack) == outcome_of(good)


def test_a_damaged_status_is_replaced() -> None:
    stack = steady(20)
    groups = stack.status.groups
    stack.s3.objects[STATUS_KEY] = b"{"
    run = stack.run()
    assert [one.step for one in run.failures] == ["status"]
    assert stack.status.groups == groups


def test_a_status_with_an_event_that_cannot_be_sent_is_replaced() -> None:
    stack = steady(20)
    event = Event(event_id="a", time="noon", detail_type="ridecast channel move")
    stack.s3.objects[STATUS_KEY] = encode_status(msgspec.structs.replace(stack.status, pending=(event,)))
    assert [one.step for one in stack.run().failures] == ["status"]
    assert stack.run().failures == ()


def test_the_status_of_a_later_version_is_left_alone() -> None:
    stack = MonitoredStack()
    later = encode_status(MonitorStatus(format=2, written_at="", channel="stable"))
    stack.s3.objects[STATUS_KEY] = later
    with pytest.raises(BucketError, match="has format 2, and this version of ridecast reads 1"):
        stack.run()
    assert stack.s3.objects[STATUS_KEY] == later


def test_damaged_figures_are_named_and_block_their_day_only_until_they_are_deleted() -> None:
    stack = MonitoredStack()
    hours = stack.store_day()
    stack.now = hours[12].end
    key = figures_key(stack.version, hours[0])
    stack.s3.objects[key] = b"{"
    stack.now = hours[-1].end + timedelta(hours=4)
    run = stack.run()
    assert all("delete it, and it is made again" in str(one.error) for one in run.failures)
    assert run.n_days == 0
    del stack.s3.objects[key]
    assert stack.good_run().n_days == 1


# -- events


def test_the_first_run_announces_the_present_state_of_each_channel_and_later_ones_each_move_once() -> None:
    stack = MonitoredStack()
    stack.serve(monitored_bundle(2), stack.now)
    stack.serve(stack.bundle, stack.now, "candidate")
    stack.good_run()
    moves = [one for one in stack.bus.taken if one["DetailType"] == "ridecast channel move"]
    assert [(one["channel"], one["model_version"]) for one in moves] == [
        ("candidate", stack.version),
        ("stable", monitored_bundle(2).model_version),
    ]
    stack.serve(stack.bundle, stack.now)
    stack.serve(monitored_bundle(2), stack.now)
    stack.serve(monitored_bundle(2), stack.now, "new")
    stack.good_run()
    stack.good_run()
    moves = [one for one in stack.bus.taken if one["DetailType"] == "ridecast channel move"][2:]
    assert [(one["channel"], one["model_version"], one["why"]) for one in moves] == [
        ("new", monitored_bundle(2).model_version, "promote"),
        ("stable", stack.version, "promote"),
        ("stable", monitored_bundle(2).model_version, "promote"),
    ]
    assert len(stack.bus.ids()) == len(set(stack.bus.ids()))


def test_the_moves_of_the_first_channel_are_announced_if_the_monitor_has_run_before() -> None:
    stack = MonitoredStack()
    for key in stack.s3.keys("channels/") + stack.s3.keys("history/"):
        del stack.s3.objects[key]
    stack.good_run()
    stack.serve(stack.bundle, stack.now)
    stack.serve(monitored_bundle(2), stack.now)
    stack.good_run()
    stack.good_run()
    assert stack.bus.ids() == stack.s3.keys("history/stable/")


def test_of_a_long_history_no_more_entries_are_read_than_are_announced() -> None:
    """An entry holds a whole channel: a year of hourly calibrations would not fit into the function's memory."""
    stack = MonitoredStack()
    for seed in (2, 1, 2, 1, 2):
        stack.serve(monitored_bundle(seed, reference_bytes()), stack.now)
    stack.s3.calls.clear()
    stack.good_run()
    last = stack.s3.keys("history/stable/")[-1]
    assert {key for operation, key in stack.s3.calls if operation == "get" and key.startswith("history/")} == {last}
    assert stack.bus.ids() == [last]
    assert len(read_history(stack.bucket, "stable", n_most=2)) == 2


def test_events_that_are_refused_are_sent_again_alone() -> None:
    stack = MonitoredStack()
    stack.serve(stack.bundle, stack.now, "candidate")
    stack.bus.script = [[0]]
    run = stack.run()
    assert [one.step for one in run.failures] == ["events"]
    assert "ThrottlingException" in str(run.failures[0].error)
    (pending,) = stack.status.pending
    assert stack.good_run().n_sent == 1
    assert stack.bus.ids()[-1] == pending.event_id
    assert len(set(stack.bus.ids())) == len(stack.bus.ids()) == 2
    assert stack.status.pending == ()


def test_no_event_is_lost_while_the_bus_is_away() -> None:
    stack = MonitoredStack()
    stack.bus.script = [DENIED, DENIED]
    stack.run()
    stack.serve(monitored_bundle(2), stack.now)
    stack.run()
    assert stack.bus.taken == []
    stack.good_run()
    assert len(stack.bus.ids()) == len(set(stack.bus.ids())) == 2


def test_many_events_are_sent_ten_at_a_time() -> None:
    stack = MonitoredStack()
    for number in range(23):
        stack.serve(stack.bundle, stack.now, f"channel-{number}")
    stack.good_run()
    assert [len(request) for request in stack.bus.requests] == [10, 10, 4]
