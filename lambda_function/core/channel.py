"""A channel: which model serves a record, by the time at which the record arrived.

A channel is a list of segments, newest first. A record belongs to the newest segment that begins no later than the
record's arrival, and the oldest segment also serves everything before it. A segment has one arm, or two in a split:
then the ride's id decides. So the model depends on the record and the channel alone, however often and wherever the
record is processed. A segment may name a calibration of its model, and in a split one of each arm's.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cached_property
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import msgspec

from lambda_function.core.bundle import sha256
from lambda_function.core.calibration import AsOf, ServedVersion, served_version, split_version
from lambda_function.core.versions import Sha256, Version
from lambda_function.errors import ChannelError

BEGINNING = "1970-01-01T00:00:00Z"
"""The beginning of a channel's first segment: no record is older."""

N_BUCKETS = 10_000

ALL_BUCKETS = (0, N_BUCKETS)
"""The buckets of an arm that gets every ride."""

ACTIVATION_DELAY_S = 150.0
"""Seconds from a promotion to the first arrival that its model serves: two refreshes of a minute, and a margin. Until
then every running function has read the channel."""

MAX_SEGMENTS = 1000
"""The most segments of a channel, where one of a split counts twice: about 350 kB. The function reads 524 kB."""


CALIBRATION_OFF = (
    "calibration off",
    "restore, calibration off",
    "split, calibration off",
    "split ended, calibration off",
)
"""The kinds of moves after which no calibration follows by itself."""


def bucket_of(salt: str, ride_id: str | int) -> int:
    """Return the bucket of a ride, 0 to 9,999, by its id as text: 256 and "256" are the same ride.

    >>> bucket_of("a", 256), bucket_of("a", "256"), bucket_of("b", 256)
    (8269, 8269, 7071)
    """
    (bucket,) = buckets_of(salt, [ride_id])
    return bucket


def buckets_of(salt: str, ride_ids: Iterable[str | int]) -> list[int]:
    """Return the bucket of each ride (n,): BLAKE2b of salt and id with a digest of 8 bytes, modulo 10,000."""
    salted = blake2b(salt.encode(), digest_size=8)
    buckets = []
    for ride_id in ride_ids:
        digest = salted.copy()
        digest.update(str(ride_id).encode())
        buckets.append(int.from_bytes(digest.digest(), "big") % N_BUCKETS)
    return buckets


class CalibrationRef(msgspec.Struct, frozen=True):
    """The calibration of a segment's model: its hour, which its key has, and the digest of its object."""

    as_of: AsOf
    sha256: Sha256


def _all_buckets() -> tuple[int, int]:
    return ALL_BUCKETS


def _no_calibration() -> None:
    return None


