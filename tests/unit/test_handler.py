"""The whole function on fakes: where each record of a batch ends, whatever stream and store do."""

import gc

import msgspec
import pytest

from lambda_function.aws.clients import CONNECT_TIMEOUT_S, KINESIS_READ_TIMEOUT_S, S3_ATTEMPTS, S3_READ_TIMEOUT_S
from lambda_function.aws.settings import Settings
from tests.builders import event_id, invocation, lambda_records, ride_bytes, sequence_number, small_bundle
from tests.fakes import DENIED, SERVICE_DOWN, THROTTLED, AfterAccepting, FakeFunction, PartlyFailed, timed_out
from tests.kits.batches import BAD, good, published_ids, rejected


@pytest.fixture
def function() -> FakeFunction:
    return FakeFunction(small_bundle())


def test_batch_of_rides_is_published_whole(function: FakeFunction) -> None:
    assert function.invoke(invocation(*good(3))) == ""
    assert published_ids(function) == [event_id(n) for n in range(3)]
    assert function.s3.keys("rejects/") == []


def test_rejects_of_a_batch_are_stored_as_one_object(function: FakeFunction) -> None:
    assert function.invoke(invocation(ride_bytes(), BAD, ride_bytes(), BAD)) == ""
    (key,) = function.s3.keys("rejects/")
    assert key == f"rejects/ride-events/shardId-000000000000/{sequence_number(1)}.ndjson"
    assert rejected(function) == [sequence_number(1), sequence_number(3)]
    assert published_ids(function) == [event_id(0), event_id(2)]


def test_batch_of_rejects_alone_calls_no_stream(function: FakeFunction) -> None:
    assert function.invoke(invocation(BAD, BAD)) == ""
    assert function.kinesis.requests == []
    assert len(rejected(function)) == 2


def test_throttled_record_is_retried_from_its_sequence_number(function: FakeFunction) -> None:
    # GIVEN a stream that never takes the third record of five
    function.kinesis.script = [PartlyFailed([2]), *[PartlyFailed([0])] * 1000]
    # WHEN the function has given up on it
    retry_from = function.invoke(invocation(*good(5)))
    # THEN that record, and those after it, come again, and nothing was sent twice
    assert retry_from == sequence_number(2)
    assert published_ids(function) == [event_id(n) for n in (0, 1, 3, 4)]


def test_lowest_unpublished_record_is_reported_whatever_failed_last(function: FakeFunction) -> None:
    function.kinesis.script = [PartlyFailed([4, 1]), PartlyFailed([0, 1]), DENIED]
    assert function.invoke(invocation(*good(5))) == sequence_number(1)


def test_rejects_before_the_first_unpublished_record_do_not_come_again(function: FakeFunction) -> None:
    function.kinesis.script = [PartlyFailed([1]), DENIED]
    assert function.invoke(invocation(BAD, ride_bytes(), BAD, ride_bytes(), BAD)) == sequence_number(3)
    assert rejected(function) == [sequence_number(0), sequence_number(2)]


def test_reject_after_the_first_unpublished_record_is_left_for_its_next_coming(function: FakeFunction) -> None:
    function.kinesis.script = [DENIED]
    assert function.invoke(invocation(ride_bytes(), BAD)) == sequence_number(0)
    assert function.s3.keys("rejects/") == []


def test_batch_comes_again_from_its_first_reject_when_rejects_cannot_be_stored(function: FakeFunction) -> None:
    function.invoke(invocation(ride_bytes()))  # the model is loaded
    function.s3.script = [SERVICE_DOWN]
    assert function.invoke(invocation(ride_bytes(), BAD, ride_bytes())) == sequence_number(1)


def test_rejects_that_were_stored_without_an_answer_are_not_stored_twice(function: FakeFunction) -> None:
    # GIVEN a store that takes the rejects of a batch, and whose answer is lost
    records = lambda_records([ride_bytes(), BAD, ride_bytes(), BAD])
    function.invoke(invocation(ride_bytes()))
    function.s3.script = [AfterAccepting(timed_out())]
    retry_from = function.invoke({"Records": records})
    # WHEN Lambda brings the batch again from where it was told
    assert retry_from == sequence_number(1)
    assert function.invoke({"Records": records[1:]}) == ""
    # THEN each reject stands in the bucket once
    assert rejected(function) == [sequence_number(1), sequence_number(3)]


def test_function_answers_in_time_when_the_stream_is_down(function: FakeFunction) -> None:
    # GIVEN a stream that refuses every request, and a minute
    function.kinesis.script = [SERVICE_DOWN] * 1000
    function.kinesis.request_s = CONNECT_TIMEOUT_S + KINESIS_READ_TIMEOUT_S
    started_s = function.clock()
    # WHEN a batch comes
    retry_from = function.invoke(invocation(*good(2)))
    # THEN it was tried again and again, and given back before the minute was over
    assert retry_from == sequence_number(0)
    assert len(function.kinesis.requests) > 2
    assert function.clock() - started_s < function.timeout_s


def test_no_request_is_started_when_time_is_up(function: FakeFunction) -> None:
    function.timeout_s = 0.0
    assert function.invoke(invocation(ride_bytes(), BAD)) == sequence_number(0)
    assert function.kinesis.requests == []


def test_request_that_fails_only_for_now_is_sent_again(function: FakeFunction) -> None:
    function.kinesis.script = [THROTTLED, SERVICE_DOWN, timed_out()]
    assert function.invoke(invocation(*good(2))) == ""
    assert published_ids(function) == [event_id(0), event_id(1)]
    assert len(function.clock.slept_s) == 3


def test_timeouts_of_a_request_fit_in_the_margin() -> None:
    publish_s = CONNECT_TIMEOUT_S + KINESIS_READ_TIMEOUT_S
    store_s = (CONNECT_TIMEOUT_S + S3_READ_TIMEOUT_S) * S3_ATTEMPTS + 1  # botocore's pause before a second attempt
    assert Settings.deadline_margin_ms > (publish_s + store_s) * 1000


def test_envelope_that_is_not_lambdas_raises(function: FakeFunction) -> None:
    with pytest.raises(msgspec.ValidationError):
        function.invoke({"Records": [{"Sns": {"Message": "hello"}}]})


def test_garbage_collector_is_on_again_after_a_batch_however_it_ends(function: FakeFunction) -> None:
    function.invoke(invocation(ride_bytes()))
    assert gc.isenabled()
    with pytest.raises(msgspec.ValidationError):
        function.invoke({"Records": [{}]})
    assert gc.isenabled()
