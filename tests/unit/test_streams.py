"""Ride events are encoded, sent to a stream at a steady rate, and read back, shard by shard."""

import itertools
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, ParamValidationError
from botocore.parsers import ResponseParserError
from hypothesis import given
from hypothesis import strategies as st

from infra.operate.shards import ShardReader, StartingPosition, list_shards
from infra.operate.streams import StreamReader, Timing, publish, ride_event_bytes, tail
from lambda_function.aws.publisher import Publisher
from lambda_function.core.kpl import pack
from lambda_function.core.records import Entry
from tests.builders import ride_bytes
from tests.fakes import FakeClock, FakeKinesis
from tests.outcomes import DENIED, EntriesRefused, Problem
from training.errors import UserError
from training.registry.folder_s3 import client_error

SHARD = "shardId-000000000000"


def entries(n: int) -> list[Entry]:
    return [(str(i), f"ride {i}".encode()) for i in range(n)]


def publisher(kinesis: FakeKinesis) -> Publisher:
    return Publisher(kinesis, "ride-events", sleep=kinesis.clock.sleep, jitter=lambda low, high: high)


def timing(kinesis: FakeKinesis) -> Timing:
    return Timing(kinesis.clock, kinesis.clock.sleep)


def taken(kinesis: FakeKinesis) -> list[Entry]:
    return [(record["PartitionKey"], record["Data"]) for record in kinesis.shards[SHARD].records]


def encode(ride_ids: Sequence[int | str], miles: float = 3.66, when: str = "2021-01-05T08:15:00") -> list[bytes]:
    n = len(ride_ids)
    return ride_event_bytes(
        np.full(n, 130), np.full(n, 205), np.full(n, miles), np.full(n, np.datetime64(when, "s")), ride_ids
    )


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
def test_ride_events_are_the_bytes_of_json_dumps(rides: list[tuple[int, int, float, datetime, int | str]]) -> None:
    encoded = ride_event_bytes(
        np.array([ride[0] for ride in rides], np.int64),
        np.array([ride[1] for ride in rides], np.int64),
        np.array([ride[2] for ride in rides], np.float64),
        np.array([ride[3] for ride in rides], "M8[s]"),
        [ride[4] for ride in rides],
    )

    names = "PULocationID", "DOLocationID", "trip_distance", "pickup_datetime"
    expected = [
        ride_bytes(ride_id, **dict(zip(names, (*numbers, when.isoformat()), strict=True)))
        for *numbers, when, ride_id in rides
    ]
    assert encoded == expected


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"miles": np.nan}, "finite trip dist"),
        ({"miles": np.inf}, "finite trip dist"),
        ({"when": "NaT"}, "pickup time"),
    ],
)
def test_ride_without_a_distance_or_a_pickup_time_is_not_encoded(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        encode([1], **changes)


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="argument"):
        ride_event_bytes(np.full(2, 1), np.full(2, 1), np.full(2, 1.0), np.full(2, np.datetime64(0, "s")), [7])


# -- send


def test_entries_are_sent_in_order_in_chunks_of_500() -> None:
    kinesis = FakeKinesis()

    counts = list(publish(publisher(kinesis), iter(entries(1_200)), timing=timing(kinesis)))

    assert counts == [500, 1_000, 1_200]
    assert taken(kinesis) == entries(1_200)


def test_only_refused_entries_are_resent_before_the_next_chunk() -> None:
    kinesis = FakeKinesis([EntriesRefused({0, 499}), EntriesRefused({1})])

    list(publish(publisher(kinesis), entries(501), timing=timing(kinesis)))

    assert [len(request["Records"]) for request in kinesis.calls("put_records")] == [500, 2, 1, 1]
    assert [key for key, _ in taken(kinesis)[498:]] == ["0", "499", "500"]


def test_stream_that_refuses_to_the_time_limit_is_an_error_with_counts() -> None:
    kinesis = FakeKinesis([None, EntriesRefused(range(2, 400)), *[EntriesRefused()] * 1000])
    start_s = kinesis.clock()
    progress = publish(publisher(kinesis), entries(900), patience_s=10, timing=timing(kinesis))

    counts = [next(progress)]
    with pytest.raises(UserError, match=r"accepted 502 records and then not 398 .*Rate exceeded.*lower rate"):
        counts += progress

    assert counts == [500]
    assert kinesis.clock() - start_s <= 10


