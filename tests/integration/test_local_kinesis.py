"""The local Kinesis over HTTP, through boto3: what readers and producers rely on."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from importlib import import_module
from itertools import count
from typing import Any

import pytest
from botocore.exceptions import ClientError

from infra.local.aws import LocalAws
from training.errors import UserError

FIRST_SHARD = "shardId-000000000000"
_numbers = count()


@pytest.fixture(scope="module")
def kinesis(aws: LocalAws) -> Any:
    return aws.client("kinesis")


def put(kinesis: Any, stream: str, bodies: list[bytes], key: str = "key") -> list[str]:
    entries = [{"Data": body, "PartitionKey": key} for body in bodies]
    response = kinesis.put_records(StreamName=stream, Records=entries)
    assert response["FailedRecordCount"] == 0
    return [entry["SequenceNumber"] for entry in response["Records"]]


def read(
    kinesis: Any, stream: str, kind: str = "TRIM_HORIZON", shard: str = FIRST_SHARD, limit: int = 10_000, **at: Any
) -> dict[str, Any]:
    iterator = kinesis.get_shard_iterator(StreamName=stream, ShardId=shard, ShardIteratorType=kind, **at)
    page: dict[str, Any] = kinesis.get_records(ShardIterator=iterator["ShardIterator"], Limit=limit)
    return page


def bodies(page: dict[str, Any]) -> list[bytes]:
    return [record["Data"] for record in page["Records"]]


def test_sequence_numbers_have_56_digits_and_rise(kinesis: Any, stream: str) -> None:
    numbers = put(kinesis, stream, [b"a"] * 300) + put(kinesis, stream, [b"b"] * 300)

    assert {len(number) for number in numbers} == {56}
    assert numbers == sorted(set(numbers), key=int)


def test_iterator_is_one_word_for_a_shell(kinesis: Any) -> None:
    name = "a-stream-with-a-name-that-makes-a-long-iterator"
    kinesis.create_stream(StreamName=name, ShardCount=1)
    put(kinesis, name, [b"x"])

    iterator = kinesis.get_shard_iterator(StreamName=name, ShardId=FIRST_SHARD, ShardIteratorType="TRIM_HORIZON")

    assert len(iterator["ShardIterator"].split()) == 1
    assert bodies(kinesis.get_records(ShardIterator=iterator["ShardIterator"])) == [b"x"]


def test_record_comes_back_as_it_was_put(kinesis: Any, stream: str) -> None:
    everything = bytes(range(256))
    before = datetime.now(UTC) - timedelta(milliseconds=1)  # arrival is rounded to the millisecond
    (number,) = put(kinesis, stream, [everything], key="Zürich")

    (record,) = read(kinesis, stream)["Records"]

    assert (record["Data"], record["PartitionKey"], record["SequenceNumber"]) == (everything, "Zürich", number)
    assert before <= record["ApproximateArrivalTimestamp"] <= datetime.now(UTC) + timedelta(milliseconds=1)


def test_pages_give_every_record_once_in_order(kinesis: Any, stream: str) -> None:
    sent = [str(i).encode() for i in range(450)]
    put(kinesis, stream, sent)

    first = read(kinesis, stream, limit=200)
    second = kinesis.get_records(ShardIterator=first["NextShardIterator"], Limit=200)
    third = kinesis.get_records(ShardIterator=second["NextShardIterator"], Limit=200)
    at_tip = kinesis.get_records(ShardIterator=third["NextShardIterator"])

    assert bodies(first) + bodies(second) + bodies(third) == sent
    assert bodies(at_tip) == []
    assert [page["MillisBehindLatest"] > 0 for page in (first, second, third, at_tip)] == [True, True, False, False]


def test_at_a_sequence_number_includes_it_and_after_does_not(kinesis: Any, stream: str) -> None:
    numbers = put(kinesis, stream, [b"a", b"b", b"c"])

    at = read(kinesis, stream, "AT_SEQUENCE_NUMBER", StartingSequenceNumber=numbers[1])
    after = read(kinesis, stream, "AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=numbers[1])

    assert (bodies(at), bodies(after)) == ([b"b", b"c"], [b"c"])


def test_latest_gives_only_what_comes_later(kinesis: Any, stream: str) -> None:
    put(kinesis, stream, [b"old"])
    page = read(kinesis, stream, "LATEST")
    put(kinesis, stream, [b"new"])

    assert bodies(page) == []
    assert bodies(kinesis.get_records(ShardIterator=page["NextShardIterator"])) == [b"new"]


@pytest.mark.parametrize(("hours", "expected"), [(-1, [b"a", b"b"]), (1, [])])
def test_at_timestamp_begins_with_the_first_record_from_then_on(
    kinesis: Any, stream: str, hours: int, expected: list[bytes]
) -> None:
    put(kinesis, stream, [b"a", b"b"])

    page = read(kinesis, stream, "AT_TIMESTAMP", Timestamp=datetime.now(UTC) + timedelta(hours=hours))

    assert bodies(page) == expected


def test_after_a_split_records_stay_in_the_parent_and_the_parent_ends(kinesis: Any, stream: str) -> None:
    put(kinesis, stream, [b"before"])
    kinesis.update_shard_count(StreamName=stream, TargetShardCount=2, ScalingType="UNIFORM_SCALING")
    put(kinesis, stream, [b"after"])

    parent, *children = kinesis.list_shards(StreamName=stream)["Shards"]
    pages = [read(kinesis, stream, shard=child["ShardId"]) for child in children]

    assert bodies(read(kinesis, stream)) == [b"before"]
    assert "NextShardIterator" not in read(kinesis, stream)
    assert [child["ParentShardId"] for child in children] == [parent["ShardId"]] * 2
    assert sorted(bodies(pages[0]) + bodies(pages[1])) == [b"after"]
    assert all("NextShardIterator" in page for page in pages)


def test_closed_shard_that_is_empty_ends_at_the_first_read(kinesis: Any, stream: str) -> None:
    kinesis.update_shard_count(StreamName=stream, TargetShardCount=2, ScalingType="UNIFORM_SCALING")

    assert "NextShardIterator" not in read(kinesis, stream)


def test_end_of_a_shard_names_its_children(kinesis: Any, stream: str) -> None:
    kinesis.split_shard(StreamName=stream, ShardToSplit=FIRST_SHARD, NewStartingHashKey=str(2**127))

    children = read(kinesis, stream)["ChildShards"]

    assert [(child["ShardId"], child["ParentShards"]) for child in children] == [
        ("shardId-000000000001", [FIRST_SHARD]),
        ("shardId-000000000002", [FIRST_SHARD]),
    ]
    assert children[1]["HashKeyRange"] == {"StartingHashKey": str(2**127), "EndingHashKey": str(2**128 - 1)}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_neighbours_may_be_merged_in_either_order_and_only_once(kinesis: Any, order: tuple[int, int]) -> None:
    name = f"merged-{next(_numbers)}"
    kinesis.create_stream(StreamName=name, ShardCount=2)
    one, other = (f"shardId-{n:012}" for n in order)

    kinesis.merge_shards(StreamName=name, ShardToMerge=one, AdjacentShardToMerge=other)
    put(kinesis, name, [b"x"] * 10)

    assert len(bodies(read(kinesis, name, shard="shardId-000000000002"))) == 10
    with pytest.raises(ClientError, match="has already been merged or split"):
        kinesis.merge_shards(StreamName=name, ShardToMerge=one, AdjacentShardToMerge=other)


def test_records_put_while_shards_split_and_merge_are_all_there(kinesis: Any, stream: str) -> None:
    def put_some(n: int) -> list[str]:
        return [number for i in range(20) for number in put(kinesis, stream, [b"x"] * 20, key=f"{n}-{i}")]

    with ThreadPoolExecutor(3) as pool:
        producers = [pool.submit(put_some, n) for n in range(2)]
        for target in [2, 4, 2, 1, 2]:
            kinesis.update_shard_count(StreamName=stream, TargetShardCount=target, ScalingType="UNIFORM_SCALING")
        sent = [number for producer in producers for number in producer.result()]

    shards = [shard["ShardId"] for shard in kinesis.list_shards(StreamName=stream)["Shards"]]
    found = [r["SequenceNumber"] for shard in shards for r in read(kinesis, stream, shard=shard)["Records"]]
    assert sorted(found) == sorted(sent)


def test_keys_are_spread_over_shards_and_one_key_keeps_its_shard(kinesis: Any) -> None:
    kinesis.create_stream(StreamName="spread", ShardCount=4)
    entries = [{"Data": b"x", "PartitionKey": str(i % 50)} for i in range(100)]

    shards = [r["ShardId"] for r in kinesis.put_records(StreamName="spread", Records=entries)["Records"]]

    assert len(set(shards)) == 4
    assert shards[:50] == shards[50:]


@pytest.mark.parametrize(("hash_key", "shard"), [(0, FIRST_SHARD), (2**128 - 1, "shardId-000000000001")])
def test_explicit_hash_key_decides_the_shard(kinesis: Any, hash_key: int, shard: str) -> None:
    name = f"explicit-{next(_numbers)}"
    kinesis.create_stream(StreamName=name, ShardCount=2)

    answer = kinesis.put_record(StreamName=name, Data=b"x", PartitionKey="k", ExplicitHashKey=str(hash_key))

    assert answer["ShardId"] == shard


@pytest.mark.parametrize(
    ("records", "code"),
    [
        ([b"x"] * 501, "ValidationException"),
        ([b"x" * 1024 * 1024], "ValidationException"),  # the key counts too
        ([b"x" * 1024 * 1000] * 6, "InvalidArgumentException"),
    ],
    ids=["501 records", "a record over 1 MiB", "a request over 5 MiB"],
)
def test_request_over_a_size_limit_is_refused_whole(kinesis: Any, stream: str, records: list[bytes], code: str) -> None:
    with pytest.raises(ClientError) as caught:
        put(kinesis, stream, records)

    assert caught.value.response["Error"]["Code"] == code
    assert bodies(read(kinesis, stream)) == []


def test_largest_record_is_taken(kinesis: Any, stream: str) -> None:
    put(kinesis, stream, [b"x" * (1024 * 1024 - 3)], key="key")

    assert len(bodies(read(kinesis, stream))[0]) == 1024 * 1024 - 3


def test_producers_at_the_same_time_leave_one_order(kinesis: Any, stream: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        sent = list(pool.map(lambda _: put(kinesis, stream, [b"x"] * 250), range(16)))

    numbers = [record["SequenceNumber"] for record in read(kinesis, stream)["Records"]]

    assert numbers == sorted((number for part in sent for number in part), key=int)


def test_stream_can_be_read_by_its_arn(kinesis: Any, stream: str) -> None:
    put(kinesis, stream, [b"x"])
    arn = kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]["StreamARN"]

    iterator = kinesis.get_shard_iterator(StreamARN=arn, ShardId=FIRST_SHARD, ShardIteratorType="TRIM_HORIZON")

    assert bodies(kinesis.get_records(StreamARN=arn, ShardIterator=iterator["ShardIterator"])) == [b"x"]


def test_another_moto_is_refused_before_anything_is_patched() -> None:
    patch = import_module("infra.local.moto.kinesis")  # imports moto, which takes a second: not at collection

    with pytest.raises(UserError, match=r"moto 9\.9\.9 is installed"):
        patch.patch_kinesis(installed="9.9.9")
