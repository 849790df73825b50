"""A run of the loop that is cut off anywhere, fails anywhere, or meets others, moves each channel once at most."""

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders_channels import move
from tests.builders_failed import ProcessEnd
from tests.builders_loop import START, FakeWorkers, World, versions
from tests.fakes import BUCKET
from tests.kits.actors import Actor, interleave
from tests.kits.loop_faults import FAULTS, FaultyCheckpoints, StepFaults, Watched
from training.errors import UserError
from training.experiments.start import stop_experiment
from training.registry.bucket import Bucket
from training.registry.channel_history import HistoryEntry, read_history
from training.registry.channels import Mover, promote, rollback
from training.workflows.loop.flow import SLACK_DAYS, run_loop
from training.workflows.loop.lease import LEASE_S
from training.workflows.loop.options import LoopOptions, LoopStart, mover_name
from training.workflows.loop.state import read_run
from training.workflows.loop.stop import stop_run

CHAMPION, CANDIDATE = versions()
FEW_HOURS = LoopOptions(gate_days=1, training_days=8, min_rides=1)
"""Reads the labelled rides of one day only."""

N_CALLS = 100
"""More than any step makes."""


def rolled_back_world() -> World:
    """A run with every step: its candidate is better until it serves, and then it is not."""
    return World(options=FEW_HOURS, late_gain_percent=-10.0)


def run_with(world: World, faults: StepFaults) -> dict[str, Any]:
    """Run to the end. A process that ends is followed by another, with what was recorded."""
    parts = world.parts(Bucket(Watched(world.bucket.s3, faults), BUCKET, n_threads=1))
    tell = parts.tell
    parts = replace(
        parts, workers=Watched(parts.workers, faults), tell=lambda event: faults.around(lambda: tell(event))
    )
    while True:
        with suppress(ProcessEnd):
            result = world.execution.resume(
                lambda checkpoints: run_loop(FaultyCheckpoints(checkpoints, faults), parts, world.start)
            )
            if result is not None:
                return result
            world.pass_time()


def assert_rolled_back_once(world: World) -> None:
    assert world.serving == CHAMPION
    assert [(one.why, one.model_version) for one in world.moves()] == [("promote", CANDIDATE), ("rollback", CHAMPION)]
    assert len(read_history(world.bucket, "stable")) == 3  # the champion's first move
    assert [one.model_version for one in world.moves("candidate")] == [CANDIDATE]
    assert world.has_stopped("loop-r1")
    assert world.has_stopped("loop-r1-watch")
    assert world.lease_holder is None
    assert {event.event_id for event in world.events} == {f"r1/{one.name}" for one in world.record.steps} | {"r1/end"}
    assert len({event.text for event in world.events if event.step == "promote"}) == 1
    assert len({(type(one), one.run_id) for one in world.workers.requests}) == 2  # asked again, for the same


@pytest.mark.parametrize("fault", FAULTS)
def test_any_call_of_any_step_may_fail_or_be_the_last_of_its_process(fault: str) -> None:
    n_faults = 0
    for n_call in range(N_CALLS):
        world, faults = rolled_back_world(), StepFaults(n_call, fault)
        assert run_with(world, faults)["outcome"] == "rolled back"
        assert_rolled_back_once(world)
        n_faults += faults.n_failed
        if faults.n_failed <= 1:  # the first step has many more, which only read: the next test has them
            break
    else:
        pytest.fail("steps make more calls")
    assert n_faults > 200


@pytest.mark.parametrize("fault", FAULTS)
def test_any_call_of_the_decision_may_fail_or_be_the_last_of_its_process(fault: str) -> None:
    for n_call in range(N_CALLS):
        world, faults = rolled_back_world(), StepFaults(n_call, fault)
        world.workers.on_collect = lambda request: world.execution.fail(request.callback_id, "OutOfTimeError", "slow")  # noqa: B023
        assert run_with(world, faults)["outcome"] == "failed"
        assert [one.name for one in world.record.steps] == ["decide", "collect"]
        assert world.lease_holder is None
        if not faults.n_failed:
            break
    else:
        pytest.fail("steps make more calls")


