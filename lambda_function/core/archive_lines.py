"""The lines of archive objects: a record as one line of JSON, and back. Pure.

    {"id":"shardId-000000000000:49645678…","at":1785574800.123,"key":"256","data":{"ride":{…},"ride_id":256}}
    {"id":"shardId-000000000000:49645679…","at":1785574800.125,"key":"257","base64":"eyJyaWRlIjog"}

`data` are the record's own bytes, if they are a JSON document that every reader of such lines can read; otherwise
`base64` holds them. A line never holds another raw line end than its last byte.

The records of an object are of one shard and one hour of arrival, and its key is

    archive/<kind>/dt=YYYY-MM-DD/hh=HH/<shard>-<first sequence number>-<digest of the lines>.ndjson.gz
"""

import hashlib
import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from operator import itemgetter
from typing import Annotated, Any

import msgspec

from lambda_function.core.events import UNDECODABLE
from lambda_function.core.kpl import is_aggregated, unpack
from lambda_function.core.records import (
    Envelope,
    KinesisRecord,
    UnreadableRecord,
    checked_arrival,
    encodable,
    sub_record,
)
from lambda_function.errors import ArchiveError, RejectError

PREFIX, SUFFIX = "archive", ".ndjson.gz"

MAX_DEPTH = 8
"""Data that are nested deeper are archived in base64. Readers have limits of their own: DuckDB's is below 500."""

MAX_GROWTH = 4
"""An aggregate whose lines would be more times as large is archived whole: 4.5 MB of empty sub-records with a long
common key would make 700 MB of lines. The shortest outcomes grow 3 times, ride events 1.8 times."""

_LINE_BYTES = 150  # of a line besides key and data: the id has 80
_DIGEST_DIGITS = 16
_BLANKS = frozenset(b" \t")
_UNUSUAL = (b"\r", b"e-", b"E-")
"""What usual data do not hold: the last two are for `_LONG_MANTISSA`."""

# Integers of 64 bits, and floats whose digits before the point fit into them: pandas refuses a file with others.
_Integer = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Float = Annotated[float, msgspec.Meta(ge=-1e18, le=1e18)]
_LONG_MANTISSA = re.compile(rb"(?<![0-9])[0-9]{19,}(?:\.[0-9]*)?[eE]-")


def _document_of_depth(depth: int) -> Any:
    """Return the type of JSON documents of at most this depth; msgspec checks it without recursion."""
    scalar: Any = _Integer | _Float | str | bool | None
    document = scalar
    for _ in range(depth):
        document = dict[str, document] | list[document] | scalar  # type: ignore[valid-type]
    return document


class ArchivedRecord(msgspec.Struct, frozen=True, gc=False):
    """A record as it was archived.

    Attributes:
        id: ``<shard id>:<sequence number>``, with ``:<index>`` for a sub-record of an aggregate.
        at_s: When the stream took the record, in seconds since the epoch, UTC.
        key: The partition key.
        data: The producer's bytes.
    """

    id: str
    at_s: float
    key: str
    data: bytes

    def kinesis_record(self) -> KinesisRecord:
        """Return the record as the functions on the streams decode it."""
        envelope = Envelope(self.key, self.id.split(":", 2)[1], self.at_s, self.data)
        return checked_arrival(KinesisRecord(self.id, envelope))


class _JsonLine(msgspec.Struct, frozen=True, gc=False):
    id: str
    at: float
    key: str
    data: msgspec.Raw


class _Base64Line(msgspec.Struct, frozen=True, gc=False):
    id: str
    at: float
    key: str
    base64: bytes


class _Line(msgspec.Struct, frozen=True, gc=False):
    id: Annotated[str, msgspec.Meta(pattern=r"\A[^:]+:[0-9]+(?::[0-9]+)?\Z")]
    at: float
    key: str
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    base64: bytes | msgspec.UnsetType = msgspec.UNSET


_FIRST, _LAST = itemgetter(0), itemgetter(-1)
_check_document = msgspec.json.Decoder(_document_of_depth(MAX_DEPTH)).decode
_encode = msgspec.json.Encoder().encode
_encode_usual = msgspec.json.Encoder().encode_lines
_decode = msgspec.json.Decoder(_Line).decode_lines


def encode_lines(records: Sequence[KinesisRecord]) -> bytes:
    """Encode records as lines, in order. No content of a record makes it raise.

    A KPL aggregate becomes the lines of its sub-records. It stays one line in base64 if it is damaged or its lines
    would be too large, and so does a record that cannot be read: readers take it as the functions on the streams do.
    """
    if _are_usual(records):
        with suppress(UnicodeEncodeError):  # a partition key that UTF-8 cannot hold
            return _encode_usual([_json_line(record) for record in records])
    return b"".join(map(_encode_record, records))


