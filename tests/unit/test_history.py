"""The history holds each state that a channel ever was in exactly once, whoever ends in the middle of what."""

import json
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_function.core.bundle import channel_key, decode_channel
from tests.builders_kept import ListingS3, ProcessEnd
from tests.fakes import BUCKET, DENIED, SERVICE_DOWN, S3Outcome, point_channel, timed_out
from training.errors import BucketError
from training.registry.bucket import Bucket
from training.registry.channel_history import (
    Move,
    channels_with_history,
    encode_entry,
    has_served,
    history_key,
    next_time,
    read_channel,
    read_history,
)
from training.registry.channels import Mover, move_channel

VERSIONS = [f"green-2021-01-{digit * 12}" for digit in "abc"]
SHA256 = "ab" * 32
NOW = datetime(2026, 11, 21, 22, tzinfo=UTC)
KEY = channel_key("stable")
FAULTS = ("end before", "end after", "lost answer", "resent", "refused")


def mover(name: str = "ada@laptop", now: datetime = NOW) -> Mover:
    return Mover(name, lambda: now)


def move(s3: Any, version: int = 0, channel: str = "stable", by: Mover | None = None) -> Move:
    return move_channel(Bucket(s3, BUCKET), channel, VERSIONS[version], SHA256, mover=by or mover())


class RecordingS3(ListingS3):
    """A bucket that keeps every state that a channel ever was in, and holds its writers to what they promise."""

    def __init__(self) -> None:
        super().__init__()
        self.states: list[Move] = []

    def put_object(self, **request: Any) -> dict[str, Any]:
        """Stores an object: a line never over another, a state never over one without its line."""
        if request["Key"].startswith("history/"):
            assert request["IfNoneMatch"] == "*"
        answer = super().put_object(**request)
        if request["Key"] == KEY:
            assert all(history_key("stable", state) in self.objects for state in self.states)
            state = read_channel(Bucket(ListingS3(self.objects), BUCKET), "stable").state
            assert state
            self.states.append(state)
        return answer


@dataclass
class Actor:
    """A process that runs from one call to S3 to the next, when told to, with a fault at each call that is drawn."""

    job: Callable[[Any], None]
    s3: RecordingS3
    rng: random.Random
    fault_share: float
    is_done: bool = False
    failure: BaseException | None = None
    _go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _paused: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def start(self) -> None:
        """Starts, and waits to be told."""
        threading.Thread(target=self._run, daemon=True).start()

    def step(self) -> None:
        """Runs to the next call, or to the end."""
        self._go.release()
        assert self._paused.acquire(timeout=10)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.s3, name)
        return lambda **request: self._call(lambda: method(**request))

    def _run(self) -> None:
        self._go.acquire()
        try:
            self.job(self)
        except ProcessEnd:
            pass
        except BaseException as failure:  # noqa: BLE001 - raised again by the test's own thread
            self.failure = failure
        self.is_done = True
        self._paused.release()

    def _call(self, call: Callable[[], Any]) -> Any:
        self._pause()
        fault = self.rng.choice(FAULTS) if self.rng.random() < self.fault_share else ""
        if fault == "end before":
            raise ProcessEnd
        if fault == "refused":
            raise SERVICE_DOWN
        answer = call()
        if fault == "resent":  # the answer was lost, and the client has sent it again by itself
            self._pause()
            answer = call()
        if fault == "end after":
            raise ProcessEnd
        if fault == "lost answer":
            raise timed_out()
        return answer

    def _pause(self) -> None:
        self._paused.release()
        self._go.acquire()


