"""Store bundles and move channels. Every move of a channel goes through this module; a rollback is a move too.

A promotion adds a segment that begins after the activation delay, so that every running function has read the channel
before a record belongs to it. So do a calibration of the same model, a split, and its end. A rollback puts a good
version into the bad one's segments, from their own beginning: records that come again get the good version. Stopping
the calibration does so with the model alone.
"""

import getpass
import socket
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec

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
    N_BUCKETS,
    CalibrationRef,
    Channel,
    Segment,
    aware_time,
    channel_key,
    encode_channel,
)
from lambda_function.errors import CalibrationError
from training.errors import BucketError, UserError, bucket_address, did_you_mean
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
    came_in_at_s,
    has_entry,
    is_lost,
    last_entry,
    next_time,
    read_channel,
    read_moves,
    served_versions,
    time_text,
)
from training.registry.segments import (
    NextState,
    Target,
    alone,
    serve_the_same,
    split,
    take_out,
    target_of,
    trimmed,
    with_calibrations,
)
from training.registry.signing import Signer, check_signed, store_signature
from training.registry.versions import read_calibration, read_channels, read_stored, read_verdict

FORCED_CHANNEL = "candidate"
"""The only channel that takes a version by force: nothing that matters follows it."""

MAX_SALT_BYTES = 100
"""Each segment of a split has the salt, and the function reads no channel that is too large."""

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
    target = Target(model_version, manifest_sha256)
    return _add_segment(bucket, read_channel(bucket, channel), target, why, mover, activation_delay_s).now


