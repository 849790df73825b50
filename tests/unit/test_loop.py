"""A run of the loop ends with a reason, and moves a channel only if everything is for it."""

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from lambda_function.core.channel import channel_key
from tests.builders_channels import gate, move
from tests.builders_loop import START, World, loop_bucket, trained, versions
from tests.builders_status import group_status, monitor_status
from training.errors import UserError
from training.experiments.experiment import experiment_key, read_experiment
from training.experiments.start import stop_experiment
from training.experiments.verdict import Verdict
from training.monitoring.calibration.status import CalibrationStatus
from training.monitoring.monitor.status import STATUS_KEY, encode_status
from training.registry.bucket import Bucket
from training.registry.channels import Mover, rollback
from training.workflows.loop.decisions import after_verdict
from training.workflows.loop.lease import LEASE_KEY, hold_lease
from training.workflows.loop.options import LoopOptions, LoopStart
from training.workflows.loop.requests import CollectRequest, TrainRequest
from training.workflows.loop.run_steps import MAX_TEXT
from training.workflows.loop.state import End, read_run, run_key
from training.workflows.loop.stop import stop_run

CHAMPION, CANDIDATE = versions()
MANUAL = LoopStart(run_id="r1", trigger="manual", reason="by hand")


def ada(world: World) -> Mover:
    return Mover("ada@laptop", world.clock)


def test_better_candidate_is_promoted_and_watched() -> None:
    world = World()
    result = world.run()
    assert result["outcome"] == "promoted"
    assert world.serving == CANDIDATE
    assert [one.why for one in world.moves()] == ["promote"]
    assert [one.model_version for one in world.moves("candidate")] == [CANDIDATE]
    # AND everything is over: lease and experiments
    assert world.lease_holder is None
    assert world.has_stopped("loop-r1")
    assert world.has_stopped("loop-r1-watch")
    # AND each step was told of once, with its reason
    assert [event.event_id for event in world.events] == [f"r1/{one.name}" for one in world.record.steps] + ["r1/end"]
    assert all(event.text for event in world.events)


def test_collector_and_trainer_get_what_they_need() -> None:
    world = World()
    world.resume()
    collect, train = world.workers.requests
    assert isinstance(collect, CollectRequest)
    assert (collect.first, collect.last) == ("2025-11-29", "2026-11-28")
    assert collect.key == "loop/rides/r1.npz"
    assert isinstance(train, TrainRequest)
    assert (train.rides_key, train.channel, train.service, train.gate_days) == (collect.key, "stable", "green", 14)


@pytest.mark.parametrize(("gain_percent", "text"), [(-10.0, "the champion is better"), (0.1, "equivalent")])
def test_champion_is_kept_unless_the_candidate_is_better(gain_percent: float, text: str) -> None:
    world = World(gain_percent=gain_percent)
    result = world.run()
    assert result["outcome"] == "kept"
    assert text in result["text"]
    assert world.serving == CHAMPION
    assert not world.moves()
    assert world.lease_holder is None


def test_new_version_is_rolled_back_if_its_predecessor_is_better() -> None:
    world = World(late_gain_percent=-10.0)
    result = world.run()
    assert result["outcome"] == "rolled back"
    assert world.serving == CHAMPION
    assert [one.why for one in world.moves()] == ["promote", "rollback"]
    assert "-" not in result["text"].split("%")[0]  # the predecessor's gain


# Refusals


def test_run_is_refused_while_another_holds_the_lease() -> None:
    world = World()
    hold_lease(world.bucket, "r0", START)
    result = world.run()
    assert result["outcome"] == "refused"
    assert "run r0 holds the lease" in result["text"]
    assert world.lease_holder == "r0"


def test_lease_that_expired_or_is_damaged_stops_no_run() -> None:
    world = World()
    hold_lease(world.bucket, "r0", START - timedelta(days=2))
    assert world.run()["outcome"] == "promoted"
    naive = b'{"run_id":"r0","taken_at":"2026-11-29T20:00:00","expires_at":"2099-11-29T20:00:00"}'
    deep = b'{"run_id":"r0","more":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    for body in (b"{", b"\xff", naive, deep):
        world = World()
        world.bucket.s3.objects[LEASE_KEY] = body
        assert world.resume() is None
        assert world.lease_holder == "r1"


def refused(world: World) -> str:
    result = world.run()
    assert result["outcome"] == "refused"
    assert world.reason == result["text"]
    assert not world.workers.requests
    assert world.lease_holder is None
    return str(result["text"])