class Race:
    """Two movers and a reader who work at once on one channel, by clocks that stand still."""

    def __init__(self, rng: random.Random, fault_share: float) -> None:
        self.s3 = RecordingS3()
        self.made: set[str] = set()
        self.not_made: set[str] = set()
        self._rng = rng
        jobs = (lambda s3: self._move(s3, "ada"), lambda s3: self._move(s3, "grace"), self._read)
        self._actors = [Actor(job, self.s3, rng, fault_share) for job in jobs]

    def run(self) -> None:
        """Lets one after the other make a call, in an order that is drawn, until all have ended."""
        for actor in self._actors:
            actor.start()
        while alive := [actor for actor in self._actors if not actor.is_done]:
            self._rng.choice(alive).step()
        for actor in self._actors:
            if actor.failure:
                raise actor.failure

    def _move(self, s3: Any, name: str) -> None:
        for number in range(3):
            attempt = f"{name}-{number}"
            with suppress(BucketError):  # an attempt in doubt
                try:
                    now = move(s3, self._rng.randrange(len(VERSIONS)), by=mover(attempt))
                    (self.made if now.moved_by == attempt else self.not_made).add(attempt)
                except BucketError:
                    self.not_made.add(attempt)

    def _read(self, s3: Any) -> None:
        for _ in range(2):
            with suppress(BucketError):
                assert set(read_history(Bucket(s3, BUCKET), "stable")) <= set(lines(self.s3.states))


@given(rng=st.randoms(use_true_random=False), fault_share=st.sampled_from([0.0, 0.1, 0.4]))
def test_every_state_has_its_line_once_whoever_ends_where(rng: random.Random, fault_share: float) -> None:
    race = Race(rng, fault_share)
    race.run()
    # The history is the channel's states, each once, in their order.
    assert read_history(Bucket(race.s3, BUCKET), "stable") == tuple(lines(race.s3.states))
    assert len(race.s3.keys("history/")) == len(race.s3.states)
    # Who was told of a move has made it; who was told of another's has not.
    movers = {state.moved_by for state in race.s3.states}
    assert race.made <= movers
    assert not race.not_made & movers


def lines(states: list[Move]) -> list[Any]:
    """What the history must tell of states."""
    found: list[Any] = []
    for state in states:
        s3 = ListingS3()
        point_channel(s3, json.dumps({name: getattr(state, name) for name in state.__struct_fields__}).encode())
        found.extend(read_history(Bucket(s3, BUCKET), "stable"))
    return found


def test_line_tells_who_moved_what_when_and_why() -> None:
    s3 = ListingS3()
    move(s3)
    second = move_channel(
        Bucket(s3, BUCKET), "stable", VERSIONS[1], SHA256, "rollback", mover("grace@ci", NOW + timedelta(1))
    )
    _, line = read_history(Bucket(s3, BUCKET), "stable")
    assert json.loads(encode_entry(line)) == {
        "channel": "stable",
        "model_version": VERSIONS[1],
        "manifest_sha256": SHA256,
        "previous": VERSIONS[0],
        "moved_at": "2026-11-22T22:00:00.000000+00:00",
        "moved_by": "grace@ci",
        "why": "rollback",
        "move_id": second.move_id,
    }
    assert s3.keys("history/") == [
        f"history/stable/20261121T220000.000000Z-{VERSIONS[0]}.json",
        f"history/stable/20261122T220000.000000Z-{VERSIONS[1]}.json",
    ]


def test_function_reads_a_channel_as_ever() -> None:
    s3 = ListingS3()
    moved = move(s3)
    channel = decode_channel(s3.objects[KEY])
    assert (channel.model_version, channel.manifest_sha256) == (VERSIONS[0], SHA256)
    assert (channel.previous, channel.moved_at) == (None, moved.moved_at)


def test_moves_of_one_microsecond_are_a_line_each_in_their_order() -> None:
    s3 = ListingS3()
    for version in (0, 1, 0, 1):
        move(s3, version)
    found = read_history(Bucket(s3, BUCKET), "stable")
    assert [line.model_version for line in found] == [VERSIONS[version] for version in (0, 1, 0, 1)]
    assert [line.moved_at[-12:-6] for line in found] == ["000000", "000001", "000002", "000003"]


