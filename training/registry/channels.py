"""Store bundles and move channels. Every move of a channel goes through this module; a rollback is a move too.

A promotion adds a segment that begins after the activation delay, so that every running function has read the channel
before a record belongs to it. A calibration adds a segment of the same model. A rollback puts a good version into the
newest segment, from the segment's own beginning: records that come again get the good version. Stopping the calibration
does so with the model alone.
"""

import getpass
import socket
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from lambda_function.core.bundle import MANIFEST, bundle_key, sha256
from lambda_function.core.calibration import (
    calibration_key,
    decode_calibration,
    served_version,
    split_version,
)
from lambda_function.core.channel import (
    ACTIVATION_DELAY_S,
    BEGINNING,
    MAX_SEGMENTS,
    Arm,
    CalibrationRef,
    Channel,
    Segment,
    aware_time,
    channel_key,
    encode_channel,
)
from lambda_function.errors import CalibrationError
from training.errors import BucketError, UserError, bucket_address
from training.model.bundle import ExportedBundle
from training.registry.bucket import Bucket
from training.registry.channel_history import (
    CALIBRATION,
    DamagedChannelError,
    LostChannelError,
    Moves,
    StoredChannel,
    Why,
    append_entry,
    has_entry,
    is_lost,
    last_entry,
    next_time,
    read_channel,
    read_moves,
    served_versions,
    time_text,
)
from training.registry.signing import Signer, check_signed, store_signature
from training.registry.versions import read_calibration, read_stored, read_verdict

FORCED_CHANNEL = "candidate"
"""The only channel that takes a version by force: nothing that matters follows it."""

KEPT_DAYS = 366
"""Segments that ended earlier are dropped: no stream retains a record longer than 365 days."""

MAX_CLOCK_DIFFERENCE_S = 30.0
"""The most that a mover's clock may differ from S3's, and that a move may take: the activation delay begins by the
mover's clock before the channel is written, and the default delay has a margin of 30 s."""


@dataclass(frozen=True, slots=True)
class Mover:
    """The name of the person or job that moves a channel, and an aware clock."""

    name: str
    clock: Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Moved:
    """A channel's state after a command, and whether that command moved it there."""

    channel: str
    now: Channel
    has_moved: bool


