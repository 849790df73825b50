"""A channel's state, and the append-only history of all its states: one object per move, written once.

S3 cannot append, and a mover may end between its move and its history entry. So an entry holds nothing that the
channel's object does not hold too, and the next one to come can append it: a mover does so before it replaces a state,
a reader before it reads. A state without an entry is therefore always the present one, and each state has exactly one
entry.

A year of hourly calibrations is 8,760 entries. An entry's key names its served version, so that a run of calibrations
of one model is recognized by its keys, and `read_moves` reads its two ends only.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any, Literal, NamedTuple

import msgspec

from lambda_function.core.channel import (
    ACTIVATION_DELAY_S,
    Channel,
    aware_time,
    channel_key,
    decode_channel,
    remedy,
    withdrawn_facts,
)
from lambda_function.errors import ChannelError
from training.errors import BucketError, UserError, bucket_address
from training.registry.bucket import Bucket

Why = Literal[
    "promote",
    "rollback",
    "publish",
    "force",
    "restore",
    "calibration",
    "calibration off",
    "restore, calibration off",
    "split",
    "split ended",
    "split, calibration off",
    "split ended, calibration off",
]
"""The kind of move that led to a state."""

CALIBRATION: Why = "calibration"

_KEY = re.compile(r".*/(\d{8}T\d{6}\.\d{6}Z)-([a-z]+-\d{4}-\d{2}-[0-9a-f]{12})(?:\+(\d{4}-\d{2}-\d{2}T\d{2}))?\.json")
_KEY_TIME = "%Y%m%dT%H%M%S.%fZ"
_TICK = timedelta(microseconds=1)


class HistoryEntry(Channel, frozen=True, kw_only=True):
    """A state as the history records it. It holds the whole state, so that a lost channel can be restored from it."""

    channel: str


class Moves(NamedTuple):
    """One entry of a history, or a run of calibrations of one model: its first and last entry, and how many it has."""

    first: HistoryEntry
    last: HistoryEntry
    n_moves: int = 1


class DamagedChannelError(BucketError):
    """A channel's object that is not a channel, or one that this code cannot serve.

    Attributes:
        etag: Of the object.
        is_too_new: Whether a later version of this code wrote it.
    """

    def __init__(self, bucket: str, channel: str, error: ChannelError, etag: str) -> None:
        self.etag = etag
        self.is_too_new = error.is_too_new
        super().__init__(bucket, channel_key(channel), f"{error.problem}: {remedy(error, channel, bucket)}")


class LostChannelError(UserError):
    """A channel without its object: a new first segment would predict old records anew."""

    def __init__(self, bucket: Bucket, channel: str) -> None:
        command = f"ridecast models restore --channel {channel} --bucket {bucket.name}"
        problem = f"{channel} has a history in {bucket_address(bucket.name)} and is lost"
        super().__init__(problem, f"write it again from its history with `{command}`")


class StoredChannel(NamedTuple):
    """A channel as it was read: `state` and `etag` are None if there is no such channel yet."""

    channel: str
    state: Channel | None
    etag: str | None
    clock_ahead_s: float = 0.0  # of this machine's clock against S3's

    @property
    def model_version(self) -> str | None:
        """The version of its newest segment."""
        return self.state.model_version if self.state else None


def read_channel(bucket: Bucket, channel: str) -> StoredChannel:
    """Read a channel.

    Raises:
        DamagedChannelError: The object is not a channel.
        BucketError: S3 failed.
    """
    stored = bucket.read(channel_key(channel))
    if stored is None:
        return StoredChannel(channel, None, None)
    try:
        return StoredChannel(channel, decode_channel(stored.body), stored.etag, stored.clock_ahead_s)
    except ChannelError as error:
        raise DamagedChannelError(bucket.name, channel, error, stored.etag) from error


def next_time(now: datetime, state: Channel | None) -> str:
    """Return when a move happens that replaces a state: now, but at least a microsecond later than that state.

    So no two states of a channel share a time, nor the bytes (and with them the ETag) of an earlier one, however coarse
    or wrong the movers' clocks are.

    >>> next_time(datetime(2026, 11, 21, 22, tzinfo=UTC), Channel(segments=(), moved_at="2026-11-21T22:00:00+00:00"))
    '2026-11-21T22:00:00.000001+00:00'
    """
    return time_text(now if state is None else max(now, aware_time(state.moved_at) + _TICK))


def time_text(time: datetime) -> str:
    """Return a time as channels hold it."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def history_key(channel: str, state: Channel) -> str:
    """Return the key of a state's entry, with its served version: the keys of a channel's entries sort by time.

    >>> from lambda_function.core.channel import BEGINNING, Arm, Segment
    >>> segment = Segment(BEGINNING, (Arm("green-2021-01-3f2a9c1d0b7e", "ab" * 32),))
    >>> history_key("stable", Channel(segments=(segment,), moved_at="2026-11-21T22:00:00+00:00"))
    'history/stable/20261121T220000.000000Z-green-2021-01-3f2a9c1d0b7e.json'
    """
    return f"{_prefix(channel)}{aware_time(state.moved_at).strftime(_KEY_TIME)}-{state.served_version}.json"


