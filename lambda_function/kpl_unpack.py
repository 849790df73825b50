"""KPL aggregates as they arrive: many sub-records in one Kinesis record, unpacked without a protobuf library.

An aggregate is a magic, a protobuf message and the message's MD5 (AWS's `aggregation-format.md`):

    AggregatedRecord { repeated string partition_key_table = 1; repeated string explicit_hash_key_table = 2;
                       repeated Record records = 3; }
    Record           { required uint64 partition_key_index = 1; optional uint64 explicit_hash_key_index = 2;
                       required bytes data = 3; repeated Tag tags = 4; }
"""

import hashlib
from collections.abc import Sequence

from lambda_function.errors import RejectError
from lambda_function.events import DAMAGED_AGGREGATE

SubRecord = tuple[str, bytes]
"""A partition key and its data, as a producer sends a plain record."""

MAGIC = b"\xf3\x89\x9a\xc2"
DIGEST_BYTES = 16

MAX_SUB_RECORDS = 65_536
"""An invocation's 6 MB carry 4.5 MB of data: no more than 55,000 of the smallest ride events, 82 B with their key."""

FEW_SUB_RECORDS, MIN_AVERAGE_BYTES = 64, 32
"""More than a few must take so many bytes each: a ride event takes 75. Six bytes would be enough for an empty one with
a key of 1 kB that all share, and each of them a reject of 1.3 kB: 4.5 MB of data would take 3 GB of memory."""

MAX_KEY_BYTES = 1_024
"""Kinesis takes keys of 256 characters. Sub-records may share one, so that a reject each would repeat it."""

KEY, HASH_KEY, RECORD = b"\x0a", b"\x12", b"\x1a"
KEY_INDEX, HASH_KEY_INDEX, DATA = b"\x08", b"\x10", b"\x1a"
"""The tags of the message's fields and of a record's: field number << 3 | wire type."""

ONE_BYTE, TWO_BYTES = 1 << 7, 1 << 14
"""Numbers below take so many bytes."""

_USUAL_HEAD_BYTES = 8  # (1 + 2) + (1 + 1) + (1 + 2): what is shorter may end within
_RECORD_TAGS = frozenset(KEY_INDEX + HASH_KEY_INDEX + DATA)
_LAST_KNOWN_FIELD = 3
_MAX_TAG = (1 << 32) - 1
_MAX_NUMBER_BITS = 70


def is_aggregated(data: bytes) -> bool:
    """Says whether a record claims to be an aggregate: then `unpack` gives its sub-records, or it is a reject.

    >>> is_aggregated(b'{"ride": {}}'), is_aggregated(bytes.fromhex("f3899ac2"))
    (False, True)
    """
    return data.startswith(MAGIC)