def test_time_limit_applies_to_each_chunk() -> None:
    kinesis = FakeKinesis([EntriesRefused({0}), None] * 3)
    progress = publish(publisher(kinesis), entries(1_500), patience_s=1, timing=timing(kinesis))

    for _ in progress:
        kinesis.clock.advance(60)

    assert len(taken(kinesis)) == 1_500


@given(st.integers(0, 1_100), st.lists(st.sets(st.integers(0, 499)), max_size=4))
def test_every_entry_is_accepted_once_after_any_refusals(n_entries: int, refused: list[AbstractSet[int]]) -> None:
    kinesis = FakeKinesis(map(EntriesRefused, refused))

    list(publish(publisher(kinesis), entries(n_entries), timing=timing(kinesis)))

    assert sorted(taken(kinesis)) == sorted(entries(n_entries))


@pytest.mark.parametrize("rate_per_s", [0.5, 7, 1_000, 20_000])
def test_rate_is_kept(rate_per_s: float) -> None:
    kinesis = FakeKinesis()
    start_s = kinesis.clock()
    endless = itertools.cycle(entries(1))

    progress = publish(publisher(kinesis), endless, rate_per_s=rate_per_s, timing=timing(kinesis))
    *_, (n_before_last, _), (_, last_sent_s) = [(n, kinesis.clock() - start_s) for n in itertools.islice(progress, 40)]

    assert n_before_last / last_sent_s == pytest.approx(rate_per_s, rel=1e-4)


def test_no_burst_follows_a_stall() -> None:
    kinesis = FakeKinesis()
    progress = publish(publisher(kinesis), entries(100), rate_per_s=10, timing=timing(kinesis))
    next(progress)
    kinesis.clock.advance(60)
    next(progress)
    before_s = kinesis.clock()

    next(progress)

    assert kinesis.clock() - before_s == pytest.approx(0.1)


# -- read


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


def test_tail_doubles_its_wait_until_it_is_ended() -> None:
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


def test_tail_ends_when_every_shard_has_ended() -> None:
    kinesis = FakeKinesis()
    kinesis.put(b"a")
    shards = tail(kinesis, "ride-events", "TRIM_HORIZON", wait=lambda seconds: False)
    kinesis.shards[SHARD].is_open = False

    assert [record.data for record in shards] == [b"a"]


def test_sub_records_of_aggregates_are_read_as_records() -> None:
    kinesis = FakeKinesis()
    (packed,) = pack(entries(3), n_groups=1)
    (number,) = kinesis.put(packed.data, partition_key=packed.partition_key)
    kinesis.put(b"plain", partition_key="9")

    records = StreamReader(kinesis, "ride-predictions", "TRIM_HORIZON").read_once()

    assert [(record.partition_key, record.data) for record in records] == [*entries(3), ("9", b"plain")]
    assert [record.sequence_number for record in records[:3]] == [number] * 3


def test_damaged_aggregate_is_read_as_one_record() -> None:
    kinesis = FakeKinesis()
    (packed,) = pack(entries(3), n_groups=1)
    kinesis.put(packed.data[:-1], b"after")

    shown = tail(kinesis, "ride-predictions", "TRIM_HORIZON", wait=lambda seconds: True)

    assert [record.data for record in shown] == [packed.data[:-1], b"after"]


def test_reader_goes_on_with_the_children_of_a_split_shard() -> None:
    # GIVEN a reader of a stream with records before and after a split
    kinesis = FakeKinesis(n_shards=1)
    reader = StreamReader(kinesis, "ride-events", "TRIM_HORIZON")
    kinesis.put(b"before")
    kinesis.split_shard(0)
    for number in range(20):
        kinesis.put(b"after", partition_key=str(number))
    # WHEN it reads, shard by shard
    read = [record.data for _ in range(5) for record in reader.read_once()]
    # THEN nothing is missed, and reading continues
    assert sorted(read) == [b"after"] * 20 + [b"before"]
    assert not reader.is_closed