def rejected(bucket: Bucket) -> World:
    """Run to a rejection by the gate, on the day of the start."""
    world = World(bucket=bucket)
    failed = trained(passed=False, failed_rules=("better",), reason="worse on all rides")
    world.workers.on_train = lambda request: world.answer(request.callback_id, failed)
    assert world.run()["outcome"] == "rejected"
    return world


def test_cooldown_follows_a_run_but_not_one_that_was_refused() -> None:
    bucket = loop_bucket()
    first = rejected(bucket)
    second = World(bucket=bucket, clock=first.clock, start=replace(first.start, run_id="r2"))
    assert "run r1 began at" in refused(second)
    first.clock.now += timedelta(days=1)
    third = World(bucket=bucket, clock=first.clock, start=replace(first.start, run_id="r3"))
    assert "run r1 began at" in refused(third)
    # AND a run by hand begins all the same
    fourth = World(bucket=bucket, clock=first.clock, start=LoopStart(run_id="r4", trigger="manual"))
    assert fourth.resume() is None


def test_cooldown_counts_from_the_beginning_of_a_run() -> None:
    # A run of a whole month does not make the schedule skip the next one.
    bucket = loop_bucket()
    first = World(bucket=bucket, gain_percent=-10.0)
    first.run()
    assert first.clock.now - START > timedelta(days=7)
    again = World(bucket=bucket, clock=first.clock, start=replace(first.start, run_id="r2"))
    assert again.resume() is None


def test_cooldown_outlasts_a_storm_of_alarms_and_damaged_records() -> None:
    bucket = loop_bucket()
    first = rejected(bucket)
    record = first.record
    deep = b'{"run_id":"x","more":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    naive = msgspec.json.encode(record).replace(b'Z"', b'"')
    for number in range(120):  # written later than the first run
        storm = msgspec.structs.replace(record, run_id=f"s{number}", end=End("refused", "cooldown"))
        bucket.s3.objects[run_key(storm.run_id)] = msgspec.json.encode(storm)
    bucket.s3.objects |= {run_key("x1"): deep, run_key("x2"): naive, run_key("x3"): b"{"}
    again = World(bucket=bucket, clock=first.clock, start=LoopStart(run_id="alarm-1", trigger="alarm"))
    assert "run r1 began at" in refused(again)


def test_cooldown_follows_a_move_of_the_channel() -> None:
    world = World()
    move(world.bucket, 3, mover=ada(world))
    assert "came to stable at 2026-11-29 20:02" in refused(world)


def test_run_needs_labelled_rides() -> None:
    assert "training needs 10,000,000" in refused(World(options=LoopOptions(min_rides=10_000_000)))
    world = World()
    for key in world.bucket.s3.keys("monitor/hours/"):
        del world.bucket.s3.objects[key]
    assert "no labelled rides of the last 14 days" in refused(world)


def with_status(world: World, **changes: object) -> World:
    world.bucket.s3.objects[STATUS_KEY] = encode_status(monitor_status(**changes))
    return world


def test_run_needs_monitoring_that_is_well() -> None:
    frozen = CalibrationStatus(state="frozen", frozen_reason="half of the outcomes are missing")
    assert "half of the outcomes are missing" in refused(with_status(World(), calibration=frozen))
    assert "looks at other, and not at stable" in refused(with_status(World(), channel="other"))
    world = World()
    del world.bucket.s3.objects[STATUS_KEY]
    assert "monitoring has not run yet" in refused(world)


def test_run_needs_a_channel_with_a_model() -> None:
    world = World()
    world.bucket.s3.objects[channel_key("stable")] = b"{"
    assert "restore" in refused(world)
    world = World()
    del world.bucket.s3.objects[channel_key("stable")]
    assert "is lost" in refused(world)
    world = World()
    for key in [channel_key("stable"), *world.bucket.s3.keys("history/stable/")]:
        del world.bucket.s3.objects[key]
    assert "stable is empty" in refused(world)


def test_run_needs_a_channel_for_its_candidate() -> None:
    world = World()
    move(world.bucket, 3, "candidate", mover=ada(world))
    body = world.bucket.s3.objects.pop(channel_key("candidate"))
    assert "candidate has a history" in refused(world)
    world = World()
    world.bucket.s3.objects[channel_key("candidate")] = body[:-9]
    assert "--channel candidate" in refused(world)


# What training gives


def test_candidate_that_fails_the_gate_goes_nowhere() -> None:
    world = World()
    failed = trained(passed=False, failed_rules=("better", "slices"), reason="worse on all rides")
    world.workers.on_train = lambda request: world.answer(request.callback_id, failed)
    result = world.run()
    assert result["outcome"] == "rejected"
    assert "better, slices" in result["text"]
    assert not world.bucket.s3.keys("channels/candidate")


