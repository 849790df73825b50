"""Lambda's envelope, decoded."""

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_function.aws.rejects import RejectStore
from lambda_function.core.events import NOT_BASE64, NOT_JSON, Reject, decode_reject
from lambda_function.core.records import Envelope, KinesisRecord, build_reject, decode_records, stream_name
from lambda_function.errors import RejectError
from tests.builders import ARRIVAL_TIME_S, SHARD_ID, invocation, kinesis_records, lambda_record, sequence_number
from tests.fakes import BUCKET, FakeS3


def test_envelope_is_decoded_field_by_field() -> None:
    (record,) = decode_records(invocation(b"hello"))
    envelope = Envelope(
        partition_key="1", sequence_number=sequence_number(0), arrival_time_s=ARRIVAL_TIME_S, data=b"hello"
    )
    assert record == KinesisRecord(event_id=f"{SHARD_ID}:{sequence_number(0)}", envelope=envelope)
    assert record.shard_id == SHARD_ID
    assert record.data() == b"hello"


def test_records_keep_their_order() -> None:
    assert [record.data() for record in kinesis_records(b"a", b"b", b"c")] == [b"a", b"b", b"c"]


def test_invocation_without_records_is_an_empty_batch() -> None:
    assert decode_records({"Records": []}) == []


def test_stream_is_named_by_its_arn() -> None:
    assert stream_name(invocation(b"")) == "ride-events"


@pytest.mark.parametrize("name", ["problem", "index", "base64_problem", "not Lambda's", "nor this"])
def test_no_field_of_the_envelope_sets_what_the_decoder_decides(name: str) -> None:
    plain = lambda_record(base64.b64encode(b"hello").decode())
    (record,) = decode_records({"Records": [{**plain, name: 1}]})
    assert record.data() == b"hello"
    assert record.sub_index is None


@pytest.mark.parametrize("part", ["kinesis", "eventID"])
def test_envelope_that_is_not_lambdas_raises(part: str) -> None:
    record = lambda_record(b"")
    del record[part]
    with pytest.raises(msgspec.ValidationError, match=part):
        decode_records({"Records": [record]})


@pytest.mark.parametrize("text", ["a", "ab", "aGVsbG8", "aGVsbG8==", "aGVs\nbG8=", "-_-_", "ü", "\ud800"])
def test_data_that_is_not_base64_is_rejected_by_path_and_stored(text: str) -> None:
    (record,) = kinesis_records(text)
    with pytest.raises(RejectError, match=r"`\$\.kinesis\.data`") as rejected:
        record.data()
    assert rejected.value.reason == NOT_BASE64
    assert record.envelope.data == text.encode("utf-8", "surrogatepass")


@given(st.binary())
def test_any_bytes_come_through_the_envelope(data: bytes) -> None:
    (record,) = kinesis_records(base64.b64encode(data).decode())
    assert record.data() == record.envelope.data == data


@given(st.text(max_size=12))
def test_text_is_judged_alone_as_beside_text_that_is_no_base64(text: str) -> None:
    (alone,) = kinesis_records(text)
    beside, _ = kinesis_records(text, "!")
    assert alone.envelope.data == beside.envelope.data
    assert alone == beside


def reject_of(data: bytes | str = b"hello", detail: str = "no ride") -> Reject:
    return build_reject(kinesis_records(data)[0], RejectError(NOT_JSON, detail))


def test_reject_says_why_and_keeps_the_record() -> None:
    assert reject_of() == Reject(
        reason="not_json",
        detail="no ride",
        shard_id=SHARD_ID,
        sequence_number=sequence_number(0),
        arrival_time="2021-01-05T08:15:00.250000+00:00",
        partition_key="1",
        data="aGVsbG8=",
    )


def stored(s3: FakeS3, *rejects: Reject) -> None:
    RejectStore(s3, BUCKET).store("ride-events", rejects, lambda: 1.0)


@given(st.binary())
def test_original_bytes_are_recovered_from_a_stored_reject(data: bytes) -> None:
    s3 = FakeS3()
    stored(s3, reject_of(data))
    (line,) = s3.lines("rejects/")
    assert base64.b64decode(decode_reject(line).data) == data


def test_envelope_text_that_is_not_base64_is_stored_unchanged() -> None:
    assert base64.b64decode(reject_of("no base64!").data) == b"no base64!"


def test_long_detail_is_cut() -> None:
    assert reject_of(detail="x" * 10_000).detail == "x" * 500


def test_lone_surrogates_do_not_keep_a_reject_from_being_stored() -> None:
    record = KinesisRecord("shard:1", Envelope("key \udc00", "1", 0.0, b"hello"))
    s3 = FakeS3()
    stored(s3, build_reject(record, RejectError(NOT_JSON, "at `$.\ud800`")))
    (line,) = s3.lines("rejects/")
    reject = decode_reject(line)
    assert (reject.detail, reject.partition_key) == ("at `$.\\ud800`", "key \\udc00")