class Arm(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model of a segment and the half-open range of buckets that it serves.

    Only an arm of a split has its `calibration` here; that of a single arm is its segment's.
    """

    model_version: Version
    manifest_sha256: Sha256
    # A factory's value is never omitted: so a single arm has the same JSON as before there were splits.
    buckets: tuple[int, int] = msgspec.field(default_factory=_all_buckets)
    calibration: CalibrationRef | None = None


class Segment(msgspec.Struct, frozen=True, dict=True, omit_defaults=True):
    """The arms that serve records from a time on: the champion's, and in a split also the candidate's.

    Attributes:
        effective_from: ISO 8601 in UTC.
        arms: One with all buckets; or the champion's with the buckets from k on, and the candidate's with those below.
        calibration: Of the single arm.
        salt: Of a split: with another one, rides have other buckets.
    """

    effective_from: str
    arms: tuple[Arm, ...]
    calibration: CalibrationRef | None = msgspec.field(default_factory=_no_calibration)
    salt: str = ""

    @cached_property
    def effective_from_s(self) -> float:
        """The beginning in seconds since the epoch."""
        return aware_time(self.effective_from).timestamp()

    @property
    def arm(self) -> Arm:
        """The champion's arm: the only one without a split."""
        return self.arms[0]

    @property
    def candidate(self) -> Arm | None:
        """The candidate's arm; None without a split."""
        return self.arms[1] if len(self.arms) > 1 else None

    @property
    def model_version(self) -> str:
        """The champion's model version."""
        return self.arm.model_version

    @property
    def as_of(self) -> str | None:
        """The hour of the champion's calibration; None without one."""
        calibration = self.calibration_of(self.arm)
        return calibration.as_of if calibration else None

    @property
    def served_version(self) -> str:
        """The version that the champion's predictions name: the model version, with its calibration's hour if any."""
        return self.served_version_of_arm(self.arm)

    @property
    def candidate_version(self) -> str | None:
        """The version that the candidate's predictions name; None without a split."""
        return self.served_version_of_arm(self.candidate) if self.candidate else None

    @property
    def candidate_share(self) -> float | None:
        """The share of rides that the candidate serves; None without a split."""
        return self.candidate.buckets[1] / N_BUCKETS if self.candidate else None

    @property
    def text(self) -> str:
        """The served version for people; in a split also the candidate's and its share."""
        if self.candidate_share is None:
            return self.served_version
        return f"{self.served_version}, and {self.candidate_version} for {100 * self.candidate_share:g}% of the rides"

    @property
    def served_versions(self) -> tuple[str, ...]:
        """The served version of each arm."""
        return tuple(map(self.served_version_of_arm, self.arms))

    def calibration_of(self, arm: Arm) -> CalibrationRef | None:
        """Return the calibration of one of the segment's arms."""
        return arm.calibration if len(self.arms) > 1 else self.calibration

    def served_version_of_arm(self, arm: Arm) -> str:
        """Return the version that an arm's predictions name."""
        calibration = self.calibration_of(arm)
        return served_version(arm.model_version, calibration.as_of if calibration else None)

    def arm_of(self, ride_id: str | int) -> Arm:
        """Return the arm that serves a ride."""
        if len(self.arms) == 1:
            return self.arms[0]
        champion, candidate = self.arms
        return candidate if bucket_of(self.salt, ride_id) < candidate.buckets[1] else champion

    def served_version_of(self, ride_id: str | int) -> str:
        """Return the version that a ride's prediction names."""
        return self.served_version_of_arm(self.arm_of(ride_id))


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """A channel's state as a mover writes it: the segments, and how it came to them. The function reads the first part.

    Attributes:
        segments: Newest first, at least one.
        withdrawn: The version that this move took out of segments which may have served; None if it took none out. A
            model version without an hour stands for the model with all its calibrations, unless the newest segment
            has that model. A restore keeps that of the state which it writes again.
        also_withdrawn: The other versions that the move took out: the other arm's of a split.
        withdrawn_from: The beginning of the oldest segment that they were taken out of, ISO 8601 in UTC; None if that
            is the newest segment.
        moved_at: ISO 8601 in UTC.
        moved_by: A person or a job, as in ``ada@laptop``.
        why: The kind of move.
        move_id: Random: two movers never write the same bytes, so a mover whose answer was lost can distinguish its own
            move from another's.
    """

    segments: tuple[Segment, ...]
    withdrawn: ServedVersion | None = None
    also_withdrawn: tuple[ServedVersion, ...] = ()
    withdrawn_from: str | None = None
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
    def all_withdrawn(self) -> tuple[str, ...]:
        """The versions that this move took out, as the fields have them."""
        return (self.withdrawn, *self.also_withdrawn) if self.withdrawn else ()

    @property
    def withdrawn_since(self) -> str:
        """The beginning of the oldest segment that this move took something out of, if it did."""
        return self.withdrawn_from or self.segments[0].effective_from

    def has_withdrawn(self, version: str) -> bool:
        """Return whether this move took a served version out."""
        model_version, _ = split_version(version)
        is_whole_model = model_version != self.model_version and model_version in self.all_withdrawn
        return is_whole_model or version in self.all_withdrawn

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
    also_withdrawn: tuple[ServedVersion, ...] = ()
    withdrawn_from: str | None = None
    moved_at: str
    moved_by: str | None = None
    why: str | None = None
    move_id: str | None = None


_NO_JSON = msgspec.Raw()


class _ForeignArm(msgspec.Struct, frozen=True):
    """An arm with a calibration of any form."""

    model_version: Version
    manifest_sha256: Sha256
    buckets: tuple[int, int]
    calibration: msgspec.Raw = _NO_JSON


class _ForeignSegment(msgspec.Struct, frozen=True):
    """A segment with calibrations of any form."""

    effective_from: str
    arms: tuple[_ForeignArm, ...]
    calibration: msgspec.Raw = _NO_JSON


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


def withdrawn_facts(channel: Channel) -> dict[str, Any]:
    """Return what was withdrawn as a channel's object has it: the calibration's hour is a field of its own."""
    if channel.withdrawn is None:
        return {}
    model_version, as_of = split_version(channel.withdrawn)
    more = {
        "withdrawn_as_of": as_of,
        "also_withdrawn": channel.also_withdrawn,
        "withdrawn_from": channel.withdrawn_from,
    }
    return {"withdrawn": model_version, **{name: value for name, value in more.items() if value}}


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
        aware_time(stored.withdrawn_from or stored.moved_at)
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
    if not (_is_whole_arm(segment) or _is_split(segment)):
        raise _too_new()
    return segment


def _is_whole_arm(segment: Segment) -> bool:
    """Return whether one arm serves every ride of a segment."""
    return len(segment.arms) == 1 and segment.arm.buckets == ALL_BUCKETS and segment.arm.calibration is None


def _is_split(segment: Segment) -> bool:
    """Return whether a segment's two arms serve every ride, the candidate's those from bucket 0 on."""
    if len(segment.arms) != 2 or segment.calibration:  # noqa: PLR2004 - champion and candidate
        return False
    champion, candidate = segment.arms
    n_buckets = candidate.buckets[1]
    is_all = (candidate.buckets, champion.buckets) == ((0, n_buckets), (n_buckets, N_BUCKETS))
    return is_all and 0 < n_buckets < N_BUCKETS and champion.model_version != candidate.model_version


def _too_new() -> ChannelError:
    return ChannelError("has arms or a calibration that this version of ridecast cannot serve", is_too_new=True)


def _has_foreign_calibration(data: bytes) -> bool:
    """Return whether nothing but the form of its calibrations keeps a segment from being decoded."""
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
    return Channel(
        segments=tuple(segments),
        withdrawn=withdrawn,
        also_withdrawn=stored.also_withdrawn,
        withdrawn_from=stored.withdrawn_from,
        **facts,
    )


def _reason(error: Exception) -> str:
    """Return why bytes do not decode, without the bytes: they may be long, or not be text."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
