"""KPL aggregates: many sub-records in one Kinesis record, unpacked and packed without a protobuf library.

An aggregate is a magic, a protobuf message and the message's MD5 (AWS's `aggregation-format.md`):

    AggregatedRecord { repeated string partition_key_table = 1; repeated string explicit_hash_key_table = 2;
                       repeated Record records = 3; }
    Record           { required uint64 partition_key_index = 1; optional uint64 explicit_hash_key_index = 2;
                       required bytes data = 3; repeated Tag tags = 4; }

`pack` writes the same bytes as protobuf.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, count
from operator import add
from zlib import crc32

from lambda_function.core.events import DAMAGED_AGGREGATE
from lambda_function.core.records import MAX_RECORD_BYTES, Entry
from lambda_function.errors import RejectError

MAGIC = b"\xf3\x89\x9a\xc2"
DIGEST_BYTES = 16

MAX_SUB_RECORDS = 65_536
"""An invocation of 6 MB holds 4.5 MB of data: at most 55,000 of the smallest ride events, 82 B with their key."""

MAX_FIELDS = 3 * MAX_SUB_RECORDS
"""Of the message: its sub-records, with a key and an explicit hash key for each."""

MAX_UNKNOWN_FIELDS, BYTES_PER_UNKNOWN_FIELD = 1_000, 64
"""Unknown fields that a message may have in any case, and in addition one for so many bytes: a tag for each ride event.
Producers write none, and a megabyte of them would take a second to skip."""

MAX_TABLE_KEY_BYTES = 1_024
"""Kinesis takes keys of 256 characters. Sub-records can share a key, and each of their rejects repeats it."""

KEY, HASH_KEY, RECORD = b"\x0a", b"\x12", b"\x1a"
KEY_INDEX, HASH_KEY_INDEX, DATA = b"\x08", b"\x10", b"\x1a"
"""The tags of the fields of the message and of a record: field number << 3 | wire type."""

ONE_BYTE, TWO_BYTES = 1 << 7, 1 << 14
"""Numbers below these take one byte and two bytes."""

_USUAL_HEAD_BYTES = 8  # (1 + 2) + (1 + 1) + (1 + 2): a shorter record may end inside its head
_RECORD_TAGS = frozenset(KEY_INDEX + HASH_KEY_INDEX + DATA)
_LAST_KNOWN_FIELD = 3
_MAX_TAG = (1 << 32) - 1
_MAX_NUMBER_BITS = 70


def is_aggregated(data: bytes) -> bool:
    """Return whether a record starts as an aggregate does: `unpack` then returns its sub-records or raises.

    >>> is_aggregated(b'{"ride": {}}'), is_aggregated(bytes.fromhex("f3899ac2"))
    (False, True)
    """
    return data.startswith(MAGIC)


def unpack(data: bytes) -> list[Entry]:
    """Return the sub-records of an aggregate, in time linear in its size; the index in the list is part of their id.

    An aggregate without sub-records counts as damaged: otherwise it would disappear without a trace. Explicit hash keys
    are checked and dropped: they choose a shard, and the record is already on one.

    Raises:
        RejectError: The aggregate is damaged.

    >>> body = bytes.fromhex("0a03323536 1a0a 0800 1a06") + b"a ride"
    >>> unpack(MAGIC + body + hashlib.md5(body).digest())
    [('256', b'a ride')]
    """
    body = _verified(data)
    unknown = iter(range(MAX_UNKNOWN_FIELDS + len(body) // BYTES_PER_UNKNOWN_FIELD))
    try:
        encoded_keys, encoded_hash_keys, records = _read_tables(body, unknown)
        if not 1 <= len(records) <= MAX_SUB_RECORDS:
            raise _damaged(f"{len(records)} sub-records; 1 to {MAX_SUB_RECORDS:,} are allowed")
        indexed = [_read_usual_record(record) or _read_any_record(record, unknown) for record in records]
    except IndexError as error:
        raise _damaged("it breaks off within a field") from error
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
    """Return the message between magic and digest; check the digest."""
    body, digest = data[len(MAGIC) : -DIGEST_BYTES], data[-DIGEST_BYTES:]
    if len(data) < len(MAGIC) + DIGEST_BYTES or not data.startswith(MAGIC):
        raise _damaged("too short for magic and digest")
    if hashlib.md5(body, usedforsecurity=False).digest() != digest:
        raise _damaged("the MD5 digest does not match")
    return body


def _read_tables(body: bytes, unknown: Iterator[int]) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """Return the message's keys, hash keys and records, each still encoded; take one of `unknown` for each other."""
    keys: list[bytes] = []
    hash_keys: list[bytes] = []
    records: list[bytes] = []
    tables = {KEY[0]: keys.append, HASH_KEY[0]: hash_keys.append, RECORD[0]: records.append}
    position, end = 0, len(body)
    for _ in range(MAX_FIELDS):
        if position >= end:
            break
        tag, position = body[position], position + 1
        if tag >= ONE_BYTE:
            _take(unknown)  # no known tag needs a second byte
            tag, position = _read_number(body, position - 1)
        keep = tables.get(tag)
        if keep is None:
            position = _skip(body, tag, position, unknown)
            continue
        size, position = body[position], position + 1
        if size >= ONE_BYTE:
            size, position = size - ONE_BYTE + (body[position] << 7), position + 1
            if size >= TWO_BYTES:
                size, position = _read_number(body, position - 2)
        keep(body[position : position + size])
        position += size
    else:
        raise _damaged(f"more than {MAX_FIELDS:,} fields")
    if position > end:
        raise IndexError
    return keys, hash_keys, records


