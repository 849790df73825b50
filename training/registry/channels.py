"""Store bundles and move channels. Every move of a channel goes through this module; a rollback is a move too."""

import getpass
import socket
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from lambda_function.core.bundle import MANIFEST, bundle_key, channel_key
from training.errors import BucketError, UserError
from training.model.bundle import ExportedBundle
from training.registry.bucket import Bucket
from training.registry.channel_history import (
    Move,
    StoredChannel,
    Why,
    append_entry,
    has_entry,
    next_time,
    read_channel,
    served_versions,
)
from training.registry.signing import Signer, check_signed, store_signature
from training.registry.versions import read_stored, read_verdict

FORCED_CHANNEL = "candidate"
"""The only channel that takes a version by force: nothing that matters follows it."""


@dataclass(frozen=True, slots=True)
class Mover:
    """The name of the person or job that moves a channel, and an aware clock."""

    name: str
    clock: Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Moved:
    """A channel's state after a command, and whether that command moved it there."""

    channel: str
    now: Move
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
) -> Move:
    """Point a channel at a stored version, unless somebody else moves it at the same time.

    Returns:
        The channel's state: `previous` is the version before. A channel that points at the version already does not
        move, so its `previous` stays.

    Raises:
        BucketError: Somebody else moved it first.
    """
    return _move(bucket, read_channel(bucket, channel), (model_version, manifest_sha256), why, mover).now


def promote(
    bucket: Bucket,
    channel: str,
    model_version: str,
    *,
    force: bool = False,
    signer: Signer | None = None,
    mover: Mover | None = None,
) -> Moved:
    """Point a channel at a version that passed the gate against what the channel holds, or that it has held before.

    `force` ignores the gate, for FORCED_CHANNEL only. With a signer, the version must have its key's signature: the key
    that the channel's functions trust. The default mover is `this_mover`.

    Raises:
        NoSuchVersionError: The bucket holds no such version.
        BundleError: The function would not serve the version.
        UserError: The channel takes nothing by force, or there is no passing verdict against what it holds.
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
    return _move(bucket, stored, (model_version, bundle.manifest_sha256), why, mover)


def rollback(
    bucket: Bucket, channel: str, version: str, *, signer: Signer | None = None, mover: Mover | None = None
) -> Moved:
    """Point a channel at a version that it has held before. Do nothing if the channel points at it already.

    `version` may be the beginning of exactly one such version. It needs no verdict, because it has served. It may have
    served without a signature, so the signature is checked as in `promote`.

    Raises:
        UserError: The channel has held no such version, or several.
        BundleError: The function would not serve the version.
        BucketError: Somebody else moved the channel first, or the version does not have the key's signature.
        KmsError: KMS did not check the signature.
    """
    stored = read_channel(bucket, channel)
    found = _held_version(bucket, stored, version)
    if stored.state and found == stored.model_version:
        return Moved(channel, stored.state, has_moved=False)
    bundle = read_stored(bucket, found)
    if signer:
        check_signed(bucket, bundle, signer)
    return _move(bucket, stored, (found, bundle.manifest_sha256), "rollback", mover)


def version_before(bucket: Bucket, channel: str) -> str:
    """Return the version that a channel held before its present one.

    Raises:
        UserError: It held none.
    """
    state = read_channel(bucket, channel).state
    if state and state.previous:
        return state.previous
    held = f"has held nothing before {state.model_version}" if state else "holds nothing"
    raise UserError(f"{channel} {held}, so it cannot be rolled back", "promote a version instead")


def _held_version(bucket: Bucket, stored: StoredChannel, name: str) -> str:
    held = served_versions(bucket, stored)
    if stored.state and stored.state.previous:  # the history of an old channel may lack it
        held |= {stored.state.previous}
    found = [name] if name in held else sorted(version for version in held if version.startswith(name))
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


def _move(bucket: Bucket, stored: StoredChannel, target: tuple[str, str], why: Why, mover: Mover | None) -> Moved:
    """Replace the state that was read by one that points at the target: a version and its manifest's SHA-256."""
    channel, old = stored.channel, stored.state
    if old:
        append_entry(bucket, channel, old)  # before it is replaced: see channel_history.py
        if (old.model_version, old.manifest_sha256) == target:
            return Moved(channel, old, has_moved=False)
    mover = mover or this_mover()
    new = Move(
        *target,
        previous=stored.model_version,
        moved_at=next_time(mover.clock(), old),
        moved_by=mover.name,
        why=why,
        move_id=uuid.uuid4().hex[:12],
    )
    _replace(bucket, stored, new)
    with suppress(BucketError):  # the channel has moved: the next reader of its history appends the entry
        append_entry(bucket, channel, new)
    return Moved(channel, new, has_moved=True)


def _replace(bucket: Bucket, stored: StoredChannel, new: Move) -> None:
    """Write a channel's object if it still is what was read.

    A write may arrive although it seems to fail, and somebody else may then move the channel on. So what counts is
    whether the channel is or was in the new state, and not the answer.
    """
    key = channel_key(stored.channel)
    failure = None
    try:
        if bucket.replace(key, msgspec.json.encode(new), stored.etag):
            return
    except BucketError as error:
        failure = error
    now = read_channel(bucket, stored.channel).state
    if now == new or has_entry(bucket, stored.channel, new):
        return
    if failure:
        raise failure
    winner = now.model_version if now else "nothing"
    by = f" by {now.moved_by}" if now and now.moved_by else ""
    problem = f"was moved to {winner} meanwhile{by}: check that move, then repeat the command"
    raise BucketError(bucket.name, key, problem)
