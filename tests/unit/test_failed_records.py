"""Rejects and failed batches: decoded, found by name, selected and counted."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.operate.redrive.records import FailedRecord, decode_failure, decode_rejects
from infra.operate.redrive.selection import (
    FAILURES,
    REJECTS,
    Selection,
    each_once,
    find,
    parse_time,
)
from infra.operate.redrive.summary import as_json, summarize
from lambda_function.core.events import INVALID_FIELD, NOT_JSON, encode_reject
from lambda_function.core.records import build_reject, decode_records
from lambda_function.errors import RejectError
from tests.builders import (
    ARRIVAL_TIME_S,
    SHARD_ID,
    STREAM,
    STREAM_ARN,
    event_id,
    lambda_record,
    lambda_records,
    sequence_number,
)
from tests.builders_failed import FAILURE_KEY, Account, failure, reject_at, store_rejects
from tests.fakes import BUCKET, FakeS3
from tests.outcomes import DENIED
from training.errors import UserError
from training.registry.bucket import Bucket

ARRIVED = datetime.fromtimestamp(ARRIVAL_TIME_S, UTC)
KEY = f"rejects/{STREAM}/{SHARD_ID}/{sequence_number(0)}.ndjson"
OTHER_SHARD = "shardId-000000000001"


def bucket(s3: FakeS3, n_threads: int = 1) -> Bucket:
    return Bucket(s3, BUCKET, n_threads)


def failed(
    reason: str = NOT_JSON, seconds: float = 0.0, shard_id: str = SHARD_ID, stream: str = STREAM
) -> FailedRecord:
    arrived = ARRIVED + timedelta(seconds=seconds)
    return FailedRecord(f"{shard_id}:1", stream, shard_id, reason, "", arrived, "1", b"", KEY, is_reject=True)


def test_reject_is_decoded() -> None:
    (record,) = decode_rejects(KEY, encode_reject(reject_at(0, b"\xff\x00"))).records
    assert record == FailedRecord(
        record_id=event_id(0),
        stream=STREAM,
        shard_id=SHARD_ID,
        reason=NOT_JSON,
        detail="no ride",
        arrived=ARRIVED,
        partition_key="1",
        data=b"\xff\x00",
        key=KEY,
        is_reject=True,
    )


def test_rejects_of_one_aggregate_have_different_ids() -> None:
    rejects = [msgspec.structs.replace(reject_at(0), sub_record=index) for index in (0, 7)]
    found = decode_rejects(KEY, b"\n".join(map(encode_reject, rejects)))
    assert [one.record_id for one in found.records] == [f"{event_id(0)}:0", f"{event_id(0)}:7"]


@pytest.mark.parametrize("is_text", [True, False], ids=["payload as text", "payload as object"])
def test_failed_batch_is_decoded(is_text: bool) -> None:
    first, second = decode_failure(FAILURE_KEY, failure(b"\xff\x00", b"", is_text=is_text)).records
    assert first == FailedRecord(
        record_id=event_id(0),
        stream=STREAM,
        shard_id=SHARD_ID,
        reason="RetryAttemptsExhausted",
        detail="failed at 2021-01-05T20:15:00.000Z, invocations: 1001, function error Unhandled",
        arrived=ARRIVED,
        partition_key="1",
        data=b"\xff\x00",
        key=FAILURE_KEY,
        is_reject=False,
        function="predictor",
    )
    assert (second.record_id, second.data) == (event_id(1), b"")


@pytest.mark.parametrize("response", [None, {}, {"functionError": None}], ids=str)
def test_failed_batch_without_a_function_error_is_decoded(response: object) -> None:
    (record,) = decode_failure(FAILURE_KEY, failure(b"x", responseContext=response)).records
    assert record.detail.endswith("invocations: 1001")


def test_text_that_is_not_base64_stays_as_it_is() -> None:
    (record,) = decode_failure(FAILURE_KEY, failure("no base64 ü!")).records
    assert record.data == "no base64 ü!".encode()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"payload": None}, "payload"),
        ({"payload": "{"}, "truncated"),
        ({"payload": {"Records": [{"eventID": "x"}]}}, "missing required field `kinesis`"),
        ({"requestContext": {}}, "missing required field `condition`"),
        ({"KinesisBatchInfo": {}}, "missing required field `streamArn`"),
    ],
    ids=str,
)
def test_failed_batch_in_another_shape_is_reported(changes: dict[str, Any], problem: str) -> None:
    found = decode_failure(FAILURE_KEY, failure(b"x", **changes))
    assert found.records == ()
    assert problem in found.problem


def test_damaged_line_is_reported_and_the_others_are_decoded() -> None:
    lines = [encode_reject(reject_at(0)), b"{", encode_reject(reject_at(1)).replace(b"aGVsbG8=", b"?"), b"\xff"]
    found = decode_rejects(KEY, b"\n".join([*lines, encode_reject(reject_at(2))]))
    assert [record.record_id for record in found.records] == [event_id(0), event_id(2)]
    assert [part.partition(":")[0] for part in found.problem.split("; ")] == ["line 2", "line 3", "line 4"]


@given(st.binary())
def test_any_bytes_are_decoded_or_reported(body: bytes) -> None:
    for found in (decode_rejects(KEY, body), decode_failure(FAILURE_KEY, body)):
        assert found.records == ()
        assert found.problem or not body.strip()


def test_objects_of_other_streams_and_shards_are_not_read() -> None:
    s3 = FakeS3()
    wanted = store_rejects(s3, reject_at(0))
    store_rejects(s3, reject_at(0), stream="other-events")
    s3.objects[wanted.replace(SHARD_ID, OTHER_SHARD)] = b""
    s3.objects["rejects/stray"] = b""
    s3.objects |= {FAILURE_KEY: b"", FAILURE_KEY.replace(SHARD_ID, OTHER_SHARD): b""}
    assert REJECTS.keys(bucket(s3), STREAM, SHARD_ID) == [wanted]
    assert len(REJECTS.keys(bucket(s3))) == 3
    assert FAILURES.keys(bucket(s3), STREAM, SHARD_ID) == [FAILURE_KEY]


# -- find by name


def test_reject_of_a_sub_record_is_found_by_its_id() -> None:
    s3 = FakeS3()
    store_rejects(s3, *(msgspec.structs.replace(reject_at(0), sub_record=index) for index in (0, 7)))
    (record,) = find(bucket(s3), REJECTS, f"{event_id(0)}:7").records
    assert record.record_id == f"{event_id(0)}:7"


def test_reject_is_found_by_its_id_in_the_object_of_an_earlier_one() -> None:
    s3 = FakeS3()
    store_rejects(s3, reject_at(0), reject_at(3, b"this"))
    store_rejects(s3, reject_at(5))
    found = find(bucket(s3), REJECTS, event_id(3))
    assert [(record.record_id, record.data) for record in found.records] == [(event_id(3), b"this")]
    assert [key for call, key in s3.calls if call == "get"] == [KEY]  # objects that begin later cannot hold it


# -- select


@pytest.mark.parametrize(
    ("selection", "n_admitted"),
    [
        (Selection(), 5),
        (Selection(reason=INVALID_FIELD), 1),
        (Selection(since=ARRIVED), 4),
        (Selection(until=ARRIVED), 1),
        (Selection(since=ARRIVED, until=ARRIVED + timedelta(hours=1)), 4),
        (Selection(shard_id=OTHER_SHARD), 1),
        (Selection(stream="other-events"), 1),
        (Selection(stream="other-events", shard_id=OTHER_SHARD), 0),
    ],
)
def test_records_are_selected_by_reason_time_shard_and_stream(selection: Selection, n_admitted: int) -> None:
    records = [
        failed(),
        failed(reason=INVALID_FIELD),
        failed(seconds=-1),
        failed(shard_id=OTHER_SHARD),
        failed(stream="other-events"),
    ]
    assert sum(map(selection.admits, records)) == n_admitted


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2021-01-05T08:15:00.25Z", ARRIVED),
        ("2021-01-05T08:15:00.25", ARRIVED),
        ("2021-01-05T03:15:00.25-05:00", ARRIVED),
        ("2021-01-05", ARRIVED.replace(hour=0, minute=0, second=0, microsecond=0)),
        ("90s", ARRIVED - timedelta(seconds=90)),
        ("30m", ARRIVED - timedelta(minutes=30)),
        ("2h", ARRIVED - timedelta(hours=2)),
        ("7d", ARRIVED - timedelta(days=7)),
        ("1w", ARRIVED - timedelta(days=7)),
    ],
)
def test_time_is_iso_8601_or_an_age(text: str, time: datetime) -> None:
    assert parse_time(text, lambda: ARRIVED) == time


@pytest.mark.parametrize("text", ["", "yesterday", "2 hours", "h", "2021-13-01"])
def test_other_text_is_an_error_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="write it as 2021-01-05T08:15:00Z"):
        parse_time(text, lambda: ARRIVED)


# -- count


def summary_of(account: Account, n_newest: int | None = None) -> Any:
    where = account.bucket()
    return as_json(summarize(REJECTS.read(where, REJECTS.keys(where)), REJECTS, account.marks(), n_newest))


def test_summary_counts_by_stream_shard_and_reason_and_lists_the_newest_first() -> None:
    account = Account()
    store_rejects(account.s3, reject_at(0), reject_at(2, reason=INVALID_FIELD))
    store_rejects(account.s3, reject_at(5))
    account.s3.objects[f"rejects/{STREAM}/{SHARD_ID}/9.ndjson"] = b"{"
    found = summary_of(account, n_newest=2)
    assert json.loads(json.dumps(found)) == found
    assert (found["records"], found["redriven"], found["objects"]) == (3, 0, 3)
    assert list(found["unreadable"]) == [f"rejects/{STREAM}/{SHARD_ID}/9.ndjson"]
    invalid, not_json = found["groups"]
    assert (invalid["reason"], invalid["records"]) == (INVALID_FIELD, 1)
    assert (not_json["reason"], not_json["records"]) == (NOT_JSON, 2)
    assert not_json["newest"] == (ARRIVED + timedelta(seconds=5)).isoformat()
    assert not_json["oldest"] == ARRIVED.isoformat()
    assert [line["id"] for line in found["newest"]] == [event_id(5), event_id(2)]


def test_record_in_two_objects_counts_once() -> None:
    account = Account()
    store_rejects(account.s3, reject_at(0), reject_at(1))
    store_rejects(account.s3, reject_at(1))
    assert summary_of(account)["records"] == 2
    where = account.bucket()
    assert [len(one.records) for one in each_once(REJECTS.read(where, REJECTS.keys(where)))] == [2, 0]


def test_summary_counts_redriven_records_and_those_in_doubt() -> None:
    account = Account()
    store_rejects(account.s3, reject_at(0), reject_at(1))
    account.redrive()
    store_rejects(account.s3, reject_at(0), reject_at(1), reject_at(2))
    account.client.script = [DENIED]
    with pytest.raises(UserError, match="AccessDenied"):
        account.redrive()
    found = summary_of(account)
    assert (found["records"], found["redriven"], found["under_way"]) == (3, 2, 1)


def test_record_comes_to_the_function_exactly_as_lambda_brought_it() -> None:
    first, second = decode_failure(FAILURE_KEY, failure(b"\xff\x00", b"")).records
    assert [first.original(STREAM_ARN), second.original(STREAM_ARN)] == lambda_records([b"\xff\x00", b""])


def test_rejected_record_comes_to_the_function_exactly_as_lambda_brought_it() -> None:
    (record,) = decode_rejects(KEY, encode_reject(reject_at(3, b"hello"))).records
    assert record.original(STREAM_ARN) == lambda_record(b"hello", 3)


def test_rejected_sub_record_comes_by_itself_under_its_own_id() -> None:
    reject = msgspec.structs.replace(reject_at(3, b"hello"), sub_record=7)
    (record,) = decode_rejects(KEY, encode_reject(reject)).records
    assert record.original(STREAM_ARN) == {**lambda_record(b"hello", 3), "eventID": f"{event_id(3)}:7"}


@given(st.integers(0, 10**14 - 1))
def test_time_of_arrival_is_kept_to_the_millisecond(arrival_ms: int) -> None:
    record = lambda_record(b"")
    record["kinesis"]["approximateArrivalTimestamp"] = arrival_ms / 1000
    (decoded,) = decode_records({"Records": [record]})
    (found,) = decode_rejects(KEY, encode_reject(build_reject(decoded, RejectError(NOT_JSON, "")))).records
    assert found.original(STREAM_ARN) == record