def test_mover_whose_clock_is_behind_does_not_move_before_the_last() -> None:
    s3 = ListingS3()
    move(s3)
    moved = move(s3, 1, by=mover(now=NOW - timedelta(hours=1)))
    assert moved.moved_at == "2026-11-21T22:00:00.000001+00:00"


def test_time_is_written_in_utc() -> None:
    here = datetime(2026, 11, 21, 17, tzinfo=timezone(timedelta(hours=-5)))
    assert next_time(here, None) == "2026-11-21T22:00:00.000000+00:00"


def test_state_of_old_gets_its_line_when_it_is_replaced() -> None:
    s3 = ListingS3()
    old = {
        "model_version": VERSIONS[2],
        "manifest_sha256": SHA256,
        "previous": None,
        "moved_at": "2026-01-01T00:00:00Z",
    }
    point_channel(s3, json.dumps(old).encode())
    move(s3)
    first, second = read_history(Bucket(s3, BUCKET), "stable")
    assert (first.model_version, first.moved_by, first.why) == (VERSIONS[2], None, None)
    assert second.previous == VERSIONS[2]


def test_move_whose_line_could_not_be_written_has_moved() -> None:
    s3 = ListingS3(script=[None, None, DENIED])
    moved = move(s3)
    assert s3.keys("history/") == []
    assert read_channel(Bucket(s3, BUCKET), "stable").state == moved
    (line,) = read_history(Bucket(s3, BUCKET), "stable")
    assert line.model_version == moved.model_version
    assert len(s3.keys("history/")) == 1


def test_who_may_only_read_sees_the_present_state_too() -> None:
    s3 = ListingS3(script=[None, None, DENIED])
    move(s3)
    s3.script = [None, DENIED]
    (line,) = read_history(Bucket(s3, BUCKET), "stable")
    assert line.model_version == VERSIONS[0]
    assert s3.keys("history/") == []


def test_state_is_not_replaced_while_its_line_cannot_be_written() -> None:
    s3 = ListingS3(script=[None, None, DENIED])
    before = move(s3)
    s3.script = [None, DENIED]
    with pytest.raises(BucketError, match=r"history/stable/.* cannot be written"):
        move(s3, 1)
    assert read_channel(Bucket(s3, BUCKET), "stable").state == before


def test_what_has_served_is_known_by_channel() -> None:
    s3 = ListingS3()
    move(s3)
    move(s3, 1)
    move(s3, 2, channel="candidate")
    served = {
        version: has_served(Bucket(s3, BUCKET), read_channel(Bucket(s3, BUCKET), "stable"), version)
        for version in VERSIONS
    }
    assert list(served.values()) == [True, True, False]
    assert channels_with_history(Bucket(s3, BUCKET)) == ("candidate", "stable")


def test_channel_without_moves_has_no_history() -> None:
    assert read_history(Bucket(ListingS3(), BUCKET), "stable") == ()


@pytest.mark.parametrize("moved_at", ["yesterday", "2026-11-21T22:00:00"])
def test_channel_without_a_time_is_none(moved_at: str) -> None:
    s3 = ListingS3()
    state = {"model_version": VERSIONS[0], "manifest_sha256": SHA256, "previous": None, "moved_at": moved_at}
    point_channel(s3, json.dumps(state).encode())
    with pytest.raises(BucketError, match="holds no channel: .*" + moved_at[-5:]):
        move(s3)


def test_line_that_is_none_is_told_with_its_key() -> None:
    s3 = ListingS3({f"history/stable/20261121T220000.000000Z-{VERSIONS[0]}.json": b"{}"})
    with pytest.raises(BucketError, match=rf"{VERSIONS[0]}\.json holds no history entry"):
        read_history(Bucket(s3, BUCKET), "stable")


@pytest.mark.parametrize("script", [[SERVICE_DOWN], [None, SERVICE_DOWN]], ids=["channel", "listing"])
def test_history_that_cannot_be_read_is_told(script: list[S3Outcome]) -> None:
    with pytest.raises(BucketError, match="cannot be "):
        read_history(Bucket(ListingS3(script=script), BUCKET), "stable")
