"""Original records that a caller brings again: predictions and rejects have the identity that they had."""

from typing import Any

import pytest

from lambda_function.core.kpl import pack
from lambda_function.core.replay import replay_event
from tests.builders import event_id, invocation, lambda_record, ride_bytes, small_bundle
from tests.fakes import FakeContext, FakeFunction
from tests.kits.batches import BAD

BAD_RIDE = ride_bytes(2, PULocationID=-1)


def aggregate(*datas: bytes) -> bytes:
    (packed,) = pack([(str(number), data) for number, data in enumerate(datas)], n_groups=1)
    return packed.data


def alone(data: bytes, index: int) -> dict[str, Any]:
    """Return the sub-record of the first record's aggregate as a record of its own."""
    record = lambda_record(data)
    kinesis = {**record["kinesis"], "partitionKey": str(index)}
    return {**record, "eventID": f"{event_id(0)}:{index}", "kinesis": kinesis}


@pytest.fixture
def function() -> FakeFunction:
    return FakeFunction(small_bundle())


def answer(function: FakeFunction, event: dict[str, Any]) -> dict[str, Any]:
    return function.handler(event, FakeContext(function.clock))


def test_sub_record_by_itself_gives_the_bytes_that_it_gave_in_its_aggregate(function: FakeFunction) -> None:
    rides = [ride_bytes(1, pickup_datetime=None), ride_bytes(2), ride_bytes(3)]
    function.invoke(invocation(aggregate(*rides)))
    whole = list(function.kinesis.taken)
    answer(function, replay_event([alone(rides[0], 0), alone(rides[2], 2)]))
    assert function.kinesis.taken == [*whole, whole[0], whole[2]]


def test_sub_record_by_itself_is_rejected_as_it_was_in_its_aggregate(function: FakeFunction) -> None:
    function.invoke(invocation(aggregate(ride_bytes(1), BAD)))
    before = function.s3.lines("rejects/")
    answer(function, replay_event([alone(BAD, 1)]))
    assert len(before) == 1
    assert set(function.s3.lines("rejects/")) == set(before)


def test_sub_record_that_looks_like_an_aggregate_is_not_unpacked_when_it_comes_by_itself(
    function: FakeFunction,
) -> None:
    inner = aggregate(ride_bytes(1))
    function.invoke(invocation(aggregate(inner)))
    before = function.s3.lines("rejects/")
    answer(function, replay_event([alone(inner, 0)]))
    assert function.kinesis.taken == []
    assert set(function.s3.lines("rejects/")) == set(before)


def test_document_of_a_record_with_several_gives_the_bytes_that_it_gave_beside_the_others(
    function: FakeFunction,
) -> None:
    rides = [ride_bytes(1, pickup_datetime=None), BAD_RIDE, ride_bytes(3)]
    function.invoke(invocation(b"\n".join(rides)))
    whole, rejects = list(function.kinesis.taken), function.s3.lines("rejects/")
    event = replay_event([alone(ride, index) for index, ride in enumerate(rides)])
    for record in event["Records"]:
        record["kinesis"]["partitionKey"] = "1"  # a document has the key of its record
    assert answer(function, event)["ridecast"] == {"rejected": [f"{event_id(0)}:1"]}
    assert function.kinesis.taken == [*whole, *whole]
    assert set(function.s3.lines("rejects/")) == set(rejects)


def test_answer_to_a_replay_names_the_records_that_are_rejected_again(function: FakeFunction) -> None:
    event = replay_event([lambda_record(ride_bytes(1), 0), lambda_record(BAD, 1), lambda_record(aggregate(BAD), 2)])
    assert answer(function, event) == {"batchItemFailures": [], "ridecast": {"rejected": [event_id(1)]}}


@pytest.mark.parametrize("mark", [None, True, {"replay": "true"}, {}])
def test_invocation_of_the_stream_is_no_replay_whatever_else_it_holds(function: FakeFunction, mark: object) -> None:
    assert answer(function, {**invocation(BAD), "ridecast": mark}) == {"batchItemFailures": []}
