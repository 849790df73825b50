"""Strategies for hostile inputs: valid bytes with damage, and JSON of the right shape with wrong values."""

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Mapping
from typing import Any
from zlib import crc32

import msgspec
from hypothesis import strategies as st

from lambda_function.core.events import Reject, encode_reject
from lambda_function.core.kpl import MAGIC
from tests.builders import invocation, ride_bytes

MAX_BYTES = 1 << 16
"""Limit of one input. The cost of larger inputs is linear in their size: tests/fuzz/test_fuzz_limits.py."""

_NUMBER = re.compile(rb"-?\d+(\.\d+)?")

TOKENS = (
    b"[" * 20_000,
    b'{"ride":' * 5_000,
    b"[" * 500 + b"]" * 500,
    b"9" * 5_000,
    b"-" + b"9" * 400 + b".5",
    b"1" + b"0" * 20,
    b"18446744073709551616",
    b"1e999",
    b"-1e-999",
    b"-0.0",
    b"NaN",
    b"Infinity",
    b"true",
    b"null",
    b"{}",
    b"[]",
    b'""',
    b'"ride":{},',
    b'"ride_id":1,"ride_id":[],',
    b'"' + b"k" * 10_000 + b'":0,',
    b'"\\ud800"',
    b'"\\u0000\\u001b[2J"',
    b'"0001-01-01T00:00:00-23:59"',
    b'"9999-12-31T23:59:59.999999+23:59"',
    b'"2021-03-14T02:30:00"',
    b"\xed\xa0\x80",
    b"\xff\xfe",
    b"\xf0\x9f\x9a\x95",
    b"\xef\xbb\xbf",
    b"\x00" * 64,
    b"\xff" * 12,
    b"\x1b]0;owned\x07\x1b[2J",
    b"\xc2\x9b31m",
    b"\r\n",
    b"../../../etc/passwd",
    b"\x80" * 11 + b"\x01",
    b"\xf3\x89\x9a\xc2",
)
"""What parsers handle badly."""

tokens = st.sampled_from(TOKENS)
_lengths = st.sampled_from((0, 1, 2, 4, 16, 64, 1024, MAX_BYTES))
_times = st.sampled_from((2, 3, 11, 1_001))


@st.composite
def mutated(draw: st.DrawFn, *corpus: bytes) -> bytes:
    """Draw valid bytes in which one to four parts are replaced, of MAX_BYTES at most."""
    data = draw(st.sampled_from(corpus))
    for _ in range(draw(st.integers(1, 4))):
        start, end = draw(_spans(data))
        data = (data[:start] + draw(_replacements(data[start:end], corpus)) + data[end:])[:MAX_BYTES]
    return data


def _spans(data: bytes) -> st.SearchStrategy[tuple[int, int]]:
    """Draw start and end of any part, or of a number."""
    anywhere = st.tuples(st.integers(0, len(data)), _lengths).map(lambda one: (one[0], min(len(data), sum(one))))
    numbers = [found.span() for found in _NUMBER.finditer(data[:4096])]
    return anywhere | st.sampled_from(numbers) if numbers else anywhere


def _replacements(part: bytes, corpus: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """Draw nothing, a token, other bytes, a flipped bit, repeats, or the end of another valid input."""
    return st.one_of(
        st.just(b""),
        tokens,
        st.binary(max_size=16),
        st.integers(0, 7).map(lambda bit: bytes([part[0] ^ 1 << bit]) + part[1:] if part else b""),
        _times.map(lambda n: part * min(n, 1 + MAX_BYTES // max(1, len(part)))),
        st.sampled_from(corpus).flatmap(lambda other: st.integers(0, len(other)).map(lambda start: other[start:])),
    )


texts = st.text(st.characters(exclude_categories=())) | st.sampled_from(["\ud800", "\x1b[2J", "\x9b", "9" * 400])
numbers = st.integers() | st.floats() | st.sampled_from([2**64, -(2**63), 10**400, 1e308, -0.0])
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
_zones = st.integers(-1, 300) | st.integers(-1, 300).map(str) | values
_rides = st.fixed_dictionaries(
    {},
    optional={
        "PULocationID": _zones,
        "DOLocationID": _zones,
        "trip_distance": numbers | values,
        "pickup_datetime": st.datetimes().map(str) | texts | values,
        "more": values,
    },
)
ride_events = st.fixed_dictionaries({}, optional={"ride": _rides | values, "ride_id": texts | numbers | values})


def as_json(value: Any) -> bytes:
    """Encode with Python's encoder: it writes NaN, and lone surrogates escaped or unescaped."""
    escaped = json.dumps(value).encode()
    is_unescaped = crc32(escaped) % 2 == 0  # depends on the value alone, so that a failure can be reproduced
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass") if is_unescaped else escaped


def varint(value: int) -> bytes:
    """Encode an integer as protobuf does: seven bits a byte, the lowest first."""
    encoded = bytearray()
    while value >= 128:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


def length_delimited(data: bytes) -> bytes:
    """Prefix data with its length."""
    return varint(len(data)) + data


_fields = st.tuples(
    st.integers(0, 40), st.integers(0, 2**70).map(varint) | st.binary(max_size=40).map(length_delimited)
)
messages = st.lists(_fields, max_size=8).map(lambda found: b"".join(varint(tag) + value for tag, value in found))
"""Protobuf messages whose tags need not agree with their values."""


def vouch(body: bytes) -> bytes:
    """Return an aggregate of any message with the right digest."""
    return MAGIC + body + hashlib.md5(body, usedforsecurity=False).digest()


def one_in(n: int) -> st.SearchStrategy[bool]:
    """Draw True about once in n times."""
    return st.integers(1, n).map(lambda number: number == n)


def archive_of(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """Return a ZIP archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


REJECT_LINES = tuple(
    encode_reject(
        Reject("invalid_field", "why", "shardId-000000000000", str(n), "2021-01-05T08:15:00+00:00", "k", "e30=")
    )
    + b"\n"
    for n in range(3)
)
FAILURE = msgspec.json.encode(
    {
        "requestContext": {"condition": "RetryAttemptsExhausted", "approximateInvokeCount": 3},
        "responseContext": {"functionError": "Unhandled"},
        "version": "1.0",
        "timestamp": "2021-01-05T08:20:00.000Z",
        "KinesisBatchInfo": {"streamArn": "arn:aws:kinesis:us-east-1:123456789012:stream/ride-events"},
        "payload": msgspec.json.encode(invocation(ride_bytes())).decode(),
    }
)
MARK = b'{"stream":"ride-events","writer":"w","redriven":["shardId-000000000000:1"],"under_way":[]}'
