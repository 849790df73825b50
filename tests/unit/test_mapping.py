"""The event source mapping: its batches, and what comes again after a failure."""

import threading
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from infra.local.event_source.lambda_event import MAX_PAYLOAD_BYTES, count_done, lambda_records
from tests.builders import SHARD_ID, STREAM_ARN
from tests.fakes_kinesis import FakeKinesis
from tests.kits.mapping import (
    BACKOFF_S,
    Respond,
    ScriptedFunction,
    drain,
    fail,
    make_mapping,
    payload_bytes,
    report,
    rides,
    sequence_numbers,
    succeed,
    text,
)

# -- batches


def test_event_tells_stream_and_shard_of_its_records() -> None:
    kinesis = FakeKinesis(n_shards=2)
    (sequence_number,) = kinesis.put(b"x", shard=1)
    function = ScriptedFunction()

    make_mapping(kinesis, function).poll_once()

    ((record,),) = [event["Records"] for event in function.events]
    assert record["eventSourceARN"] == STREAM_ARN
    assert record["eventID"] == f"shardId-000000000001:{sequence_number}"


def test_full_batches_go_at_once_and_the_rest_when_its_window_has_passed() -> None:
    kinesis = FakeKinesis()
    kinesis.put(*rides(5))
    function = ScriptedFunction()
    mapping = make_mapping(kinesis, function, batching_window_s=2.0)

    handed_over = [mapping.poll_once(), mapping.poll_once()]
    kinesis.clock.advance(1.9)
    handed_over.append(mapping.poll_once())
    kinesis.clock.advance(0.2)
    handed_over.append(mapping.poll_once())

    assert handed_over == [3, 0, 0, 2]
    assert function.batches() == [["ride 0", "ride 1", "ride 2"], ["ride 3", "ride 4"]]


def test_records_that_arrive_within_the_window_join_the_batch() -> None:
    kinesis = FakeKinesis()
    kinesis.put(b"first")
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


def test_nothing_is_invoked_without_records() -> None:
    function = ScriptedFunction()

    assert make_mapping(FakeKinesis(n_shards=2), function).poll_once() == 0
    assert function.events == []


def test_full_payload_goes_before_the_window_has_passed() -> None:
    kinesis = FakeKinesis()
    kinesis.put(*[bytes(1_000_000)] * 5)
    function = ScriptedFunction()

    make_mapping(kinesis, function, batch_size=100, batching_window_s=300).poll_once()

    assert [len(event["Records"]) for event in function.events] == [4]