# Shards ---------------------------------------------------------------------------------------------------------------


def reader(kinesis: FakeKinesis, starting_position: StartingPosition = "TRIM_HORIZON") -> ShardReader:
    return ShardReader(kinesis, "ride-events", SHARD, starting_position, wall_clock=kinesis.clock)


def data(records: list[dict[str, Any]]) -> list[bytes]:
    return [record["Data"] for record in records]


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


def test_latest_skips_no_record_if_its_iterator_expires() -> None:
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


@pytest.mark.parametrize(
    "fault",
    [
        Problem.THROTTLED.error(),
        Problem.INTERNAL.error(),
        ConnectTimeoutError(endpoint_url="https://kinesis.invalid"),
        ResponseParserError("not JSON"),
    ],
    ids=["throttled", "500", "timeout", "garbled"],
)
def test_temporary_failure_is_retried_at_the_next_read(fault: Exception) -> None:
    kinesis = FakeKinesis(read_script=[fault])
    kinesis.put(b"a")
    shard = reader(kinesis)

    assert data(shard.read()) == []
    assert data(shard.read()) == [b"a"]


@pytest.mark.parametrize("starting_position", ["TRIM_HORIZON", "LATEST"])
def test_cut_off_answer_is_lost_and_the_next_read_goes_on(starting_position: StartingPosition) -> None:
    kinesis = FakeKinesis(read_script=[{}, {"MillisBehindLatest": 0}])
    kinesis.n_cut_off = 1
    shard = reader(kinesis, starting_position)
    kinesis.put(b"a")

    assert [data(shard.read()) for _ in range(4)].count([b"a"]) == 1
    assert not shard.problem


def test_stream_whose_answers_are_always_cut_off_ends_with_a_sentence() -> None:
    kinesis = FakeKinesis(read_script=itertools.repeat({}))
    stream = StreamReader(kinesis, "ride-events", "TRIM_HORIZON", kinesis.clock)

    with pytest.raises(UserError, match="could not be read for 60 s: the answer to GetRecords was cut off"):
        list(stream.polls(kinesis.clock.sleep))


def test_reading_goes_on_if_only_a_few_answers_are_cut_off() -> None:
    kinesis = FakeKinesis(read_script=[None, *[{}] * 50])
    stream = StreamReader(kinesis, "ride-events", "TRIM_HORIZON", kinesis.clock)
    stream.read_once()
    kinesis.put(b"a")

    assert next(records for records in stream.polls(kinesis.clock.sleep) if records)[0].data == b"a"


@pytest.mark.parametrize(
    "fault",
    [DENIED, client_error(400, "ResourceNotFoundException"), ParamValidationError(report="x")],
    ids=["denied", "gone", "invalid request"],
)
def test_permanent_refusal_is_raised(fault: Exception) -> None:
    with pytest.raises((ClientError, ParamValidationError)):
        reader(FakeKinesis(read_script=[fault])).read()


def test_shards_are_listed_with_their_parents() -> None:
    kinesis = FakeKinesis(n_shards=2)
    kinesis.merge_shards(0, 1)
    kinesis.split_shard(2)

    first, second, merged, *_ = list(kinesis.shards)

    listed = [shard.parent_ids for shard in list_shards(kinesis, "ride-events")]
    assert listed == [(), (), (first, second), (merged,), (merged,)]


def test_shards_are_listed_page_by_page() -> None:
    kinesis = FakeKinesis(n_shards=5, shards_per_page=2)

    assert [shard.shard_id for shard in list_shards(kinesis, "ride-events")] == list(kinesis.shards)


def test_cut_off_list_of_shards_is_asked_for_again() -> None:
    kinesis = FakeKinesis(n_shards=5, shards_per_page=2)
    kinesis.n_cut_off = 2

    assert len(list_shards(kinesis, "ride-events", kinesis.clock.sleep)) == 5


def test_list_of_shards_that_is_always_cut_off_ends_with_a_sentence() -> None:
    kinesis = FakeKinesis()
    kinesis.n_cut_off = 100

    with pytest.raises(UserError, match="the answer to ListShards was cut off: try again"):
        list_shards(kinesis, "ride-events", kinesis.clock.sleep)
