"""A channel's state, and the append-only history of all its states: one object per move, written once.

S3 cannot append, and a mover may end between its move and its history entry. So an entry holds nothing that the
channel's object does not hold too, and the next one to come can append it: a mover does so before it replaces a state,
a reader before it reads. A state without an entry is therefore always the present one, and each state has exactly one
entry.
"""

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

import msgspec

from lambda_function.core.bundle import Channel, Sha256, Version, channel_key
from training.errors import BucketError
from training.registry.bucket import Bucket

Why = Literal["promote", "rollback", "publish", "force"]
"""The kind of move that led to a state."""

_KEY = re.compile(r".*/(\d{8}T\d{6}\.\d{6}Z)-([a-z]+-\d{4}-\d{2}-[0-9a-f]{12})\.json")
_TICK = timedelta(microseconds=1)


class Move(Channel, frozen=True):
    """A channel's state as a mover writes it: the version, and how it came to it. The function reads the first part.

    `moved_by` is a person or a job, as in ``ada@laptop``. `move_id` is random: two movers never write the same bytes,
    so a mover whose answer was lost can distinguish its own move from another's. All three are None in old states.
    """

    moved_by: str | None = None
    why: Why | None = None
    move_id: str | None = None


class HistoryEntry(msgspec.Struct, frozen=True):
    """A move as the history records it."""

    channel: str
    model_version: Version
    manifest_sha256: Sha256
    previous: Version | None
    moved_at: str
    moved_by: str | None
    why: Why | None
    move_id: str | None


class StoredChannel(NamedTuple):
    """A channel as it was read: `state` and `etag` are None if there is no such channel yet."""

    channel: str
    state: Move | None
    etag: str | None

    @property
    def model_version(self) -> str | None:
        """The version that it pointed at."""
        return self.state.model_version if self.state else None


def read_channel(bucket: Bucket, channel: str) -> StoredChannel:
    """Read a channel; `BucketError` if the object is not a channel."""
    key = channel_key(channel)
    stored = bucket.read(key)
    if stored is None:
        return StoredChannel(channel, None, None)
    try:
        state = _decode_move(stored.body)
        _time(state)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise BucketError(bucket.name, key, f"holds no channel: {error}") from error
    return StoredChannel(channel, state, stored.etag)


def next_time(now: datetime, state: Move | None) -> str:
    """Return when a move happens that replaces a state: now, but at least a microsecond later than that state.

    So no two states of a channel share a time, nor the bytes (and with them the ETag) of an earlier one, however coarse
    or wrong the movers' clocks are.

    >>> state = Move("green-2021-01-3f2a9c1d0b7e", "ab" * 32, None, "2026-11-21T22:00:00+00:00")
    >>> next_time(datetime(2026, 11, 21, 22, tzinfo=UTC), state)
    '2026-11-21T22:00:00.000001+00:00'
    """
    earliest = now if state is None else max(now, _time(state) + _TICK)
    return earliest.astimezone(UTC).isoformat(timespec="microseconds")


def history_key(channel: str, move: Channel) -> str:
    """Return the key of a state's entry: the keys of a channel's entries sort by time.

    >>> history_key("stable", Channel("green-2021-01-3f2a9c1d0b7e", "ab" * 32, None, "2026-11-21T22:00:00+00:00"))
    'history/stable/20261121T220000.000000Z-green-2021-01-3f2a9c1d0b7e.json'
    """
    return f"{_prefix(channel)}{_time(move):%Y%m%dT%H%M%S.%f}Z-{move.model_version}.json"


def append_entry(bucket: Bucket, channel: str, state: Move) -> None:
    """Append the entry of a state that a channel is or was in, unless the history has it."""
    bucket.write_once(history_key(channel, state), encode_entry(_entry(channel, state)))


def has_entry(bucket: Bucket, channel: str, state: Move) -> bool:
    """Return whether the history has the entry of exactly this state."""
    stored = bucket.read(history_key(channel, state))
    return stored is not None and stored.body == encode_entry(_entry(channel, state))


def served_versions(bucket: Bucket, stored: StoredChannel) -> frozenset[str]:
    """Return the versions that a channel points at or has ever pointed at. Reads keys only."""
    parsed = (_KEY.fullmatch(key) for key in bucket.keys(_prefix(stored.channel)))
    present = (stored.model_version,) if stored.model_version else ()
    return frozenset((*(found[2] for found in parsed if found), *present))


def read_history(bucket: Bucket, channel: str) -> tuple[HistoryEntry, ...]:
    """Read a channel's moves, oldest first. Append the entry of the present state if its mover did not."""
    state = read_channel(bucket, channel).state
    by_key = {}
    if state:
        by_key[history_key(channel, state)] = _entry(channel, state)
        with suppress(BucketError):  # a reader without permission to write gets the entry all the same
            append_entry(bucket, channel, state)
    for key in bucket.keys(_prefix(channel)):
        if stored := bucket.read(key):
            by_key[key] = _decode_entry(bucket, key, stored.body)
    return tuple(by_key[key] for key in sorted(by_key))


def channels_with_history(bucket: Bucket) -> tuple[str, ...]:
    """List the channels that have a history entry."""
    return tuple(sorted({key.split("/")[1] for key in bucket.keys("history/") if _KEY.fullmatch(key)}))


def encode_entry(entry: HistoryEntry) -> bytes:
    """Return an entry's bytes."""
    return msgspec.json.encode(entry) + b"\n"


def _time(move: Channel) -> datetime:
    """Return when a state began; ValueError if it does not say."""
    moved_at = datetime.fromisoformat(move.moved_at)
    if moved_at.tzinfo is None:
        raise ValueError(f"moved_at {move.moved_at!r} has no offset to UTC")
    return moved_at.astimezone(UTC)


def _entry(channel: str, move: Move) -> HistoryEntry:
    return HistoryEntry(channel=channel, **{name: getattr(move, name) for name in move.__struct_fields__})


def _decode_entry(bucket: Bucket, key: str, data: bytes) -> HistoryEntry:
    try:
        return msgspec.json.decode(data, type=HistoryEntry)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BucketError(bucket.name, key, f"holds no history entry: {error}") from error


def _prefix(channel: str) -> str:
    return f"history/{channel}/"


_decode_move = msgspec.json.Decoder(Move).decode
