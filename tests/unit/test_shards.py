"""Read one shard to its end, in order, past expired iterators and limits; list all shards."""

from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, ParamValidationError
from botocore.parsers import ResponseParserError

from infra.operate.shards import ShardReader, StartingPosition, list_shards
from tests.fakes_kinesis import FakeKinesis

SHARD = "shardId-000000000000"


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
        "ProvisionedThroughputExceededException",
        "InternalFailure",
        ConnectTimeoutError(endpoint_url="https://kinesis.invalid"),
        ResponseParserError("not JSON"),
    ],
    ids=["throttled", "500", "timeout", "garbled"],
)
def test_temporary_failure_is_retried_at_the_next_read(fault: str | Exception) -> None:
    kinesis = FakeKinesis(read_faults=[fault])
    kinesis.put(b"a")
    shard = reader(kinesis)

    assert data(shard.read()) == []
    assert data(shard.read()) == [b"a"]


@pytest.mark.parametrize(
    "fault",
    ["AccessDeniedException", "ResourceNotFoundException", ParamValidationError(report="x")],
    ids=["denied", "gone", "invalid request"],
)
def test_permanent_refusal_is_raised(fault: str | Exception) -> None:
    with pytest.raises((ClientError, ParamValidationError)):
        reader(FakeKinesis(read_faults=[fault])).read()


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