def this_mover() -> Mover:
    """Return the user of this process, as in ``ada@laptop``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name; Python's version decides which error it is
        user = "somebody"
    return Mover(f"{user}@{socket.gethostname()}", lambda: datetime.now(UTC))


def store_bundle(bucket: Bucket, bundle: ExportedBundle, signer: Signer | None = None) -> None:
    """Store the files that a bundle's manifest lists, and then the manifest. Objects that are there already stay.

    The manifest is last: so a version is visible only when it is complete, and signed if there is a signer.

    Raises:
        BucketError: The bucket holds other bytes or another key's signature under this version.
        UserError: KMS did not sign.
        KmsError: KMS did not check the signature that is there.
    """
    for name in bundle.model.manifest.files:
        _store_file(bucket, bundle, name)
    if signer:
        store_signature(bucket, bundle.model_version, bundle.files[MANIFEST], signer)
    _store_file(bucket, bundle, MANIFEST)


def _store_file(bucket: Bucket, bundle: ExportedBundle, name: str) -> None:
    key = bundle_key(bundle.model_version, name)
    if bucket.write_once(key, bundle.files[name]) != bundle.files[name]:
        raise BucketError(bucket.name, key, "holds other bytes already, and a bundle is never changed")


def move_channel(
    bucket: Bucket,
    channel: str,
    model_version: str,
    manifest_sha256: str,
    why: Why = "publish",
    mover: Mover | None = None,
    activation_delay_s: float = ACTIVATION_DELAY_S,
) -> Channel:
    """Let a stored version serve the records that arrive after the activation delay, unless somebody else moves too.

    An empty channel's first version serves all records. A channel whose newest version it is already does not move.

    Returns:
        The channel's state.

    Raises:
        BucketError: Somebody else moved it first.
        UserError: The channel is lost and has a history, this machine's clock is wrong, or the move took so long that
            functions may have read it too late; the channel has moved then.
    """
    arm = Arm(model_version, manifest_sha256)
    return _add_segment(bucket, read_channel(bucket, channel), arm, why, mover, activation_delay_s).now


def promote(
    bucket: Bucket,
    channel: str,
    model_version: str,
    *,
    force: bool = False,
    signer: Signer | None = None,
    mover: Mover | None = None,
    activation_delay_s: float = ACTIVATION_DELAY_S,
) -> Moved:
    """Add a segment for a version that passed the gate against the newest one, or that the channel has held before.

    `activation_delay_s` is the time that the functions which follow the channel may need to read it. `force` ignores
    the gate, for FORCED_CHANNEL only. With a signer, the version must have its key's signature: the key that the
    channel's functions trust. The default mover is `this_mover`.

    Raises:
        NoSuchVersionError: The bucket holds no such version.
        BundleError: The function would not serve the version.
        UserError: The channel takes nothing by force, there is no passing verdict against what it holds, it is lost,
            this machine's clock is wrong, or the move took so long that functions may have read it too late; the
            channel has moved then.
        BucketError: Somebody else moved it first, or the version does not have the key's signature.
        KmsError: KMS did not check the signature.
    """
    if force and channel != FORCED_CHANNEL:
        raise UserError(f"{channel} takes no version by force, only {FORCED_CHANNEL} does", "leave out --force")
    bundle = read_stored(bucket, model_version)
    stored = read_channel(bucket, channel)
    if not force:
        _check_gated(bucket, stored, model_version)
    if signer:
        check_signed(bucket, bundle, signer)
    why: Why = "force" if force else "promote"
    return _add_segment(bucket, stored, Arm(model_version, bundle.manifest_sha256), why, mover, activation_delay_s)


def rollback(
    bucket: Bucket, channel: str, version: str, *, signer: Signer | None = None, mover: Mover | None = None
) -> Moved:
    """Put a version that a channel has held before in place of the newest one. Do nothing if it is the newest.

    It serves from the beginning of the newest segment, as soon as the functions read the channel, with the calibration
    that it had in its newest earlier segment.

    `version` may be the beginning of exactly one such version, or the served version of an earlier segment, with its
    calibration's hour. It needs no verdict, because it has served. It may have served without a signature, so the
    signature is checked as in `promote`.

    Raises:
        UserError: The channel has held no such version, or several, or is lost.
        BundleError: The function would not serve the version.
        BucketError: Somebody else moved the channel first, or the version does not have the key's signature.
        KmsError: KMS did not check the signature.
    """
    stored = read_channel(bucket, channel)
    name, as_of = split_version(version)
    found = _held_version(bucket, stored, name)
    state = stored.state
    if state and (version == state.served_version or (as_of is None and found == state.model_version)):
        return Moved(channel, state, has_moved=False)
    bundle = read_stored(bucket, found)
    if signer:
        check_signed(bucket, bundle, signer)
    if state is None:
        raise LostChannelError(bucket, channel)
    newest, *older = state.segments
    calibration = _held_calibration(bucket, stored, found, as_of)
    good = Segment(newest.effective_from, (Arm(found, bundle.manifest_sha256),), calibration)
    return _move(bucket, stored, (good, *older), "rollback", mover or this_mover(), withdrawn=newest.served_version)


def calibrate_channel(
    bucket: Bucket,
    channel: str,
    calibration: bytes,
    *,
    mover: Mover | None = None,
    activation_delay_s: float = ACTIVATION_DELAY_S,
    resume: bool = False,
) -> Moved:
    """Store a calibration and add a segment with it for the model that a channel holds.

    The segment begins as one of `promote` does. `resume` ends the effect of `stop_calibration`. Do nothing if the
    newest segment has this calibration already.

    Raises:
        CalibrationError: The function would not serve the calibration.
        UserError: The channel holds another model, none or a later calibration, its calibration was stopped, or as in
            `promote`.
        BucketError: The bucket holds other bytes under the calibration's name, or somebody else moved the channel
            first.
    """
    decoded = decode_calibration(calibration)
    stored = read_channel(bucket, channel)
    state = stored.state
    if state is None or state.model_version != decoded.model_version:
        problem = f"{channel} holds {stored.model_version or 'nothing'}, and not {decoded.model_version}"
        raise UserError(f"{problem}, which was to be calibrated", "calibrate the model that it holds")
    if state.calibration_is_off and not resume:
        problem = f"the calibration of {channel} was stopped by {state.moved_by or 'somebody'} at {state.moved_at}"
        raise UserError(problem, "start it again with `ridecast models calibrate --resume`")
    newest = state.segments[0]
    if newest.calibration and newest.calibration.as_of > decoded.as_of:
        problem = f"{channel} holds {newest.served_version}, a later calibration than {decoded.as_of}"
        raise UserError(problem, "go back to an earlier one with `ridecast models rollback`")
    if state.withdrawn == served_version(decoded.model_version, decoded.as_of) and not resume:
        problem = (
            f"{state.withdrawn} was withdrawn from {channel} by {state.moved_by or 'somebody'} at {state.moved_at}"
        )
        raise UserError(
            problem, "calibrate with later rides, or use it again with `ridecast models calibrate --resume`"
        )
    key = calibration_key(decoded.model_version, decoded.as_of)
    if bucket.write_once(key, calibration) != calibration:
        raise BucketError(bucket.name, key, "holds other bytes already, and a calibration is never changed")
    reference = CalibrationRef(decoded.as_of, sha256(calibration))
    try:
        return _add_segment(bucket, stored, newest.arm, CALIBRATION, mover, activation_delay_s, reference)
    except BucketError:
        now = read_channel(bucket, channel).state
        if now is None or (now.segments[0].arm, now.segments[0].calibration) != (newest.arm, reference):
            raise
        return Moved(channel, now, has_moved=False)  # two calibrations at once, which have learned the same


def stop_calibration(bucket: Bucket, channel: str, mover: Mover | None = None) -> Moved:
    """Put a channel's model without its calibration in place of the newest segment.

    It serves from that segment's beginning, as soon as the functions read the channel. No calibration follows until the
    next promotion or rollback, or until `calibrate_channel` is called with `resume`.

    Raises:
        UserError: The channel holds nothing or is lost.
        BucketError: Somebody else moved the channel first.
    """
    stored = read_channel(bucket, channel)
    state = stored.state
    if state is None:
        if is_lost(bucket, stored):
            raise LostChannelError(bucket, channel)
        raise UserError(f"{channel} holds nothing, so it has no calibration", "release a model first")
    if state.calibration_is_off:
        return Moved(channel, state, has_moved=False)
    newest, *older = state.segments
    plain = Segment(newest.effective_from, newest.arms)
    withdrawn = newest.served_version if newest.calibration else None
    return _move(bucket, stored, (plain, *older), "calibration off", mover or this_mover(), withdrawn=withdrawn)


def restore(bucket: Bucket, channel: str, mover: Mover | None = None) -> Channel:
    """Write a damaged or lost channel again, as its latest history entry has it.

    Raises:
        UserError: The channel is not damaged, or has no history.
        BucketError: S3 failed, or a later version of this code wrote the channel.
    """
    try:
        stored = read_channel(bucket, channel)
    except DamagedChannelError as error:
        if error.is_too_new:
            raise
        stored = StoredChannel(channel, None, error.etag)
    if stored.state:
        hint = "`ridecast models rollback` goes back to an earlier version"
        raise UserError(f"{channel} is not damaged: it holds {stored.state.served_version}", hint)
    last = last_entry(bucket, channel)
    if last is None:
        hint = "release a model with `ridecast models release`"
        raise UserError(f"{channel} has no history in {bucket_address(bucket.name)}", hint)
    why: Why = "restore, calibration off" if last.calibration_is_off else "restore"
    mover = mover or this_mover()
    # What was withdrawn stays so: else the next scheduled calibration would bring it back.
    return _move(bucket, stored, last.segments, why, mover, withdrawn=last.withdrawn, after=last).now


def version_before(bucket: Bucket, channel: str) -> str:
    """Return the model version that a channel held before its newest one, without versions that were withdrawn.

    Raises:
        UserError: It held none, or is lost.
    """
    stored = read_channel(bucket, channel)
    if is_lost(bucket, stored):
        raise LostChannelError(bucket, channel)
    state = stored.state
    if state is None:
        raise UserError(f"{channel} holds nothing, so it cannot be rolled back", "promote a version instead")
    moves = read_moves(bucket, channel)
    held = [segment.model_version for segment in state.segments]
    held += [one.first.model_version for one in reversed(moves)]
    passed_over = {state.model_version, *_withdrawn_models(moves)}
    before = next((version for version in held if version not in passed_over), None)
    if before:
        return before
    problem = f"{channel} has held nothing before {state.model_version}, so it cannot be rolled back"
    calibrated = state.segments[0].calibration
    hint = "stop its calibration with `ridecast models calibrate --off`, or " if calibrated else ""
    raise UserError(problem, f"{hint}promote a version instead")


def _withdrawn_models(moves: Iterable[Moves]) -> set[str]:
    """Return the models that a rollback to another one has withdrawn, and to which the channel has not come back."""
    withdrawn: set[str] = set()
    for one in moves:
        withdrawn.discard(one.first.model_version)
        model_version, _ = split_version(one.first.withdrawn or one.first.model_version)
        if model_version != one.first.model_version:
            withdrawn.add(model_version)
    return withdrawn


def _held_calibration(
    bucket: Bucket, stored: StoredChannel, model_version: str, as_of: str | None
) -> CalibrationRef | None:
    """Return the calibration to roll back to: that of an hour, else of the model's newest earlier segment.

    None if the earlier segment has none, or if its object cannot serve: a rollback needs a model that does.

    Raises:
        UserError: No segment has the calibration of this hour.
        CalibrationError: Its object cannot serve.
    """
    older = stored.state.segments[1:] if stored.state else ()
    of_model = [segment.calibration for segment in older if segment.model_version == model_version]
    if as_of:
        of_model = [one for one in of_model if one and one.as_of == as_of]
        if not of_model:
            problem = f"{stored.channel} has no segment of {model_version} with the calibration of {as_of}"
            hint = f"`ridecast models history --all --channel {stored.channel} --bucket {bucket.name}` lists them"
            raise UserError(problem, hint)
    reference = of_model[0] if of_model else None
    if reference is None:
        return None
    try:
        read_calibration(bucket, model_version, reference.as_of, reference.sha256)
    except CalibrationError:
        if as_of:
            raise
        return None
    return reference


def _held_version(bucket: Bucket, stored: StoredChannel, name: str) -> str:
    held = served_versions(bucket, stored)
    found = [name] if name in held else sorted(one for one in held if name and one.startswith(name))
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{name!r} is the beginning of several versions: {', '.join(found)}", "give more of it")
    hint = f"`ridecast models history --channel {stored.channel} --bucket {bucket.name}` lists those that it has held"
    raise UserError(f"{stored.channel} has not held a version {name!r}", hint)


def _check_gated(bucket: Bucket, stored: StoredChannel, model_version: str) -> None:
    if model_version in served_versions(bucket, stored):
        return
    verdict = read_verdict(bucket, model_version, stored.channel)
    if verdict is None:
        problem = "has no verdict of the gate"
    elif verdict.against != stored.model_version:
        problem = f"was gated against {verdict.against or 'nothing'}"
    elif not verdict.passed:
        problem = "did not pass the gate"
    else:
        return
    raise not_gated(bucket, model_version, stored.channel, stored.model_version, problem)


def not_gated(bucket: Bucket, model_version: str, channel: str, champion: str | None, problem: str) -> UserError:
    """Return the error for a version without a passing verdict against the channel's champion."""
    return UserError(
        f"{model_version} may not go to {channel}, which holds {champion or 'nothing'}: it {problem}",
        f"run `ridecast models release {model_version} --judge-only --channel {channel} --bucket {bucket.name}`",
    )