def promote(
    bucket: Bucket,
    channel: str | StoredChannel,
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
    channel's functions trust. The default mover is `this_mover`. A split ends: an arm's version keeps its calibration.
    `channel` is a name, or the channel as the caller has read and judged it: then the move is refused if somebody has
    moved it since.

    Raises:
        NoSuchVersionError: The bucket holds no such version.
        BundleError: The function would not serve the version.
        UserError: The channel takes nothing by force, there is no passing verdict against what it holds, it is lost,
            this machine's clock is wrong, or the move took so long that functions may have read it too late; the
            channel has moved then.
        BucketError: Somebody else moved it first, or the version does not have the key's signature.
        KmsError: KMS did not check the signature.
    """
    name = channel.channel if isinstance(channel, StoredChannel) else channel
    if force and name != FORCED_CHANNEL:
        raise UserError(f"{name} takes no version by force, only {FORCED_CHANNEL} does", "leave out --force")
    bundle = read_stored(bucket, model_version)
    stored = _read(bucket, channel)
    if not force:
        _check_gated(bucket, stored, model_version)
    if signer:
        check_signed(bucket, bundle, signer)
    why: Why = "force" if force else "promote"
    target = Target(model_version, bundle.manifest_sha256)
    return _add_segment(bucket, stored, target, why, mover, activation_delay_s)


def split_channel(  # noqa: PLR0913 - what `promote` takes, and the split's share and salt
    bucket: Bucket,
    channel: str,
    candidate: str,
    share: float,
    salt: str,
    *,
    signer: Signer | None = None,
    mover: Mover | None = None,
    activation_delay_s: float = ACTIVATION_DELAY_S,
) -> Moved:
    """Let a candidate serve a share of the rides beside the channel's model, or a larger share than before.

    The segment begins as one of `promote` does, and the candidate needs what a version needs there. A ride's bucket
    depends on the salt and its id: so a ride that the candidate serves stays with it while the share grows. Do nothing
    if the candidate has this share already.

    Args:
        bucket: The stack's bucket.
        channel: Its newest version is the champion.
        candidate: A stored version.
        share: Of the rides, in steps of 1/10,000, above 0 and below 1.
        salt: The experiment's. It stays the same while the share grows.
        signer: As in `promote`.
        mover: As in `promote`.
        activation_delay_s: As in `promote`.

    Raises:
        NoSuchVersionError: The bucket holds no such version.
        BundleError: The function would not serve the version.
        UserError: The channel holds nothing or the candidate, is split with another version or salt, or has a larger
            share of this one, or as in `promote`.
        BucketError: As in `promote`.
        KmsError: KMS did not check the signature.
    """
    n_buckets = round(share * N_BUCKETS)
    if not 0 < n_buckets < N_BUCKETS:
        raise UserError(f"a share of {share:g} is not between 0.0001 and 0.9999", "promote a version for all rides")
    if len(salt.encode()) > MAX_SALT_BYTES:
        raise UserError(f"a salt of {len(salt.encode()):,} bytes is too long", f"use at most {MAX_SALT_BYTES}")
    bundle = read_stored(bucket, candidate)
    stored = read_channel(bucket, channel)
    state = _state_of(bucket, stored, "cannot be split")
    newest = state.segments[0]
    if newest.model_version == candidate:
        raise UserError(f"{channel} holds {candidate} already", "split it with another version")
    if newest.candidate:
        _check_grows(channel, newest, candidate, n_buckets, salt)
    _check_gated(bucket, stored, candidate)
    if signer:
        check_signed(bucket, bundle, signer)
    target = target_of(newest, candidate) or Target(candidate, bundle.manifest_sha256)
    why: Why = "split, calibration off" if state.calibration_is_off else "split"
    return _add(bucket, stored, split(newest, target, n_buckets, salt), why, mover, activation_delay_s)


def _check_grows(channel: str, newest: Segment, candidate: str, n_buckets: int, salt: str) -> None:
    """Check that a split goes on from the newest segment's."""
    arm = newest.candidate
    assert arm is not None  # noqa: S101 - it is a split
    if (arm.model_version, newest.salt) != (candidate, salt):
        problem = f"{channel} is split between {newest.model_version} and {arm.model_version} already"
        raise UserError(problem, "end that split before another begins")
    if n_buckets < arm.buckets[1]:
        problem = (
            f"{candidate} serves {arm.buckets[1] / N_BUCKETS:.2%} of the rides of {channel}, and a share only grows"
        )
        raise UserError(problem, "end the split, and begin another with a new salt")


def end_split(
    bucket: Bucket,
    channel: str,
    *,
    mover: Mover | None = None,
    activation_delay_s: float = ACTIVATION_DELAY_S,
) -> Moved:
    """Let a channel's champion serve all rides again that arrive after the activation delay.

    Its calibration stays. Do nothing if the channel is not split. `rollback` to the champion acts at once instead, and
    on the rides that the candidate has served.

    Raises:
        UserError: The channel holds nothing or is lost, or as in `promote`.
        BucketError: Somebody else moved the channel first.
    """
    stored = read_channel(bucket, channel)
    state = _state_of(bucket, stored, "has no split")
    champion = target_of(state.segments[0], state.model_version)
    assert champion is not None  # noqa: S101 - the newest segment has it
    why: Why = "split ended, calibration off" if state.calibration_is_off else "split ended"
    return _add(bucket, stored, alone(BEGINNING, champion), why, mover, activation_delay_s)


def rollback(
    bucket: Bucket,
    channel: str | StoredChannel,
    version: str,
    *,
    signer: Signer | None = None,
    mover: Mover | None = None,
) -> Moved:
    """Put a version that a channel has held before in place of the newest one. Do nothing if it is the newest.

    It serves as soon as the functions read the channel, from the beginning of the segment with which the bad model came
    in, and with the calibration that it had in its newest earlier segment. The bad model's calibrations go too, and its
    arms in the split before: `segments.take_out` says what becomes of that. A rollback of a split channel to its
    champion takes the candidate out.

    Back to an earlier calibration of the same model, it replaces the newest segment only: the others are good.

    `version` may be the beginning of exactly one such version, or the served version of an earlier segment, with its
    calibration's hour. It needs no verdict, because it has served. It may have served without a signature, so the
    signature is checked as in `promote`. `channel` is as there.

    Raises:
        UserError: The channel has held no such version, or several, or is lost.
        BundleError: The function would not serve the version.
        BucketError: Somebody else moved the channel first, or the version does not have the key's signature.
        KmsError: KMS did not check the signature.
    """
    stored = _read(bucket, channel)
    channel = stored.channel
    name, as_of = split_version(version)
    found = _held_version(bucket, stored, name)
    state = stored.state
    if state and _is_newest(state, found, as_of):
        return Moved(channel, state, has_moved=False)
    bundle = read_stored(bucket, found)
    if signer:
        check_signed(bucket, bundle, signer)
    if state is None:
        raise LostChannelError(bucket, channel)
    newest = target_of(state.segments[0], found)
    calibration = newest.calibration if newest and not as_of else _held_calibration(bucket, stored, found, as_of)
    good = Target(found, bundle.manifest_sha256, calibration)
    if found == state.model_version:
        back = _back_to_calibration(state, good)
    else:
        back = take_out(state.segments, state.model_version, good, came_in_at_s(bucket, stored))
    return _move(bucket, stored, back, "rollback", mover or this_mover())


def _is_newest(state: Channel, model_version: str, as_of: str | None) -> bool:
    """Return whether a channel serves all rides by a version already; without an hour, by a model."""
    if state.segments[0].candidate:
        return False
    return (model_version, as_of or state.segments[0].as_of) == (state.model_version, state.segments[0].as_of)


def _back_to_calibration(state: Channel, good: Target) -> NextState:
    """Return the segments of a rollback of a split to its champion, to an earlier calibration of it, or both."""
    newest = state.segments[0]
    back = NextState(state.segments, withdrawn_from=newest.effective_from)
    if newest.candidate:
        back = take_out(state.segments, newest.candidate.model_version, good)
    if newest.calibration_of(newest.arm) == good.calibration:
        return back
    first, *older = back.segments
    older = older if first.effective_from == newest.effective_from else [first, *older]
    served = alone(newest.effective_from, good)
    return back._replace(segments=(served, *older), withdrawn=(newest.served_version, *back.withdrawn))


def _read(bucket: Bucket, channel: str | StoredChannel) -> StoredChannel:
    return channel if isinstance(channel, StoredChannel) else read_channel(bucket, channel)


def calibrate_channel(
    bucket: Bucket,
    channel: str,
    *calibrations: bytes,
    mover: Mover | None = None,
    activation_delay_s: float = ACTIVATION_DELAY_S,
    resume: bool = False,
) -> Moved:
    """Store calibrations and add a segment with them for the model that a channel holds; in a split for either arm.

    The segment begins as one of `promote` does. An arm without a new calibration keeps its own. `resume` ends the
    effect of `stop_calibration`. Do nothing if the newest segment has these calibrations already.

    Raises:
        CalibrationError: The function would not serve a calibration.
        UserError: The channel holds another model, none or a later calibration, its calibration was stopped, or as in
            `promote`.
        BucketError: The bucket holds other bytes under a calibration's name, or somebody else moved the channel
            first.
    """
    decoded = {one.model_version: (one.as_of, data) for data in calibrations for one in (decode_calibration(data),)}
    stored = read_channel(bucket, channel)
    state = stored.state
    for model_version, (as_of, _) in decoded.items():
        _check_follows(stored, model_version, as_of, resume=resume)
    assert state is not None  # noqa: S101 - as was checked
    references: dict[str, CalibrationRef | None] = {}
    for model_version, (as_of, data) in decoded.items():
        key = calibration_key(model_version, as_of)
        if bucket.write_once(key, data) != data:
            raise BucketError(bucket.name, key, "holds other bytes already, and a calibration is never changed")
        references[model_version] = CalibrationRef(as_of, sha256(data))
    new = with_calibrations(state.segments[0], references)
    try:
        return _add(bucket, stored, new, CALIBRATION, mover, activation_delay_s)
    except BucketError:
        now = read_channel(bucket, channel).state
        if now is None or not serve_the_same(now.segments[0], new):
            raise
        return Moved(channel, now, has_moved=False)  # two calibrations at once, which have learned the same


def _check_follows(stored: StoredChannel, model_version: str, as_of: str, *, resume: bool) -> None:
    """Check that a channel may move to a calibration from what it holds."""
    channel, state = stored.channel, stored.state
    held = target_of(state.segments[0], model_version) if state else None
    if state is None or held is None:
        problem = f"{channel} holds {stored.model_version or 'nothing'}, and not {model_version}"
        raise UserError(f"{problem}, which was to be calibrated", "calibrate the model that it holds")
    if state.calibration_is_off and not resume:
        problem = f"the calibration of {channel} was stopped by {state.moved_by or 'somebody'} at {state.moved_at}"
        raise UserError(problem, "start it again with `ridecast models calibrate --resume`")
    if held.calibration and held.calibration.as_of > as_of:
        served = served_version(model_version, held.calibration.as_of)
        problem = f"{channel} holds {served}, a later calibration than {as_of}"
        raise UserError(problem, "go back to an earlier one with `ridecast models rollback`")
    served = served_version(model_version, as_of)
    if state.has_withdrawn(served) and not resume:
        problem = f"{served} was withdrawn from {channel} by {state.moved_by or 'somebody'} at {state.moved_at}"
        raise UserError(
            problem, "calibrate with later rides, or use it again with `ridecast models calibrate --resume`"
        )


def stop_calibration(bucket: Bucket, channel: str, mover: Mover | None = None) -> Moved:
    """Put a channel's model, in a split both, without calibration in place of the newest segment.

    It serves from that segment's beginning, as soon as the functions read the channel. No calibration follows until the
    next promotion or rollback, or until `calibrate_channel` is called with `resume`.

    Raises:
        UserError: The channel holds nothing or is lost.
        BucketError: Somebody else moved the channel first.
    """
    stored = read_channel(bucket, channel)
    state = _state_of(bucket, stored, "has no calibration")
    if state.calibration_is_off:
        return Moved(channel, state, has_moved=False)
    newest, *older = state.segments
    plain = with_calibrations(newest, dict.fromkeys(arm.model_version for arm in newest.arms))
    versions = tuple(version for version in newest.served_versions if "+" in version)
    plain_state = NextState((plain, *older), versions, newest.effective_from)
    return _move(bucket, stored, plain_state, "calibration off", mover or this_mover())


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
    again = NextState(last.segments, last.all_withdrawn, last.withdrawn_from)
    return _move(bucket, stored, again, why, mover, after=last).now


def version_before(bucket: Bucket, channel: str) -> str:
    """Return the model version that a channel held before its newest one, without versions that were withdrawn.

    That of a split is its champion.

    Raises:
        UserError: It held none, or is lost.
    """
    stored = read_channel(bucket, channel)
    state = _state_of(bucket, stored, "cannot be rolled back")
    if state.segments[0].candidate:
        return state.model_version
    moves = read_moves(bucket, channel)
    held = [segment.model_version for segment in state.segments]
    held += [one.first.model_version for one in reversed(moves)]
    passed_over = {state.model_version, *_withdrawn_models(moves)}
    before = next((version for version in held if version not in passed_over), None)
    if before:
        return before
    problem = f"{channel} has held nothing before {state.model_version}, so it cannot be rolled back"
    calibrated = state.segments[0].as_of
    hint = "stop its calibration with `ridecast models calibrate --off`, or " if calibrated else ""
    raise UserError(problem, f"{hint}promote a version instead")


def _state_of(bucket: Bucket, stored: StoredChannel, so_it: str) -> Channel:
    """Return a channel's state; `so_it` ends the sentence of the error for one that holds nothing."""
    if stored.state:
        return stored.state
    if is_lost(bucket, stored):
        raise LostChannelError(bucket, stored.channel)
    hint = did_you_mean(stored.channel, read_channels(bucket)) or "release a model first"
    raise UserError(f"{stored.channel} holds nothing, so it {so_it}", hint)


def _withdrawn_models(moves: Iterable[Moves]) -> set[str]:
    """Return the models that a rollback to another one has withdrawn, and to which the channel has not come back."""
    withdrawn: set[str] = set()
    for one in moves:
        models = {split_version(version)[0] for version in one.first.all_withdrawn}
        withdrawn = (withdrawn | models) - {one.first.model_version}
    return withdrawn


def _held_calibration(
    bucket: Bucket, stored: StoredChannel, model_version: str, as_of: str | None
) -> CalibrationRef | None:
    """Return the calibration to roll back to: that of an hour, else of the newest segment that has the model.

    None if the segment has none, or if its object cannot serve: a rollback needs a model that does.

    Raises:
        UserError: No segment has the calibration of this hour.
        CalibrationError: Its object cannot serve.
    """
    segments = stored.state.segments if stored.state else ()
    of_model = [one.calibration for segment in segments if (one := target_of(segment, model_version))]
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
    bucket: Bucket, stored: StoredChannel, target: Target, why: Why, mover: Mover | None, activation_delay_s: float
) -> Moved:
    """Let a model serve all that arrives after the delay. One that the newest segment has keeps its calibration."""
    held = target_of(stored.state.segments[0], target.model_version) if stored.state else None
    if held and held.manifest_sha256 == target.manifest_sha256:
        target = held
    return _add(bucket, stored, alone(BEGINNING, target), why, mover, activation_delay_s)


