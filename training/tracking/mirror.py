"""MLflow's registry as a mirror of a bucket: registered versions are the stored ones, and aliases are the channels."""

import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lambda_function.core.bundle import MANIFEST, bundle_key, sha256
from lambda_function.core.events import MODEL_NAME
from lambda_function.errors import BundleError
from training.errors import FOLDER_PREFIX, UserError, bucket_address
from training.model.bundle import ExportedBundle
from training.registry.bucket import Bucket
from training.registry.sources import Sources
from training.registry.versions import read_channels, read_file, stored_versions
from training.tracking.facts import MANIFEST_SHA256, MODEL_VERSION
from training.tracking.mlflow_store import LOCAL_DATABASE, TRACKING_URI, open_store
from training.tracking.runs import sync_command, track_run, with_remedy
from training.tracking.store import Registry, TrackingStore

BUNDLE = "ridecast.bundle"
"""Tag of a registered version: the address of its bundle."""

_RESERVED_ALIAS = re.compile(r"latest|v\d+", re.IGNORECASE)
"""MLflow reserves these for version numbers: see `mlflow.utils.validation`."""


@dataclass(frozen=True, slots=True)
class BucketView:
    """The state of a bucket, to compare with a registry."""

    name: str
    versions: Mapping[str, str]  # the SHA-256 of each stored version's manifest
    channels: Mapping[str, str]  # the version that each channel points at


@dataclass(frozen=True, slots=True)
class Tracked:
    """A version in MLflow. `registered` is its number, or None if the bucket does not hold the version."""

    model_version: str
    run_id: str
    registered: int | None


def view_bucket(bucket: Bucket) -> BucketView:
    """Read the manifests and channels of a bucket.

    Raises:
        BucketError: S3 failed.
    """
    manifests = {version: read_file(bucket, version, MANIFEST) for version in stored_versions(bucket)}
    digests = {version: sha256(manifest) for version, manifest in manifests.items() if manifest is not None}
    return BucketView(bucket.name, digests, _pointed_versions(bucket))


def registered_model(bucket: str) -> str:
    """Return the name of a bucket's registered model. Each bucket has its own, because channels belong to a bucket.

    >>> registered_model("rides-prod")
    'ride_duration_prediction_model-rides-prod'
    >>> registered_model("file:/srv/rides/bucket")
    'ride_duration_prediction_model-bucket-6be7b217'
    """
    if not bucket.startswith(FOLDER_PREFIX):
        return f"{MODEL_NAME}-{bucket}"
    folder = _folder(bucket)
    name = re.sub(r"[^A-Za-z0-9_\-.]", "_", folder.name)  # MLflow allows no / or : and a query no quotes
    return f"{MODEL_NAME}-{name}-{sha256(str(folder).encode())[:8]}"


def registry_tags(bucket: str, model_version: str, manifest_sha256: str) -> dict[str, str]:
    """Return the tags that tie a registered version to its bundle.

    >>> registry_tags("rides", "green-2021-01-3f2a9c1d0b7e", "ab")["ridecast.bundle"]
    's3://rides/models/green-2021-01-3f2a9c1d0b7e/'
    """
    address = f"{FOLDER_PREFIX}{_folder(bucket)}" if bucket.startswith(FOLDER_PREFIX) else bucket_address(bucket)
    return {
        MODEL_VERSION: model_version,
        MANIFEST_SHA256: manifest_sha256,
        BUNDLE: f"{address}/{bundle_key(model_version, '')}",
    }


def register(store: TrackingStore, bucket: str, bundle: ExportedBundle, run_id: str) -> int:
    """Register a stored version. If it is registered already, only correct its tags.

    Returns:
        The number of the registered version.

    Raises:
        TrackingError: MLflow failed; a later call completes the work.
    """
    name = registered_model(bucket)
    tags = registry_tags(bucket, bundle.model_version, bundle.manifest_sha256)
    with with_remedy(store, bucket, bundle.model_version):
        for one in store.read_registry(name).versions:
            if one.tags.get(MODEL_VERSION) == bundle.model_version:
                wrong = {tag: value for tag, value in tags.items() if one.tags.get(tag) != value}
                store.tag_version(name, one.number, wrong)
                return one.number
        return store.add_version(name, run_id, bundle.model_version, tags)


def catch_up(store: TrackingStore, sources: Sources, model_version: str) -> Tracked:
    """Log a version to MLflow as training does, and register it if the bucket holds it.

    Raises:
        TrackingError: MLflow failed; a later call completes the work.
        NoSuchVersionError: There is no such version.
        BundleError: A file of the bundle is missing or wrong.
        BucketError: S3 failed.
    """
    bundle, artifacts, is_stored = sources.read(model_version)
    run_id = track_run(store, bundle, artifacts, sources.bucket.name)
    number = register(store, sources.bucket.name, bundle, run_id) if is_stored else None
    return Tracked(model_version, run_id, number)


