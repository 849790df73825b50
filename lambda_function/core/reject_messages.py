"""Rejects as messages of a queue: an object that the bucket did not take, in parts, and back. Pure.

A message's body is a part of the object's bytes in base64. Its attributes, all of them text, are

    key       the key that the object would have in the bucket
    part      the index of the part, from 0
    parts     how many parts the object has
    sha256    the digest of the whole object, in hex
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

MAX_PART_BYTES = 190_000
"""In base64, with the attributes, a part stays below the 256 KiB (262,144 bytes) of a message."""


class Message(NamedTuple):
    """One message: its body and its attributes by name."""

    body: str
    attributes: dict[str, str]


@dataclass(frozen=True, slots=True)
class WholeObject:
    """An object whose parts have all arrived, with the right digest.

    Attributes:
        key: Its key in the bucket.
        body: Its bytes.
        handles: The handles of all its messages, repeats included: delete them once the object is in the bucket.
    """

    key: str
    body: bytes
    handles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UnusableMessages:
    """Messages that make no object: parts are missing or damaged. They stay in the queue."""

    key: str  # or "" if the messages do not name it
    problem: str
    handles: tuple[str, ...]
    sha256: str = ""  # of the whole object, or "" if the messages do not name it


def encode_messages(key: str, body: bytes) -> list[Message]:
    """Return the messages of an object, in the order of its parts.

    >>> [message] = encode_messages("rejects/ride-events/shard/1-ab.ndjson", b"{}")
    >>> message.body, message.attributes["part"], message.attributes["parts"]
    ('e30=', '0', '1')
    """
    parts = [body[start : start + MAX_PART_BYTES] for start in range(0, len(body), MAX_PART_BYTES)] or [b""]
    digest = hashlib.sha256(body).hexdigest()
    return [
        Message(
            base64.b64encode(part).decode("ascii"),
            {"key": key, "part": str(index), "parts": str(len(parts)), "sha256": digest},
        )
        for index, part in enumerate(parts)
    ]


class _Object(NamedTuple):
    key: str
    n_parts: int
    digest: str


@dataclass(slots=True)
class MessageCollector:
    """Collects messages in any order, with repeats, and puts the objects together.

    `handle` is whatever the caller needs to delete a message: for SQS its receipt handle.

    >>> collector = MessageCollector()
    >>> for message in encode_messages("a key", b"a line"):
    ...     collector.add(message.body, message.attributes, handle="1")
    >>> collector.whole_objects()
    [WholeObject(key='a key', body=b'a line', handles=('1',))]
    """

    _parts: dict[_Object, dict[int, str]] = field(default_factory=dict)
    _handles: dict[_Object, list[str]] = field(default_factory=dict)
    _unreadable: list[UnusableMessages] = field(default_factory=list)

    def add(self, body: str, attributes: Mapping[str, str], handle: str) -> None:
        """Add one message. What it holds never makes this raise."""
        key = attributes.get("key", "")
        try:
            part = int(attributes["part"])
            whole = _Object(key, int(attributes["parts"]), attributes["sha256"])
        except (KeyError, ValueError):
            problem = "it is no part of a rejects object: an attribute is missing or is no number"
            self._unreadable.append(UnusableMessages(key, problem, (handle,)))
            return
        self._parts.setdefault(whole, {})[part] = body
        self._handles.setdefault(whole, []).append(handle)

    def whole_objects(self) -> list[WholeObject]:
        """Return the objects that are complete, in the order of their first messages."""
        return [result for result in self._results() if isinstance(result, WholeObject)]

    def unusable(self) -> list[UnusableMessages]:
        """Return the messages that make no object, with the reason."""
        return self._unreadable + [result for result in self._results() if isinstance(result, UnusableMessages)]

    def _results(self) -> list[WholeObject | UnusableMessages]:
        return [self._result(whole, parts) for whole, parts in self._parts.items()]

    def _result(self, whole: _Object, parts: dict[int, str]) -> WholeObject | UnusableMessages:
        handles = tuple(self._handles[whole])
        if sorted(parts) != list(range(min(whole.n_parts, len(parts) + 1))):
            return UnusableMessages(
                whole.key, f"of its {whole.n_parts} parts, {sorted(parts)} are here", handles, whole.digest
            )
        try:
            body = b"".join(base64.b64decode(parts[index], validate=True) for index in range(whole.n_parts))
        except ValueError as error:  # binascii.Error, or text that is not ASCII
            return UnusableMessages(whole.key, f"a part is not base64: {error}", handles, whole.digest)
        if hashlib.sha256(body).hexdigest() != whole.digest:
            return UnusableMessages(whole.key, "the parts do not have the digest of the object", handles, whole.digest)
        return WholeObject(whole.key, body, handles)
