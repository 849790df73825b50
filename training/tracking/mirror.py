"""The registry as a mirror of a bucket: its versions are those that are stored, its aliases are the channels."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lambda_function.events import MODEL_NAME
from lambda_function.model import MANIFEST, bundle_key, sha256
from training.errors import FOLDER_PREFIX, bucket_address
from training.export import ExportedBundle
from training.registry.versions import channels, read_file, stored_versions
from training.tracking.facts import MANIFEST_SHA256, MODEL_VERSION
from training.tracking.runs import about
from training.tracking.store import Registry, TrackingStore

BUNDLE = "ridecast.bundle"
"""Tag of a registered version: where its bundle is."""

_KEPT_BY_MLFLOW = re.compile(r"latest|v\d+", re.IGNORECASE)
"""As `mlflow.utils.validation` has it: to MLflow they are names of versions."""


@dataclass(frozen=True, slots=True)
class BucketView:
    """What a bucket says, to be held against a registry.

    Attributes:
        name: The bucket's.
        versions: The SHA-256 of each stored version's manifest.
        channels: The version that each channel points at.
    """

    name: str
    versions: Mapping[str, str]
    channels: Mapping[str, str]


def see_bucket(s3: Any, bucket: str) -> BucketView:
    """Reads manifests and channels of a bucket, and nothing else of it.

    Raises:
        PublishError: The bucket did not answer as needed.
    """
    manifests = {version: read_file(s3, bucket, version, MANIFEST) for version in stored_versions(s3, bucket)}
    return BucketView(
        bucket,
        {version: sha256(manifest) for version, manifest in manifests.items() if manifest is not None},
        pointed_versions(s3, bucket),
    )


def pointed_versions(s3: Any, bucket: str) -> dict[str, str]:
    """Returns the version that each channel of a bucket points at."""
    return {name: state.model_version for name, state in channels(s3, bucket).items()}


def registered_model(bucket: str) -> str:
    """Returns the name of a bucket's mirror. Each bucket has its own: a channel is a channel of one bucket.

    >>> registered_model("rides-prod")
    'ride_duration_prediction_model-rides-prod'
    >>> registered_model("file:/srv/rides/bucket")
    'ride_duration_prediction_model-bucket-6be7b217'
    """
    if not bucket.startswith(FOLDER_PREFIX):
        return f"{MODEL_NAME}-{bucket}"
    folder = _folder(bucket)
    name = re.sub(r"[^A-Za-z0-9_\-.]", "_", folder.name)  # MLflow takes no / or : and a query no quotes
    return f"{MODEL_NAME}-{name}-{sha256(str(folder).encode())[:8]}"


def registry_tags(bucket: str, model_version: str, manifest_sha256: str) -> dict[str, str]:
    """Returns the tags that tie a registered version to its bundle.

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
    """Registers a stored version, once; one that is registered is only given the right tags.

    Returns:
        The number of the registered version.

    Raises:
        TrackingError: MLflow did not take it; once more later does.
    """
    name = registered_model(bucket)
    tags = registry_tags(bucket, bundle.model_version, bundle.manifest_sha256)
    with about(store, bucket, bundle.model_version):
        for one in store.read_registry(name).versions:
            if one.tags.get(MODEL_VERSION) == bundle.model_version:
                wrong = {tag: value for tag, value in tags.items() if one.tags.get(tag) != value}
                store.tag_version(name, one.number, wrong)
                return one.number
        return store.add_version(name, run_id, bundle.model_version, tags)


def follow_channels(store: TrackingStore, s3: Any, bucket: str) -> dict[str, str]:
    """Has the aliases say what the channels say: points them, and takes away those that are no channel.

    A channel onto a version that is not registered has no alias until that is; one that `can_be_alias` rules out never.

    Returns:
        The model version that each alias now points at.

    Raises:
        TrackingError: MLflow did not take it; once more later does.
        PublishError: The bucket did not answer as needed.
    """
    pointed = pointed_versions(s3, bucket)
    name = registered_model(bucket)
    with about(store, bucket):
        registry = store.read_registry(name)
        numbers = registered_numbers(registry)
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


def can_be_alias(channel: str) -> bool:
    """Tells whether a channel has an alias: not by names that MLflow keeps for its own versions.

    >>> [can_be_alias(channel) for channel in ("stable", "v2-canary", "latest", "v2")]
    [True, True, False, False]
    """
    return _KEPT_BY_MLFLOW.fullmatch(channel) is None


def registered_numbers(registry: Registry) -> dict[str, int]:
    """Returns the number of each registered model version; of one that is registered twice the lower."""
    return {one.tags[MODEL_VERSION]: one.number for one in reversed(registry.versions) if MODEL_VERSION in one.tags}


def _folder(bucket: str) -> Path:
    return Path(bucket.removeprefix(FOLDER_PREFIX)).expanduser().resolve()
