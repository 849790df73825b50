"""The command line's side of Kinesis: ride events encoded, paced onto a stream, and read back."""

import itertools
import json
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from infra.streams import (
    Entry,
    ShardReader,
    StartingPosition,
    StreamReader,
    StreamStalledError,
    Timing,
    publish,
    ride_event_bytes,
    tail,
)
from tests.fakes_kinesis import FakeClock, FakeKinesis

SHARD = "shardId-000000000000"


class FakePut:
    """Takes entries, but for the positions that its 1st, 2nd, … call refuses."""

    def __init__(self, refused: Sequence[AbstractSet[int]] = ()) -> None:
        self.taken: list[Entry] = []
        self.sizes: list[int] = []
        self._refused = iter(refused)

    def __call__(self, entries: Sequence[Entry]) -> list[int]:
        """Returns the positions refused."""
        refused = {position for position in next(self._refused, set[int]()) if position < len(entries)}
        self.sizes.append(len(entries))
        self.taken += [entry for position, entry in enumerate(entries) if position not in refused]
        return list(refused)


def entries(n: int) -> list[Entry]:
    return [(str(i), f"ride {i}".encode()) for i in range(n)]


def timing(clock: FakeClock, jitter: float = 0.5) -> Timing:
    return Timing(clock, clock.sleep, lambda: jitter)


def encode(ride_ids: Sequence[int | str], miles: float = 3.66, when: str = "2021-01-05T08:15:00") -> list[bytes]:
    n = len(ride_ids)
    return ride_event_bytes(
        np.full(n, 130), np.full(n, 205), np.full(n, miles), np.full(n, np.datetime64(when, "s")), ride_ids
    )


def reader(kinesis: FakeKinesis, starting_position: StartingPosition = "TRIM_HORIZON") -> ShardReader:
    return ShardReader(kinesis, "ride-events", SHARD, starting_position, wall_clock=kinesis.clock)


def data(records: list[dict[str, Any]]) -> list[bytes]:
    return [record["Data"] for record in records]


# -- ride events


@given(
    rides=st.lists(
        st.tuples(
            st.integers(1, 265),
            st.integers(1, 265),
            st.floats(0, allow_infinity=False, allow_nan=False),
            st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)).map(lambda when: when.replace(microsecond=0)),  # noqa: DTZ001 - New York's wall clock
            st.one_of(st.integers(), st.text()),
        )
    )
)
def test_ride_events_are_what_json_would_write(rides: list[tuple[int, int, float, datetime, int | str]]) -> None:
    encoded = ride_event_bytes(
        np.array([ride[0] for ride in rides], np.int64),
        np.array([ride[1] for ride in rides], np.int64),
        np.array([ride[2] for ride in rides], np.float64),
        np.array([ride[3] for ride in rides], "M8[s]"),
        [ride[4] for ride in rides],
    )

    assert encoded == [
        json.dumps(
            {
                "ride": {
                    "PULocationID": pickup,
                    "DOLocationID": dropoff,
                    "trip_distance": miles,
                    "pickup_datetime": when.isoformat(),
                },
                "ride_id": ride_id,
            }
        ).encode()
        for pickup, dropoff, miles, when, ride_id in rides
    ]


@pytest.mark.parametrize("miles", [np.nan, np.inf])
def test_ride_without_a_distance_is_not_encoded(miles: float) -> None:
    with pytest.raises(ValueError, match="finite trip distance"):
        encode([1], miles=miles)


def test_ride_without_a_pickup_time_is_not_encoded() -> None:
    with pytest.raises(ValueError, match="pickup time"):
        encode([1], when="NaT")


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="argument"):
        ride_event_bytes(np.full(2, 1), np.full(2, 1), np.full(2, 1.0), np.full(2, np.datetime64(0, "s")), [7])


# -- publishing


def test_entries_go_in_order_in_chunks_of_500_and_are_counted() -> None:
    put = FakePut()

    counts = list(publish(put, iter(entries(1_200))))

    assert counts == [500, 1_000, 1_200]
    assert put.taken == entries(1_200)


def test_refused_entries_alone_are_sent_again_before_the_next_chunk() -> None:
    clock = FakeClock()
    put = FakePut([{0, 499}, {1}])

    list(publish(put, entries(501), timing=timing(clock)))

    assert put.sizes == [500, 2, 1, 1]
    assert [key for key, _ in put.taken[498:]] == ["0", "499", "500"]
    assert len(clock.slept_s) == 2


def test_waits_grow_while_nothing_is_taken() -> None:
    clock = FakeClock()

    list(publish(FakePut([{0}] * 3), entries(1), timing=timing(clock, jitter=1.0)))

    assert clock.slept_s == pytest.approx([0.2, 0.4, 0.8])


def test_stream_that_takes_nothing_is_given_up_with_counts() -> None:
    put = FakePut([set(), *[set(range(500))] * 100])

    with pytest.raises(StreamStalledError) as error:
        list(publish(put, entries(900), timing=timing(FakeClock())))

    assert (error.value.n_published, error.value.n_waiting) == (500, 400)