def unpack(data: bytes) -> list[SubRecord]:
    """Unpacks an aggregate, in time linear in its size. A sub-record's place in the list is the index of its identity.

    An aggregate without a sub-record is damaged: where nothing comes of a record, it would be lost without a trace.
    Explicit hash keys are checked and left out: they decide on a shard, and the record is on one already.

    Raises:
        RejectError: It is damaged, wholly.

    >>> body = bytes.fromhex("0a03323536 1a0a 0800 1a06") + b"a ride"
    >>> unpack(MAGIC + body + hashlib.md5(body).digest())
    [('256', b'a ride')]
    """
    body = _verified(data)
    try:
        encoded_keys, encoded_hash_keys, records = _read_tables(body)
        indexed = [_read_usual_record(record) or _read_any_record(record) for record in records]
    except IndexError as error:
        raise _damaged("it breaks off within a field") from error
    if not 1 <= len(indexed) <= MAX_SUB_RECORDS:
        raise _damaged(f"{len(indexed)} sub-records, where 1 to {MAX_SUB_RECORDS:,} are taken")
    if len(indexed) > max(FEW_SUB_RECORDS, len(body) // MIN_AVERAGE_BYTES):
        raise _damaged(f"{len(indexed):,} sub-records in {len(body):,} bytes are too small to be rides")
    keys, hash_keys = _decode_keys(encoded_keys), _decode_keys(encoded_hash_keys)
    if max(hash_index for _, hash_index, _ in indexed) >= len(hash_keys):
        raise _damaged("an explicit hash key that is not in its table")
    try:
        return [(keys[key_index], data) for key_index, _, data in indexed]
    except IndexError as error:
        raise _damaged("a partition key that is not in its table") from error


def _damaged(problem: str) -> RejectError:
    return RejectError(DAMAGED_AGGREGATE, f"{problem} - in a KPL aggregate")


def _verified(data: bytes) -> bytes:
    """Returns the message between magic and digest."""
    body, digest = data[len(MAGIC) : -DIGEST_BYTES], data[-DIGEST_BYTES:]
    if len(data) < len(MAGIC) + DIGEST_BYTES or not data.startswith(MAGIC):
        raise _damaged("too short for magic and digest")
    if hashlib.md5(body, usedforsecurity=False).digest() != digest:
        raise _damaged("the MD5 digest does not match")
    return body


def _read_tables(body: bytes) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """Reads what the message repeats: keys, hash keys and records, each still encoded."""
    keys: list[bytes] = []
    hash_keys: list[bytes] = []
    records: list[bytes] = []
    tables = {KEY[0]: keys.append, HASH_KEY[0]: hash_keys.append, RECORD[0]: records.append}
    position, end = 0, len(body)
    while position < end:
        tag, position = body[position], position + 1
        if tag >= ONE_BYTE:
            tag, position = _read_number(body, position - 1)
        keep = tables.get(tag)
        if keep is None:
            position = _skip(body, tag, position)
            continue
        size, position = body[position], position + 1
        if size >= ONE_BYTE:
            size, position = size - ONE_BYTE + (body[position] << 7), position + 1
            if size >= TWO_BYTES:
                size, position = _read_number(body, position - 2)
        keep(body[position : position + size])
        position += size
    if position > end:
        raise IndexError
    return keys, hash_keys, records


def _read_usual_record(record: bytes) -> tuple[int, int, bytes] | None:
    """Reads one record in the form that all packers write, with numbers of two bytes at most; None in any other.

    Returns:
        The index of its key, that of its hash key or -1, and its data.
    """
    if len(record) < _USUAL_HEAD_BYTES:
        return None
    key_index, hash_index, position = record[1], -1, 2
    if key_index >= ONE_BYTE:
        key_index, position = key_index - ONE_BYTE + (record[2] << 7), 3
    if record[position] == HASH_KEY_INDEX[0]:
        hash_index, position = record[position + 1], position + 2
    length = record[position + 1]
    start = position + 2
    if length >= ONE_BYTE:
        length, start = length - ONE_BYTE + (record[start] << 7), start + 1
    is_usual = record[0] == KEY_INDEX[0] and record[position] == DATA[0] and start + length == len(record)
    if is_usual and hash_index < ONE_BYTE and key_index < TWO_BYTES > length:
        return key_index, hash_index, record[start:]
    return None


def _read_any_record(record: bytes) -> tuple[int, int, bytes]:
    """Reads one record in any form that the format allows: in any order, with fields that nobody knows."""
    found: dict[int, int | bytes] = {HASH_KEY_INDEX[0]: -1}
    position, end = 0, len(record)
    while position < end:
        tag, position = _read_number(record, position)
        if tag in _RECORD_TAGS:
            value, position = _read_number(record, position)
            found[tag] = value
            if tag == DATA[0]:
                found[tag] = record[position : position + value]
                position += value
        else:
            position = _skip(record, tag, position)
    if position > end:
        raise IndexError
    match found:
        case {0x08: int(key_index), 0x10: int(hash_index), 0x1A: bytes(data)}:
            return key_index, hash_index, data
    raise _damaged("a sub-record without its key or its data")


def _read_number(data: bytes, position: int) -> tuple[int, int]:
    """Reads a number of seven bits a byte, the lowest first; returns it and the position after it."""
    value = 0
    for shift in range(0, _MAX_NUMBER_BITS, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < ONE_BYTE:
            return value, position
    raise _damaged("a number of more than 64 bits")


def _skip(data: bytes, tag: int, position: int) -> int:
    """Returns the position after a field that is not known; a known one in a strange form is damage."""
    if tag >> 3 <= _LAST_KNOWN_FIELD or tag > _MAX_TAG:
        raise _damaged(f"field {tag >> 3} in wire type {tag & 7}")
    match tag & 7:
        case 0:
            return _read_number(data, position)[1]
        case 1:
            return position + 8
        case 2:
            size, position = _read_number(data, position)
            return position + size
        case 5:
            return position + 4
        case wire_type:
            raise _damaged(f"wire type {wire_type}")


def _decode_keys(encoded: Sequence[bytes]) -> list[str]:
    if max(map(len, encoded), default=0) > MAX_KEY_BYTES:
        raise _damaged(f"a key of more than {MAX_KEY_BYTES:,} bytes")
    try:
        return [key.decode() for key in encoded]
    except UnicodeDecodeError as error:
        raise _damaged("a key that is not UTF-8") from error
