"""The lines of the archive: any record comes back exactly, and no record spoils its object for any reader."""

import base64
import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lambda_function.core.archive_lines import (
    MAX_DEPTH,
    ArchivedRecord,
    archive_key,
    archive_prefix,
    decode_lines,
    digest_of,
    encode_lines,
    partition,
)
from lambda_function.core.kpl import MAGIC, pack, unpack
from lambda_function.core.records import Envelope, KinesisRecord, decode_records
from lambda_function.errors import ArchiveError, RejectError
from tests.builders import event_id, invocation, kinesis_records, lambda_record, ride_bytes, sequence_number

HOSTILE = {
    "a raw line end": b'{"a":\n1}',
    "a carriage return": b'{"a":\r1}',
    "a line end at the end": b'{"a":1}\n',
    "white space before it": b'\t{"a":1}',
    "white space after it": b'{"a":1} ',
    "invalid UTF-8": b'{"a":"\xff"}',
    "invalid UTF-8 in a name": b'{"\xff":1}',
    "2,000 levels": b"[" * 2000 + b"]" * 2000,
    "one level too many": b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
    "a number without an end": b'{"a":1e999}',
    "two documents": b'{"a":1}{"b":2}',
    "NaN": b'{"a":NaN}',
    "a NUL": b'{"a":1}\x00',
    "a control character": b'{"a":"\x01"}',
    "a byte order mark": b'\xef\xbb\xbf{"a":1}',
    "a lone surrogate": b'{"a":"\\ud800"}',
    "30 digits": b'{"ride_id":123456789012345678901234567890}',
    "30 digits and a fraction": b'{"a":123456789012345678901234567890.5}',
    "30 digits and an exponent": b'{"a":123456789012345678901234567890e-20}',
    "nothing": b"",
    "no JSON": b"garbage",
    "cut short": b'{"ride":{"PULoc',
    "what would close the line": b'1},"data":2',
}
READABLE = {
    "a ride event": ride_bytes(256),
    "equal names": b'{"a":1,"a":2}',
    "an escaped NUL": b'{"a":"\\u0000"}',
    "separators of Unicode": '{"a":"\u2028\u0085"}'.encode(),
    "the deepest": b"[" * MAX_DEPTH + b"]" * MAX_DEPTH,
    "numbers at their limits": b"[9223372036854775807,-9223372036854775808,1e18,1e-400,-0]",
    "an array of ride events": b"[" + ride_bytes(1) + b"," + ride_bytes(2) + b"]",
    "spaces inside": b'{ "ride_id": 256 }',
    "a number": b"5",
    "null": b"null",
}
BYTES = st.binary(max_size=200)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
    max_leaves=12,
).map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))
NUMBERS = st.from_regex(rb"\A-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?\Z")
DATA = BYTES | JSON | NUMBERS | st.sampled_from([*HOSTILE.values(), *READABLE.values()])
RECORDS = st.builds(
    lambda at_s, key, data: KinesisRecord(event_id(0), Envelope(key, sequence_number(0), at_s, data)),
    st.floats(0, 1e11, exclude_max=True),
    st.text(max_size=30),
    DATA,
)
NOT_USUAL = kinesis_records(b"garbage")
"""A record that lets a batch take the slower path."""


def line_of(data: bytes) -> dict[str, object]:
    """The one line of a record with these data."""
    (text,) = encode_lines(kinesis_records(data)).splitlines()
    line: dict[str, object] = json.loads(text)
    return line


@given(st.lists(RECORDS, max_size=4))
def test_records_come_back_exactly(records: list[KinesisRecord]) -> None:
    archived = decode_lines(encode_lines(records))
    assert [one.kinesis_record() for one in archived] == records
    assert [(one.id, one.at_s, one.key, one.data) for one in archived] == [
        (one.event_id, one.envelope.arrival_time_s, one.envelope.partition_key, one.envelope.data) for one in records
    ]