def _read_usual_record(record: bytes) -> tuple[int, int, bytes] | None:
    """Read one record in the form that all packers write, with numbers of at most two bytes; None for other forms.

    Returns:
        The index of its key, the index of its hash key or -1, and its data.
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


def _read_any_record(record: bytes, unknown: Iterator[int]) -> tuple[int, int, bytes]:
    """Read one record in any form that the format allows: fields in any order, again, or unknown."""
    found: dict[int, int | bytes] = {}
    position, end = 0, len(record)
    while position < end:
        tag, position = _read_number(record, position)
        if tag not in _RECORD_TAGS:
            position = _skip(record, tag, position, unknown)
            continue
        if tag in found:
            _take(unknown)
        value, position = _read_number(record, position)
        found[tag] = value
        if tag == DATA[0]:
            found[tag] = record[position : position + value]
            position += value
    if position > end:
        raise IndexError
    match {HASH_KEY_INDEX[0]: -1, **found}:
        case {0x08: int(key_index), 0x10: int(hash_index), 0x1A: bytes(data)}:
            return key_index, hash_index, data
    raise _damaged("a sub-record without its key or its data")


def _take(unknown: Iterator[int]) -> None:
    if next(unknown, None) is None:
        raise _damaged("too many fields that are unknown or come again")


def _read_number(data: bytes, position: int) -> tuple[int, int]:
    """Read a varint (seven bits per byte, the lowest first); return it and the position after it."""
    value = 0
    for shift in range(0, _MAX_NUMBER_BITS, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < ONE_BYTE:
            return value, position
    raise _damaged("a number of more than 64 bits")


def _skip(data: bytes, tag: int, position: int, unknown: Iterator[int]) -> int:
    """Return the position after an unknown field; a known field with another wire type is damage."""
    _take(unknown)
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
    if max(map(len, encoded), default=0) > MAX_TABLE_KEY_BYTES:
        raise _damaged(f"a key of more than {MAX_TABLE_KEY_BYTES:,} bytes")
    try:
        return [key.decode() for key in encoded]
    except UnicodeDecodeError as error:
        raise _damaged("a key that is not UTF-8") from error


MAX_PACKED_SUB_RECORDS = TWO_BYTES
"""An index then takes at most two bytes. A prediction takes 180 B, so a record holds 5,800."""

_FRAME_BYTES = len(MAGIC) + DIGEST_BYTES + 2 + 39  # and the table of one hash key, of 39 digits at most
_ENTRY_BYTES = 17  # at most, around a key and its data: 1 + 3 and 1 + 3 + (1 + 2) + 2 + (1 + 3)
_FIRST_HASH_KEY = HASH_KEY_INDEX + b"\0"


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A record that holds several entries, or a plain record for an entry that is too large to pack."""

    partition_key: str  # the key that the stream routes the record by
    data: bytes  # the record's bytes
    positions: Sequence[int]  # indices of the entries in it, ascending, in the packed order


def pack(entries: Sequence[Entry], n_groups: int, max_bytes: int = MAX_RECORD_BYTES) -> list[Aggregate]:
    """Pack entries into aggregates: each entry once, and the same entries always give the same bytes.

    Keys are hashed into groups, and each group has a fixed partition key. So all entries of a key go to one shard, in
    order, as plain records do. The groups' keys divide the stream's hash range evenly: a number of groups that is the
    number of shards, or a multiple of it, loads the shards evenly.

    Every sub-record has the hash of its group's key as its explicit hash key, because the KCL silently drops an
    aggregate with a sub-record whose own key belongs to another shard (amazon-kinesis-client#343).

    Args:
        entries: Partition keys of at most 256 characters, and data.
        n_groups: At least 1.
        max_bytes: The limit of an aggregate with its partition key. An entry that does not fit becomes a plain record.

    Returns:
        Aggregates, ordered by their first entry; within a group in order.

    >>> [(one.partition_key, one.positions) for one in pack([("7", b"1"), ("8", b"2"), ("7", b"3")], n_groups=2)]
    [('6', [0, 2]), ('0', [1])]
    >>> unpack(pack([("256", b"a ride"), ("257", b"")], n_groups=1)[0].data)
    [('256', b'a ride'), ('257', b'')]
    """
    keys = [key.encode() for key, _ in entries]
    datas = [data for _, data in entries]
    packed: list[Aggregate] = []
    for group_key, positions in zip(_group_keys(n_groups), _group(keys, n_groups), strict=True):
        group_keys, group_datas = keys, datas
        if len(positions) < len(entries):
            group_keys, group_datas = [keys[i] for i in positions], [datas[i] for i in positions]
        room = max_bytes - _FRAME_BYTES - len(group_key)
        for run in _runs(group_keys, group_datas, room):
            aggregate = Aggregate(group_key, _encode(group_key, group_keys[run], group_datas[run]), positions[run])
            if len(aggregate.data) + len(group_key) > max_bytes:
                (position,) = positions[run]
                aggregate = Aggregate(*entries[position], [position])
            packed.append(aggregate)
    return sorted(packed, key=lambda aggregate: aggregate.positions[0])