def _add(
    bucket: Bucket, stored: StoredChannel, segment: Segment, why: Why, mover: Mover | None, activation_delay_s: float
) -> Moved:
    """Let a segment serve what arrives after the delay, whatever its beginning; all records, if it is the first.

    A channel whose newest segment serves the same does not move.
    """
    old = stored.state
    if old and serve_the_same(old.segments[0], segment):
        append_entry(bucket, stored.channel, old)
        return Moved(stored.channel, old, has_moved=False)
    if mover is None:
        _check_clock(stored)
        mover = this_mover()
    if old is None:
        # Unless somebody else has just made the first move: then this one is refused below.
        if served_versions(bucket, stored) and read_channel(bucket, stored.channel).state is None:
            raise LostChannelError(bucket, stored.channel)
        return _move(bucket, stored, NextState((segment,)), why, mover)
    earliest = aware_time(old.segments[0].effective_from) + timedelta(microseconds=1)
    started = mover.clock()
    begins = max(started + timedelta(seconds=activation_delay_s), earliest)
    new = msgspec.structs.replace(segment, effective_from=time_text(begins))
    moved = _move(bucket, stored, NextState((new, *old.segments)), why, mover)
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
    next_state: NextState,
    why: Why,
    mover: Mover,
    *,
    after: Channel | None = None,
) -> Moved:
    """Replace the state that was read by the next one. `after` is the state before, if it was not read."""
    channel, old = stored.channel, stored.state
    if old:
        append_entry(bucket, channel, old)  # before it is replaced: see channel_history.py
    now = mover.clock()
    segments, withdrawn, from_ = next_state
    new = Channel(
        segments=trimmed(segments, now),
        withdrawn=withdrawn[0] if withdrawn else None,
        also_withdrawn=withdrawn[1:],
        withdrawn_from=None if from_ == segments[0].effective_from else from_,
        moved_at=next_time(now, old or after),
        moved_by=mover.name,
        why=why,
        move_id=uuid.uuid4().hex[:12],
    )
    _replace(bucket, stored, new)
    with suppress(BucketError):  # the channel has moved: the next reader of its history appends the entry
        append_entry(bucket, channel, new)
    return Moved(channel, new, has_moved=True)


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
