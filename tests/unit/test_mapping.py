"""The event source mapping: its batches, and its retries after a failure."""

import json
import threading
from datetime import UTC, datetime
from itertools import repeat
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.local.event_source.mapping import polling, settle
from infra.local.event_source.shard_consumer import batcher_number
from infra.operate.lambda_event import MAX_PAYLOAD_BYTES, count_done, json_sizes, lambda_records
from infra.operate.shards import MAX_RECORDS_PER_READ
from tests.builders import SHARD_ID, STREAM_ARN
from tests.fakes import FakeKinesis
from tests.kits.mapping import (
    BACKOFF_S,
    ScriptedFunction,
    drain,
    fail,
    make_mapping,
    payload_bytes,
    poisoned_by,
    report,
    rides,
    run,
    sequence_numbers,
    stream,
    text,
)

_PATIENCE_S = 120.0

# -- batches


def test_event_has_stream_and_shard_of_its_records() -> None:
    kinesis = FakeKinesis(n_shards=2)
    (sequence_number,) = kinesis.put(b"x", shard=1)
    function = ScriptedFunction()

    make_mapping(kinesis, function).poll_once()

    ((record,),) = [event["Records"] for event in function.events]
    assert record["eventSourceARN"] == STREAM_ARN
    assert record["eventID"] == f"shardId-000000000001:{sequence_number}"


def test_full_batches_are_delivered_at_once_and_the_rest_after_its_window() -> None:
    kinesis = stream(*rides(5))
    function = ScriptedFunction()
    mapping = make_mapping(kinesis, function, batching_window_s=2.0)

    delivered = [mapping.poll_once(), mapping.poll_once()]
    kinesis.clock.advance(1.9)
    delivered.append(mapping.poll_once())
    kinesis.clock.advance(0.2)
    delivered.append(mapping.poll_once())

    assert delivered == [3, 0, 0, 2]
    assert function.batches() == [["ride 0", "ride 1", "ride 2"], ["ride 3", "ride 4"]]


def test_records_that_arrive_within_the_window_join_the_batch() -> None:
    kinesis = stream(b"first")
    function = ScriptedFunction()
    mapping = make_mapping(kinesis, function, batching_window_s=2.0)
    mapping.poll_once()
    kinesis.put(b"second")
    kinesis.clock.advance(2.0)

    mapping.poll_once()

    assert function.batches() == [["first", "second"]]


def test_window_begins_with_the_first_record_of_the_batch() -> None:
    kinesis = FakeKinesis()
    mapping = make_mapping(kinesis, ScriptedFunction(), batching_window_s=2.0)
    mapping.poll_once()
    kinesis.clock.advance(60)
    kinesis.put(b"late")

    assert mapping.poll_once() == 0


def test_mapping_is_idle_when_everything_on_the_stream_is_settled() -> None:
    kinesis = stream(*rides(4))
    mapping = make_mapping(kinesis, ScriptedFunction([fail]), batching_window_s=2.0)
    idle = []
    for _ in range(5):  # a failed batch, its retry, and the window of the rest
        idle.append(mapping.is_idle)
        mapping.poll_once()
        kinesis.clock.advance(BACKOFF_S)
    assert idle == [False, False, False, False, True]
    kinesis.put(b"later")
    mapping.poll_once()
    assert not mapping.is_idle


def test_settling_ends_when_all_mappings_are_idle_or_nothing_is_done_any_more() -> None:
    counts: list[int] = []
    working, failing = (make_mapping(stream(*rides(4)), ScriptedFunction(script)) for script in ((), repeat(fail)))
    assert settle([working], 60.0, counts.append)
    assert counts[-1] == 4
    assert not settle([failing], 0.0)
    assert failing.stats.n_done == 0


def test_function_is_not_invoked_without_records() -> None:
    function = ScriptedFunction()

    assert make_mapping(FakeKinesis(n_shards=2), function).poll_once() == 0
    assert function.events == []


def test_full_payload_is_delivered_before_the_window_ends() -> None:
    function = ScriptedFunction()
    make_mapping(stream(*[bytes(1_000_000)] * 5), function, batch_size=100, batching_window_s=300).poll_once()

    assert [len(event["Records"]) for event in function.events] == [4]


