"""Several JSON documents in one record, as log shippers, agents and batching producers write them.

The documents are the elements of an array, or follow each other: a line each, separated by white space, or ``}{``.
"""

import re

import msgspec

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

RIDE_FIELD = b'"ride"'
"""The field that every ride event has."""

MAX_BRACES, BYTES_PER_BRACE = 32_768, 32
"""Data with more braces than the first, and than one in so many bytes, are not split: ride events have at most one in
37 bytes, and a megabyte could hold a million. The same limit holds for the elements of an array, and for lines."""

_WHITESPACE = b" \t\r\n"
_SEPARATORS = _WHITESPACE + b","
_N_TRIED = 64
_OPENING = ord("{")
_BETWEEN = re.compile(rb'\}[^{}"]*\{')
_TO_BRACE = re.compile(rb'(?:[^{}"]++|"(?:[^"\\]++|\\.)*+")*+[{}]', re.DOTALL)

_decode_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_any = msgspec.json.Decoder(msgspec.Raw).decode


def split_documents(data: bytes, field: bytes = RIDE_FIELD) -> list[bytes]:
    r"""Return the documents of data that hold several, or an array; an empty list for all other data.

    What is no document between two of them is in the list too, so that nothing but separators gets lost. The work is
    linear in the size of the data. `field` is one that the documents have, in its quotes.

    >>> split_documents(b'{"ride": 1}{"ride": 2}\n'), split_documents(b'[{"ride": 1}]'), split_documents(b'{"ride": 1}')
    ([b'{"ride": 1}', b'{"ride": 2}'], [b'{"ride": 1}'], [])
    """
    max_parts = max(MAX_BRACES, len(data) // BYTES_PER_BRACE)
    if field not in data or data.count(b"{") > max_parts:
        return []
    text = data.removeprefix(BYTE_ORDER_MARK).strip(_WHITESPACE)
    if text.startswith(b"["):
        return _elements(text, max_parts, field)
    if _is_one(text):
        return []
    if text.count(b"\n") <= max_parts:
        lines = [line for line in map(_stripped, text.split(b"\n")) if line]
        if len(lines) > 1 and _holds_event(lines, field):
            return [document for line in lines for document in _several(line) or [line]]
    return _several(text)


def _elements(text: bytes, max_parts: int, field: bytes) -> list[bytes]:
    try:
        elements = _decode_elements(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # one element may be at fault, or the end lost
        parts = _cut(text[1:].removesuffix(b"]"))
        return parts if _holds_event(parts, field) else []
    parts = list(map(bytes, elements)) if len(elements) <= max_parts else []
    return parts if any(part.startswith(b"{") for part in parts) else []


def _stripped(line: bytes) -> bytes:
    return line.strip(_SEPARATORS)


def _is_one(text: bytes) -> bool:
    try:
        _decode_any(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _holds_event(parts: list[bytes], field: bytes) -> bool:
    """Return whether one of the first parts is a document with the field."""
    return any(part.startswith(b"{") and field in part and _is_one(part) for part in parts[:_N_TRIED])


def _several(text: bytes) -> list[bytes]:
    """Return the parts of text that holds more than one object."""
    if _is_one(text) or not _BETWEEN.search(text):
        return []
    parts = _cut(text)
    return parts if sum(part.startswith(b"{") for part in parts) > 1 else []


def _cut(text: bytes) -> list[bytes]:
    """Cut before and after each outermost object, by its braces outside strings."""
    parts: list[bytes] = []
    depth = start = position = 0
    while found := _TO_BRACE.match(text, position):
        position = found.end()
        if text[position - 1] == _OPENING:
            if depth == 0:
                parts.append(text[start : position - 1])
                start = position - 1
            depth += 1
        elif depth:
            depth -= 1
            if depth == 0:
                parts.append(text[start:position])
                start = position
    parts.append(text[start:])
    return [part for part in map(_stripped, parts) if part]