@pytest.mark.parametrize("against", [3, None])
def test_candidate_needs_a_verdict_against_the_present_champion(against: int | None) -> None:
    world = World()
    gate(world.bucket, 2, against=against)
    assert world.run()["outcome"] == "rejected"


def test_version_that_has_served_before_is_not_promoted_again() -> None:
    world = World(start=MANUAL)
    move(world.bucket, 2, mover=ada(world))
    rollback(world.bucket, "stable", CHAMPION, mover=ada(world))
    result = world.run()
    assert result["outcome"] == "kept"
    assert "has held" in result["text"]
    world = World()
    world.workers.on_train = lambda request: world.answer(request.callback_id, trained(1))
    assert "training gave the champion" in world.run()["text"]


@pytest.mark.parametrize(("kind", "outcome"), [("ContractError", "rejected"), ("OutOfTimeError", "failed")])
def test_worker_that_fails_ends_the_run_with_its_reason(kind: str, outcome: str) -> None:
    world = World()
    world.workers.on_train = lambda request: world.execution.fail(request.callback_id, kind, "all went wrong")
    result = world.run()
    assert (result["outcome"], result["text"]) == (outcome, "train: all went wrong")


@pytest.mark.parametrize(
    ("on", "answer", "problem"),
    [
        ("on_collect", {}, "collect: the answer can't be used .Object missing required field `key`"),
        ("on_train", {"model_version": 3}, r"train: the answer can't be used .*model_version"),
    ],
)
def test_answer_of_another_form_ends_the_run(on: str, answer: dict[str, Any], problem: str) -> None:
    world = World()
    setattr(world.workers, on, lambda request: world.answer(request.callback_id, answer))
    result = world.run()
    assert result["outcome"] == "failed"
    assert world.reason == result["text"]
    assert re.match(problem, result["text"])
    assert world.lease_holder is None


def test_long_texts_of_others_are_cut() -> None:
    world = World()
    world.workers.on_train = lambda request: world.execution.fail(request.callback_id, "Error", "é\n" * 200_000)
    assert world.run()["outcome"] == "failed"
    world = World()
    assert approval(world, {"approved": False, "by": ["x" * 300_000], "reason": "é\n" * 200_000})["outcome"] == "kept"
    assert len(msgspec.json.encode(world.record)) < 50_000
    assert max(len(event.text) for event in world.events) <= MAX_TEXT


def test_run_ends_although_its_experiment_is_damaged() -> None:
    def damage(world: World) -> None:
        world.bucket.s3.objects[experiment_key("loop-r1")] = b"{}"

    world = World(on_day=damage)
    world.resume()
    world.add_days = lambda: None  # type: ignore[method-assign]
    result = world.run()
    assert result["outcome"] == "failed"
    assert world.reason == result["text"]
    assert "is no experiment" in result["text"]
    assert world.lease_holder is None
    # AND so it does if a person stops it
    world = World()
    world.resume()
    damage(world)
    stop_run(world.bucket, "r1", ada(world))
    assert world.lease_holder is None


def test_worker_that_never_answers_is_asked_twice() -> None:
    world = World()
    world.workers.on_train = lambda request: None
    result = world.run()
    assert result["outcome"] == "failed"
    assert "did not come within 1200 s, twice" in result["text"]
    assert [type(one) for one in world.workers.requests] == [CollectRequest, TrainRequest, TrainRequest]
    assert world.clock() - START == timedelta(seconds=2400)


# People


def approval(world: World, answer: dict[str, object] | None) -> dict[str, Any]:
    world.options = LoopOptions(approval="manual")
    while (result := world.resume()) is None:
        waiting = world.record.waiting
        if waiting and waiting.callback_id and answer:
            assert "ridecast loop approve r1" in waiting.what
            assert waiting.until == world.clock() + timedelta(days=7)
            world.answer(waiting.callback_id, answer)
        world.pass_time() if world.execution.next_due() else None
    return result


def test_person_approves_or_declines() -> None:
    world = World()
    assert approval(world, {"approved": True, "by": "ada"})["outcome"] == "promoted"
    assert f"ada approved {CANDIDATE}" in [one.text for one in world.record.steps]
    world = World()
    result = approval(world, {"approved": False, "by": "ada", "reason": "holidays"})
    assert (result["outcome"], world.serving) == ("kept", CHAMPION)
    assert "ada declined" in result["text"]
    assert "holidays" in result["text"]
    world = World()
    assert "nobody approved" in approval(world, None)["text"]