def decode_lines(lines: bytes) -> list[ArchivedRecord]:
    """Decode the lines of an object.

    Raises:
        ArchiveError: A line is damaged; none is returned.
    """
    try:
        return [ArchivedRecord(line.id, line.at, line.key, _data(line)) for line in _decode(lines)]
    except UNDECODABLE as error:
        raise ArchiveError(str(error)) from error


def partition(arrival_time_s: float) -> str:
    """Return the partition of an arrival time: its hour in UTC.

    >>> partition(1785574800.123)
    'dt=2026-08-01/hh=09'
    """
    time = datetime.fromtimestamp(arrival_time_s, UTC).isoformat()
    return f"dt={time[:10]}/hh={time[11:13]}"


def archive_prefix(kind: str, hour: str) -> str:
    """Return the start of the keys of a kind's objects of one hour; `hour` as in ``dt=2026-08-01/hh=09``.

    >>> archive_prefix("rides", "dt=2026-08-01/hh=09")
    'archive/rides/dt=2026-08-01/hh=09/'
    """
    return f"{PREFIX}/{kind}/{hour}/"


def archive_key(kind: str, hour: str, shard: str, first: str, digest: str) -> str:
    """Return the key of an object: the hour's partition, the first record's shard and sequence number, the digest.

    >>> archive_key("rides", "dt=2026-08-01/hh=09", "shardId-000000000000", "4964", "0123456789abcdef")
    'archive/rides/dt=2026-08-01/hh=09/shardId-000000000000-4964-0123456789abcdef.ndjson.gz'
    """
    return f"{archive_prefix(kind, hour)}{shard}-{first}-{digest}{SUFFIX}"


def digest_of(lines: bytes) -> str:
    """Return the digest of an object's lines: the start of their SHA-256 in hex."""
    return hashlib.sha256(lines).hexdigest()[:_DIGEST_DIGITS]


def _are_usual(records: Sequence[KinesisRecord]) -> bool:
    """Return whether each record is one line of JSON, in less than half the time that a look at each takes."""
    datas = [record.envelope.data for record in records]
    text = b"\n".join(datas)
    if not all(datas) or text.count(b"\n") >= len(datas) or any(part in text for part in _UNUSUAL):
        return False
    if not _BLANKS.isdisjoint(map(_FIRST, datas)) or not _BLANKS.isdisjoint(map(_LAST, datas)):
        return False
    try:
        for data in datas:
            _check_document(data)
    except UNDECODABLE:
        return False
    return set(map(type, records)) <= {KinesisRecord}


def _json_line(record: KinesisRecord) -> _JsonLine:
    envelope = record.envelope
    return _JsonLine(record.event_id, envelope.arrival_time_s, envelope.partition_key, msgspec.Raw(envelope.data))


def _encode_record(record: KinesisRecord) -> bytes:
    if is_aggregated(record.envelope.data) and record.may_have_parts and not isinstance(record, UnreadableRecord):
        return b"".join(_encode_one(part) for part in _sub_records(record)) or _encode_one(record)
    return _encode_one(record)


def _encode_one(record: KinesisRecord) -> bytes:
    """Encode a record as one line."""
    envelope = record.envelope
    line: _JsonLine | _Base64Line
    if type(record) is KinesisRecord and _is_readable(envelope.data):
        line = _json_line(record)
    else:
        line = _Base64Line(record.event_id, envelope.arrival_time_s, envelope.partition_key, envelope.data)
    try:
        return _encode(line) + b"\n"
    except UnicodeEncodeError:
        return _encode(msgspec.structs.replace(line, key=encodable(line.key))) + b"\n"


def _is_readable(data: bytes) -> bool:
    """Return whether data are a JSON document that every reader of lines can read, without white space around it."""
    if not data or b"\n" in data or b"\r" in data or data[0] in _BLANKS or data[-1] in _BLANKS:
        return False
    try:
        _check_document(data)
    except UNDECODABLE:
        return False
    return (b"e-" not in data and b"E-" not in data) or not _LONG_MANTISSA.search(data)


def _sub_records(record: KinesisRecord) -> Sequence[KinesisRecord]:
    """Return the sub-records of an aggregate; none if it is damaged, or if their lines would be too large."""
    data = record.envelope.data
    try:
        parts = unpack(data)
    except RejectError:
        return ()
    n_bytes = sum(len(key) + len(part) + _LINE_BYTES for key, part in parts)
    if n_bytes > MAX_GROWTH * len(data):
        return ()
    return [sub_record(record, index, key, part) for index, (key, part) in enumerate(parts)]


def _data(line: _Line) -> bytes:
    if isinstance(line.data, msgspec.Raw) and line.base64 is msgspec.UNSET:
        return bytes(line.data)
    if isinstance(line.base64, bytes) and line.data is msgspec.UNSET:
        return line.base64
    raise ArchiveError("a line has data and base64, or neither")