@given(st.lists(RECORDS, max_size=4), RECORDS)
def test_lines_of_a_batch_are_the_lines_of_its_records(records: list[KinesisRecord], last: KinesisRecord) -> None:
    assert encode_lines([*records, last]) == encode_lines(records) + encode_lines([last])
    assert encode_lines([last]) + encode_lines(NOT_USUAL) == encode_lines([last, *NOT_USUAL])


@given(DATA)
@example(b'{"a":123456789012345678901234567890.0e-25}')
def test_line_is_one_line_for_every_reader(data: bytes) -> None:
    plain, *rest = kinesis_records(ride_bytes(1), data, ride_bytes(2))
    lines = encode_lines([plain, *rest])
    assert (lines.count(b"\n"), lines.count(b"\r")) == (3, 0)
    assert all(json.loads(line)["id"] for line in lines.decode().split("\n")[:-1])
    assert list(pd.read_json(io.BytesIO(lines), lines=True)["id"]) == [event_id(n) for n in range(3)]


def test_duckdb_and_pandas_read_a_file_of_every_form(tmp_path: Path) -> None:
    lines = encode_lines(kinesis_records(*HOSTILE.values(), *READABLE.values()))
    path = tmp_path / "lines.ndjson"
    path.write_bytes(lines)
    columns = "{id: 'VARCHAR', 'at': 'DOUBLE', key: 'VARCHAR', data: 'JSON', base64: 'VARCHAR'}"
    query = f"select id, base64 from read_json('{path}', columns={columns}, format='newline_delimited')"  # noqa: S608 - our own path
    rows = duckdb.connect().execute(query).fetchall()
    n = len(HOSTILE) + len(READABLE)
    assert [one_id for one_id, _ in rows] == [event_id(place) for place in range(n)]
    assert [text is not None for _, text in rows] == [place < len(HOSTILE) for place in range(n)]
    assert list(pd.read_json(path, lines=True)["base64"].notna()) == [place < len(HOSTILE) for place in range(n)]


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_data_that_would_spoil_the_file_are_in_base64(data: bytes) -> None:
    line = line_of(data)
    assert "data" not in line
    assert base64.b64decode(str(line["base64"])) == data


@pytest.mark.parametrize("data", READABLE.values(), ids=READABLE)
def test_other_data_are_json(data: bytes) -> None:
    line = line_of(data)
    assert list(line) == ["id", "at", "key", "data"]
    assert line["data"] == json.loads(data)


# Aggregates ---------------------------------------------------------------------------------------------------------


def aggregate(*entries: tuple[str, bytes]) -> bytes:
    """One KPL aggregate."""
    (packed,) = pack(entries, n_groups=1)
    return packed.data


def test_aggregate_becomes_its_sub_records() -> None:
    data = aggregate(("7", ride_bytes(7)), ("8", b"garbage"))
    (before, record, after) = kinesis_records(ride_bytes(1), data, ride_bytes(2))
    archived = decode_lines(encode_lines([before, record, after]))
    ids = [event_id(0), f"{event_id(1)}:0", f"{event_id(1)}:1", event_id(2)]
    assert [one.id for one in archived] == ids
    assert [(one.key, one.data) for one in archived[1:3]] == [("7", ride_bytes(7)), ("8", b"garbage")]
    assert {one.at_s for one in archived[1:3]} == {record.envelope.arrival_time_s}
    assert [one.kinesis_record().sub_index for one in archived] == [None, 0, 1, None]


def test_damaged_aggregate_stays_whole() -> None:
    data = aggregate(("7", ride_bytes(7)))[:-1] + b"!"
    assert [one.data for one in decode_lines(encode_lines(kinesis_records(data)))] == [data]


def test_sub_record_that_looks_like_an_aggregate_stays_whole() -> None:
    data = aggregate(("7", ride_bytes(7)))
    record = lambda_record(data) | {"eventID": f"{event_id(0)}:3"}
    (archived,) = decode_lines(encode_lines(decode_records({"Records": [record]})))
    assert (archived.id, archived.data) == (f"{event_id(0)}:3", data)


