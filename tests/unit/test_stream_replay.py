"""Replay of a stream: every record of a time comes to the function as it was, wherever the replay is interrupted."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.operate.lambda_event import lambda_records
from infra.operate.replayer import PATIENCE_S, Replayer
from infra.operate.stream_replay import ReplayState, StreamReplay
from infra.operate.streams import Timing
from tests.builders import SHARD_ID, STREAM, STREAM_ARN
from tests.builders_failed import FUNCTION_ARN, Countdown, Mortal, ProcessEnd
from tests.fakes import FakeClock, FakeKinesis
from tests.fakes_lambda import EchoFunction, FakeLambda, OpenFrom
from training.errors import UserError

START_S = 1_700_000_000.0


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(START_S + seconds, UTC)


class Stream:
    """A stream with a record each second from START_S on, some before a split and some after it, and a function."""

    def __init__(self, n_records: int = 8, split_after: Iterable[int] = (4,), **options: Any) -> None:
        self.clock = FakeClock(START_S)
        self.kinesis = FakeKinesis(clock=self.clock, **options)
        self.function = EchoFunction()
        self.client = FakeLambda(self.function)
        for number in range(n_records):
            if number in split_after:
                self.kinesis.split_shard(len(self.kinesis.shards) - 1)
            self.kinesis.put(str(number).encode(), partition_key=str(number))
            self.clock.advance(1)

    def replay(
        self,
        state: ReplayState,
        countdown: Countdown | None = None,
        rate_per_s: float = 1000.0,
        *,
        is_dry: bool = False,
    ) -> StreamReplay:
        """A replay of one process."""
        timing = Timing(self.clock, self.clock.sleep)
        countdown = countdown or Countdown()
        replayer = Replayer(Mortal(self.client, countdown), FUNCTION_ARN, timing)
        return StreamReplay(Mortal(self.kinesis, countdown), None if is_dry else replayer, state, rate_per_s, timing)

    def run(self, state: ReplayState, **options: Any) -> None:
        """Run a replay to its end."""
        for _ in self.replay(state, **options).run():
            pass

    def expected(self, first: int, end: int) -> dict[str, bytes]:
        """The data of the records put from second `first` to `end`, by event id."""
        return {
            f"{shard.shard_id}:{record['SequenceNumber']}": record["Data"]
            for shard in self.kinesis.shards.values()
            for record in shard.records
            if at(first) <= record["ApproximateArrivalTimestamp"] < at(end)
        }

    @property
    def published(self) -> list[tuple[str, bytes]]:
        """What the function has published, with repeats."""
        return self.function.published


def state(first: int = 0, end: int = 100, shard_id: str | None = None) -> ReplayState:
    return ReplayState(STREAM, at(first), at(end), shard_id)


@pytest.mark.parametrize(("first", "end"), [(0, 100), (2, 6), (5, 6), (7, 8), (8, 9)])
def test_records_of_the_time_come_once_and_nothing_is_put_onto_the_stream(first: int, end: int) -> None:
    stream = Stream()
    stream.run(state(first, end))
    assert len(stream.published) == len(stream.expected(first, end))
    assert dict(stream.published) == stream.expected(first, end)
    assert stream.kinesis.calls("put_records") == []


def test_records_come_exactly_as_lambda_brings_them() -> None:
    stream = Stream(split_after=())
    stream.run(state())
    (event,) = stream.client.events
    records = stream.kinesis.shards[SHARD_ID].records
    assert event == {"Records": lambda_records(records, SHARD_ID, STREAM_ARN), "ridecast": {"replay": True}}


def test_parent_comes_before_its_children_and_only_the_wanted_shard_comes() -> None:
    stream = Stream(split_after=(3, 5))
    stream.run(state())
    order = [event["Records"][0]["eventID"].partition(":")[0] for event in stream.client.events]
    assert order == sorted(order)
    stream.function.published.clear()
    stream.run(state(shard_id=SHARD_ID))
    assert [data for _, data in stream.published] == [b"0", b"1", b"2"]


def test_shard_that_is_not_there_is_a_sentence() -> None:
    with pytest.raises(UserError, match="stream ride-events has no shard shardId-9: it has shardId-000000000000"):
        Stream(split_after=()).run(state(shard_id="shardId-9"))


def test_rate_is_kept() -> None:
    stream = Stream(split_after=())
    before_s = stream.clock()
    stream.run(state(), rate_per_s=2.0)
    assert [len(event["Records"]) for event in stream.client.events] == [2, 2, 2, 2]
    assert stream.clock() - before_s == pytest.approx(3.0)


def test_dry_run_counts_and_brings_nothing() -> None:
    stream, counted = Stream(), state(2, 6)
    stream.run(counted, is_dry=True)
    assert (counted.n_replayed, stream.client.events) == (4, [])


def test_rejected_records_are_counted_and_done() -> None:
    stream, counted = Stream(split_after=()), state()
    stream.function.rejects = set(list(stream.expected(0, 100))[:3])
    stream.run(counted)
    assert (counted.n_replayed, counted.n_rejected) == (8, 3)


def test_records_that_stay_open_end_the_replay_and_the_next_one_goes_on_there() -> None:
    stream, left = Stream(split_after=()), state()
    stream.client.script = [OpenFrom(5), *[OpenFrom(0)] * int(PATIENCE_S)]
    with pytest.raises(UserError, match=r"5 records are replayed, and then 3 of .* stayed open: .*--resume"):
        stream.run(left)
    stream.client.script.clear()
    stream.run(left)
    assert [data for _, data in stream.published] == [str(n).encode() for n in range(8)]


def test_reads_that_fail_for_the_moment_are_repeated_and_nothing_is_missed() -> None:
    stream = Stream(read_script=[{}, None, {}, {}])
    stream.kinesis.n_cut_off = 2
    stream.run(state())
    assert dict(stream.published) == stream.expected(0, 100)


def test_stream_that_cannot_be_read_ends_with_a_sentence() -> None:
    with pytest.raises(UserError, match="stream ride-events could not be read for 60 s"):
        Stream(read_script=[{}] * 10_000).run(state())


INTERRUPTIONS = st.lists(st.tuples(st.integers(0, 25), st.booleans()), max_size=5)


@given(INTERRUPTIONS, st.sets(st.integers(1, 11), max_size=3), st.integers(1, 4), st.tuples(*[st.integers(0, 13)] * 2))
def test_after_any_interruptions_a_consumer_that_upserts_holds_one_prediction_a_record(
    interruptions: list[tuple[int, bool]], splits: set[int], chunk_size: int, between: tuple[int, int]
) -> None:
    first, end = sorted(between)
    stream, left = Stream(12, splits), state(first, end)
    n_ended = 0
    for countdown in [*(Countdown(*one) for one in interruptions), None]:
        try:
            stream.run(left, countdown=countdown, rate_per_s=float(chunk_size))
        except ProcessEnd:
            n_ended += 1
        left = msgspec.json.decode(msgspec.json.encode(left), type=ReplayState)  # as the file keeps it
    assert dict(stream.published) == stream.expected(first, end)
    assert len(stream.published) - len(stream.expected(first, end)) <= n_ended * chunk_size
    assert left.n_replayed == len(stream.expected(first, end))
    assert stream.kinesis.calls("put_records") == []
