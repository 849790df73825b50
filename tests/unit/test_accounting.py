"""What became of a record without a prediction: it is rejected, failed, waiting or lost."""

from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_function.aws.rejects import reject_key
from lambda_function.core.archive_lines import archive_key
from lambda_function.core.events import NOT_JSON, encode_reject
from lambda_function.core.records import RIDES, KinesisRecord, build_reject, sub_record
from lambda_function.errors import RejectError
from tests.builders import ARRIVAL_TIME_S, SHARD_ID, STREAM, STREAM_ARN, event_id, kinesis_records, sequence_number
from tests.builders_failed import ARCHIVER, FAILURE_KEY, failure
from tests.fakes import BUCKET, FakeS3
from training.data.labelled import FAILED, LOST, REJECTED, WAITING
from training.monitoring.hours import Hour
from training.monitoring.join.audit import account_for
from training.monitoring.join.failures import BATCH_HOURS, MAX_BETWEEN, Unaccounted
from training.registry.bucket import Bucket

HOUR = Hour.of(ARRIVAL_TIME_S)
FAR = {SHARD_ID: 10**60}
"""The function has reached much later records."""


def part(position: int, index: int) -> str:
    return f"{event_id(position)}:{index}"


def archive(s3: FakeS3, first: int = 0, hours_before: int = 0, shard: str = SHARD_ID) -> None:
    """Store an archive object of the ride events from the n-th on; its contents do not matter here."""
    partition = (HOUR + -hours_before).partition
    s3.objects[archive_key(RIDES, partition, shard, sequence_number(first), "0123456789abcdef")] = b""


def reject(s3: FakeS3, *ids: str, stream: str = STREAM) -> str:
    """Store one object with the rejects of these records and parts, as the function does, and return its key."""
    rejects = [build_reject(record_of_id(one), RejectError(NOT_JSON, "no ride")) for one in ids]
    body = b"".join(encode_reject(one) + b"\n" for one in rejects)
    key = reject_key(stream, rejects[0], body)
    s3.objects[key] = body
    return key


def record_of_id(one_id: str) -> KinesisRecord:
    shard_id, number, *index = one_id.split(":")
    (record,) = kinesis_records(b"bad")
    envelope = record.envelope
    whole = KinesisRecord(f"{shard_id}:{number}", type(envelope)("1", number, envelope.arrival_time_s, b"bad"))
    return sub_record(whole, int(index[0]), "1", b"bad") if index else whole


def account(
    s3: FakeS3,
    missing: Iterable[str],
    reached: dict[str, int] | None = None,
    other_predictions: Sequence[str] = (),
    *,
    may_wait: bool = True,
) -> dict[str, str]:
    bucket = Bucket(s3, BUCKET, n_threads=1)
    at = FAR if reached is None else reached
    return account_for(bucket, STREAM, HOUR, missing, at, other_predictions, may_wait=may_wait).statuses


@pytest.fixture
def s3() -> FakeS3:
    """Return a bucket with an archive object of the hour."""
    s3 = FakeS3()
    archive(s3)
    return s3


def test_nothing_missing_needs_no_request(s3: FakeS3) -> None:
    assert account(s3, []) == {}
    assert [call for call in s3.calls if call[0] == "get"] == []


def test_record_without_any_result_is_lost(s3: FakeS3) -> None:
    reject(s3, event_id(1), event_id(3))
    assert account(s3, [event_id(2)]) == {event_id(2): LOST}


@pytest.mark.parametrize(
    ("missing", "result", "status"),
    [
        (event_id(2), event_id(2), REJECTED),
        (part(2, 1), part(2, 1), REJECTED),
        (part(2, 1), event_id(2), REJECTED),  # one reject for many parts
        (event_id(2), part(2, 1), REJECTED),  # the record was divided, by this code it is not
        (part(2, 1), part(2, 2), LOST),
        (part(2, 1), part(2, 11), LOST),
        (event_id(2), event_id(20), LOST),
    ],
)
@pytest.mark.parametrize("is_prediction", [False, True])
def test_result_of_a_record_is_one_of_its_parts_and_the_other_way_round(
    s3: FakeS3, missing: str, result: str, status: str, is_prediction: bool
) -> None:
    if not is_prediction:
        reject(s3, result)
    assert account(s3, [missing], other_predictions=[result] if is_prediction else []) == {missing: status}


def test_reject_is_found_in_an_object_that_begins_long_before_it(s3: FakeS3) -> None:
    archive(s3, -1000, hours_before=BATCH_HOURS)
    for position in range(0, 50, 10):
        reject(s3, event_id(position))
    reject(s3, event_id(-900), event_id(7))
    assert account(s3, [event_id(7)]) == {event_id(7): REJECTED}


def test_rejects_of_a_long_retention_are_not_listed_nor_read(s3: FakeS3) -> None:
    # GIVEN rejects of records from before the hour's last batches, and of later ones
    archive(s3, 1000, hours_before=BATCH_HOURS)
    archive(s3, 0, hours_before=BATCH_HOURS + 1)
    for position in (*range(900), *range(3000, 3900)):
        reject(s3, event_id(position))
    s3.keys_per_page = 100
    near = reject(s3, event_id(1500))
    assert account(s3, [event_id(1400), event_id(1500)]) == {event_id(1400): LOST, event_id(1500): REJECTED}
    assert [key for operation, key in s3.calls if operation == "get"] == [near]
    assert s3.calls.count(("list", f"rejects/{STREAM}/{SHARD_ID}/")) == 1