def _add_segment(
    bucket: Bucket,
    stored: StoredChannel,
    arm: Arm,
    why: Why,
    mover: Mover | None,
    activation_delay_s: float,
    calibration: CalibrationRef | None = None,
) -> Moved:
    """Let an arm serve what arrives after the delay; all records, if it is the channel's first.

    Without a calibration, a channel that holds the arm does not move, whatever its calibration.
    """
    old = stored.state
    if old and old.segments[0].arm == arm and calibration in (None, old.segments[0].calibration):
        append_entry(bucket, stored.channel, old)
        return Moved(stored.channel, old, has_moved=False)
    if mover is None:
        _check_clock(stored)
        mover = this_mover()
    if old is None:
        # Unless somebody else has just made the first move: then this one is refused below.
        if served_versions(bucket, stored) and read_channel(bucket, stored.channel).state is None:
            raise LostChannelError(bucket, stored.channel)
        return _move(bucket, stored, (Segment(BEGINNING, (arm,)),), why, mover)
    earliest = aware_time(old.segments[0].effective_from) + timedelta(microseconds=1)
    started = mover.clock()
    begins = max(started + timedelta(seconds=activation_delay_s), earliest)
    moved = _move(bucket, stored, (Segment(time_text(begins), (arm,), calibration), *old.segments), why, mover)
    took_s = (mover.clock() - started).total_seconds()
    if took_s > MAX_CLOCK_DIFFERENCE_S:
        raise _late(moved, took_s)
    return moved