@lru_cache(maxsize=16)
def _group_keys(n_groups: int) -> list[str]:
    """Return a partition key per group: the first number whose hash is in the group's part of the range."""
    found: dict[int, str] = {}
    for number in count():
        found.setdefault(_hash(str(number)) * n_groups >> 128, str(number))
        if len(found) == n_groups:
            break
    return [found[group] for group in range(n_groups)]


def _hash(partition_key: str) -> int:
    """Return the hash that Kinesis routes a partition key by."""
    return int.from_bytes(hashlib.md5(partition_key.encode(), usedforsecurity=False).digest(), "big")


def _group(keys: Sequence[bytes], n_groups: int) -> list[list[int]]:
    """Group positions by their key's CRC; Python's own hash differs between processes."""
    if n_groups == 1:
        return [list(range(len(keys)))]
    groups: list[list[int]] = [[] for _ in range(n_groups)]
    deal = [group.append for group in groups]
    for position, crc in enumerate(map(crc32, keys)):
        deal[crc % n_groups](position)
    return groups


def _runs(keys: Sequence[bytes], datas: Sequence[bytes], room: int) -> Iterator[slice]:
    """Split entries into runs of at most `room` encoded bytes; a larger entry is a run of its own."""
    n_bytes = sum(map(len, keys)) + sum(map(len, datas)) + len(keys) * _ENTRY_BYTES
    if n_bytes <= room and 0 < len(keys) <= MAX_PACKED_SUB_RECORDS:
        yield slice(0, len(keys))
        return
    totals = list(accumulate(map(add, map(len, keys), map(len, datas)), initial=0))
    start = 0
    while start < len(keys):
        last = min(len(keys), start + MAX_PACKED_SUB_RECORDS)
        limit = room + totals[start] + start * _ENTRY_BYTES
        stop = bisect_right(range(last + 1), limit, lo=start + 2, key=lambda n: totals[n] + n * _ENTRY_BYTES) - 1
        yield slice(start, stop)
        start = stop


def _encode(group_key: str, keys: Sequence[bytes], datas: Sequence[bytes]) -> bytes:
    """Encode one aggregate as protobuf does; the n-th entry's key is the n-th in the table."""
    hash_key = str(_hash(group_key)).encode()
    one_byte, two_bytes = _index_fields()
    body = b"".join(
        [
            MAGIC,
            *_key_table(keys),
            *(HASH_KEY, _number(len(hash_key)), hash_key),
            *_records(datas[: len(one_byte)], one_byte),
            *_records(datas[len(one_byte) :], two_bytes),
        ]
    )
    return body + hashlib.md5(memoryview(body)[len(MAGIC) :], usedforsecurity=False).digest()


def _key_table(keys: Sequence[bytes]) -> list[bytes]:
    lengths = list(map(len, keys))
    heads = {length: KEY + _number(length) for length in set(lengths)}
    return _interleaved(len(keys), map(heads.__getitem__, lengths), keys)


def _records(datas: Sequence[bytes], index_fields: Sequence[bytes]) -> list[bytes]:
    """Encode records in parts; the bytes around data are built once per length. All index fields have one length."""
    lengths = list(map(len, datas))
    width = len(index_fields[0])
    middles = {length: _FIRST_HASH_KEY + DATA + _number(length) for length in set(lengths)}
    heads = {length: RECORD + _number(width + len(middle) + length) for length, middle in middles.items()}
    columns = map(heads.__getitem__, lengths), index_fields[: len(datas)], map(middles.__getitem__, lengths), datas
    return _interleaved(len(datas), *columns)


def _interleaved(n: int, *columns: Iterable[bytes]) -> list[bytes]:
    """Interleave columns of n parts row by row, in two thirds of the time of `zip`."""
    parts = [b""] * (n * len(columns))
    for place, column in enumerate(columns):
        parts[place :: len(columns)] = column
    return parts


@lru_cache(maxsize=1)
def _index_fields() -> tuple[list[bytes], list[bytes]]:
    """Return the fields of all key indices, of one byte and of two; built once, at the first packing."""
    fields = [KEY_INDEX + _number(index) for index in range(MAX_PACKED_SUB_RECORDS)]
    return fields[:ONE_BYTE], fields[ONE_BYTE:]


def _number(value: int) -> bytes:
    """Encode a number below 2**28, seven bits a byte, the lowest first."""
    encoded = bytearray()
    while value >= ONE_BYTE:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
