"""The versions in a bucket, the artifacts beside them, and the channels that point at them."""

import re
from datetime import datetime

import msgspec

from lambda_function.core.bundle import (
    MANIFEST,
    Manifest,
    bundle_key,
    check_files,
    decode_manifest,
    load_bundle,
    sha256,
)
from lambda_function.core.calibration import Calibration, calibration_key, load_calibration, split_version
from lambda_function.core.channel import Channel, channel_key
from lambda_function.errors import BundleError
from training.errors import BucketError, NoSuchVersionError
from training.model.bundle import ExportedBundle
from training.registry.bucket import Bucket
from training.registry.channel_history import read_channel

REPORT = "report.html"
"""The artifact that shows a version to people."""

_MANIFEST_KEY = re.compile(re.escape(bundle_key("VERSION", MANIFEST)).replace("VERSION", r"([^/]+)"))
_CHANNEL_KEY = re.compile(re.escape(channel_key("NAME")).replace("NAME", r"([^/]+)"))


class Verdict(msgspec.Struct, frozen=True):
    """The part of the gate's report that moving a channel needs."""

    model_version: str
    against: str | None  # the version that the channel held at that time
    channel: str
    passed: bool


def stored_versions(bucket: Bucket) -> tuple[str, ...]:
    """List the complete versions in a bucket by name: a version is complete once its manifest is stored."""
    return tuple(sorted(stored_times(bucket)))


def stored_times(bucket: Bucket) -> dict[str, datetime | None]:
    """Return when each version in a bucket was stored; None if the listing has no time."""
    listed = ((_MANIFEST_KEY.fullmatch(one.key), one.modified) for one in bucket.list_objects("models/"))
    return {found[1]: modified for found, modified in listed if found}


def read_channels(bucket: Bucket) -> dict[str, Channel]:
    """Read every channel of a bucket, by name."""
    names = (_CHANNEL_KEY.fullmatch(key) for key in bucket.keys("channels/"))
    stored = [read_channel(bucket, found[1]) for found in names if found]
    return {one.channel: one.state for one in stored if one.state}


def resolve_version(bucket: Bucket, name: str) -> str:
    """Return the model version that a name means.

    A name is a version, a channel that points at one, the beginning of a version, or the served version of a
    prediction, whose calibration is left out.

    Raises:
        NoSuchVersionError: The name fits no version, or it is the beginning of several.
    """
    versions = stored_versions(bucket)
    pointed = read_channels(bucket)
    name, _ = split_version(name)
    if name in versions:
        return name
    if name in pointed:
        return pointed[name].model_version
    begun = [version for version in versions if name and version.startswith(name)]
    if len(begun) == 1:
        return begun[0]
    if begun:
        raise NoSuchVersionError(bucket.name, name, begun, is_ambiguous=True)
    raise NoSuchVersionError(bucket.name, name, versions, channels=tuple(pointed))


def read_manifest(bucket: Bucket, model_version: str) -> Manifest:
    """Read the manifest of a stored version, without checking the other files.

    Raises:
        NoSuchVersionError: The bucket holds no such version.
        BundleError: The manifest does not decode.
    """
    return _decode_manifest(model_version, _manifest_bytes(bucket, model_version))


def read_stored(bucket: Bucket, model_version: str) -> ExportedBundle:
    """Read a stored bundle and check it as the function would: each file of its manifest, and the golden rides.

    Raises:
        NoSuchVersionError: The bucket holds no such version.
        BundleError: A file is missing or wrong.
    """
    manifest = _manifest_bytes(bucket, model_version)
    listed = _decode_manifest(model_version, manifest).files
    found = {name: read_file(bucket, model_version, name) for name in listed}
    files = {name: data for name, data in found.items() if data is not None}
    model = load_bundle(model_version, sha256(manifest), {**files, MANIFEST: manifest})
    check_files(model.manifest, files)  # also those that the function does not need: people rely on them
    return ExportedBundle({**files, MANIFEST: manifest}, model)


def read_calibration(bucket: Bucket, model_version: str, as_of: str, sha256: str | None = None) -> Calibration:
    """Read a calibration and check it as the function would; its digest, where that is known.

    Raises:
        CalibrationError: It is missing or cannot serve.
    """
    stored = bucket.read(calibration_key(model_version, as_of))
    return load_calibration(model_version, as_of, sha256, stored.body if stored else None)


def read_file(bucket: Bucket, model_version: str, name: str) -> bytes | None:
    """Read a file of a stored bundle or an artifact beside it, unchecked; None if there is none."""
    stored = bucket.read(bundle_key(model_version, name))
    return stored.body if stored else None


def put_artifact(bucket: Bucket, model_version: str, name: str, data: bytes) -> None:
    """Store an artifact beside a version, in place of an older one.

    Raises:
        BucketError: The name is that of one of the bundle's files.
    """
    manifest = read_file(bucket, model_version, MANIFEST)
    if name == MANIFEST or (manifest and name in _decode_manifest(model_version, manifest).files):
        problem = "is a file of the bundle, and a bundle is never changed"
        raise BucketError(bucket.name, bundle_key(model_version, name), problem)
    bucket.write(bundle_key(model_version, name), data)


def list_artifacts(bucket: Bucket, manifest: Manifest) -> tuple[str, ...]:
    """List the names of the artifacts beside a version."""
    prefix = bundle_key(manifest.model_version, "")
    names = [key.removeprefix(prefix) for key in bucket.keys(prefix)]
    return tuple(name for name in names if name != MANIFEST and name not in manifest.files)


def verdict_name(channel: str) -> str:
    """Return the name of the artifact that holds the gate's report for a channel.

    >>> verdict_name("stable")
    'gate-stable.json'
    """
    return f"gate-{channel}.json"


def read_verdict(bucket: Bucket, model_version: str, channel: str) -> Verdict | None:
    """Read the gate's verdict on a version for a channel; None if the version was never gated for it.

    Raises:
        BucketError: The artifact is not a report of the gate, or one of another version or channel.
    """
    name = verdict_name(channel)
    data = read_file(bucket, model_version, name)
    if data is None:
        return None
    key = bundle_key(model_version, name)
    try:
        verdict = msgspec.json.decode(data, type=Verdict)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BucketError(bucket.name, key, f"holds no verdict: {error}; gate the version again") from error
    if (verdict.model_version, verdict.channel) != (model_version, channel):
        subject = f"is about {verdict.model_version} and {verdict.channel}"
        raise BucketError(bucket.name, key, f"{subject}: gate the version again")
    return verdict


def _manifest_bytes(bucket: Bucket, model_version: str) -> bytes:
    data = read_file(bucket, model_version, MANIFEST)
    if data is None:
        raise NoSuchVersionError(bucket.name, model_version, stored_versions(bucket))
    return data


def _decode_manifest(model_version: str, data: bytes) -> Manifest:
    try:
        return decode_manifest(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(model_version, MANIFEST, f"does not decode: {error}") from error