def test_reading_ends_when_all_are_found(s3: FakeS3) -> None:
    near = [reject(s3, event_id(position)) for position in range(20)][-2:]
    assert set(account(s3, [event_id(18), event_id(19)]).values()) == {REJECTED}
    assert [key for operation, key in s3.calls if operation == "get"] == near[::-1]


def test_only_the_rejects_right_before_a_record_are_read(s3: FakeS3) -> None:
    # GIVEN batches that came again in other cuts between a reject's object and the reject
    reject(s3, event_id(0), event_id(MAX_BETWEEN))
    keys = [reject(s3, event_id(position)) for position in range(1, MAX_BETWEEN)]
    assert account(s3, [event_id(MAX_BETWEEN)]) == {event_id(MAX_BETWEEN): REJECTED}
    # WHEN a record is lost, and a day's rejects lie before it
    keys += [reject(s3, event_id(position)) for position in range(MAX_BETWEEN + 1, 3 * MAX_BETWEEN)]
    s3.calls.clear()
    lost = event_id(3 * MAX_BETWEEN)
    assert account(s3, [lost]) == {lost: LOST}
    # THEN few of them are read
    assert [key for operation, key in s3.calls if operation == "get"] == keys[: -MAX_BETWEEN - 1 : -1]


def test_rejects_of_another_stream_or_shard_are_not_results(s3: FakeS3) -> None:
    other = event_id(2).replace(SHARD_ID, "shardId-000000000007")
    archive(s3, shard="shardId-000000000007")
    reject(s3, other)
    reject(s3, event_id(2), stream="ride-outcomes")
    assert account(s3, [event_id(2), other]) == {event_id(2): LOST, other: REJECTED}


def test_damaged_reject_is_none(s3: FakeS3) -> None:
    key = reject(s3, event_id(1), event_id(2))
    damaged, whole, _ = s3.objects[key].split(b"\n")
    s3.objects[key] = damaged[:-1] + b"\n" + whole + b"\n"
    s3.objects[f"rejects/{STREAM}/{SHARD_ID}/notes.txt"] = b"hello"
    assert account(s3, [event_id(1), event_id(2)]) == {event_id(1): LOST, event_id(2): REJECTED}


def test_records_of_a_failed_batch_have_failed(s3: FakeS3) -> None:
    s3.objects[FAILURE_KEY] = failure(b"", b"", first=2)
    missing = [event_id(1), event_id(2), part(3, 0), part(3, 1), event_id(4)]
    assert account(s3, missing) == dict(zip(missing, (LOST, FAILED, FAILED, FAILED, LOST), strict=True))


@pytest.mark.parametrize(
    ("key", "body"),
    [
        (FAILURE_KEY.replace("20.15.00", "07.59.59").replace("T20", "T07"), failure(b"")),  # from before the hour
        (FAILURE_KEY.replace(SHARD_ID, "shardId-000000000007"), failure(b"")),
        (FAILURE_KEY, failure(b"").replace(STREAM_ARN.encode(), STREAM_ARN.replace("events", "outcomes").encode())),
        (FAILURE_KEY, failure(b"", function=ARCHIVER)),  # says nothing about the prediction
        (FAILURE_KEY, failure(b"")[:-10]),
        (FAILURE_KEY, b'{"KinesisBatchInfo": null}'),
        ("aws/lambda/notes.txt", failure(b"")),
    ],
)
def test_other_failed_batch_is_no_result(s3: FakeS3, key: str, body: bytes) -> None:
    s3.objects[key] = body
    assert account(s3, [event_id(0)]) == {event_id(0): LOST}


def test_reject_comes_before_a_failed_batch(s3: FakeS3) -> None:
    reject(s3, event_id(2))
    s3.objects[FAILURE_KEY] = failure(b"", first=2)
    assert account(s3, [event_id(2)]) == {event_id(2): REJECTED}


def test_record_waits_until_a_later_one_of_its_shard_has_a_result(s3: FakeS3) -> None:
    missing = [event_id(1), event_id(3), event_id(5), event_id(3).replace(SHARD_ID, "shardId-000000000007")]
    reached = {SHARD_ID: int(sequence_number(2))}
    assert list(account(s3, missing, reached).values()) == [LOST, WAITING, WAITING, WAITING]
    reject(s3, event_id(4))
    assert account(s3, [*missing, event_id(4)], reached) == {
        **dict(zip(missing, (LOST, LOST, WAITING, WAITING), strict=True)),
        event_id(4): REJECTED,
    }
    s3.objects[FAILURE_KEY] = failure(b"", first=6)
    assert account(s3, [*missing, event_id(6)], reached)[event_id(5)] == LOST
    assert set(account(s3, missing, {}, may_wait=False).values()) == {LOST}


IDS = st.builds(lambda number, index: f"s-0:{number}{index}", st.integers(0, 3), st.sampled_from(["", ":0", ":1"]))


@given(st.sets(IDS), st.lists(IDS))
def test_results_take_out_ids_by_the_rule_in_any_order(ids: set[str], results: list[str]) -> None:
    left = Unaccounted(ids)
    taken: set[str] = set()
    for result in results:
        taken |= left.take_out(result)

    def is_of(result: str, one: str) -> bool:
        return result == one or one.startswith(f"{result}:") or result.startswith(f"{one}:")

    assert taken == {one for one in ids if any(is_of(result, one) for result in results)}
    assert set(left) == ids - taken
    assert left.shards() == (["s-0"] if ids - taken else [])
