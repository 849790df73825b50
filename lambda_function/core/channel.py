"""A channel: which model serves a record, by the time at which the record arrived.

A channel is a list of segments, newest first. A record belongs to the newest segment that begins no later than the
record's arrival, and the oldest segment also serves everything before it. So the model depends on the record and the
channel alone, however often and wherever the record is processed. A segment may name a calibration of its model.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cached_property
from itertools import pairwise

import msgspec

from lambda_function.core.bundle import sha256
from lambda_function.core.calibration import AsOf, ServedVersion, served_version, split_version
from lambda_function.core.versions import Sha256, Version
from lambda_function.errors import ChannelError

BEGINNING = "1970-01-01T00:00:00Z"
"""The beginning of a channel's first segment: no record is older."""

ALL_BUCKETS = (0, 10_000)
"""The buckets of an arm that gets every ride."""

ACTIVATION_DELAY_S = 150.0
"""Seconds from a promotion to the first arrival that its model serves: two refreshes of a minute, and a margin. Until
then every running function has read the channel."""

MAX_SEGMENTS = 1000
"""The most segments of a channel: about 250 kB, half of what the function reads."""


CALIBRATION_OFF = ("calibration off", "restore, calibration off")
"""The kinds of moves after which no calibration follows by itself."""


class Arm(msgspec.Struct, frozen=True):
    """A model of a segment and the half-open range of buckets that it serves."""

    model_version: Version
    manifest_sha256: Sha256
    buckets: tuple[int, int] = ALL_BUCKETS


class CalibrationRef(msgspec.Struct, frozen=True):
    """The calibration of a segment's model: its hour, which its key has, and the digest of its object."""

    as_of: AsOf
    sha256: Sha256


class Segment(msgspec.Struct, frozen=True, dict=True):
    """The arms that serve records from a time on. `effective_from` is ISO 8601 in UTC."""

    effective_from: str
    arms: tuple[Arm, ...]
    calibration: CalibrationRef | None = None

    @cached_property
    def effective_from_s(self) -> float:
        """The beginning in seconds since the epoch."""
        return aware_time(self.effective_from).timestamp()

    @property
    def arm(self) -> Arm:
        """The only arm."""
        return self.arms[0]

    @property
    def model_version(self) -> str:
        """The version of the only arm."""
        return self.arm.model_version

    @property
    def as_of(self) -> str | None:
        """The hour of the calibration; None without one."""
        return self.calibration.as_of if self.calibration else None

    @property
    def served_version(self) -> str:
        """The version that the segment's predictions name: the model version, with its calibration's hour if any."""
        return served_version(self.model_version, self.as_of)


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """A channel's state as a mover writes it: the segments, and how it came to them. The function reads the first part.

    Attributes:
        segments: Newest first, at least one.
        withdrawn: The served version that this move took out of the newest segment; None if it began a segment of its
            own. A restore keeps that of the state which it writes again.
        moved_at: ISO 8601 in UTC.
        moved_by: A person or a job, as in ``ada@laptop``.
        why: The kind of move.
        move_id: Random: two movers never write the same bytes, so a mover whose answer was lost can distinguish its own
            move from another's.
    """

    segments: tuple[Segment, ...]
    withdrawn: ServedVersion | None = None
    moved_at: str
    moved_by: str | None = None
    why: str | None = None
    move_id: str | None = None

    @property
    def model_version(self) -> str:
        """The newest segment's model version."""
        return self.segments[0].model_version

    @property
    def served_version(self) -> str:
        """The newest segment's served version."""
        return self.segments[0].served_version

    @property
    def previous(self) -> str | None:
        """The served version that the newest segment replaced; None if the channel knows of none."""
        before = self.segments[1].served_version if len(self.segments) > 1 else None
        return self.withdrawn or before

    @property
    def calibration_is_off(self) -> bool:
        """Whether somebody has stopped the calibration of the newest segment's model."""
        return self.why in CALIBRATION_OFF

    def segment_at(self, arrival_time_s: float) -> Segment:
        """Return the segment of records that arrived at this time, in seconds since the epoch."""
        place = bisect_left(self.segments, -arrival_time_s, key=_minus_beginning)
        return self.segments[min(place, len(self.segments) - 1)]

    def segments_of(self, arrival_times_s: Sequence[float]) -> tuple[Segment, ...]:
        """Return the segments, newest first, of records that arrived at these times: nearly always one."""
        newest = self.segment_at(max(arrival_times_s))
        if newest is self.segment_at(min(arrival_times_s)):
            return (newest,)
        beginnings = {self.segment_at(one).effective_from_s for one in arrival_times_s}
        return tuple(segment for segment in self.segments if segment.effective_from_s in beginnings)


def _minus_beginning(segment: Segment) -> float:
    return -segment.effective_from_s