def test_s3_may_be_away_for_an_hour_at_any_time() -> None:
    days = (0.0, *(24.0 * day - 0.5 for day in range(14)))
    for begins_h in days:
        world = rolled_back_world()
        begins = START + timedelta(hours=begins_h)
        faults = StepFaults(is_down=lambda: begins <= world.clock() < begins + timedelta(hours=1))  # noqa: B023
        assert run_with(world, faults)["outcome"] == "rolled back"
        assert_rolled_back_once(world)


def test_run_whose_end_could_not_be_recorded_loses_its_lease() -> None:
    world = rolled_back_world()
    world.resume()
    faults = StepFaults(is_down=lambda: True)
    with pytest.raises(Exception, match="step end failed at every attempt"):
        run_with(world, faults)
    assert world.lease_holder == "r1"
    world.clock.now += timedelta(seconds=LEASE_S)
    assert world.lease_holder is None


# People in the middle of a step


def a_person(world: World) -> Mover:
    return Mover("ada", world.clock)


DEEDS: dict[str, Callable[[Bucket, Mover], object]] = {
    "moves stable": lambda bucket, ada: move(bucket, 3, mover=ada),
    "promotes the candidate": lambda bucket, ada: promote(bucket, "stable", CANDIDATE, mover=ada),
    "rolls back": lambda bucket, ada: rollback(bucket, "stable", CHAMPION, mover=ada),
    "moves candidate": lambda bucket, ada: move(bucket, 3, "candidate", mover=ada),
    "stops the experiment": lambda bucket, ada: stop_experiment(bucket, "loop-r1", ada, "no time"),
    "stops the run": lambda bucket, ada: stop_run(bucket, "r1", ada),
}


@pytest.mark.parametrize(
    ("step", "deed"),
    [("promote", "moves stable"), ("promote", "promotes the candidate"), ("roll back", "moves stable")],
)
def test_person_may_move_the_channel_at_any_call_of_a_move(step: str, deed: str) -> None:
    for n_call in range(N_CALLS):
        world = rolled_back_world()
        faults = StepFaults(
            n_call,
            "meanwhile",
            only=step,
            deed=lambda: DEEDS[deed](world.bucket, a_person(world)),  # noqa: B023
        )
        result = run_with(world, faults)
        movers = [one.moved_by for one in read_history(world.bucket, "stable")][1:]
        if not faults.n_failed:
            break
        # THEN the loop moves nothing after the person, and says who was there, unless it had ended
        assert "ada" not in movers or set(movers[movers.index("ada") :]) == {"ada"}
        assert result["outcome"] in {"yielded", "rolled back"}
        assert "ada has moved stable" in result["text"] or result["outcome"] == "rolled back"
    assert n_call > 5


def test_run_whose_promotion_was_taken_back_before_it_was_recorded_does_not_promote_again() -> None:
    assert_not_again("promote", lambda bucket, ada: rollback(bucket, "stable", CHAMPION, mover=ada), ["promote"])


def test_run_whose_rollback_was_reversed_before_it_was_recorded_does_not_roll_back_again() -> None:
    again: Callable[[Bucket, Mover], object] = lambda bucket, ada: promote(bucket, "stable", CANDIDATE, mover=ada)  # noqa: E731
    assert_not_again("roll back", again, ["promote", "rollback"])


def assert_not_again(step: str, deed: Callable[[Bucket, Mover], object], whys: list[str]) -> None:
    """A process that ends after its move and before its record leaves the move to be found in the history."""
    world = rolled_back_world()
    ended = False

    def end_after_move(*arguments: Any, **request: Any) -> Any:
        nonlocal ended
        answer = type(world.bucket.s3).put_object(world.bucket.s3, *arguments, **request)
        if not ended and [one.why for one in world.moves()] == whys and request["Key"].startswith("history/stable"):
            ended = True
            raise ProcessEnd
        return answer

    world.bucket.s3.put_object = end_after_move
    while not ended:
        with suppress(ProcessEnd):
            world.resume(Bucket(world.bucket.s3, BUCKET, n_threads=1))
            world.pass_time()
    deed(world.bucket, a_person(world))
    result = world.run()
    assert result["outcome"] == "yielded"
    assert "ada has moved stable" in result["text"]
    assert [one.why for one in world.moves()] == whys


# Others at the same time