def append_entry(bucket: Bucket, channel: str, state: Channel) -> None:
    """Append the entry of a state that a channel is or was in, unless the history has it."""
    bucket.write_once(history_key(channel, state), encode_entry(_entry(channel, state)))


def has_entry(bucket: Bucket, channel: str, state: Channel) -> bool:
    """Return whether the history has the entry of exactly this state."""
    stored = bucket.read(history_key(channel, state))
    return stored is not None and stored.body == encode_entry(_entry(channel, state))


def served_versions(bucket: Bucket, stored: StoredChannel) -> frozenset[str]:
    """Return the model versions that a channel points at or has ever pointed at. Reads keys only."""
    parsed = (_KEY.fullmatch(key) for key in bucket.keys(_prefix(stored.channel)))
    present = (stored.model_version,) if stored.model_version else ()
    return frozenset((*(found[2] for found in parsed if found), *present))


def came_in_at_s(bucket: Bucket, stored: StoredChannel) -> float:
    """Return from when a channel's newest model has been its newest without a break, in seconds since the epoch.

    That is the beginning of the segment with which it came in last: by a promotion, or by a rollback to it.
    """
    state = stored.state
    assert state is not None  # noqa: S101 - its caller has checked
    keys = sorted(key for key in _keys(bucket, stored.channel) if _KEY.fullmatch(key))
    with_it = takewhile(lambda key: f"-{state.model_version}" in key, reversed(keys))
    first = list(with_it)[-1:]
    entry = _read_entries(bucket, stored.channel, first).get(first[0]) if first else None
    return (entry or state).segments[0].effective_from_s


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The served versions that moves took out of segments: ``version in withdrawn``."""

    moves: tuple[Channel, ...] = ()

    def __contains__(self, version: object) -> bool:
        """Return whether one of the moves took out a served version."""
        return any(isinstance(version, str) and move.has_withdrawn(version) for move in self.moves)


def withdrawn_versions(bucket: Bucket, channel: str, from_s: float = 0.0, to_s: float = math.inf) -> Withdrawn:
    """Return the versions that a move took out of a segment while they may have served records of a time.

    The records are those that arrived from `from_s` to `to_s`, in seconds since the epoch. After the move itself, the
    withdrawn version serves for at most `ACTIVATION_DELAY_S`, until the functions have read the channel.
    """
    earliest = datetime.fromtimestamp(max(0.0, from_s - ACTIVATION_DELAY_S), UTC)
    return Withdrawn(
        tuple(
            state
            for state in _states_since(bucket, channel, earliest)
            if state.withdrawn and aware_time(state.withdrawn_since).timestamp() < to_s
        )
    )


def _states_since(bucket: Bucket, channel: str, earliest: datetime) -> Iterator[Channel]:
    """Read the states that a channel has come to since a time, with the present one if its object is not damaged."""
    start = history_key_at(channel, earliest)
    keys = [key for key in _keys(bucket, channel) if _KEY.fullmatch(key)]
    ends = (end for run in _runs(keys) for end in {run[0]: None, run[-1]: None})  # calibrations withdraw nothing
    yield from _read_entries(bucket, channel, (key for key in ends if key > start)).values()
    with suppress(DamagedChannelError):
        state = read_channel(bucket, channel).state
        if state and aware_time(state.moved_at) >= earliest:
            yield state


def is_lost(bucket: Bucket, stored: StoredChannel) -> bool:
    """Return whether a channel has no object although it has a history. Reads keys only."""
    return stored.state is None and bool(served_versions(bucket, stored))


def read_history(bucket: Bucket, channel: str, after: str = "", n_most: int | None = None) -> tuple[HistoryEntry, ...]:
    """Read a channel's moves, oldest first. Append the entry of the present state if its mover did not.

    Only the moves after `after` are read, which is the `history_key` of an entry or a `history_key_at`, and of these
    the first `n_most`: an entry holds a whole channel, so a year of them may be too much to hold.
    """
    present = _present_entry(bucket, channel, after)
    keys = sorted({*_keys(bucket, channel, after), *present})[:n_most]
    by_key = present | _read_entries(bucket, channel, (key for key in keys if key not in present))
    return tuple(by_key[key] for key in keys)


def read_arrivals(bucket: Bucket, channel: str, model_version: str, after: str = "") -> tuple[HistoryEntry, ...]:
    """Read the moves that brought a channel from another model to this one, oldest first. Reads few other entries.

    Only the moves after `after` are looked at, as in `read_history`.
    """
    present = _present_entry(bucket, channel, after)
    keys = sorted({*_keys(bucket, channel, after), *present})
    models = [found[2] if (found := _KEY.fullmatch(key)) else "" for key in keys]
    befores = ["", *models[:-1]]
    arrivals = [key for n, key in enumerate(keys) if models[n] == model_version != befores[n]]
    by_key = present | _read_entries(bucket, channel, (key for key in arrivals if key not in present))
    return tuple(by_key[key] for key in arrivals)


def read_last_move(bucket: Bucket, channel: str) -> tuple[HistoryEntry, ...]:
    """Read the move that led to a channel's present state, as `read_history`; none of a channel that is lost."""
    return tuple(_present_entry(bucket, channel).values())


