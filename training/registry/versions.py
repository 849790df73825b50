"""What a bucket holds of models: versions, the papers beside them, and the channels that point at them."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from lambda_function.core.bundle import (
    MANIFEST,
    Manifest,
    bundle_key,
    channel_key,
    check_files,
    decode_manifest,
    load_bundle,
    sha256,
)
from lambda_function.errors import BundleError
from training.errors import NoSuchVersionError, PublishError
from training.model.bundle import ExportedBundle
from training.registry.bucket import get_object, list_objects, put_object
from training.registry.channel_history import Move, see_channel

REPORT = "report.html"
"""The paper that shows a version to people."""

_MANIFEST_KEY = re.compile(re.escape(bundle_key("VERSION", MANIFEST)).replace("VERSION", r"([^/]+)"))
_CHANNEL_KEY = re.compile(re.escape(channel_key("NAME")).replace("NAME", r"([^/]+)"))


class Verdict(msgspec.Struct, frozen=True):
    """What moving a channel needs of the gate's report.

    Attributes:
        against: The version that the channel held then; None for nothing.
    """

    model_version: str
    against: str | None
    channel: str
    passed: bool


def stored_versions(s3: Any, bucket: str) -> tuple[str, ...]:
    """Lists the versions that a bucket holds, in order of their names: those whose manifest is there, so whole ones."""
    return tuple(sorted(stored_times(s3, bucket)))


def stored_times(s3: Any, bucket: str) -> dict[str, datetime | None]:
    """Tells when each version that a bucket holds was stored; None where the bucket does not say."""
    listed = ((_MANIFEST_KEY.fullmatch(one.key), one.modified) for one in list_objects(s3, bucket, "models/"))
    return {found[1]: modified for found, modified in listed if found}


def channels(s3: Any, bucket: str) -> dict[str, Move]:
    """Reads every channel of a bucket, by name."""
    names = (_CHANNEL_KEY.fullmatch(listed.key) for listed in list_objects(s3, bucket, "channels/"))
    seen = [see_channel(s3, bucket, found[1]) for found in names if found]
    return {one.channel: one.state for one in seen if one.state}


def resolve_version(s3: Any, bucket: str, name: str) -> str:
    """Returns the version that a person means: by its name, by the channel that points at it, or by how it begins.

    Raises:
        NoSuchVersionError: None is called so, or several are.
    """
    versions = stored_versions(s3, bucket)
    pointed = channels(s3, bucket)
    if name in versions:
        return name
    if name in pointed:
        return pointed[name].model_version
    begun = [version for version in versions if version.startswith(name)]
    if len(begun) == 1:
        return begun[0]
    raise NoSuchVersionError(bucket, name, begun or versions, is_ambiguous=bool(begun))


def read_manifest(s3: Any, bucket: str, model_version: str) -> Manifest:
    """Reads what a stored version says of itself, without checking the rest.

    Raises:
        NoSuchVersionError: It is not there.
        BundleError: It does not decode.
    """
    return _decode_manifest(model_version, _manifest_bytes(s3, bucket, model_version))


def read_stored(s3: Any, bucket: str, model_version: str) -> ExportedBundle:
    """Reads a stored bundle and checks it as the function would: every file that its manifest lists, and the rides.

    Raises:
        NoSuchVersionError: It is not there.
        BundleError: Something about it is wrong: which file, and what.
        PublishError: S3 did not answer as needed.
    """
    manifest = _manifest_bytes(s3, bucket, model_version)
    listed = _decode_manifest(model_version, manifest).files
    found = {name: get_object(s3, bucket, bundle_key(model_version, name)) for name in listed}
    files = {name: one.body for name, one in found.items() if one}
    model = load_bundle(model_version, sha256(manifest), {**files, MANIFEST: manifest})
    check_files(model.manifest, files)  # those too that the function has no need of: people rely on them
    return ExportedBundle({**files, MANIFEST: manifest}, model)


def read_file(s3: Any, bucket: str, model_version: str, name: str) -> bytes | None:
    """Reads one file of a stored bundle, unchecked; None where the bundle has none by that name."""
    found = get_object(s3, bucket, bundle_key(model_version, name))
    return found.body if found else None


def put_paper(s3: Any, bucket: str, model_version: str, name: str, data: bytes) -> None:
    """Lays a paper beside a version, in place of an older one: what is said *about* it, so no file of the bundle.

    Raises:
        PublishError: The name is that of one of the bundle's files, or S3 did not take it.
    """
    key = bundle_key(model_version, name)
    manifest = get_object(s3, bucket, bundle_key(model_version, MANIFEST))
    files: Mapping[str, Any] = _decode_manifest(model_version, manifest.body).files if manifest else {}
    if name == MANIFEST or name in files:
        raise PublishError(bucket, key, "is a file of the bundle, and a bundle is never changed")
    if not put_object(s3, bucket, key, data):
        raise PublishError(bucket, key, "is being written by somebody else: try again")


def get_paper(s3: Any, bucket: str, model_version: str, name: str) -> bytes | None:
    """Reads a paper that lies beside a version; None where there is none."""
    return read_file(s3, bucket, model_version, name)


def papers(s3: Any, bucket: str, manifest: Manifest) -> tuple[str, ...]:
    """Lists the papers that lie beside a version, by name."""
    prefix = bundle_key(manifest.model_version, "")
    names = [listed.key.removeprefix(prefix) for listed in list_objects(s3, bucket, prefix)]
    return tuple(name for name in names if name != MANIFEST and name not in manifest.files)


def verdict_name(channel: str) -> str:
    """Returns the name of the paper that holds the gate's report for a channel.

    >>> verdict_name("stable")
    'gate-stable.json'
    """
    return f"gate-{channel}.json"


def read_verdict(s3: Any, bucket: str, model_version: str, channel: str) -> Verdict | None:
    """Reads what the gate said of a version for a channel; None where it was not asked.

    Raises:
        PublishError: The paper holds no report of the gate, or one of another version or channel.
    """
    name = verdict_name(channel)
    paper = get_paper(s3, bucket, model_version, name)
    if paper is None:
        return None
    key = bundle_key(model_version, name)
    try:
        verdict = msgspec.json.decode(paper, type=Verdict)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PublishError(bucket, key, f"holds no verdict: {error}; gate the version again") from error
    if (verdict.model_version, verdict.channel) != (model_version, channel):
        told = f"is about {verdict.model_version} and {verdict.channel}"
        raise PublishError(bucket, key, f"{told}: gate the version again")
    return verdict


def _manifest_bytes(s3: Any, bucket: str, model_version: str) -> bytes:
    found = get_object(s3, bucket, bundle_key(model_version, MANIFEST))
    if found is None:
        raise NoSuchVersionError(bucket, model_version, stored_versions(s3, bucket))
    return found.body


def _decode_manifest(model_version: str, data: bytes) -> Manifest:
    try:
        return decode_manifest(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(model_version, MANIFEST, f"does not decode: {error}") from error
