"""KPL aggregates as they leave: entries packed into records byte for byte as protobuf would; and back by `unpack`."""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, count
from operator import add
from zlib import crc32

from lambda_function.kpl_unpack import (
    DATA,
    DIGEST_BYTES,
    HASH_KEY,
    HASH_KEY_INDEX,
    KEY,
    KEY_INDEX,
    MAGIC,
    ONE_BYTE,
    RECORD,
    TWO_BYTES,
    SubRecord,
    is_aggregated,
    unpack,
)
from lambda_function.publisher import MAX_RECORD_BYTES

__all__ = ["MAGIC", "Aggregate", "SubRecord", "is_aggregated", "pack", "unpack"]

MAX_PACKED_SUB_RECORDS = TWO_BYTES
"""So that an index takes two bytes at most. A prediction takes 180 B, and a record holds 5,800 of them."""

_FRAME_BYTES = len(MAGIC) + DIGEST_BYTES + 2 + 39  # and the table of one hash key, of 39 digits at most
_ENTRY_BYTES = 17  # at most, around a key and its data: 1 + 3 and 1 + 3 + (1 + 2) + 2 + (1 + 3)
_FIRST_HASH_KEY = HASH_KEY_INDEX + b"\0"


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A record of several entries, or a plain one of a single entry that is too large to be packed.

    Attributes:
        partition_key: Where the stream routes it by.
        data: The record's bytes.
        positions: Indices of the entries within, ascending, in the order in which they are packed.
    """

    partition_key: str
    data: bytes
    positions: Sequence[int]


def pack(entries: Sequence[SubRecord], n_groups: int, max_bytes: int = MAX_RECORD_BYTES) -> list[Aggregate]:
    """Packs entries into aggregates: the same entries always into the same bytes, each entry once.

    Keys are hashed into groups, and a group has its own partition key for ever: all that is sent for a key goes to one
    shard, in order, as it would in plain records. The groups' keys cut the stream's hash range evenly: as many groups
    as the stream has shards, or a multiple of it, load the shards alike.

    Every sub-record names the hash of its group's key as its explicit hash key. The KCL silently drops an aggregate
    with a sub-record whose own key belongs to another shard (amazon-kinesis-client#343).

    Args:
        entries: Partition keys of 256 characters at most, and data.
        n_groups: At least 1.
        max_bytes: Of an aggregate and its partition key. What does not fit alone becomes a plain record.

    Returns:
        Aggregates by the first entry that each holds; in order within a group.

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
    """Returns a partition key a group: the first number whose hash lies in the group's part of the range."""
    found: dict[int, str] = {}
    for number in count():
        found.setdefault(_hash(str(number)) * n_groups >> 128, str(number))
        if len(found) == n_groups:
            break
    return [found[group] for group in range(n_groups)]


def _hash(partition_key: str) -> int:
    """Returns what Kinesis routes a partition key by."""
    return int.from_bytes(hashlib.md5(partition_key.encode(), usedforsecurity=False).digest(), "big")


def _group(keys: Sequence[bytes], n_groups: int) -> list[list[int]]:
    """Deals out positions by their key's CRC: Python's own hash differs from process to process."""
    if n_groups == 1:
        return [list(range(len(keys)))]
    groups: list[list[int]] = [[] for _ in range(n_groups)]
    deal = [group.append for group in groups]
    for position, crc in enumerate(map(crc32, keys)):
        deal[crc % n_groups](position)
    return groups


def _runs(keys: Sequence[bytes], datas: Sequence[bytes], room: int) -> Iterator[slice]:
    """Cuts entries into runs of at most `room` bytes encoded; an entry that takes more is a run of its own."""
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
    """Encodes one aggregate, byte for byte as protobuf would: the n-th entry's key is the n-th of the table."""
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
    """Encodes records, in parts; what stands around data is made once a length. The index fields are equally long."""
    lengths = list(map(len, datas))
    width = len(index_fields[0])
    middles = {length: _FIRST_HASH_KEY + DATA + _number(length) for length in set(lengths)}
    heads = {length: RECORD + _number(width + len(middle) + length) for length, middle in middles.items()}
    columns = map(heads.__getitem__, lengths), index_fields[: len(datas)], map(middles.__getitem__, lengths), datas
    return _interleaved(len(datas), *columns)


def _interleaved(n: int, *columns: Iterable[bytes]) -> list[bytes]:
    """Puts columns of n parts together row by row, in two thirds of the time that `zip` takes."""
    parts = [b""] * (n * len(columns))
    for place, column in enumerate(columns):
        parts[place :: len(columns)] = column
    return parts


@lru_cache(maxsize=1)
def _index_fields() -> tuple[list[bytes], list[bytes]]:
    """Returns the field of every key index, those of one byte and those of two: made once, at the first packing."""
    fields = [KEY_INDEX + _number(index) for index in range(MAX_PACKED_SUB_RECORDS)]
    return fields[:ONE_BYTE], fields[ONE_BYTE:]


def _number(value: int) -> bytes:
    """Encodes a number below 2**28, seven bits a byte, the lowest first."""
    encoded = bytearray()
    while value >= ONE_BYTE:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