def history_key_at(channel: str, time: datetime) -> str:
    """Return what sorts behind the keys of a channel's entries from before an aware time, and before all others."""
    return f"{_prefix(channel)}{time.astimezone(UTC).strftime(_KEY_TIME)}"


def read_moves(bucket: Bucket, channel: str) -> tuple[Moves, ...]:
    """Read a channel's moves as `read_history`, with each run of calibrations of one model as one."""
    present = _present_entry(bucket, channel)
    runs = _runs(sorted({*_keys(bucket, channel), *present}))
    ends = {end for run in runs for end in (*run[:2], run[-1])}
    by_key = present | _read_entries(bucket, channel, ends.difference(present))
    return tuple(moves for run in runs for moves in _moves_of(run, by_key))


def _moves_of(run: Sequence[str], by_key: dict[str, HistoryEntry]) -> Iterator[Moves]:
    """Yield a run of keys; its first entry by itself if that is another kind of move, such as a rollback."""
    first = by_key[run[0]]
    if len(run) > 1 and first.why != CALIBRATION:
        yield Moves(first, first)
        run = run[1:]
    yield Moves(by_key[run[0]], by_key[run[-1]], len(run))


def _runs(keys: Iterable[str]) -> list[list[str]]:
    """Return all keys of a history in runs, in order: new calibrations of one model with ascending hours.

    All entries of a run are calibrations, but the first may be another kind of move: any other is to none, to another
    model, or to a calibration that the channel has held before.
    """
    runs: list[list[str]] = []
    before = ("", "")
    held: set[tuple[str, str]] = set()
    for key in keys:
        found = _KEY.fullmatch(key)
        now = (found[2], found[3] or "") if found else ("", "")
        if before[0] == now[0] and "" < before[1] < now[1] and now not in held:
            runs[-1].append(key)
        else:
            runs.append([key])
        held.add(now)
        before = now
    return runs


def _present_entry(bucket: Bucket, channel: str, after: str = "") -> dict[str, HistoryEntry]:
    """Return the entry of the present state by its key, if it comes after a key; append it if its mover did not."""
    state = read_channel(bucket, channel).state
    if state is None or history_key(channel, state) <= after:
        return {}
    with suppress(BucketError):  # a reader without permission to write gets the entry all the same
        append_entry(bucket, channel, state)
    return {history_key(channel, state): _entry(channel, state)}


def last_entry(bucket: Bucket, channel: str) -> HistoryEntry | None:
    """Read the latest entry of a channel whose object is lost or damaged; None if it has no history."""
    latest = max(_keys(bucket, channel), default=None)
    return None if latest is None else _read_entries(bucket, channel, [latest]).get(latest)


def _keys(bucket: Bucket, channel: str, after: str = "") -> Iterator[str]:
    return (one.key for one in bucket.list_objects(_prefix(channel), after))


def _read_entries(bucket: Bucket, channel: str, keys: Iterable[str]) -> dict[str, HistoryEntry]:
    """Read entries, by key."""
    stored = bucket.read_all(keys)
    return {one.key: _decode_entry(bucket, channel, one.key, one.body) for one in stored}


def channels_with_history(bucket: Bucket) -> tuple[str, ...]:
    """List the channels that have a history entry."""
    return tuple(sorted({key.split("/")[1] for key in bucket.keys("history/") if _KEY.fullmatch(key)}))


def encode_entry(entry: HistoryEntry) -> bytes:
    """Return an entry's bytes."""
    return msgspec.json.encode(entry_facts(entry)) + b"\n"


def entry_facts(entry: HistoryEntry) -> dict[str, Any]:
    """Return an entry as JSON values: what moved when and why comes first, the whole list of segments last."""
    facts = msgspec.to_builtins(entry)
    first = {"channel": entry.channel, "model_version": entry.model_version}
    first["effective_from"] = entry.segments[0].effective_from
    segments = facts.pop("segments")
    for name in ("also_withdrawn", "withdrawn_from"):
        del facts[name]
    return {**first, **facts, **withdrawn_facts(entry), "segments": segments}


def _entry(channel: str, state: Channel) -> HistoryEntry:
    return HistoryEntry(channel=channel, **{name: getattr(state, name) for name in Channel.__struct_fields__})


def _decode_entry(bucket: Bucket, channel: str, key: str, data: bytes) -> HistoryEntry:
    """Decode an entry: it holds its state's fields, so it decodes as a channel, whatever version wrote it."""
    try:
        return _entry(channel, decode_channel(data))
    except ChannelError as error:
        raise BucketError(bucket.name, key, f"holds no history entry: it {error.problem}") from error


def _prefix(channel: str) -> str:
    return f"history/{channel}/"
