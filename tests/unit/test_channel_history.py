"""The history holds each state of a channel exactly once, wherever a process ends."""

import json
import random
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_function.core.channel import BEGINNING, Channel, channel_key
from tests.builders import small_bundle
from tests.builders_channels import move as move_to
from tests.builders_channels import new_bucket
from tests.fakes import BUCKET, FakeS3, point_channel
from tests.kits.actors import Actor, interleave
from tests.outcomes import DENIED, SERVICE_DOWN, S3Outcome
from training.errors import BucketError
from training.registry.bucket import Bucket
from training.registry.channel_history import (
    channels_with_history,
    encode_entry,
    history_key,
    read_channel,
    read_history,
    served_versions,
    withdrawn_versions,
)
from training.registry.channels import Mover, move_channel, rollback, store_bundle

VERSIONS = [f"green-2021-01-{digit * 12}" for digit in "abc"]
SHA256 = "ab" * 32
NOW = datetime(2026, 11, 21, 22, tzinfo=UTC)
KEY = channel_key("stable")


def mover(name: str = "ada@laptop", now: datetime = NOW) -> Mover:
    return Mover(name, lambda: now)


def move(bucket: Bucket, version: int = 0, channel: str = "stable", by: Mover | None = None) -> Channel:
    return move_channel(bucket, channel, VERSIONS[version], SHA256, mover=by or mover())


class RecordingS3(FakeS3):
    """A bucket that records every state of a channel and checks the promises of its writers."""

    def __init__(self) -> None:
        super().__init__()
        self.states: list[Channel] = []

    def put_object(self, **request: Any) -> dict[str, Any]:
        """Store an object: an entry never over another, a state never over one without an entry."""
        if request["Key"].startswith("history/"):
            assert request["IfNoneMatch"] == "*"
        answer = super().put_object(**request)
        if request["Key"] == KEY:
            assert all(history_key("stable", state) in self.objects for state in self.states)
            state = read_channel(new_bucket(self.objects), "stable").state
            assert state
            self.states.append(state)
        return answer


class Race:
    """Two movers and a reader at the same time on one channel, with stopped clocks."""

    def __init__(self, rng: random.Random, fault_share: float) -> None:
        self.s3 = RecordingS3()
        self.made: set[str] = set()
        self.not_made: set[str] = set()
        self._rng = rng
        jobs = (lambda bucket: self._move(bucket, "ada"), lambda bucket: self._move(bucket, "grace"), self._read)
        self._actors = [Actor(job, self.s3, rng, fault_share) for job in jobs]

    def run(self) -> None:
        """Let one after the other make a call, in random order, until all have ended."""
        interleave(self._actors, self._rng)

    def _move(self, bucket: Bucket, name: str) -> None:
        for number in range(3):
            attempt = f"{name}-{number}"
            with suppress(BucketError):  # it is unknown whether the move was made
                try:
                    now = move(bucket, self._rng.randrange(len(VERSIONS)), by=mover(attempt))
                    (self.made if now.moved_by == attempt else self.not_made).add(attempt)
                except BucketError as error:
                    if "meanwhile" not in str(error):
                        raise
                    self.not_made.add(attempt)

    def _read(self, bucket: Bucket) -> None:
        for _ in range(2):
            with suppress(BucketError):
                assert set(read_history(bucket, "stable")) <= set(entries(self.s3.states))


@given(rng=st.randoms(use_true_random=False), fault_share=st.sampled_from([0.0, 0.1, 0.4]))
def test_every_state_has_one_entry_wherever_a_process_ends(rng: random.Random, fault_share: float) -> None:
    race = Race(rng, fault_share)
    race.run()
    assert read_history(Bucket(race.s3, BUCKET), "stable") == tuple(entries(race.s3.states))
    assert len(race.s3.keys("history/")) == len(race.s3.states)
    # A reported success is a move; a reported conflict is none.
    movers = {state.moved_by for state in race.s3.states}
    assert race.made <= movers
    assert not race.not_made & movers


def entries(states: list[Channel]) -> list[Any]:
    """The history entries of states."""
    found: list[Any] = []
    for state in states:
        bucket = new_bucket()
        point_channel(bucket.s3, msgspec.json.encode(state))
        found.extend(read_history(bucket, "stable"))
    return found


def test_entry_holds_who_moved_what_when_and_why() -> None:
    bucket = new_bucket()
    move(bucket)
    second = move_channel(bucket, "stable", VERSIONS[1], SHA256, "force", mover("grace@ci", NOW + timedelta(1)))
    _, entry = read_history(bucket, "stable")
    assert json.loads(encode_entry(entry)) == {
        "channel": "stable",
        "model_version": VERSIONS[1],
        "effective_from": "2026-11-22T22:02:30.000000+00:00",
        "withdrawn": None,
        "moved_at": "2026-11-22T22:00:00.000000+00:00",
        "moved_by": "grace@ci",
        "why": "force",
        "move_id": second.move_id,
        "segments": json.loads(msgspec.json.encode(second.segments)),
    }
    assert bucket.s3.keys("history/") == [
        f"history/stable/20261121T220000.000000Z-{VERSIONS[0]}.json",
        f"history/stable/20261122T220000.000000Z-{VERSIONS[1]}.json",
    ]


