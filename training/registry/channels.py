"""Bundles into the bucket, channels onto bundles. Nothing else moves a channel; rolling back is moving it back."""

import getpass
import socket
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from lambda_function.core.bundle import MANIFEST, bundle_key, channel_key
from training.errors import ChannelMovedError, ForceRefusedError, NotGatedError, NoWayBackError, PublishError
from training.model.bundle import ExportedBundle
from training.registry.bucket import put_object, put_once
from training.registry.channel_history import Move, Seen, Why, enter_line, has_line, has_served, next_time, see_channel
from training.registry.signing import Signer, check_signed, store_signature
from training.registry.versions import read_stored, read_verdict

FORCED_CHANNEL = "candidate"
"""The one channel that takes a version by force: nothing that matters follows it."""


@dataclass(frozen=True, slots=True)
class Mover:
    """Who moves channels, and what time it is to them: aware."""

    name: str
    clock: Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Moved:
    """A channel's state after a command, and whether it was the command that moved it there."""

    channel: str
    now: Move
    has_moved: bool


def this_mover() -> Mover:
    """Returns whoever runs this process, as in ``ada@laptop``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user that has no name: which of the two, depends on Python's version
        user = "somebody"
    return Mover(f"{user}@{socket.gethostname()}", lambda: datetime.now(UTC))


def store_bundle(s3: Any, bucket: str, bundle: ExportedBundle, signer: Signer | None = None) -> None:
    """Stores a bundle once and for ever: what its manifest lists. One that is there already is left as it is.

    The manifest comes last: a version is visible when, and only when, it is whole, and signed where it is to be.

    Raises:
        PublishError: S3 did not take it, or holds another bundle or another key's signature by this name.
        SigningError: KMS did not sign it.
        KmsError: KMS did not say whose signature is there.
    """
    for name in bundle.model.manifest.files:
        _store_file(s3, bucket, bundle, name)
    if signer:
        store_signature(s3, bucket, bundle.model_version, bundle.files[MANIFEST], signer)
    _store_file(s3, bucket, bundle, MANIFEST)


def _store_file(s3: Any, bucket: str, bundle: ExportedBundle, name: str) -> None:
    key = bundle_key(bundle.model_version, name)
    if put_once(s3, bucket, key, bundle.files[name]).body != bundle.files[name]:
        raise PublishError(bucket, key, "holds other bytes already, and a bundle is never changed")


def move_channel(
    s3: Any,
    bucket: str,
    channel: str,
    model_version: str,
    manifest_sha256: str,
    why: Why = "publish",
    mover: Mover | None = None,
) -> Move:
    """Points a channel at a stored version, if it still points where it did when we looked.

    Returns:
        The channel as it is now: `previous` is the version before. One that points there already is left as it is,
        or there would be no way back.

    Raises:
        ChannelMovedError: Somebody else moved it first.
        PublishError: S3 did not answer as needed.
    """
    seen = see_channel(s3, bucket, channel)
    return _move(s3, bucket, seen, (model_version, manifest_sha256), why, mover).now


def promote(
    s3: Any,
    bucket: str,
    channel: str,
    model_version: str,
    *,
    force: bool = False,
    signer: Signer | None = None,
    mover: Mover | None = None,
) -> Moved:
    """Points a channel at a version that the gate let through against what it holds, or that it has held before.

    Args:
        s3: boto3's client, or what looks like it.
        bucket: Its bucket.
        channel: Which to move.
        model_version: A whole version's name.
        force: Whatever the gate says; for FORCED_CHANNEL only.
        signer: Whose signature the version must have, if anybody's: the one that the channel's functions trust.
        mover: Who does it; `this_mover` where not given.

    Raises:
        NoSuchVersionError: The bucket holds no such version.
        BundleError: What it holds would not serve.
        ForceRefusedError: Nothing is forced into this channel.
        NotGatedError: There is no passing verdict against what the channel holds.
        ChannelMovedError: Somebody else moved it since we looked, so the verdict no longer stands.
        PublishError: It is not signed as it must be, or S3 did not answer as needed.
        KmsError: KMS did not say whose signature it has.
    """
    if force and channel != FORCED_CHANNEL:
        raise ForceRefusedError(channel, FORCED_CHANNEL)
    bundle = read_stored(s3, bucket, model_version)
    seen = see_channel(s3, bucket, channel)
    if not force:
        _check_gated(s3, bucket, seen, model_version)
    if signer:
        check_signed(s3, bucket, bundle, signer)
    why: Why = "force" if force else "promote"
    return _move(s3, bucket, seen, (model_version, bundle.manifest_sha256), why, mover)


def rollback(s3: Any, bucket: str, channel: str, *, signer: Signer | None = None, mover: Mover | None = None) -> Moved:
    """Points a channel at the version that it held before; no verdict is needed, for that one has served.

    It may have served from before there was a key, so its signature is looked at as `promote` does.
    `previous` is then the version rolled back from, as after every move: rolling back twice is where it began.

    Raises:
        NoWayBackError: It has held nothing before.
        BundleError: The version before would not serve.
        ChannelMovedError: Somebody else moved it since we looked.
        PublishError: It is not signed as it must be, or S3 did not answer as needed.
        KmsError: KMS did not say whose signature it has.
    """
    seen = see_channel(s3, bucket, channel)
    if seen.state is None or seen.state.previous is None:
        raise NoWayBackError(channel, seen.model_version)
    bundle = read_stored(s3, bucket, seen.state.previous)
    if signer:
        check_signed(s3, bucket, bundle, signer)
    return _move(s3, bucket, seen, (bundle.model_version, bundle.manifest_sha256), "rollback", mover)


def _check_gated(s3: Any, bucket: str, seen: Seen, model_version: str) -> None:
    if has_served(s3, bucket, seen, model_version):
        return
    verdict = read_verdict(s3, bucket, model_version, seen.channel)
    if verdict is None:
        problem = "has no verdict of the gate"
    elif verdict.against != seen.model_version:
        problem = f"was gated against {verdict.against or 'nothing'}"
    elif not verdict.passed:
        problem = "did not pass the gate"
    else:
        return
    raise NotGatedError(bucket, model_version, seen.channel, seen.model_version, problem)


def _move(s3: Any, bucket: str, seen: Seen, target: tuple[str, str], why: Why, mover: Mover | None) -> Moved:
    """Replaces the state that was seen by one that points at the target: version and its manifest's SHA-256."""
    old = seen.state
    enter_line(s3, bucket, seen)  # before it is replaced: see history.py
    if old and (old.model_version, old.manifest_sha256) == target:
        return Moved(seen.channel, old, has_moved=False)
    mover = mover or this_mover()
    new = Move(
        *target,
        previous=old.model_version if old else None,
        moved_at=next_time(mover.clock(), old),
        moved_by=mover.name,
        why=why,
        move_id=uuid.uuid4().hex[:12],
    )
    _replace(s3, bucket, seen, new)
    with suppress(PublishError):  # the channel has moved: whoever looks at its history next enters the line
        enter_line(s3, bucket, Seen(seen.channel, new, None))
    return Moved(seen.channel, new, has_moved=True)


def _replace(s3: Any, bucket: str, seen: Seen, new: Move) -> None:
    """Writes a channel's object if it still is what was seen.

    A write whose answer got lost is sent again by the client, and then refused because of itself; or it seems to have
    failed. So what counts is where the channel is or has been, not the answer.
    """
    key = channel_key(seen.channel)
    condition = {"IfMatch": seen.etag} if seen.etag else {"IfNoneMatch": "*"}
    failure = None
    try:
        if put_object(s3, bucket, key, msgspec.json.encode(new), **condition):
            return
    except PublishError as error:
        failure = error
    now = see_channel(s3, bucket, seen.channel)
    if now.state == new or has_line(s3, bucket, seen.channel, new):
        return
    if failure:
        raise failure
    raise ChannelMovedError(bucket, key, now.model_version or "nothing", now.state.moved_by if now.state else None)
