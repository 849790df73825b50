"""The local Kinesis with AWS's limits, over HTTP: what it refuses, and that nothing is lost."""

import base64
import threading
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest
from botocore.exceptions import ClientError

from infra.local.aws import ACCOUNT_ID, LocalAws
from infra.local.event_source.config import MappingConfig
from infra.local.event_source.mapping import EventSourceMapping
from infra.operate.shards import ShardReader
from lambda_function.aws.publisher import Publisher

SHARD = "shardId-000000000000"
RATE_EXCEEDED = r"ProvisionedThroughputExceededException.*Rate exceeded for shard"
N_ATTEMPTS = 50  # a busy machine may need more requests than the limit until one is refused
PATIENCE_S = 120


@pytest.fixture(scope="module")
def kinesis() -> Iterator[Any]:
    with LocalAws(limits=True) as aws:
        # One attempt a call: otherwise boto3 retries, and the test never gets the refusal.
        yield aws.client("kinesis", n_attempts=1)


def entries(n: int) -> list[tuple[str, bytes]]:
    return [(str(i % 7), f"{i:05}".encode()) for i in range(n)]


def request(n: int) -> list[dict[str, Any]]:
    return [{"PartitionKey": key, "Data": data} for key, data in entries(n)]


def first_iterator(kinesis: Any, stream: str) -> str:
    answer = kinesis.get_shard_iterator(StreamName=stream, ShardId=SHARD, ShardIteratorType="TRIM_HORIZON")
    iterator: str = answer["ShardIterator"]
    return iterator


def repeat(call: Callable[..., object], **request: Any) -> None:
    for _ in range(N_ATTEMPTS):
        call(**request)


def test_publisher_publishes_all_records_once(kinesis: Any, stream: str) -> None:
    sent = entries(2_000)

    published = Publisher(kinesis, stream).publish(sent, lambda: PATIENCE_S)

    reader = ShardReader(kinesis, stream, SHARD, "TRIM_HORIZON")
    assert published.unpublished == []
    assert sorted(record["Data"] for record in reader.read()) == [data for _, data in sent]


def test_refused_entries_are_part_of_an_answer_with_status_200(kinesis: Any, stream: str) -> None:
    answers = [kinesis.put_records(StreamName=stream, Records=request(500))]
    while not answers[-1]["FailedRecordCount"] and len(answers) < N_ATTEMPTS:
        answers.append(kinesis.put_records(StreamName=stream, Records=request(500)))

    refused = [entry for entry in answers[-1]["Records"] if "ErrorCode" in entry]
    assert answers[-1]["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert len(refused) == answers[-1]["FailedRecordCount"] > 0
    assert {entry["ErrorCode"] for entry in refused} == {"ProvisionedThroughputExceededException"}
    # As in the example of the PutRecords reference.
    assert (
        refused[0]["ErrorMessage"] == f"Rate exceeded for shard {SHARD} in stream {stream} under account {ACCOUNT_ID}."
    )
    assert "SequenceNumber" not in refused[0]


def test_single_put_beyond_the_limit_is_an_error(kinesis: Any, stream: str) -> None:
    megabyte = bytes(1024 * 1024 - 1)

    with pytest.raises(ClientError, match=RATE_EXCEEDED):
        repeat(kinesis.put_record, StreamName=stream, PartitionKey="k", Data=megabyte)


def test_reads_beyond_five_a_second_are_refused(kinesis: Any, stream: str) -> None:
    iterator = first_iterator(kinesis, stream)
    for _ in range(5):
        kinesis.get_records(ShardIterator=iterator)

    with pytest.raises(ClientError, match=RATE_EXCEEDED):
        repeat(kinesis.get_records, ShardIterator=iterator)


def test_iterator_older_than_five_minutes_has_expired(kinesis: Any, stream: str) -> None:
    fresh = base64.decodebytes(first_iterator(kinesis, stream).encode()).decode()
    old = base64.encodebytes(f"{fresh.rpartition(':')[0]}:{time.time() - 301}".encode()).decode()

    with pytest.raises(ClientError, match="ExpiredIteratorException"):
        kinesis.get_records(ShardIterator=old)


def test_one_read_gives_ten_mebibytes_at_most_and_a_record_at_least() -> None:
    shards = import_module("infra.local.moto.kinesis_shards")  # imports moto, which takes a second: not at collection
    shard = shards.LimitedShard(0, 0, 2**128 - 1)
    for _ in range(12):
        shards.LocalShard.append(shard, "key", base64.b64encode(bytes(1024 * 1024)).decode())

    page = shard.read(0, limit=100)

    assert len(page.records) == 10
    assert page.position == page.records[-1].sequence_number
    assert not page.ended


def test_mapping_delivers_all_records_in_order_across_a_split_and_a_merge(kinesis: Any, stream: str) -> None:
    sent = entries(1_500)
    done: list[tuple[str, bytes]] = []
    all_done, stop = threading.Event(), threading.Event()

    def invoke(event: dict[str, Any]) -> None:
        records = [record["kinesis"] for record in event["Records"]]
        done.extend((record["partitionKey"], base64.b64decode(record["data"])) for record in records)
        if len(done) >= len(sent):
            all_done.set()

    mapping = EventSourceMapping(MappingConfig(stream, batch_size=100, parallelization_factor=3), kinesis, invoke)
    thread = threading.Thread(target=mapping.run, args=[stop])
    thread.start()
    publisher = Publisher(kinesis, stream)
    publisher.publish(sent[:500], lambda: PATIENCE_S)
    kinesis.update_shard_count(StreamName=stream, TargetShardCount=2, ScalingType="UNIFORM_SCALING")
    publisher.publish(sent[500:1_000], lambda: PATIENCE_S)
    kinesis.merge_shards(
        StreamName=stream, ShardToMerge="shardId-000000000002", AdjacentShardToMerge="shardId-000000000001"
    )
    publisher.publish(sent[1_000:], lambda: PATIENCE_S)
    finished = all_done.wait(PATIENCE_S)
    stop.set()
    thread.join(PATIENCE_S)

    assert finished
    assert sorted(done, key=lambda one: one[1]) == sent
    for key in {key for key, _ in sent}:
        assert [data for k, data in done if k == key] == [data for k, data in sent if k == key]
