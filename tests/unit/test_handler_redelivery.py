"""Any batch, any failures: each record ends in one place, and coming again loses nothing and repeats the bytes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lambda_function.core.events import decode_prediction
from lambda_function.errors import BundleError, StoreError
from tests.builders import event_id, invocation, lambda_records, ride_bytes, sequence_number, small_bundle
from tests.fakes import (
    DENIED,
    SERVICE_DOWN,
    THROTTLED,
    AfterAccepting,
    FakeFunction,
    PartlyFailed,
    PutOutcome,
    S3Outcome,
    client_error,
    timed_out,
)
from tests.kits.batches import BAD, published_ids, rejected

POSITIONS = st.lists(st.integers(0, 11), min_size=1, max_size=6)
PUT_OUTCOMES = st.one_of(
    st.none(),
    POSITIONS.map(PartlyFailed),
    st.sampled_from([THROTTLED, SERVICE_DOWN, DENIED, timed_out(), client_error(400, "ValidationException")]),
    st.sampled_from([AfterAccepting(timed_out()), AfterAccepting(SERVICE_DOWN)]),
)
S3_OUTCOMES = st.one_of(st.none(), st.sampled_from([SERVICE_DOWN, DENIED, timed_out(), AfterAccepting(timed_out())]))
DATAS = st.lists(st.sampled_from([ride_bytes(1), ride_bytes(2, trip_distance=9), ride_bytes("3"), BAD]), max_size=12)


@dataclass
class Mapping:
    """Brings records again as Lambda does: from the sequence number reported, or all of the batch after an error.

    Attributes:
        sizes: Records that each delivery holds at most: a batch that failed may come in other pieces.
        killed: Deliveries whose answer is lost, as when the function's environment dies after its work.
    """

    function: FakeFunction
    sizes: Iterator[int]
    killed: Iterator[bool]

    def deliver(self, records: list[dict[str, Any]]) -> None:
        """Delivers records until all of them are done."""
        numbers = [record["kinesis"]["sequenceNumber"] for record in records]
        start = 0
        for _ in range(500):
            if start == len(records):
                return
            stop = min(start + next(self.sizes), len(records))
            try:
                retry_from = self.function.invoke({"Records": records[start:stop]})
            except (StoreError, BundleError):
                retry_from = numbers[start]
            if next(self.killed):
                continue
            assert retry_from in ["", *numbers[start:stop]]
            start = numbers.index(retry_from) if retry_from else stop
        raise AssertionError("the shard is blocked")


def endless(values: list[Any], last: Any) -> Iterator[Any]:
    yield from values
    while True:
        yield last


@given(datas=DATAS, puts=st.lists(PUT_OUTCOMES, max_size=6), s3=st.lists(S3_OUTCOMES, max_size=6))
def test_every_record_ends_in_exactly_one_place(
    datas: list[bytes], puts: list[PutOutcome], s3: list[S3Outcome]
) -> None:
    # GIVEN any batch, and a stream and a store that fail in any way
    function = FakeFunction(small_bundle())
    function.invoke(invocation(ride_bytes()))  # the model is loaded
    function.kinesis.taken.clear()
    function.kinesis.script, function.s3.script = puts, s3
    answer_lost = isinstance(s3[0], AfterAccepting) if s3 else False
    # WHEN the function has handled it
    records = lambda_records(datas)
    retry_from = function.invoke({"Records": records})
    # THEN each record before the one reported is published if it is a ride, and else rejected
    n_done = int(retry_from) - int(sequence_number(0)) if retry_from else len(datas)
    rides = {event_id(n) for n, data in enumerate(datas[:n_done]) if data != BAD}
    others = {sequence_number(n) for n, data in enumerate(datas[:n_done]) if data == BAD}
    assert rides <= set(published_ids(function)) <= {event_id(n) for n, data in enumerate(datas) if data != BAD}
    # AND no other is in the bucket, but for rejects whose storing had no answer
    assert others <= set(rejected(function))
    if not answer_lost:
        assert others == set(rejected(function))


@given(
    datas=DATAS,
    puts=st.lists(PUT_OUTCOMES, max_size=12),
    s3=st.lists(S3_OUTCOMES, max_size=12),
    sizes=st.lists(st.integers(1, 12), max_size=12),
    killed=st.lists(st.booleans(), max_size=4),
)
def test_redelivery_loses_nothing_and_repeats_with_the_same_bytes(
    datas: list[bytes],
    puts: list[PutOutcome],
    s3: list[S3Outcome],
    sizes: list[int],
    killed: list[bool],
) -> None:
    # GIVEN any batch, any failures, batches cut anew at each coming, and answers that are lost
    function = FakeFunction(small_bundle())
    function.kinesis.script, function.s3.script = puts, s3
    # WHEN Lambda delivers until all is done
    Mapping(function, endless(sizes, 12), endless(killed, False)).deliver(lambda_records(datas))
    # THEN each ride has a prediction, whose repeats are the same to the byte
    by_id: dict[str, set[bytes]] = {}
    for _, data in function.kinesis.taken:
        by_id.setdefault(decode_prediction(data).prediction_id, set()).add(data)
    assert set(by_id) == {event_id(n) for n, data in enumerate(datas) if data != BAD}
    assert all(len(datas) == 1 for datas in by_id.values())
    # AND each of the others stands in the bucket exactly once
    assert sorted(rejected(function)) == [sequence_number(n) for n, data in enumerate(datas) if data == BAD]
