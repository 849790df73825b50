"""What the mapping does with batches that fail for good: cut in two, retried, given up, never forgotten."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import SHARD_ID, STREAM_ARN
from tests.fakes import BUCKET, DENIED, SERVICE_DOWN, AfterAccepting, FakeS3, timed_out
from tests.fakes_kinesis import FakeKinesis
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
    succeed,
    texts_of_failed,
)

# -- the cut


def test_failed_batch_is_halved_until_the_bad_record_stands_alone_and_the_first_half_goes_first() -> None:
    kinesis = FakeKinesis()
    kinesis.put(*[b"a", b"b", b"bad", b"d"])
    function = poisoned_by("bad")
    mapping = make_mapping(kinesis, function, batch_size=4, bisect_on_error=True, maximum_retry_attempts=0)

    drain(mapping, kinesis.clock)

    assert function.batches() == [["a", "b", "bad", "d"], ["a", "b"], ["bad", "d"], ["bad"], ["d"]]
    assert (mapping.stats.n_bisects, mapping.stats.n_done, mapping.stats.n_dropped) == (2, 3, 1)


def test_a_bisect_spends_no_retry() -> None:
    kinesis = FakeKinesis()
    kinesis.put(*rides(7), b"bad")
    function = poisoned_by("bad")

    drain(make_mapping(kinesis, function, batch_size=8, bisect_on_error=True, maximum_retry_attempts=2), kinesis.clock)

    assert function.batches().count(["bad"]) == 1 + 2


def test_partial_response_is_retried_from_its_checkpoint_and_not_halved() -> None:
    kinesis = FakeKinesis()
    kinesis.put(*rides(4))
    function = ScriptedFunction([report(1)])
    mapping = make_mapping(kinesis, function, batch_size=4, bisect_on_error=True)

    drain(mapping, kinesis.clock)

    assert [len(batch) for batch in function.batches()] == [4, 3]
    assert mapping.stats.n_bisects == 0


def test_second_half_waits_for_no_window() -> None:
    kinesis = FakeKinesis()
    kinesis.put(b"a", b"b")
    function = ScriptedFunction([fail])
    mapping = make_mapping(kinesis, function, batch_size=2, batching_window_s=60, bisect_on_error=True)
    mapping.poll_once()
    kinesis.clock.advance(BACKOFF_S)

    assert [mapping.poll_once(), mapping.poll_once()] == [1, 1]


# -- the retries


@pytest.mark.parametrize("n_retries", [0, 1, 3])
def test_batch_is_given_up_after_its_retries_and_the_next_one_goes_at_once(n_retries: int) -> None:
    kinesis = FakeKinesis()
    kinesis.put(b"bad", b"neighbour", b"bystander", b"next")
    function = poisoned_by("bad")
    mapping = make_mapping(kinesis, function, maximum_retry_attempts=n_retries)

    drain(mapping, kinesis.clock)

    assert function.batches() == [["bad", "neighbour", "bystander"]] * (1 + n_retries) + [["next"]]
    assert (mapping.stats.n_done, mapping.stats.n_dropped) == (1, 3)


def test_all_retries_are_there_again_once_a_part_is_done() -> None:
    kinesis = FakeKinesis()
    kinesis.put(*rides(2))
    s3 = FakeS3()
    function = ScriptedFunction([report(1), report(0), report(0), report(0)])
    mapping = make_mapping(kinesis, function, s3=s3, on_failure_bucket=BUCKET, maximum_retry_attempts=2)

    drain(mapping, kinesis.clock)

    # As recorded on AWS: five invocations of the record, the first of them in company, and a count of those alone.
    assert [len(batch) for batch in function.batches()] == [2, 1, 1, 1]
    assert failed_batches(s3)[0]["requestContext"]["approximateInvokeCount"] == 3


# -- the age


def test_only_records_over_age_are_given_up_and_that_before_they_are_ever_invoked() -> None:
    kinesis = FakeKinesis()
    kinesis.put(b"old", b"older than it looks")
    kinesis.clock.advance(61)
    kinesis.put(b"young")
    s3, function = FakeS3(), ScriptedFunction()

    drain(make_mapping(kinesis, function, s3=s3, on_failure_bucket=BUCKET, maximum_record_age_s=60), kinesis.clock)

    assert function.batches() == [["young"]]
    assert texts_of_failed(s3) == ["old", "older than it looks"]


def test_record_that_comes_of_age_while_it_is_retried_is_given_up_and_the_rest_of_its_batch_is_not() -> None:
    kinesis = FakeKinesis()
    kinesis.put(b"old")
    kinesis.clock.advance(30)
    kinesis.put(b"young")
    s3 = FakeS3()
    function = ScriptedFunction([fail] * 8)  # backoffs of 1, 2, … seconds: 36 in all
    mapping = make_mapping(kinesis, function, s3=s3, on_failure_bucket=BUCKET, maximum_record_age_s=60)

    drain(mapping, kinesis.clock)

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
    drain(make_mapping(kinesis, function, s3=s3, **config), kinesis.clock)
    return s3, kinesis


def test_invocation_record_has_the_shape_of_lambdas_and_the_whole_event() -> None:
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


def test_record_that_was_only_too_old_tells_of_no_response() -> None:
    kinesis, s3 = FakeKinesis(), FakeS3()
    kinesis.put(b"old")
    kinesis.clock.advance(61)

    make_mapping(kinesis, ScriptedFunction(), s3=s3, on_failure_bucket=BUCKET, maximum_record_age_s=60).poll_once()

    (record,) = failed_batches(s3)
    assert "responseContext" not in record
    context = record["requestContext"]
    # As recorded on AWS: a count of 1, though it was never invoked.
    assert (context["condition"], context["approximateInvokeCount"]) == ("RecordAgeExceeded", 1)


def test_nothing_is_given_up_while_the_destination_cannot_be_written() -> None:
    kinesis = FakeKinesis()
    kinesis.put(b"bad")
    s3 = FakeS3(script=[SERVICE_DOWN, DENIED, timed_out()])
    function = poisoned_by("bad")
    mapping = make_mapping(kinesis, function, s3=s3, on_failure_bucket=BUCKET, maximum_retry_attempts=0)

    mapping.poll_once()
    assert (mapping.stats.n_failed, mapping.stats.n_dropped) == (0, 0)
    drain(mapping, kinesis.clock)

    assert (mapping.stats.n_failed, len(function.events)) == (1, 1)
    assert texts_of_failed(s3) == ["bad"]
    assert mapping.stats.last_error.startswith("ReadTimeoutError")


def test_backoff_of_the_destination_is_the_batchs() -> None:
    kinesis = FakeKinesis()
    kinesis.put(b"bad")
    s3 = FakeS3(script=[SERVICE_DOWN] * 2)
    mapping = make_mapping(kinesis, poisoned_by("bad"), s3=s3, on_failure_bucket=BUCKET, maximum_retry_attempts=0)

    for _ in range(5):
        mapping.poll_once()
    assert len(s3.calls) == 1
    kinesis.clock.advance(2 * BACKOFF_S)  # the second failure in a row: the invocation, then the write
    mapping.poll_once()

    assert len(s3.calls) == 2


def test_destination_whose_answer_was_lost_has_one_object_of_the_batch() -> None:
    kinesis = FakeKinesis()
    kinesis.put(b"bad")
    s3 = FakeS3(script=[AfterAccepting(timed_out())])
    mapping = make_mapping(kinesis, poisoned_by("bad"), s3=s3, on_failure_bucket=BUCKET, maximum_retry_attempts=0)

    drain(mapping, kinesis.clock)

    assert [operation for operation, _ in s3.calls] == ["put", "put"]
    assert texts_of_failed(s3) == ["bad"]


def test_destination_without_a_client_gives_nothing_up() -> None:
    kinesis = FakeKinesis()
    kinesis.put(b"a")
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
    s3_faults=st.lists(st.sampled_from([None, SERVICE_DOWN, AfterAccepting(timed_out())]), max_size=6),
)
def test_every_record_is_done_or_put_aside_exactly_once_and_each_key_in_order(
    keys: list[str], pause_after: int, script: list[Respond], config: dict[str, Any], s3_faults: list[Any]
) -> None:
    kinesis = FakeKinesis(n_shards=2)
    s3, function = FakeS3(script=list(s3_faults)), ScriptedFunction(script)
    mapping = make_mapping(kinesis, function, s3=s3, on_failure_bucket=BUCKET, **config)
    for i, key in enumerate(keys):
        kinesis.put(f"{i:02}".encode(), partition_key=key)
        if i == pause_after:
            drain(mapping, kinesis.clock, n_idle_rounds=3)

    drain(mapping, kinesis.clock, n_idle_rounds=60)

    aside = texts_of_failed(s3)
    assert sorted([ride for _, ride in function.done] + aside) == [f"{i:02}" for i in range(len(keys))]
    assert (mapping.stats.n_done, mapping.stats.n_failed) == (len(function.done), len(aside))
    for key in set(keys):
        rides_done = [ride for partition_key, ride in function.done if partition_key == key]
        assert rides_done == sorted(rides_done)