def test_payload_may_have_exactly_six_megabytes_and_no_byte_more() -> None:
    kinesis = stream(b"")
    (empty,) = lambda_records(kinesis.shards[SHARD_ID].records, SHARD_ID, STREAM_ARN)
    n_room = MAX_PAYLOAD_BYTES - payload_bytes({"Records": [empty, empty]})
    # The partition key fills the bytes that base64's steps of four leave.
    kinesis = FakeKinesis()
    kinesis.put(bytes(n_room // 4 * 3), partition_key="k" * (len("key") + n_room % 4))
    kinesis.put(b"", b"")
    function = ScriptedFunction()

    run(kinesis, function)

    assert [len(event["Records"]) for event in function.events] == [2, 1]
    assert payload_bytes(function.events[0]) == MAX_PAYLOAD_BYTES


def test_record_too_large_for_any_payload_is_delivered_alone_and_blocks_nothing() -> None:
    function = ScriptedFunction()
    run(stream(b"before", b"x" * 5_000_000, b"after"), function)

    assert [len(batch) for batch in function.batches()] == [1, 1, 1]


@settings(max_examples=20, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([0, 1_000, 700_000, 1_048_576]), min_size=1, max_size=25),
    batch_size=st.integers(1, 12),
)
def test_batches_never_exceed_their_size_or_payload(sizes: list[int], batch_size: int) -> None:
    kinesis = stream(*[bytes(size) for size in sizes])
    function = ScriptedFunction()

    run(kinesis, function, batch_size=batch_size)

    assert all(len(event["Records"]) <= batch_size for event in function.events)
    assert all(payload_bytes(event) <= MAX_PAYLOAD_BYTES for event in function.events)
    assert [n for event in function.events for n in sequence_numbers(event)] == kinesis.sequence_numbers(SHARD_ID)


# -- retries


def test_exception_causes_a_retry_of_exactly_the_same_batch() -> None:
    kinesis = stream(b"a", b"b")
    function = ScriptedFunction([fail])
    mapping = make_mapping(kinesis, function)
    mapping.poll_once()
    kinesis.put(b"c")

    drain(mapping, kinesis.clock)

    assert function.batches() == [["a", "b"], ["a", "b"], ["c"]]
    assert mapping.stats.last_error == "RuntimeError: failing on purpose"


def test_retry_waits_longer_after_each_failure() -> None:
    kinesis = stream(b"a")
    mapping = make_mapping(kinesis, ScriptedFunction([fail] * 2))
    start_s = kinesis.clock()
    delivered_after_s = []

    for _ in range(50):
        if mapping.poll_once():
            delivered_after_s.append(kinesis.clock() - start_s)
        kinesis.clock.advance(0.25)

    assert delivered_after_s == [0, BACKOFF_S, BACKOFF_S + 2 * BACKOFF_S]


def test_failing_shard_does_not_delay_the_others() -> None:
    kinesis = FakeKinesis(n_shards=2)
    kinesis.put(b"bad", shard=0)
    kinesis.put(b"good", b"good", b"good", b"better", shard=1)
    function = ScriptedFunction([fail])
    mapping = make_mapping(kinesis, function)

    assert [mapping.poll_once() for _ in range(3)] == [4, 1, 0]
    assert function.batches() == [["bad"], ["good"] * 3, ["better"]]


def test_records_from_the_lowest_reported_on_are_retried_and_those_before_are_not() -> None:
    function = ScriptedFunction([report(2, 1)])
    run(stream(*rides(4)), function)

    assert function.batches() == [["ride 0", "ride 1", "ride 2"], ["ride 1", "ride 2"], ["ride 3"]]


@given(st.integers(1, 8), st.lists(st.integers(0, 7), min_size=1))
def test_rewinding_starts_at_the_lowest_number_reported(n_records: int, reported: list[int]) -> None:
    kinesis = FakeKinesis()
    numbers = kinesis.put(*rides(n_records))
    function = ScriptedFunction([report(*reported)])

    run(kinesis, function, batch_size=8)

    lowest = min((numbers[i % n_records] for i in reported), key=int)
    assert sequence_numbers(function.events[1]) == numbers[numbers.index(lowest) :]


def test_response_is_ignored_unless_the_mapping_reports_item_failures() -> None:
    function = ScriptedFunction([report(0)])
    run(stream(*rides(3)), function, report_batch_item_failures=False)

    assert len(function.events) == 1


def test_stats_count_redelivered_records() -> None:
    mapping = run(stream(*rides(5)), ScriptedFunction([fail, report(1)]))

    stats = mapping.stats
    assert (stats.n_invocations, stats.n_delivered, stats.n_redelivered) == (4, 3 + 3 + 2 + 2, 3 + 2)
    assert (stats.n_done, stats.n_failures) == (5, 2)


# -- the stream


def test_all_shards_are_found_in_a_listing_of_several_pages() -> None:
    kinesis = FakeKinesis(n_shards=5, shards_per_page=2)
    for shard in range(5):
        kinesis.put(b"x", shard=shard)

    assert make_mapping(kinesis, ScriptedFunction()).poll_once() == 5


def test_latest_skips_records_older_than_the_mapping() -> None:
    kinesis = stream(b"old")
    function = ScriptedFunction()
    mapping = make_mapping(kinesis, function, starting_position="LATEST")
    kinesis.put(b"new")

    mapping.poll_once()

    assert function.batches() == [["new"]]


def test_shard_waits_for_a_failed_batch_without_reading_on() -> None:
    kinesis = stream(b"a")
    mapping = make_mapping(kinesis, ScriptedFunction([fail]))
    mapping.poll_once()

    for _ in range(5):
        mapping.poll_once()

    assert len(kinesis.calls("get_records")) == 1


def test_run_delivers_until_it_is_stopped() -> None:
    done = threading.Event()

    def invoke(event: dict[str, Any]) -> None:
        if text(event["Records"][-1]) == "ride 6":
            done.set()

    with polling(make_mapping(stream(*rides(7)), invoke)) as polls:
        assert done.wait(timeout=_PATIENCE_S)

    assert polls.done()


FACTOR = 4


def keys_in_different_batchers(n: int) -> list[str]:
    by_batcher: dict[int, str] = {}
    for i in range(100):
        by_batcher.setdefault(batcher_number(str(i), FACTOR), str(i))
    return list(by_batcher.values())[:n]


def test_keys_of_different_batchers_are_in_different_batches_and_take_turns() -> None:
    one, other = keys_in_different_batchers(2)
    kinesis = FakeKinesis()
    for i in range(2):
        kinesis.put(f"one {i}".encode(), partition_key=one)
        kinesis.put(f"other {i}".encode(), partition_key=other)
    function = ScriptedFunction()

    run(kinesis, function, batch_size=1, parallelization_factor=FACTOR)

    firsts, seconds = function.batches()[:2], function.batches()[2:]
    assert sorted(firsts) == [["one 0"], ["other 0"]]
    assert sorted(seconds) == [["one 1"], ["other 1"]]


def test_failing_key_does_not_delay_the_keys_of_other_batchers() -> None:
    bad, good = keys_in_different_batchers(2)
    kinesis = stream(b"bad", b"behind it", partition_key=bad)
    function = poisoned_by("bad")
    mapping = make_mapping(kinesis, function, parallelization_factor=FACTOR)
    mapping.poll_once()
    kinesis.put(b"good", b"better", partition_key=good)

    drain(mapping, kinesis.clock, n_idle_rounds=3)

    assert [ride for _, ride in function.done] == ["good", "better"]


def test_single_batcher_has_all_keys_of_the_shard() -> None:
    kinesis = FakeKinesis()
    kinesis.put(b"a", partition_key="a")
    kinesis.put(b"b", partition_key="b")
    function = ScriptedFunction()

    make_mapping(kinesis, function, parallelization_factor=1).poll_once()

    assert function.batches() == [["a", "b"]]


def test_batcher_with_a_failed_batch_fills_the_shared_room_and_no_more() -> None:
    bad, good = keys_in_different_batchers(2)
    kinesis = FakeKinesis()
    kinesis.put(b"bad", partition_key=bad)
    kinesis.put(*[b"x"] * (6 * MAX_RECORDS_PER_READ), partition_key=bad)
    kinesis.put(b"good", partition_key=good)
    mapping = make_mapping(kinesis, poisoned_by("bad"), batch_size=10_000, parallelization_factor=FACTOR)

    for _ in range(10):
        mapping.poll_once()

    assert len(kinesis.calls("get_records")) == FACTOR


ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/ride-events"
SHARD = "shardId-000000000000"


def raw_record(
    data: bytes = b"x", key: str = "key", sequence_number: str = "1", arrived_s: float = 1.5
) -> dict[str, Any]:
    arrived = datetime.fromtimestamp(arrived_s, UTC)
    return {
        "Data": data,
        "PartitionKey": key,
        "SequenceNumber": sequence_number,
        "ApproximateArrivalTimestamp": arrived,
    }


def batch_of(*numbers: str) -> Any:
    return lambda_records([raw_record(sequence_number=number) for number in numbers], SHARD, ARN)


def test_records_have_lambdas_format() -> None:
    raw = raw_record(b"Hello, this is a test.", "1", "49590338271490256608559692538361571095", arrived_s=1545084650.987)

    # The sample event of AWS's "Using Lambda to process records from Kinesis", with this record's own values.
    assert lambda_records([raw], SHARD, ARN) == [
        {
            "kinesis": {
                "kinesisSchemaVersion": "1.0",
                "partitionKey": "1",
                "sequenceNumber": "49590338271490256608559692538361571095",
                "data": "SGVsbG8sIHRoaXMgaXMgYSB0ZXN0Lg==",
                "approximateArrivalTimestamp": 1545084650.987,
            },
            "eventSource": "aws:kinesis",
            "eventVersion": "1.0",
            "eventID": f"{SHARD}:49590338271490256608559692538361571095",
            "eventName": "aws:kinesis:record",
            "invokeIdentityArn": "arn:aws:iam::123456789012:role/lambda-role",
            "awsRegion": "eu-west-1",
            "eventSourceARN": ARN,
        }
    ]


@given(
    st.lists(
        st.builds(
            raw_record,
            data=st.binary(max_size=50),
            key=st.text(min_size=1, max_size=20),
            sequence_number=st.integers(1, 10**56).map(str),
            arrived_s=st.floats(0, 4e9),
        ),
        max_size=3,
    )
)
def test_size_is_exact_without_encoding(raw: list[dict[str, Any]]) -> None:
    records = lambda_records(raw, SHARD, ARN)

    assert json_sizes(records) == [len(json.dumps(record, separators=(",", ":"))) for record in records]


@pytest.mark.parametrize(
    "response",
    [
        None,
        {},
        {"batchItemFailures": []},
        {"batchItemFailures": None},
        {"statusCode": 200},
    ],
)
def test_response_without_failures_means_that_all_records_are_done(response: object) -> None:
    assert count_done(response, batch_of("1", "2", "3")) == 3


@pytest.mark.parametrize(
    "response",
    [
        "done",
        [],
        0,
        {"batchItemFailures": {}},
        {"batchItemFailures": "2"},
        {"batchItemFailures": [{"itemIdentifier": ""}]},
        {"batchItemFailures": [{"itemIdentifier": None}]},
        {"batchItemFailures": [{"itemIdentifier": "4"}]},
        {"batchItemFailures": [{"itemIdentifier": 2}]},
        {"batchItemFailures": [{"itemIdentifier": ["2"]}]},
        {"batchItemFailures": [{"itemIdentifer": "2"}]},
        {"batchItemFailures": ["2"]},
        {"batchItemFailures": [None]},
        {"batchItemFailures": [{"itemIdentifier": "3"}, {"itemIdentifier": "4"}]},
    ],
)
def test_malformed_response_or_unknown_record_means_that_no_record_is_done(response: object) -> None:
    assert count_done(response, batch_of("1", "2", "3")) == 0


def test_lowest_reported_number_is_the_lowest_number_not_the_lowest_text() -> None:
    failures = {"batchItemFailures": [{"itemIdentifier": "10"}, {"itemIdentifier": "9"}]}

    assert count_done(failures, batch_of("8", "9", "10")) == 1