@pytest.mark.parametrize("channel", ["stable", "candidate"])
def test_run_yields_to_a_person_who_moves_a_channel(channel: str) -> None:
    world = World()
    world.resume()
    move(world.bucket, 3, channel=channel, mover=ada(world))
    result = world.run()
    assert result["outcome"] == "yielded"
    assert f"ada@laptop has moved {channel}" in result["text"]
    assert world.serving != CANDIDATE
    assert world.has_stopped("loop-r1")
    assert world.lease_holder is None


def test_run_yields_to_a_person_who_stops_its_experiment() -> None:
    world = World()
    world.resume()
    stop_experiment(world.bucket, "loop-r1", ada(world), "no time")
    assert "ada@laptop has stopped the experiment loop-r1: no time" in world.run()["text"]
    assert not world.moves()


def test_person_stops_a_run() -> None:
    world = World()
    world.resume()
    record = stop_run(world.bucket, "r1", ada(world), "holidays")
    assert world.reason == "ada@laptop stopped it: holidays"
    assert world.lease_holder is None
    assert world.has_stopped("loop-r1")
    result = world.run()
    assert (result["outcome"], world.serving) == ("stopped", CHAMPION)
    assert world.record == record
    with pytest.raises(UserError, match="there is no run r2"):
        stop_run(world.bucket, "r2", ada(world))


def test_run_that_lost_its_lease_moves_nothing() -> None:
    world = World()
    world.resume()
    world.clock.now += timedelta(days=30)
    hold_lease(world.bucket, "r2", world.clock())
    result = world.run()
    assert result["outcome"] == "yielded"
    assert "run r2 holds the lease" in result["text"]
    assert not world.moves()
    assert world.lease_holder == "r2"


# The watch


def test_performance_alarm_and_a_predecessor_ahead_roll_back_early() -> None:
    def on_day(world: World) -> None:
        with_status(world, model_version=world.serving, groups=group_status("performance", "alarm", "it is bad"))

    world = World(late_gain_percent=-10.0, on_day=on_day)
    result = world.run()
    assert result["outcome"] == "rolled back"
    assert "the performance alarm sounds" in result["text"]
    assert len([one for one in world.record.steps if one.name.startswith("watch ")]) < 6
    world = World(on_day=on_day)
    assert world.run()["outcome"] == "promoted"  # the predecessor is not ahead


def test_without_days_of_the_experiment_the_run_ends_after_its_budget() -> None:
    world = World()
    world.add_days = lambda: None  # type: ignore[method-assign]
    result = world.run()
    assert result["outcome"] == "kept"
    assert "days of it are missing" in result["text"]
    assert world.clock() - START == timedelta(days=31)


def test_watch_of_no_days_ends_with_the_promotion() -> None:
    world = World(options=LoopOptions(watch_days=0))
    assert world.run()["outcome"] == "promoted"
    assert read_experiment(world.bucket, "loop-r1-watch") is None


def test_same_run_started_again_gives_the_same_end() -> None:
    world = World()
    first = world.run()
    again = World(bucket=world.bucket, clock=world.clock)
    assert again.run() == first
    assert not again.workers.requests
    assert len(world.moves()) == 1


@pytest.mark.parametrize("run_id", ["", "A", "a/b", "-a", "a" * 65, "a-watch"])
def test_run_ids_can_be_in_keys_and_names(run_id: str) -> None:
    with pytest.raises(UserError, match="no id of a run"):
        LoopStart(run_id=run_id, trigger="manual")
    with pytest.raises(UserError, match="no id of a run"):
        read_run(Bucket(None, ""), run_id)


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UserError, match="cannot keep that channel"):
        LoopOptions(channel="candidate")
    with pytest.raises(UserError, match="the gate has 14 of 14"):
        LoopOptions(training_days=14)
    for budget_days, watch_days in ((0, 7), (3_000_000, 7), (28, -1)):
        with pytest.raises(UserError, match="make no sense"):
            LoopOptions(budget_days=budget_days, watch_days=watch_days)


def test_undecided_candidate_whose_days_contradict_each_other_is_never_promoted() -> None:
    options = LoopOptions(undecided="promote")
    open_end = Verdict("undecided", None, 1.0, -2.0, 4.0, 28, "the budget is over")
    assert after_verdict(open_end, options, is_last_look=True).action == "promote"
    contradiction = msgspec.structs.replace(open_end, is_contradiction=True)
    assert after_verdict(contradiction, options, is_last_look=True).action == "keep"