def _late(moved: Moved, took_s: float) -> UserError:
    """Return the error for a segment that may have begun before every running function had read the channel."""
    begins = moved.now.segments[0].effective_from
    return UserError(
        f"{moved.channel} was moved to {moved.now.served_version}, but that took {took_s:.0f} s: functions may have"
        f" read it after the new model's first ride, and predicted some with the old one",
        f"some minutes after {begins}, bring these rides again: `ridecast rides replay --from {begins} --stack STACK`",
    )


def _check_clock(stored: StoredChannel) -> None:
    if abs(stored.clock_ahead_s) > MAX_CLOCK_DIFFERENCE_S:
        side = "ahead of" if stored.clock_ahead_s > 0 else "behind"
        problem = f"this machine's clock is {abs(stored.clock_ahead_s):.0f} s {side} S3's"
        raise UserError(f"{problem}, so {stored.channel} was not moved", "set the clock, then repeat the command")


def _move(
    bucket: Bucket,
    stored: StoredChannel,
    segments: tuple[Segment, ...],
    why: Why,
    mover: Mover,
    *,
    withdrawn: str | None = None,
    after: Channel | None = None,
) -> Moved:
    """Replace the state that was read by one with these segments. `after` is the state before, if it was not read."""
    channel, old = stored.channel, stored.state
    if old:
        append_entry(bucket, channel, old)  # before it is replaced: see channel_history.py
    now = mover.clock()
    new = Channel(
        segments=_trim(segments, now),
        withdrawn=withdrawn,
        moved_at=next_time(now, old or after),
        moved_by=mover.name,
        why=why,
        move_id=uuid.uuid4().hex[:12],
    )
    _replace(bucket, stored, new)
    with suppress(BucketError):  # the channel has moved: the next reader of its history appends the entry
        append_entry(bucket, channel, new)
    return Moved(channel, new, has_moved=True)