class _Stored(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A channel's object. One that was written before there were segments names one version instead.

    `segments_sha256` is the digest of the segments' bytes, with a comma between two: else a wrong byte in a time or a
    version could be another time or version.

    `withdrawn` is a model version and `withdrawn_as_of` its calibration's hour: a ridecast from before there were
    calibrations decodes that, and then says of the segments that it is too old for them.
    """

    segments: tuple[msgspec.Raw, ...] = ()
    segments_sha256: Sha256 | None = None
    model_version: Version | None = None
    manifest_sha256: Sha256 | None = None
    withdrawn: Version | None = None
    withdrawn_as_of: AsOf | None = None
    moved_at: str
    moved_by: str | None = None
    why: str | None = None
    move_id: str | None = None


class _ForeignSegment(msgspec.Struct, frozen=True):
    """A segment with a calibration of any form."""

    effective_from: str
    arms: tuple[Arm, ...]
    calibration: msgspec.Raw


_FACTS = ("moved_at", "moved_by", "why", "move_id")
"""The fields that a channel and its object share."""

_decode = msgspec.json.Decoder(_Stored).decode
_decode_segment = msgspec.json.Decoder(Segment).decode
_decode_foreign_segment = msgspec.json.Decoder(_ForeignSegment).decode
_BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, OverflowError)


def channel_key(channel: str) -> str:
    """Return the key of a channel in the bucket."""
    return f"channels/{channel}.json"


def remedy(error: ChannelError, channel: str, bucket: str) -> str:
    """Return what to do about a channel that does not decode."""
    if error.is_too_new:
        return "deploy, or run, the version of ridecast that wrote it"
    return f"write it again from its history with `ridecast models restore --channel {channel} --bucket {bucket}`"


def encode_channel(channel: Channel) -> bytes:
    """Return a channel's object."""
    segments = tuple(map(msgspec.json.encode, channel.segments))
    stored = _Stored(
        segments=tuple(map(msgspec.Raw, segments)),
        segments_sha256=_digest(segments),
        **withdrawn_facts(channel),
        **{name: getattr(channel, name) for name in _FACTS},
    )
    return msgspec.json.encode(stored)


def withdrawn_facts(channel: Channel) -> dict[str, str]:
    """Return the withdrawn version as a channel's object has it: its calibration's hour is a field of its own."""
    if channel.withdrawn is None:
        return {}
    model_version, as_of = split_version(channel.withdrawn)
    return {"withdrawn": model_version, **({"withdrawn_as_of": as_of} if as_of else {})}


def decode_channel(data: bytes) -> Channel:
    """Decode a channel's object.

    An object from before there were segments is read as one segment from the beginning.

    Raises:
        ChannelError: It is not a channel, or it is one that only a later version of this project can serve.
    """
    stored = _decode_stored(data)
    segments = _segments(stored)
    if not _is_whole(stored, segments):
        raise ChannelError("is damaged: its segments do not have their digest")
    return _channel(stored, [_checked(segment, is_whole=True) for segment in segments])


def salvage_channel(data: bytes) -> Channel:
    """Decode a damaged channel's object without the segments that are damaged.

    Raises:
        ChannelError: None is left, or it is a channel that only a later version of this project can serve.
    """
    stored = _decode_stored(data)
    segments = _segments(stored)
    return _channel(stored, list(_undamaged(segments, is_whole=_is_whole(stored, segments))))


def aware_time(text: str) -> datetime:
    """Return a time in UTC; ValueError if the text is not one with an offset."""
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"time {text!r} has no offset to UTC")
    return time.astimezone(UTC)


def _decode_stored(data: bytes) -> _Stored:
    try:
        stored = _decode(data)
        aware_time(stored.moved_at)
    except _BROKEN as error:
        raise ChannelError(f"is damaged: {_reason(error)}") from error
    return stored


def _segments(stored: _Stored) -> tuple[bytes, ...]:
    if stored.segments or not (stored.model_version and stored.manifest_sha256):
        return tuple(map(bytes, stored.segments))
    arm = Arm(stored.model_version, stored.manifest_sha256)
    return (msgspec.json.encode(Segment(BEGINNING, (arm,))),)


def _is_whole(stored: _Stored, segments: tuple[bytes, ...]) -> bool:
    return stored.segments_sha256 in (None, _digest(segments))


def _digest(segments: tuple[bytes, ...]) -> str:
    return sha256(b",".join(segments))


def _checked(data: bytes, *, is_whole: bool) -> Segment:
    """Decode a segment. `is_whole`: it has the bytes that were written, so that a foreign calibration is no damage."""
    try:
        segment = _decode_segment(data)
        segment.effective_from_s  # noqa: B018 - it is a time, or ValueError
    except _BROKEN as error:
        if is_whole and _has_foreign_calibration(data):
            raise _too_new() from error
        raise ChannelError(f"is damaged: {_reason(error)}") from error
    if not segment.arms:
        raise ChannelError("is damaged: a segment has no arm")
    if len(segment.arms) > 1 or segment.arm.buckets != ALL_BUCKETS:
        raise _too_new()
    return segment


def _too_new() -> ChannelError:
    return ChannelError("has arms or a calibration that this version of ridecast cannot serve", is_too_new=True)


def _has_foreign_calibration(data: bytes) -> bool:
    """Return whether nothing but its calibration's form keeps a segment from being decoded."""
    try:
        aware_time(_decode_foreign_segment(data).effective_from)
    except _BROKEN:
        return False
    return True


def _undamaged(segments: tuple[bytes, ...], *, is_whole: bool) -> Iterator[Segment]:
    for data in segments:
        try:
            yield _checked(data, is_whole=is_whole)
        except ChannelError as error:
            if error.is_too_new:
                raise


def _channel(stored: _Stored, segments: list[Segment]) -> Channel:
    if not segments:
        raise ChannelError("is damaged: it has no segment")
    starts = [segment.effective_from_s for segment in segments]
    if any(newer <= older for newer, older in pairwise(starts)):
        raise ChannelError("is damaged: its segments are not in order, newest first")
    withdrawn = stored.withdrawn and served_version(stored.withdrawn, stored.withdrawn_as_of)
    facts = {name: getattr(stored, name) for name in _FACTS}
    return Channel(segments=tuple(segments), withdrawn=withdrawn, **facts)


def _reason(error: Exception) -> str:
    """Return why bytes do not decode, without the bytes: they may be long, or not be text."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
