"""Every state that a channel ever was in, as an append-only history in the bucket: one object a move, written once.

S3 cannot append, and a mover may end between its move and its line. So a line says nothing that the channel's object
does not say too, and whoever comes next can write it: a mover does so before it replaces a state, a reader before it
reads. A state whose line is missing is therefore always the present one, and each has exactly one line.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

import msgspec

from lambda_function.core.bundle import Channel, Sha256, Version, channel_key
from training.errors import PublishError
from training.registry.bucket import get_object, list_objects, put_once

Why = Literal["promote", "rollback", "publish", "force"]
"""What kind of move a state came from."""

_KEY = re.compile(r".*/(\d{8}T\d{6}\.\d{6}Z)-([a-z]+-\d{4}-\d{2}-[0-9a-f]{12})\.json")
_TICK = timedelta(microseconds=1)


class Move(Channel, frozen=True):
    """A channel's state as a mover writes it: where it points, and how it came to. The function reads the first part.

    `moved_by` is a person or a job, as in ``ada@laptop``. `move_id` is random: two movers never write the same bytes,
    so that one whose answer was lost can tell its own move from another's. All three are None in states of old.
    """

    moved_by: str | None = None
    why: Why | None = None
    move_id: str | None = None


class Line(msgspec.Struct, frozen=True):
    """A move as the history tells of it."""

    channel: str
    model_version: Version
    manifest_sha256: Sha256
    previous: Version | None
    moved_at: str
    moved_by: str | None
    why: Why | None
    move_id: str | None


class Seen(NamedTuple):
    """A channel as it was when somebody looked: `state` and `etag` are None where there is none yet."""

    channel: str
    state: Move | None
    etag: str | None

    @property
    def model_version(self) -> str | None:
        """The version that it pointed at."""
        return self.state.model_version if self.state else None


def see_channel(s3: Any, bucket: str, channel: str) -> Seen:
    """Looks at a channel.

    Raises:
        PublishError: S3 did not answer as needed, or holds something else by that key.
    """
    key = channel_key(channel)
    found = get_object(s3, bucket, key)
    if found is None:
        return Seen(channel, None, None)
    try:
        state = _decode_move(found.body)
        _time(state)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise PublishError(bucket, key, f"holds no channel: {error}") from error
    return Seen(channel, state, found.etag)


def next_time(now: datetime, state: Move | None) -> str:
    """Returns when a move happens that replaces a state: now, and later than that state by a microsecond at least.

    So no two states of a channel share a time, nor the bytes (and with them the ETag) of an earlier one, however coarse
    or wrong the movers' clocks are.

    >>> state = Move("green-2021-01-3f2a9c1d0b7e", "ab" * 32, None, "2026-11-21T22:00:00+00:00")
    >>> next_time(datetime(2026, 11, 21, 22, tzinfo=UTC), state)
    '2026-11-21T22:00:00.000001+00:00'
    """
    earliest = now if state is None else max(now, _time(state) + _TICK)
    return earliest.astimezone(UTC).isoformat(timespec="microseconds")


def history_key(channel: str, move: Channel) -> str:
    """Returns the key of a state's line: in the order of keys, a channel's lines are in the order of time.

    >>> history_key("stable", Channel("green-2021-01-3f2a9c1d0b7e", "ab" * 32, None, "2026-11-21T22:00:00+00:00"))
    'history/stable/20261121T220000.000000Z-green-2021-01-3f2a9c1d0b7e.json'
    """
    return f"history/{channel}/{_time(move):%Y%m%dT%H%M%S.%f}Z-{move.model_version}.json"


def enter_line(s3: Any, bucket: str, seen: Seen) -> None:
    """Makes sure that the history has the line of a state that a channel is or was in.

    Raises:
        PublishError: S3 did not take it, or did not say so.
    """
    if seen.state:
        put_once(s3, bucket, history_key(seen.channel, seen.state), encode_line(_line(seen.channel, seen.state)))


def has_line(s3: Any, bucket: str, channel: str, move: Move) -> bool:
    """Tells whether a channel has ever been in this very state: for the present one, only if its line is entered."""
    found = get_object(s3, bucket, history_key(channel, move))
    return found is not None and found.body == encode_line(_line(channel, move))


def has_served(s3: Any, bucket: str, seen: Seen, model_version: str) -> bool:
    """Tells whether a channel points, or has ever pointed, at a version. Reads keys only."""
    keys = (listed.key for listed in list_objects(s3, bucket, _prefix(seen.channel)))
    parsed = (_KEY.fullmatch(key) for key in keys)
    return model_version == seen.model_version or any(found and found[2] == model_version for found in parsed)


def read_history(s3: Any, bucket: str, channel: str) -> tuple[Line, ...]:
    """Reads a channel's moves, the oldest first. Enters the present state's line where its mover did not come to it.

    Raises:
        PublishError: S3 did not answer as needed, or a line does not decode.
    """
    seen = see_channel(s3, bucket, channel)
    by_key = {}
    if seen.state:  # who may only read is shown the line all the same
        by_key[history_key(channel, seen.state)] = _line(channel, seen.state)
        _enter_if_allowed(s3, bucket, seen)
    for listed in list_objects(s3, bucket, _prefix(channel)):
        found = get_object(s3, bucket, listed.key)
        if found:
            by_key[listed.key] = _decode_line(bucket, listed.key, found.body)
    return tuple(by_key[key] for key in sorted(by_key))


def channels_with_history(s3: Any, bucket: str) -> tuple[str, ...]:
    """Lists the channels of which the history has a line."""
    keys = (listed.key for listed in list_objects(s3, bucket, "history/"))
    return tuple(sorted({key.split("/")[1] for key in keys if _KEY.fullmatch(key)}))


def encode_line(line: Line) -> bytes:
    """Returns a line's bytes."""
    return msgspec.json.encode(line) + b"\n"


def _enter_if_allowed(s3: Any, bucket: str, seen: Seen) -> None:
    try:
        enter_line(s3, bucket, seen)
    except PublishError:
        return  # the next mover enters it, or does not move


def _time(move: Channel) -> datetime:
    """Reads when a state began; ValueError where it does not say."""
    moved_at = datetime.fromisoformat(move.moved_at)
    if moved_at.tzinfo is None:
        raise ValueError(f"moved_at {move.moved_at!r} has no offset to UTC")
    return moved_at.astimezone(UTC)


def _line(channel: str, move: Move) -> Line:
    return Line(channel=channel, **{name: getattr(move, name) for name in move.__struct_fields__})


def _decode_line(bucket: str, key: str, data: bytes) -> Line:
    try:
        return msgspec.json.decode(data, type=Line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PublishError(bucket, key, f"holds no line of a history: {error}") from error


def _prefix(channel: str) -> str:
    return f"history/{channel}/"


_decode_move = msgspec.json.Decoder(Move).decode
