"""Valid inputs made hostile: bits flipped, parts cut out, doubled and spliced, and what parsers dislike put in."""

import re
from collections.abc import Callable, Sequence
from random import Random

MAX_BYTES = 1 << 16
"""Of one input. What larger ones cost is linear in their size: tests/fuzz/test_fuzz_sizes.py."""

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


def mutate(random: Random, corpus: Sequence[bytes]) -> bytes:
    """Returns one input made of a corpus: the same for the same state of the generator, MAX_BYTES at most."""
    data = random.choice(corpus)
    for _ in range(random.choice((1, 1, 1, 2, 3, 5, 8))):
        data = random.choice(_WAYS)(random, data, corpus)[:MAX_BYTES]
    return data


def _span(random: Random, data: bytes) -> tuple[int, int]:
    start = random.randint(0, len(data))
    return start, min(len(data), start + random.choice((1, 1, 2, 4, 16, 64, 1024)))


def _flip(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    if not data:
        return data
    place = random.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << random.randrange(8)]) + data[place + 1 :]


def _overwrite(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _span(random, data)
    return data[:start] + random.randbytes(end - start) + data[end:]


def _cut_out(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _span(random, data)
    return data[:start] + data[end:]


def _truncate(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return data[: random.randint(0, len(data))]


def _repeat(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _span(random, data)
    return data[:end] + data[start:end] * random.choice((1, 2, 10, 1_000)) + data[end:]


def _splice(random: Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    other = random.choice(corpus)
    return data[: random.randint(0, len(data))] + other[random.randint(0, len(other)) :]


def _insert_token(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _span(random, data)
    return data[:start] + random.choice(TOKENS) + data[random.choice((start, end)) :]


def _replace_number(random: Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    numbers = list(_NUMBER.finditer(data[:4096]))
    if not numbers:
        return _insert_token(random, data, corpus)
    start, end = random.choice(numbers).span()
    return data[:start] + random.choice(TOKENS) + data[end:]


_WAYS: tuple[Callable[[Random, bytes, Sequence[bytes]], bytes], ...] = (
    _flip,
    _overwrite,
    _cut_out,
    _truncate,
    _repeat,
    _splice,
    _insert_token,
    _replace_number,
)
