"""KPL aggregates through the whole function: unpacked on the way in, packed on the way out."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_function.core.events import DAMAGED_AGGREGATE, decode_prediction, decode_reject
from lambda_function.core.kpl import is_aggregated, pack, unpack
from tests.builders import event_id, invocation, ride_bytes, sequence_number, small_bundle
from tests.fakes import FakeFunction
from tests.kits.batches import BAD
from tests.outcomes import NO_ANSWER, THROTTLED, AnswerLost, EntriesRefused


def aggregate(*datas: bytes) -> bytes:
    """Pack ride events as a producer's KPL does."""
    (packed,) = pack([(str(number), data) for number, data in enumerate(datas)], n_groups=1)
    return packed.data


def predictions(function: FakeFunction) -> dict[str, bytes]:
    """Return the predictions by id, from plain records and aggregates."""
    records = [data for _, data in function.kinesis.taken]
    lines = [line for data in records for line in ([sub for _, sub in unpack(data)] if is_aggregated(data) else [data])]
    return {decode_prediction(line).prediction_id: line for line in lines}


def rejects(function: FakeFunction) -> list[tuple[str, int | None, bytes]]:
    """Return sequence number, sub-record and original bytes of each reject."""
    found = [decode_reject(line) for line in function.s3.lines("rejects/")]
    return [(reject.sequence_number, reject.sub_record, base64.b64decode(reject.data)) for reject in found]


@pytest.fixture
def function() -> FakeFunction:
    return FakeFunction(small_bundle())


@pytest.fixture
def packing() -> FakeFunction:
    return FakeFunction(small_bundle(), output_format="kpl", output_groups=3)


def test_sub_records_are_predicted_under_an_identity_of_their_own(function: FakeFunction) -> None:
    function.invoke(invocation(ride_bytes(1), aggregate(ride_bytes(2), ride_bytes(3))))
    assert list(predictions(function)) == [event_id(0), f"{event_id(1)}:0", f"{event_id(1)}:1"]


def test_sub_record_has_the_prediction_of_a_record_of_its_own(function: FakeFunction) -> None:
    function.invoke(invocation(ride_bytes(7), aggregate(ride_bytes(7))))
    plain, packed = (decode_prediction(line).prediction for line in predictions(function).values())
    assert plain == packed


def test_bad_sub_record_is_rejected_alone_with_its_bytes(function: FakeFunction) -> None:
    function.invoke(invocation(aggregate(ride_bytes(1), BAD, ride_bytes(2))))
    assert rejects(function) == [(sequence_number(0), 1, BAD)]
    assert list(predictions(function)) == [f"{event_id(0)}:0", f"{event_id(0)}:2"]


def test_damaged_aggregate_is_rejected_as_a_whole(function: FakeFunction) -> None:
    damaged = aggregate(ride_bytes(1), ride_bytes(2))[:-1]
    assert function.invoke(invocation(damaged, ride_bytes(3))) == ""
    assert rejects(function) == [(sequence_number(0), None, damaged)]
    (key,) = function.s3.keys("rejects/")
    assert decode_reject(function.s3.objects[key]).reason == DAMAGED_AGGREGATE
    assert list(predictions(function)) == [event_id(1)]


def test_aggregate_not_published_whole_comes_again_whole(function: FakeFunction) -> None:
    function.timeout_s = 0.2
    function.kinesis.script = [EntriesRefused({2}), *[THROTTLED] * 100]
    event = invocation(ride_bytes(1), aggregate(ride_bytes(2), ride_bytes(3)), ride_bytes(4))
    assert function.invoke(event) == sequence_number(1)


def test_predictions_are_packed_by_group(packing: FakeFunction) -> None:
    packing.invoke(invocation(*(ride_bytes(number) for number in range(50))))
    assert 1 <= len(packing.kinesis.taken) <= 3
    assert all(is_aggregated(data) for _, data in packing.kinesis.taken)
    assert set(predictions(packing)) == {event_id(number) for number in range(50)}


def test_packed_prediction_has_the_bytes_of_a_plain_one(function: FakeFunction, packing: FakeFunction) -> None:
    event = invocation(*(ride_bytes(number) for number in range(20)))
    function.invoke(event)
    packing.invoke(event)
    assert predictions(packing) == predictions(function)


OUTCOMES = st.lists(
    st.sampled_from([None, THROTTLED, NO_ANSWER, AnswerLost(), EntriesRefused({0}), EntriesRefused({1})]),
    max_size=12,
)


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=4), min_size=1, max_size=6), OUTCOMES)
def test_every_sub_record_ends_once_after_any_stream_failure(batch: list[list[bool]], outcomes: list[object]) -> None:
    # GIVEN aggregates of good and bad sub-records, and a stream with faults
    function = FakeFunction(small_bundle(), output_format="kpl", output_groups=2, timeout_s=0.3)
    function.kinesis.script = list(outcomes)  # type: ignore[arg-type]
    records = [aggregate(*(ride_bytes(n) if good else BAD for n, good in enumerate(subs))) for subs in batch]
    event = invocation(*records)
    # WHEN Lambda sends the batch again from the reported record, until it is done
    while retry_from := function.invoke(event):
        numbers = [record["kinesis"]["sequenceNumber"] for record in event["Records"]]
        event = {"Records": event["Records"][numbers.index(retry_from) :]}
    # THEN each sub-record is predicted or rejected, exactly one of the two
    identities = {(n, index): good for n, subs in enumerate(batch) for index, good in enumerate(subs)}
    assert set(predictions(function)) == {f"{event_id(n)}:{index}" for (n, index), good in identities.items() if good}
    expected = sorted((sequence_number(n), index) for (n, index), good in identities.items() if not good)
    assert sorted((number, index) for number, index, _ in rejects(function)) == expected