def test_payload_may_be_of_exactly_six_megabytes_and_not_one_byte_more() -> None:
    kinesis = FakeKinesis()
    kinesis.put(b"")
    (empty,) = lambda_records(kinesis.shards[SHARD_ID].records, SHARD_ID, STREAM_ARN)
    n_room = MAX_PAYLOAD_BYTES - payload_bytes({"Records": [empty, empty]})
    # The partition key takes what base64's steps of four leave over.
    kinesis = FakeKinesis()
    kinesis.put(bytes(n_room // 4 * 3), partition_key="k" * (len("key") + n_room % 4))
    kinesis.put(b"", b"")
    function = ScriptedFunction()

    drain(make_mapping(kinesis, function), kinesis.clock)

    assert [len(event["Records"]) for event in function.events] == [2, 1]
    assert payload_bytes(function.events[0]) == MAX_PAYLOAD_BYTES


def test_record_too_large_for_any_payload_goes_alone_and_blocks_nothing() -> None:
    kinesis = FakeKinesis()
    kinesis.put(b"before", b"x" * 5_000_000, b"after")
    function = ScriptedFunction()

    drain(make_mapping(kinesis, function), kinesis.clock)

    assert [len(batch) for batch in function.batches()] == [1, 1, 1]


@settings(max_examples=20, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([0, 1_000, 700_000, 1_048_576]), min_size=1, max_size=25),
    batch_size=st.integers(1, 12),
)
def test_batches_never_exceed_their_size_or_payload(sizes: list[int], batch_size: int) -> None:
    kinesis = FakeKinesis()
    kinesis.put(*[bytes(size) for size in sizes])
    function = ScriptedFunction()

    drain(make_mapping(kinesis, function, batch_size=batch_size), kinesis.clock)

    assert all(len(event["Records"]) <= batch_size for event in function.events)
    assert all(payload_bytes(event) <= MAX_PAYLOAD_BYTES for event in function.events)
    assert [n for event in function.events for n in sequence_numbers(event)] == kinesis.sequence_numbers(SHARD_ID)


# -- what comes again


def test_exception_brings_the_whole_batch_again_and_nothing_with_it() -> None:
    kinesis = FakeKinesis()
    kinesis.put(b"a", b"b")
    function = ScriptedFunction([fail])
    mapping = make_mapping(kinesis, function)
    mapping.poll_once()
    kinesis.put(b"c")

    drain(mapping, kinesis.clock)

    assert function.batches() == [["a", "b"], ["a", "b"], ["c"]]
    assert mapping.stats.last_error == "RuntimeError: failing on purpose"


def test_failed_batch_stays_away_longer_each_time() -> None:
    kinesis = FakeKinesis()
    kinesis.put(b"a")
    mapping = make_mapping(kinesis, ScriptedFunction([fail] * 2))
    start_s = kinesis.clock()
    handed_over_after_s = []

    for _ in range(50):
        if mapping.poll_once():
            handed_over_after_s.append(kinesis.clock() - start_s)
        kinesis.clock.advance(0.25)

    assert handed_over_after_s == [0, BACKOFF_S, BACKOFF_S + 2 * BACKOFF_S]


def test_failing_shard_does_not_hold_up_the_others() -> None:
    kinesis = FakeKinesis(n_shards=2)
    kinesis.put(b"bad", shard=0)
    kinesis.put(b"good", b"good", b"good", b"better", shard=1)
    function = ScriptedFunction([fail])
    mapping = make_mapping(kinesis, function)

    assert [mapping.poll_once() for _ in range(3)] == [4, 1, 0]
    assert function.batches() == [["bad"], ["good"] * 3, ["better"]]


def test_records_from_the_lowest_reported_on_come_again_and_those_before_do_not() -> None:
    kinesis = FakeKinesis()
    kinesis.put(*rides(4))
    function = ScriptedFunction([report(2, 1)])

    drain(make_mapping(kinesis, function), kinesis.clock)

    assert function.batches() == [["ride 0", "ride 1", "ride 2"], ["ride 1", "ride 2"], ["ride 3"]]


@given(st.integers(1, 8), st.lists(st.integers(0, 7), min_size=1))
def test_rewinding_starts_at_the_lowest_number_reported(n_records: int, reported: list[int]) -> None:
    kinesis = FakeKinesis()
    numbers = kinesis.put(*rides(n_records))
    function = ScriptedFunction([report(*reported)])

    drain(make_mapping(kinesis, function, batch_size=8), kinesis.clock)

    lowest = min((numbers[i % n_records] for i in reported), key=int)
    assert sequence_numbers(function.events[1]) == numbers[numbers.index(lowest) :]


def test_response_counts_for_nothing_unless_the_mapping_asks_for_it() -> None:
    kinesis = FakeKinesis()
    kinesis.put(*rides(3))
    function = ScriptedFunction([report(0)])

    drain(make_mapping(kinesis, function, report_batch_item_failures=False), kinesis.clock)

    assert len(function.events) == 1


def test_stats_tell_what_was_delivered_again() -> None:
    kinesis = FakeKinesis()
    kinesis.put(*rides(5))
    mapping = make_mapping(kinesis, ScriptedFunction([fail, report(1)]))

    drain(mapping, kinesis.clock)

    stats = mapping.stats
    assert (stats.n_invocations, stats.n_delivered, stats.n_redelivered) == (4, 3 + 3 + 2 + 2, 3 + 2)
    assert (stats.n_done, stats.n_failures) == (5, 2)


# What may happen to an invocation: it fails, succeeds, or reports records by position.
scripts = st.lists(
    st.one_of(
        st.just(fail),
        st.just(succeed),
        st.lists(st.integers(0, 9), min_size=1).map(lambda positions: report(*positions)),
    ),
    max_size=30,
)
read_faults = st.lists(
    st.sampled_from([None, "ExpiredIteratorException", "ProvisionedThroughputExceededException"]), max_size=10
)


@settings(deadline=None)
@given(
    records=st.lists(st.integers(0, 2), max_size=40),
    script=scripts,
    faults=read_faults,
    batch_size=st.integers(1, 10),
    window_s=st.sampled_from([0.0, 3.0]),
)
def test_every_record_succeeds_in_order_under_any_failures(
    records: list[int], script: list[Respond], faults: list[str | None], batch_size: int, window_s: float
) -> None:
    kinesis = FakeKinesis(n_shards=3, read_faults=faults)
    for i, shard in enumerate(records):
        kinesis.put(str(i).encode(), shard=shard)
    succeeded: dict[str, list[str]] = {shard_id: [] for shard_id in kinesis.shards}
    function = ScriptedFunction(script)

    def invoke(event: dict[str, Any]) -> object:
        response = function(event)
        n_done = count_done(response, event["Records"])
        succeeded[event["Records"][0]["eventID"].split(":")[0]] += sequence_numbers(event)[:n_done]
        return response

    mapping = make_mapping(kinesis, invoke, batch_size=batch_size, batching_window_s=window_s)
    drain(mapping, kinesis.clock, n_idle_rounds=50)

    assert succeeded == {shard_id: kinesis.sequence_numbers(shard_id) for shard_id in kinesis.shards}
    assert mapping.stats.n_done == len(records)


# -- the stream


def test_all_shards_are_found_though_they_are_listed_in_pages() -> None:
    kinesis = FakeKinesis(n_shards=5, shards_per_page=2)
    for shard in range(5):
        kinesis.put(b"x", shard=shard)

    assert make_mapping(kinesis, ScriptedFunction()).poll_once() == 5


def test_latest_leaves_out_what_was_there_before_the_mapping() -> None:
    kinesis = FakeKinesis()
    kinesis.put(b"old")
    function = ScriptedFunction()
    mapping = make_mapping(kinesis, function, starting_position="LATEST")
    kinesis.put(b"new")

    mapping.poll_once()

    assert function.batches() == [["new"]]


def test_shard_waits_for_a_failed_batch_without_reading_on() -> None:
    kinesis = FakeKinesis()
    kinesis.put(b"a")
    mapping = make_mapping(kinesis, ScriptedFunction([fail]))
    mapping.poll_once()

    for _ in range(5):
        mapping.poll_once()

    assert len(kinesis.calls("get_records")) == 1


def test_run_hands_over_until_it_is_stopped() -> None:
    kinesis = FakeKinesis()
    kinesis.put(*rides(7))
    done, stop = threading.Event(), threading.Event()

    def invoke(event: dict[str, Any]) -> None:
        if text(event["Records"][-1]) == "ride 6":
            done.set()

    thread = threading.Thread(target=make_mapping(kinesis, invoke).run, args=[stop])
    thread.start()
    finished = done.wait(timeout=10)
    stop.set()
    thread.join(timeout=10)

    assert finished
    assert not thread.is_alive()
