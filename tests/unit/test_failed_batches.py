"""Batches that fail: split in two, retried, stored in the failure destination, never lost."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import SHARD_ID, STREAM_ARN
from tests.fakes import BUCKET, FakeKinesis, FakeS3
from tests.kits.mapping import (
    BACKOFF_S,
    Respond,
    ScriptedFunction,
    drain,
    fail,
    failed_batches,
    make_mapping,
    poisoned_by,
    report,
    rides,
    run,
    stream,
    succeed,
    texts_of_failed,
)
from tests.outcomes import DENIED, NO_ANSWER, SERVICE_DOWN, AnswerLost, Problem

# -- the split


def test_failed_batch_is_split_until_the_bad_record_is_alone_and_the_first_half_is_delivered_first() -> None:
    function = poisoned_by("bad")
    mapping = run(
        stream(*[b"a", b"b", b"bad", b"d"]), function, batch_size=4, bisect_on_error=True, maximum_retry_attempts=0
    )

    assert function.batches() == [["a", "b", "bad", "d"], ["a", "b"], ["bad", "d"], ["bad"], ["d"]]
    assert (mapping.stats.n_bisects, mapping.stats.n_done, mapping.stats.n_dropped) == (2, 3, 1)


def test_split_uses_no_retry() -> None:
    function = poisoned_by("bad")
    run(stream(*rides(7), b"bad"), function, batch_size=8, bisect_on_error=True, maximum_retry_attempts=2)

    assert function.batches().count(["bad"]) == 1 + 2


def test_partly_done_batch_is_retried_from_its_checkpoint_and_not_split() -> None:
    function = ScriptedFunction([report(1)])
    mapping = run(stream(*rides(4)), function, batch_size=4, bisect_on_error=True)

    assert [len(batch) for batch in function.batches()] == [4, 3]
    assert mapping.stats.n_bisects == 0


def test_second_half_has_no_batching_window() -> None:
    kinesis = stream(b"a", b"b")
    function = ScriptedFunction([fail])
    mapping = make_mapping(kinesis, function, batch_size=2, batching_window_s=60, bisect_on_error=True)
    mapping.poll_once()
    kinesis.clock.advance(BACKOFF_S)

    assert [mapping.poll_once(), mapping.poll_once()] == [1, 1]


# -- the retries


@pytest.mark.parametrize("n_retries", [0, 1, 3])
def test_batch_fails_after_its_retries_and_the_next_one_is_delivered_at_once(n_retries: int) -> None:
    function = poisoned_by("bad")
    mapping = run(stream(b"bad", b"neighbour", b"third", b"next"), function, maximum_retry_attempts=n_retries)

    assert function.batches() == [["bad", "neighbour", "third"]] * (1 + n_retries) + [["next"]]
    assert (mapping.stats.n_done, mapping.stats.n_dropped) == (1, 3)


def test_all_retries_are_available_again_once_a_part_is_done() -> None:
    s3 = FakeS3()
    function = ScriptedFunction([report(1), report(0), report(0), report(0)])
    run(stream(*rides(2)), function, s3=s3, on_failure_bucket=BUCKET, maximum_retry_attempts=2)

    # As recorded on AWS: the count has only the invocations with exactly these records.
    assert [len(batch) for batch in function.batches()] == [2, 1, 1, 1]
    assert failed_batches(s3)[0]["requestContext"]["approximateInvokeCount"] == 3


# -- the age


def test_only_records_over_age_fail_and_without_an_invocation() -> None:
    kinesis = stream(b"old", b"old, too")
    kinesis.clock.advance(61)
    kinesis.put(b"young")
    s3, function = FakeS3(), ScriptedFunction()

    run(kinesis, function, s3=s3, on_failure_bucket=BUCKET, maximum_record_age_s=60)

    assert function.batches() == [["young"]]
    assert texts_of_failed(s3) == ["old", "old, too"]


def test_record_that_exceeds_the_age_during_retries_fails_and_the_rest_of_its_batch_does_not() -> None:
    kinesis = stream(b"old")
    kinesis.clock.advance(30)
    kinesis.put(b"young")
    s3 = FakeS3()
    function = ScriptedFunction([fail] * 8)  # backoffs of 1, 2, … seconds: 36 in all
    mapping = run(kinesis, function, s3=s3, on_failure_bucket=BUCKET, maximum_record_age_s=60)

    assert texts_of_failed(s3) == ["old"]
    assert function.batches() == [["old", "young"]] * 8 + [["young"]]
    assert (mapping.stats.n_done, mapping.stats.n_failed, mapping.stats.n_redelivered) == (1, 1, 7 * 2 + 1)


# -- the destination


def failed_batch(respond: Respond) -> tuple[FakeS3, FakeKinesis]:
    kinesis, s3 = FakeKinesis(), FakeS3()
    kinesis.put(b"a")
    kinesis.clock.advance(0.25)
    kinesis.put(b"b")
    function = ScriptedFunction([respond] * 2)
    config: dict[str, Any] = {"on_failure_bucket": BUCKET, "maximum_retry_attempts": 1, "function_name": "predictor"}
    run(kinesis, function, s3=s3, **config)
    return s3, kinesis


def test_stored_object_has_lambdas_format_and_the_whole_event() -> None:
    s3, kinesis = failed_batch(fail)
    first, last = kinesis.sequence_numbers(SHARD_ID)

    ((key, body),) = s3.objects.items()
    record = json.loads(body)
    event = json.loads(record.pop("payload"))

    assert key == f"aws/lambda/id-0/{SHARD_ID}/2023/11/14/2023-11-14T22.13.21-id-1"
    assert record == {
        "requestContext": {
            "requestId": "id-2",
            "functionArn": "arn:aws:lambda:us-east-1:123456789012:function:predictor",
            "condition": "RetryAttemptsExhausted",
            "approximateInvokeCount": 2,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "version": "1.0",
        "timestamp": "2023-11-14T22:13:21.250Z",
        "KinesisBatchInfo": {
            "shardId": SHARD_ID,
            "startSequenceNumber": first,
            "endSequenceNumber": last,
            "approximateArrivalOfFirstRecord": "2023-11-14T22:13:20.000Z",
            "approximateArrivalOfLastRecord": "2023-11-14T22:13:20.250Z",
            "batchSize": 2,
            "streamArn": STREAM_ARN,
        },
    }
    assert [r["kinesis"]["sequenceNumber"] for r in event["Records"]] == [first, last]
    assert event["Records"][0]["eventID"] == f"{SHARD_ID}:{first}"


def test_function_that_only_reported_failures_raised_no_error() -> None:
    s3, _ = failed_batch(report(0))

    assert failed_batches(s3)[0]["responseContext"]["functionError"] is None


def test_object_of_records_over_age_has_no_response() -> None:
    kinesis, s3 = FakeKinesis(), FakeS3()
    kinesis.put(b"old")
    kinesis.clock.advance(61)

    make_mapping(kinesis, ScriptedFunction(), s3=s3, on_failure_bucket=BUCKET, maximum_record_age_s=60).poll_once()

    (record,) = failed_batches(s3)
    assert "responseContext" not in record
    context = record["requestContext"]
    # As recorded on AWS: the count is 1 without an invocation.
    assert (context["condition"], context["approximateInvokeCount"]) == ("RecordAgeExceeded", 1)


def test_no_record_is_settled_while_the_destination_cannot_be_written() -> None:
    kinesis = stream(b"bad")
    s3 = FakeS3(script=[SERVICE_DOWN, DENIED, NO_ANSWER])
    function = poisoned_by("bad")
    mapping = make_mapping(kinesis, function, s3=s3, on_failure_bucket=BUCKET, maximum_retry_attempts=0)

    mapping.poll_once()
    assert (mapping.stats.n_failed, mapping.stats.n_dropped) == (0, 0)
    drain(mapping, kinesis.clock)

    assert (mapping.stats.n_failed, len(function.events)) == (1, 1)
    assert texts_of_failed(s3) == ["bad"]
    assert mapping.stats.last_error.startswith("ReadTimeoutError")


def test_failing_destination_has_the_backoff_of_the_batch() -> None:
    kinesis = stream(b"bad")
    s3 = FakeS3(script=[SERVICE_DOWN] * 2)
    mapping = make_mapping(kinesis, poisoned_by("bad"), s3=s3, on_failure_bucket=BUCKET, maximum_retry_attempts=0)

    for _ in range(5):
        mapping.poll_once()
    assert len(s3.calls) == 1
    kinesis.clock.advance(2 * BACKOFF_S)  # the second failure in a row: the invocation, then the write
    mapping.poll_once()

    assert len(s3.calls) == 2


def test_destination_with_a_lost_answer_has_one_object_of_the_batch() -> None:
    s3 = FakeS3(script=[AnswerLost()])
    run(stream(b"bad"), poisoned_by("bad"), s3=s3, on_failure_bucket=BUCKET, maximum_retry_attempts=0)

    assert [operation for operation, _ in s3.calls] == ["put", "put"]
    assert texts_of_failed(s3) == ["bad"]


def test_mapping_without_an_s3_client_retries_for_ever() -> None:
    kinesis = stream(b"a")
    function = ScriptedFunction([fail] * 5)
    mapping = make_mapping(
        kinesis, function, on_failure_bucket=BUCKET, maximum_retry_attempts=0, maximum_record_age_s=1
    )

    drain(mapping, kinesis.clock)

    assert function.batches() == [["a"]] * 6
    assert (mapping.stats.n_done, mapping.stats.n_dropped) == (1, 0)


# -- the promise

scripts = st.lists(
    st.one_of(
        st.just(fail),
        st.just(succeed),
        st.lists(st.integers(0, 9), min_size=1).map(lambda positions: report(*positions)),
    ),
    max_size=40,
)
read_scripts = st.lists(st.sampled_from([None, Problem.EXPIRED.error(), Problem.THROTTLED.error()]), max_size=10)
configs = st.fixed_dictionaries(
    {
        "batch_size": st.integers(1, 8),
        "batching_window_s": st.sampled_from([0.0, 3.0]),
        "parallelization_factor": st.integers(1, 4),
        "bisect_on_error": st.booleans(),
        "maximum_retry_attempts": st.sampled_from([-1, 0, 1, 3]),
        "maximum_record_age_s": st.sampled_from([-1, 5, 60]),
    }
)


@settings(deadline=None)
@given(
    keys=st.lists(st.sampled_from("abcde"), max_size=40),
    pause_after=st.integers(0, 40),
    script=scripts,
    config=configs,
    read_script=read_scripts,
    s3_faults=st.lists(st.sampled_from([None, SERVICE_DOWN, AnswerLost()]), max_size=6),
)
def test_every_record_is_done_or_failed_exactly_once_and_each_key_in_order(
    keys: list[str],
    pause_after: int,
    script: list[Respond],
    config: dict[str, Any],
    read_script: list[Exception | None],
    s3_faults: list[Any],
) -> None:
    kinesis = FakeKinesis(n_shards=2, read_script=read_script)
    s3, function = FakeS3(script=list(s3_faults)), ScriptedFunction(script)
    mapping = make_mapping(kinesis, function, s3=s3, on_failure_bucket=BUCKET, **config)
    for i, key in enumerate(keys):
        kinesis.put(f"{i:02}".encode(), partition_key=key)
        if i == pause_after:
            drain(mapping, kinesis.clock, n_idle_rounds=3)

    drain(mapping, kinesis.clock, n_idle_rounds=60)

    failed = texts_of_failed(s3)
    assert sorted([ride for _, ride in function.done] + failed) == [f"{i:02}" for i in range(len(keys))]
    assert (mapping.stats.n_done, mapping.stats.n_failed) == (len(function.done), len(failed))
    for key in set(keys):
        rides_done = [ride for partition_key, ride in function.done if partition_key == key]
        assert rides_done == sorted(rides_done)