def test_aggregate_of_tiny_sub_records_stays_whole_so_that_its_lines_do_not_fill_the_memory() -> None:
    body = b"\x0a\xfa\x01" + b"k" * 250 + b"\x1a\x04\x08\x00\x1a\x00" * 9_000  # a table of one key, and empty data
    data = MAGIC + body + hashlib.md5(body, usedforsecurity=False).digest()
    assert len(unpack(data)) == 9_000
    lines = encode_lines(kinesis_records(data))
    assert lines.count(b"\n") == 1
    assert decode_lines(lines)[0].data == data


# Unusual records ----------------------------------------------------------------------------------------------------


def test_record_that_is_not_base64_is_archived_as_it_came() -> None:
    (record,) = decode_records(invocation('{"ride": "not base64"}'))
    lines = encode_lines([record])
    assert b'"base64":' in lines
    assert decode_lines(lines)[0].data == b'{"ride": "not base64"}'


def test_record_with_an_arrival_that_no_calendar_has_stays_unreadable() -> None:
    event = invocation(ride_bytes(1))
    event["Records"][0]["kinesis"]["approximateArrivalTimestamp"] = 1e300
    (record,) = decode_records(event)
    assert decode_lines(encode_lines([record]))[0].data == ride_bytes(1)
    event["Records"][0]["kinesis"]["data"] = base64.b64encode(aggregate(("7", ride_bytes(7)))).decode()
    (record,) = decode_records(event)
    (archived,) = decode_lines(encode_lines([record]))  # whole: the function on the stream rejects it whole
    assert archived.id == event_id(0)
    assert partition(archived.at_s) == "dt=9999-12-31/hh=23"
    with pytest.raises(RejectError, match="calendar"):
        archived.kinesis_record().data()


def test_partition_key_with_a_lone_surrogate_is_escaped() -> None:
    record = KinesisRecord(event_id(0), Envelope("\ud800", sequence_number(0), 1.5, b"{}"))
    assert decode_lines(encode_lines([record]))[0].key == "\\ud800"


@pytest.mark.parametrize(
    "line",
    [
        b"garbage",
        b'{"id":"s:1","at":1.0,"key":"k"}',
        b'{"id":"s:1","at":1.0,"key":"k","data":1,"base64":""}',
        b'{"id":"s:1","at":1.0,"key":"k","base64":"!"}',
        b'{"id":"no number","at":1.0,"key":"k","data":1}',
        b'{"id":"s:1","at":"now","key":"k","data":1}',
        b'{"id":"s:1","at":1.0,"key":"\xff","data":1}',
        b'{"id":"s:1","at":1.0,"key":"k","data":{"a":1}',
    ],
)
def test_damaged_line_is_an_error(line: bytes) -> None:
    good = encode_lines(kinesis_records(ride_bytes(1)))
    with pytest.raises(ArchiveError):
        decode_lines(good + line + b"\n" + good)


def test_line_with_a_field_of_a_later_version_is_read() -> None:
    line = b'{"id":"shard:1","at":1.5,"key":"k","data":{"a":1},"later":[]}\n'
    assert decode_lines(line) == [ArchivedRecord("shard:1", 1.5, "k", b'{"a":1}')]


# Keys ---------------------------------------------------------------------------------------------------------------


def test_key_holds_kind_hour_shard_first_record_and_digest() -> None:
    digest = digest_of(b"lines")
    key = archive_key("outcomes", partition(1785574800.0), "shardId-000000000007", "4964", digest)
    assert key.startswith(archive_prefix("outcomes", "dt=2026-08-01/hh=09"))
    assert key.endswith(f"/shardId-000000000007-4964-{digest}.ndjson.gz")
    assert len(digest) == 16


@pytest.mark.parametrize(
    ("at_s", "hour"),
    [(0.0, "dt=1970-01-01/hh=00"), (1785578399.999, "dt=2026-08-01/hh=09"), (-46e9, "dt=0512-04-26/hh=14")],
)
def test_partition_is_the_hour_in_utc(at_s: float, hour: str) -> None:
    assert partition(at_s) == hour


def test_predicting_function_starts_without_the_code_of_the_archive() -> None:
    code = "import sys, lambda_function.handler; print('lambda_function.core.archive_lines' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 - ours
    assert ended.stdout.split() == ["False"]