def follow_channels(store: TrackingStore, bucket: Bucket) -> dict[str, str]:
    """Point the aliases where the channels point, and delete aliases that are no channel.

    A channel has no alias while its version is not registered, or if `can_be_alias` is False for its name.

    Returns:
        The model version of each alias.

    Raises:
        TrackingError: MLflow failed; a later call completes the work.
        BucketError: S3 failed.
    """
    pointed = _pointed_versions(bucket)
    name = registered_model(bucket.name)
    with with_remedy(store, bucket.name):
        registry = store.read_registry(name)
        numbers = _registered_numbers(registry)
        wanted = {
            channel: numbers[version]
            for channel, version in pointed.items()
            if version in numbers and can_be_alias(channel)
        }
        for alias in registry.aliases.keys() - wanted.keys():
            store.delete_alias(name, alias)
        for alias, number in wanted.items():
            if registry.aliases.get(alias) != number:
                store.set_alias(name, alias, number)
    return {alias: pointed[alias] for alias in wanted}


def follow(bucket: Bucket, released: tuple[str, Path] | None = None) -> None:
    """Log a channel move to MLflow if MLflow is in use. A failure is a warning on standard error, never an error.

    MLflow is in use if MLFLOW_TRACKING_URI is set or the local database exists. Otherwise nothing is imported or made.

    Args:
        bucket: The bucket of the channels.
        released: A version that is new in the bucket, and the folder of its bundle's folder. The version is tracked
            and registered first.
    """
    if not (os.environ.get(TRACKING_URI) or LOCAL_DATABASE.is_file()):
        return
    store = open_store()
    try:
        if released:
            version, folder = released
            catch_up(store, Sources(bucket, folder), version)
        follow_channels(store, bucket)
    except (UserError, BundleError) as error:  # the channel has moved, so nothing here may fail the command
        sys.stderr.write(f"ridecast: {error}\n")


def can_be_alias(channel: str) -> bool:
    """Return whether MLflow allows a channel's name as an alias; it reserves some for its own versions.

    >>> [can_be_alias(channel) for channel in ("stable", "v2-canary", "latest", "v2")]
    [True, True, False, False]
    """
    return _RESERVED_ALIAS.fullmatch(channel) is None


def differences(bucket: BucketView, registry: Registry) -> list[str]:
    """Compare stored with registered versions, their digests, and channels with aliases: a sentence each.

    A channel that cannot be an alias is left out.

    >>> differences(BucketView("rides", {}, {}), Registry(aliases={"stable": 1}))
    ['alias stable is no channel: run `ridecast models sync --all --bucket rides`, which deletes it']
    """
    return [*_unregistered(bucket, registry), *_wrongly_registered(bucket, registry), *_wrong_aliases(bucket, registry)]


def _unregistered(bucket: BucketView, registry: Registry) -> Iterator[str]:
    for version in sorted(bucket.versions.keys() - _registered_numbers(registry).keys()):
        yield f"{version} is stored and not registered: run `{sync_command(bucket.name, version)}`"


def _wrongly_registered(bucket: BucketView, registry: Registry) -> Iterator[str]:
    seen = Counter(one.tags.get(MODEL_VERSION) for one in registry.versions)
    first = _registered_numbers(registry)
    for one in registry.versions:
        version, number = one.tags.get(MODEL_VERSION), f"registered version {one.number}"
        if version is None:
            problem = f"{number} has no tag {MODEL_VERSION}, so it is not from the bucket"
            yield f"{problem}: leave it if somebody uses it, else delete it in MLflow"
        elif version not in bucket.versions:
            yield f"{version} is {number} and not stored: publish its bundle again, or delete it in MLflow"
        elif seen[version] > 1 and first[version] != one.number:
            yield f"{version} is {number} and also {first[version]}: delete {one.number} in MLflow"
        elif one.tags.get(MANIFEST_SHA256) != bucket.versions[version]:
            digest = one.tags.get(MANIFEST_SHA256, "none")
            yield (
                f"{version} is stored with manifest digest {bucket.versions[version]} and registered with {digest}:"
                f" run `{sync_command(bucket.name, version)}`"
            )


def _wrong_aliases(bucket: BucketView, registry: Registry) -> Iterator[str]:
    versions = {one.number: one.tags.get(MODEL_VERSION) for one in registry.versions}
    track_all = f"run `{sync_command(bucket.name)}`"
    for channel, version in sorted(bucket.channels.items()):
        if version not in bucket.versions:
            yield f"channel {channel} points at {version}, which is not stored: move it to a stored version"
        elif not can_be_alias(channel):
            continue
        elif channel not in registry.aliases:
            yield f"channel {channel} points at {version} and there is no such alias: {track_all}"
        elif (aliased := versions.get(registry.aliases[channel])) != version:
            yield f"channel {channel} points at {version} and the alias at {aliased or 'nothing'}: {track_all}"
    for alias in sorted(registry.aliases.keys() - bucket.channels.keys()):
        yield f"alias {alias} is no channel: {track_all}, which deletes it"


def _pointed_versions(bucket: Bucket) -> dict[str, str]:
    return {name: state.model_version for name, state in read_channels(bucket).items()}


def _registered_numbers(registry: Registry) -> dict[str, int]:
    """Return the number of each registered model version; the lowest if a version is registered twice."""
    return {one.tags[MODEL_VERSION]: one.number for one in reversed(registry.versions) if MODEL_VERSION in one.tags}


def _folder(bucket: str) -> Path:
    return Path(bucket.removeprefix(FOLDER_PREFIX)).expanduser().resolve()