def test_moves_in_one_microsecond_or_by_a_slow_clock_have_an_entry_each_in_order() -> None:
    bucket = new_bucket()
    for version, now in ((0, NOW), (1, NOW), (0, NOW), (1, NOW - timedelta(hours=1))):
        move(bucket, version, by=mover(now=now))
    found = read_history(bucket, "stable")
    assert [entry.model_version for entry in found] == [VERSIONS[version] for version in (0, 1, 0, 1)]
    assert [entry.moved_at for entry in found] == [f"2026-11-21T22:00:00.00000{n}+00:00" for n in range(4)]


def test_old_state_gets_its_entry_when_it_is_replaced() -> None:
    bucket = new_bucket()
    old = {
        "model_version": VERSIONS[2],
        "manifest_sha256": SHA256,
        "previous": None,
        "moved_at": "2026-01-01T00:00:00Z",
    }
    point_channel(bucket.s3, json.dumps(old).encode())
    move(bucket)
    first, second = read_history(bucket, "stable")
    assert (first.model_version, first.moved_by, first.why) == (VERSIONS[2], None, None)
    assert second.previous == VERSIONS[2]
    assert [segment.effective_from for segment in second.segments[1:]] == [BEGINNING]


def test_reader_without_permission_to_write_sees_the_present_state() -> None:
    bucket = new_bucket(script=[None, None, None, DENIED])
    move(bucket)
    bucket.s3.script = [None, DENIED]
    (entry,) = read_history(bucket, "stable")
    assert entry.model_version == VERSIONS[0]
    assert bucket.s3.keys("history/") == []


def test_state_is_not_replaced_while_its_entry_cannot_be_written() -> None:
    bucket = new_bucket(script=[None, None, None, DENIED])
    before = move(bucket)
    bucket.s3.script = [None, DENIED]
    with pytest.raises(BucketError, match=r"history/stable/.* cannot be written"):
        move(bucket, 1)
    assert read_channel(bucket, "stable").state == before


def test_served_versions_are_listed_by_channel() -> None:
    bucket = new_bucket()
    move(bucket)
    move(bucket, 1)
    move(bucket, 2, channel="candidate")
    assert served_versions(bucket, read_channel(bucket, "stable")) == set(VERSIONS[:2])
    assert channels_with_history(bucket) == ("candidate", "stable")


HOUR_S = 3600.0


def test_withdrawn_version_is_one_for_the_records_that_it_may_have_served() -> None:
    # GIVEN a segment of version 2 from 22:02:30 on, which is rolled back to version 1 an hour later
    bucket, at_s = new_bucket(), NOW.timestamp()
    for seed in (1, 2):
        store_bundle(bucket, small_bundle(seed))
        move_to(bucket, seed, mover=mover(now=NOW - (2 - seed) * timedelta(days=1)))
    withdrawn = small_bundle(2).model_version
    assert withdrawn not in withdrawn_versions(bucket, "stable")
    rollback(bucket, "stable", small_bundle(1).model_version, mover=mover(now=NOW + timedelta(hours=1)))
    assert withdrawn in withdrawn_versions(bucket, "stable")
    # THEN it counts as withdrawn for the arrivals since then, and until the functions have read the channel
    assert withdrawn not in withdrawn_versions(bucket, "stable", at_s, at_s + 150)
    assert withdrawn in withdrawn_versions(bucket, "stable", at_s, at_s + 151)
    assert withdrawn in withdrawn_versions(bucket, "stable", at_s + HOUR_S + 149, at_s + 2 * HOUR_S)
    assert withdrawn not in withdrawn_versions(bucket, "stable", at_s + HOUR_S + 151, at_s + 2 * HOUR_S)
    # AND later moves, a history that lacks the last entry, and a damaged channel change nothing
    bucket.s3.objects.pop(max(bucket.s3.keys("history/stable/")))
    assert withdrawn in withdrawn_versions(bucket, "stable")
    move_to(bucket, 3, mover=mover(now=NOW + timedelta(hours=3)))
    assert withdrawn in withdrawn_versions(bucket, "stable")
    bucket.s3.objects[KEY] = b"{"
    assert withdrawn in withdrawn_versions(bucket, "stable")


@pytest.mark.parametrize("moved_at", ["yesterday", "2026-11-21T22:00:00"])
def test_channel_without_a_time_is_an_error(moved_at: str) -> None:
    bucket = new_bucket()
    state = {"model_version": VERSIONS[0], "manifest_sha256": SHA256, "previous": None, "moved_at": moved_at}
    point_channel(bucket.s3, json.dumps(state).encode())
    with pytest.raises(BucketError, match="is damaged: .*" + moved_at[-5:]):
        move(bucket)


def test_object_that_is_not_an_entry_is_an_error_with_its_key() -> None:
    bucket = new_bucket({f"history/stable/20261121T220000.000000Z-{VERSIONS[0]}.json": b"{}"})
    with pytest.raises(BucketError, match=rf"{VERSIONS[0]}\.json holds no history entry"):
        read_history(bucket, "stable")


@pytest.mark.parametrize("script", [[SERVICE_DOWN], [None, SERVICE_DOWN]], ids=["channel", "listing"])
def test_history_that_cannot_be_read_is_an_error(script: list[S3Outcome]) -> None:
    with pytest.raises(BucketError, match="cannot be "):
        read_history(new_bucket(script=script), "stable")