@given(st.integers(0, 1_100), st.lists(st.sets(st.integers(0, 499)), max_size=4))
def test_every_entry_is_taken_once_whatever_is_refused(n_entries: int, refused: list[set[int]]) -> None:
    put = FakePut(refused)

    list(publish(put, entries(n_entries), timing=timing(FakeClock())))

    assert sorted(put.taken) == sorted(entries(n_entries))


@pytest.mark.parametrize("rate_per_s", [0.5, 7, 1_000, 20_000])
def test_rate_is_kept(rate_per_s: float) -> None:
    clock = FakeClock()
    start_s = clock()
    endless = itertools.cycle(entries(1))

    progress = publish(FakePut(), endless, rate_per_s=rate_per_s, timing=timing(clock))
    *_, (n_before_last, _), (_, last_sent_s) = [(n, clock() - start_s) for n in itertools.islice(progress, 40)]

    assert n_before_last / last_sent_s == pytest.approx(rate_per_s, rel=1e-4)


def test_stall_is_not_made_good_by_a_burst() -> None:
    clock = FakeClock()
    progress = publish(FakePut(), entries(100), rate_per_s=10, timing=timing(clock))
    next(progress)
    clock.advance(60)
    next(progress)
    before_s = clock()

    next(progress)

    assert clock() - before_s == pytest.approx(0.1)


# -- reading


def test_shard_is_read_to_its_end_in_order() -> None:
    kinesis = FakeKinesis()
    kinesis.put(b"a", b"b", b"c")
    shard = reader(kinesis)

    assert [data(shard.read(limit=2)), data(shard.read(limit=2)), data(shard.read())] == [[b"a", b"b"], [b"c"], []]
    assert not shard.is_closed


def test_closed_shard_ends_after_its_last_record() -> None:
    kinesis = FakeKinesis()
    kinesis.put(b"a")
    kinesis.split_shard(0)
    shard = reader(kinesis)

    assert data(shard.read()) == [b"a"]
    assert shard.is_closed
    assert shard.read() == []


def test_expired_iterator_is_made_again_from_the_position() -> None:
    kinesis = FakeKinesis()
    kinesis.put(b"a", b"b")
    shard = reader(kinesis)
    shard.read(limit=1)
    kinesis.expire_iterators()

    assert data(shard.read()) == []
    assert data(shard.read()) == [b"b"]


def test_latest_skips_nothing_though_its_iterator_expires_before_the_first_record() -> None:
    kinesis = FakeKinesis()
    kinesis.put(b"old")
    kinesis.clock.advance(1)
    shard = reader(kinesis, "LATEST")
    kinesis.put(b"new")
    kinesis.clock.advance(600)
    kinesis.expire_iterators()
    shard.read()

    assert data(shard.read()) == [b"new"]


def test_reading_may_begin_at_a_time() -> None:
    kinesis = FakeKinesis()
    kinesis.put(b"old")
    kinesis.clock.advance(10)
    kinesis.put(b"new")

    assert data(reader(kinesis, datetime.fromtimestamp(kinesis.clock() - 5, UTC)).read()) == [b"new"]


def test_busy_shard_is_read_later_and_other_errors_are_raised() -> None:
    kinesis = FakeKinesis(read_faults=["ProvisionedThroughputExceededException", "AccessDeniedException"])
    shard = reader(kinesis)

    assert shard.read() == []
    with pytest.raises(ClientError, match="AccessDenied"):
        shard.read()


def test_stream_reader_reads_every_shard_once() -> None:
    kinesis = FakeKinesis(n_shards=2, clock=FakeClock(1_700_000_000.25))
    (number,) = kinesis.put(b"a", partition_key="7", shard=0)
    kinesis.put(b"b", shard=1)
    stream = StreamReader(kinesis, "ride-events", "TRIM_HORIZON")

    first, second = stream.read_once()

    assert (first.shard_id, first.sequence_number, first.partition_key, first.data) == (SHARD, number, "7", b"a")
    assert first.arrived == datetime.fromtimestamp(1_700_000_000.25, UTC)
    assert second.data == b"b"
    assert stream.read_once() == []


def test_tail_waits_longer_and_longer_for_records_until_it_is_told_to_end() -> None:
    kinesis = FakeKinesis()
    kinesis.put(b"a")
    waits_s: list[float] = []

    def wait(seconds: float) -> bool:
        waits_s.append(seconds)
        if len(waits_s) == 3:
            kinesis.put(b"b")
        return len(waits_s) == 5

    assert [record.data for record in tail(kinesis, "ride-events", "TRIM_HORIZON", wait)] == [b"a", b"b"]
    assert waits_s == pytest.approx([0.01, 0.02, 0.04, 0.01, 0.02])


def test_tail_ends_by_itself_when_every_shard_has_ended() -> None:
    kinesis = FakeKinesis()
    kinesis.put(b"a")
    shards = tail(kinesis, "ride-events", "TRIM_HORIZON", wait=lambda seconds: False)
    kinesis.shards[SHARD].is_open = False

    assert [record.data for record in shards] == [b"a"]