def _trim(segments: tuple[Segment, ...], now: datetime) -> tuple[Segment, ...]:
    """Drop the segments that ended too long ago for any record, and those beyond the limit."""
    ended_before_s = (now - timedelta(days=KEPT_DAYS)).timestamp()
    kept = [old for newer, old in pairwise(segments) if newer.effective_from_s >= ended_before_s]
    return (segments[0], *kept)[:MAX_SEGMENTS]


def _replace(bucket: Bucket, stored: StoredChannel, new: Channel) -> None:
    """Write a channel's object if it still is what was read.

    A write may arrive although it seems to fail, and somebody else may then move the channel on. So what counts is
    whether the channel is or was in the new state, and not the answer.
    """
    key = channel_key(stored.channel)
    failure = None
    try:
        if bucket.replace(key, encode_channel(new), stored.etag):
            return
    except BucketError as error:
        failure = error
    now = read_channel(bucket, stored.channel).state
    if now == new or has_entry(bucket, stored.channel, new):
        return
    if failure:
        raise failure
    winner = now.served_version if now else "nothing"
    by = f" by {now.moved_by}" if now and now.moved_by else ""
    problem = f"was moved to {winner} meanwhile{by}: check that move, then repeat the command"
    raise BucketError(bucket.name, key, problem)