@dataclass
class Company:
    """Executions of the loop and a person on one bucket, all of whose calls come in random order and may fail."""

    rng: random.Random
    fault_share: float
    run_ids: tuple[str, ...]
    deed: Callable[[Bucket, Mover], object] | None
    deed_round: int

    def __post_init__(self) -> None:
        self.world = World(options=FEW_HOURS, late_gain_percent=self.rng.choice([10.0, -10.0]))
        others = (LoopStart(run_id=run_id, trigger="manual") for run_id in self.run_ids[1:])
        self.worlds = [self.world, *(replace(self.world, start=start, workers=FakeWorkers()) for start in others)]

    def run(self) -> None:
        """Let all run until they have ended."""
        for number in range(100):
            going = [world for world in self.worlds if not world.execution.is_over]
            if not going:
                return
            actors = [self._actor(self._resume(world)) for world in going]
            if self.deed and number == self.deed_round:
                actors.append(self._actor(self._do_deed))
            interleave(actors, self.rng)
            self._pass_time(going)
        pytest.fail("a run does not end")

    def _actor(self, job: Callable[[Bucket], None]) -> Actor:
        return Actor(job, self.world.bucket.s3, self.rng, self.fault_share)

    def _resume(self, world: World) -> Callable[[Bucket], None]:
        def resume(bucket: Bucket) -> None:
            world.resume(bucket)

        return resume

    def _do_deed(self, bucket: Bucket) -> None:
        assert self.deed
        with suppress(UserError):
            self.deed(bucket, Mover("ada", self.world.clock))

    def _pass_time(self, going: list[World]) -> None:
        dues = [due for world in going if (due := world.execution.next_due())]
        if dues:
            self.world.clock.now = max(min(dues), self.world.clock.now)
            self.world.add_days()


@given(
    seed=st.integers(0, 2**32 - 1),
    fault_share=st.sampled_from([0.0, 0.02, 0.05]),
    run_ids=st.sampled_from([("r1",), ("r1", "r1"), ("r1", "r2")]),
    deed=st.sampled_from(["", *DEEDS]),
    deed_round=st.integers(0, 14),
)
def test_runs_and_people_at_the_same_time(
    seed: int, fault_share: float, run_ids: tuple[str, ...], deed: str, deed_round: int
) -> None:
    company = Company(random.Random(seed), fault_share, run_ids, DEEDS.get(deed), deed_round)  # noqa: S311 - a test
    company.run()
    assert_in_order(company, run_ids, deed)


def assert_in_order(company: Company, run_ids: tuple[str, ...], deed: str) -> None:
    """Whatever happened: each run moved each channel once at most, and yielded to people."""
    fault_share = company.fault_share
    bucket = company.world.bucket
    history = read_history(bucket, "stable")
    # Each run has promoted once at most, and every move has its mover.
    for run_id in run_ids:
        own = [one.why for one in history if one.moved_by == mover_name(run_id)]
        assert own in ([], ["promote"], ["promote", "rollback"])
        check_watch([one for one in history if one.moved_by == mover_name(run_id)])
        record = read_run(bucket, run_id)
        assert record is None or record.end or fault_share
    assert {one.moved_by for one in history} <= {"ada", *map(mover_name, run_ids)}
    # After a person's move the loop moves nothing.
    movers = [one.moved_by for one in history[1:]]
    if "ada" in movers:
        assert set(movers[movers.index("ada") :]) == {"ada"}
    # What serves is what the records say.
    ends = [record.end.outcome for run_id in {*run_ids} if (record := read_run(bucket, run_id)) and record.end]
    if "promoted" in ends and "ada" not in movers:
        assert company.world.serving == CANDIDATE
    if not deed and not fault_share:
        assert sorted(ends) in (["promoted"], ["rolled back"], ["promoted", "refused"], ["refused", "rolled back"])
    company.world.clock.now += timedelta(seconds=LEASE_S)
    assert company.world.lease_holder is None


def check_watch(own: list[HistoryEntry]) -> None:
    """A version that is worse serves no longer than the watch, a day of joining and retries."""
    if len(own) == 2:
        promoted, rolled_back = (datetime.fromisoformat(one.moved_at) for one in own)
        assert rolled_back - promoted < timedelta(days=FEW_HOURS.watch_days + SLACK_DAYS + 1)
