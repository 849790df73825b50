"""Why data are not the expected message: values that JSON lacks, and the encodings and wrappers that producers use."""

import json
import re
from binascii import Error, a2b_base64
from collections.abc import Iterable
from contextlib import suppress
from math import isfinite
from typing import Any, NamedTuple

import msgspec

MAX_CONTAINERS = 10_000
"""Data with more objects and arrays are not searched for values that JSON lacks: a megabyte may hold 350,000."""

MAX_WRAPPER_BYTES = 16 * 1024
"""Longer data are not searched for a wrapped ride event."""

_STARTS = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
    (b"{\0", "UTF-16"),
    (b"\0{", "UTF-16"),
    (b'"{', "JSON in a string"),
    (b'"[', "JSON in a string"),
)
_BASE64_CHARACTERS = 64  # that are looked at; a multiple of 4
_MAX_DEPTH = 4
_STARTS_AS_JSON = re.compile(rb"\s*[{\[]")
_STARTS_AS_EVENT = re.compile(rb'\s*(?:\{\s*"|\[\s*\{)')
_PLAIN = frozenset({int, bool, type(None)})
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def foreign_value(data: bytes) -> tuple[str, str] | None:
    """Return what was expected in place of the first value that Python's encoder writes and JSON lacks, and its path.

    >>> foreign_value(b'{"ride": {"trip_distance": NaN}}')
    ('a finite number', '.ride.trip_distance')
    """
    if not _STARTS_AS_JSON.match(data) or data.count(b"{") + data.count(b"[") > MAX_CONTAINERS:
        return None
    try:
        return _find_foreign(json.loads(data))
    except (ValueError, RecursionError):
        return None


def _find_foreign(value: Any) -> tuple[str, str] | None:
    """Search a container; the path is built only on the way back: a megabyte can hold many values below a long path."""
    if isinstance(value, list) and _are_plain(value):
        return None
    for step, child in _steps(value):
        kind = type(child)  # most values cost no call of ours: there may be half a million
        is_plain = kind in _PLAIN or (kind is float and isfinite(child)) or (kind is str and child.isascii())
        found = None if is_plain else _foreign(child)
        if found is None and type(step) is str and not step.isascii():
            found = _foreign(step)
        if found is not None:
            expected, path = found
            return expected, (f".{step}" if isinstance(step, str) else f"[{step}]") + path
    return None


def _are_plain(values: list[Any]) -> bool:
    """Return whether values of one kind are all JSON, in a third of the time that a look at each takes."""
    kinds = set(map(type, values))
    if kinds == {str}:
        return all(map(str.isascii, values))
    return all(map(isfinite, values)) if kinds == {float} else kinds <= _PLAIN


def _foreign(value: Any) -> tuple[str, str] | None:
    if isinstance(value, dict | list):
        return _find_foreign(value)
    if isinstance(value, str):
        return ("text without lone surrogates", "") if _LONE_SURROGATE.search(value) else None
    return "a finite number", ""


def _steps(value: Any) -> Iterable[tuple[str | int, Any]]:
    return value.items() if isinstance(value, dict) else enumerate(value)


class Expected(NamedTuple):
    """The message that data should be: its name, and the field that holds an object in it."""

    name: str
    field: str


RIDE_EVENT = Expected("ride event", "ride")


def form_seen(data: bytes, expected: Expected = RIDE_EVENT) -> str:
    """Return in words what the data seem to be instead of the expected message in JSON, or "".

    >>> form_seen(b"eyJyaWRlIjoge319"), form_seen(b'{"data": {"ride": {}}}'), form_seen(b"{}")
    ('base64 of JSON', 'a wrapper, and the ride event is under `$.data`', '')
    """
    head = data[: _BASE64_CHARACTERS + 2].strip()
    for start, form in _STARTS:
        if head.startswith(start):
            return form
    if _is_base64_of_json(head):
        return "base64 of JSON"
    if expected.field.encode() not in data or len(data) > MAX_WRAPPER_BYTES:
        return ""
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _wrapper(msgspec.json.decode(data), expected)
    return ""


def _is_base64_of_json(head: bytes) -> bool:
    characters = head.strip(b'"')[:_BASE64_CHARACTERS]
    try:
        decoded = a2b_base64(characters[: len(characters) // 4 * 4], strict_mode=True)
    except Error:
        return False
    return _STARTS_AS_EVENT.match(decoded) is not None


def _wrapper(document: Any, expected: Expected, path: str = "$", depth: int = 0) -> str:
    """Return the place and form of the first expected message inside a document's values, or ""."""
    if depth == _MAX_DEPTH or not isinstance(document, dict | list):
        return ""
    for step, child in _steps(document):
        place = f"{path}.{step}" if isinstance(step, str) else f"{path}[{step}]"
        if isinstance(child, dict) and isinstance(child.get(expected.field), dict):
            return f"a wrapper, and the {expected.name} is under `{place}`"
        if isinstance(child, str) and (form := _form_of_text(child, expected)):
            return f"a wrapper, and {form} is under `{place}`"
        if found := _wrapper(child, expected, place, depth + 1):
            return found
    return ""


def _form_of_text(text: str, expected: Expected) -> str:
    if text.lstrip().startswith("{") and f'"{expected.field}"' in text:
        return "JSON in a string"
    return "base64 of JSON" if _is_base64_of_json(text[:_BASE64_CHARACTERS].encode("utf-8", "replace")) else ""
