"""The registry as a mirror of a bucket: its versions are those that are stored, its aliases are the channels."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lambda_function.core.bundle import MANIFEST, bundle_key, sha256
from lambda_function.core.events import MODEL_NAME
from lambda_function.errors import BundleError
from training.errors import FOLDER_PREFIX, NoSuchVersionError, bucket_address
from training.model.bundle import ExportedBundle
from training.model.export import read_bundle
from training.registry.bucket import Bucket
from training.registry.versions import read_channels, read_file, read_stored, resolve_version, stored_versions
from training.tracking.runs import MANIFEST_SHA256, MODEL_VERSION, about, track_run
from training.tracking.store import Registry, TrackingStore, track_command

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


def see_bucket(bucket: Bucket) -> BucketView:
    """Reads manifests and channels of a bucket, and nothing else of it.

    Raises:
        BucketError: The bucket did not answer as needed.
    """
    manifests = {version: read_file(bucket, version, MANIFEST) for version in stored_versions(bucket)}
    return BucketView(
        bucket.name,
        {version: sha256(manifest) for version, manifest in manifests.items() if manifest is not None},
        pointed_versions(bucket),
    )


def pointed_versions(bucket: Bucket) -> dict[str, str]:
    """Returns the version that each channel of a bucket points at."""
    return {name: state.model_version for name, state in read_channels(bucket).items()}


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


def follow_channels(store: TrackingStore, bucket: Bucket) -> dict[str, str]:
    """Has the aliases say what the channels say: points them, and takes away those that are no channel.

    A channel onto a version that is not registered has no alias until that is; one that `can_be_alias` rules out never.

    Returns:
        The model version that each alias now points at.

    Raises:
        TrackingError: MLflow did not take it; once more later does.
        BucketError: The bucket did not answer as needed.
    """
    pointed = pointed_versions(bucket)
    name = registered_model(bucket.name)
    with about(store, bucket.name):
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


# MERGED FROM training/tracking/catch_up.py
# Tells MLflow what it has missed, version by version: from the bucket, or from where training has left it.
@dataclass(frozen=True, slots=True)
class Tracked:
    """What MLflow has of a version now. `registered` is None where the bucket does not hold it."""

    model_version: str
    run_id: str
    registered: int | None


@dataclass(frozen=True, slots=True)
class Sources:
    """Where bundles are: a bucket, and the folder that training writes them to."""

    bucket: Bucket
    folder: Path

    def resolve(self, name: str) -> str:
        """Returns the version that a person means: one of the bucket's as `registry.resolve_version`, or a folder's.

        Raises:
            NoSuchVersionError: None is called so, or several are.
        """
        if (self.folder / name / MANIFEST).is_file():
            return name
        return resolve_version(self.bucket, name)

    def all_versions(self) -> tuple[str, ...]:
        """Returns the bucket's versions, and those in the folder that load."""
        stored = stored_versions(self.bucket)
        left = sorted(path.parent.name for path in self.folder.glob(f"*/{MANIFEST}"))
        return (*stored, *(version for version in left if version not in stored and self._loads(version)))

    def _loads(self, version: str) -> bool:
        try:
            read_bundle(self.folder / version)
        except BundleError:
            return False
        return True

    def read(self, model_version: str) -> tuple[ExportedBundle, dict[str, bytes], bool]:
        """Reads a version.

        Returns:
            The bundle, the papers beside it (the bucket's before the folder's), and whether the bucket holds it.

        Raises:
            NoSuchVersionError: It is in neither.
            BundleError: Something about it is wrong.
            BucketError: The bucket did not answer as needed.
        """
        folder = self.folder / model_version
        is_stored = self._is_stored(model_version)
        bundle = read_stored(self.bucket, model_version) if is_stored else read_bundle(folder)
        papers = dict(self._papers_in_folder(folder, bundle))
        if is_stored:
            papers |= self._papers_in_bucket(bundle)
        return bundle, papers, is_stored

    def _is_stored(self, model_version: str) -> bool:
        if read_file(self.bucket, model_version, MANIFEST) is not None:
            return True
        if (self.folder / model_version / MANIFEST).is_file():
            return False
        raise NoSuchVersionError(self.bucket.name, model_version, stored_versions(self.bucket))

    @staticmethod
    def _papers_in_folder(folder: Path, bundle: ExportedBundle) -> Iterator[tuple[str, bytes]]:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and _is_paper(name, bundle):
                yield name, path.read_bytes()

    def _papers_in_bucket(self, bundle: ExportedBundle) -> dict[str, bytes]:
        prefix = bundle_key(bundle.model_version, "")
        names = [key.removeprefix(prefix) for key in self.bucket.keys(prefix)]
        papers = {name: read_file(self.bucket, bundle.model_version, name) for name in names if _is_paper(name, bundle)}
        return {name: data for name, data in papers.items() if data is not None}


def catch_up(store: TrackingStore, sources: Sources, model_version: str) -> Tracked:
    """Tracks a version as training does, and registers it if the bucket holds it.

    Raises:
        TrackingError: MLflow did not take all of it; once more later completes it.
        NoSuchVersionError: There is no such version.
        BundleError: Something about it is wrong.
        BucketError: The bucket did not answer as needed.
    """
    bundle, papers, is_stored = sources.read(model_version)
    run_id = track_run(store, bundle, papers, sources.bucket.name)
    number = register(store, sources.bucket.name, bundle, run_id) if is_stored else None
    return Tracked(model_version, run_id, number)


def _is_paper(name: str, bundle: ExportedBundle) -> bool:
    return name != MANIFEST and name not in bundle.model.manifest.files


# MERGED FROM training/tracking/differences.py
# Where a bucket and the registry that mirrors it tell different stories, a sentence each.
def differences(bucket: BucketView, registry: Registry) -> list[str]:
    """Compares what is stored with what is registered, and channels with aliases: both ways, digests too.

    A channel that cannot be an alias is not looked for.

    >>> differences(BucketView("rides", {}, {}), Registry(aliases={"stable": 1}))
    ['alias stable is no channel: run `ridecast models track --all --bucket rides`, which takes it away']
    """
    return [*_not_registered(bucket, registry), *_registered(bucket, registry), *_aliases(bucket, registry)]


def _not_registered(bucket: BucketView, registry: Registry) -> Iterator[str]:
    numbers = registered_numbers(registry)
    for version in sorted(bucket.versions.keys() - numbers.keys()):
        yield f"{version} is stored and not registered: run `{track_command(bucket.name, version)}`"


def _registered(bucket: BucketView, registry: Registry) -> Iterator[str]:
    seen = Counter(one.tags.get(MODEL_VERSION) for one in registry.versions)
    first = registered_numbers(registry)
    for one in registry.versions:
        version, number = one.tags.get(MODEL_VERSION), f"registered version {one.number}"
        if version is None:
            yield f"{number} has no tag {MODEL_VERSION}, so it is none of the bucket's: delete it in MLflow"
        elif version not in bucket.versions:
            yield f"{version} is {number} and not stored: publish its bundle again, or delete it in MLflow"
        elif seen[version] > 1 and first[version] != one.number:
            yield f"{version} is {number} and {first[version]} too: delete {one.number} in MLflow"
        elif one.tags.get(MANIFEST_SHA256) != bucket.versions[version]:
            said = one.tags.get(MANIFEST_SHA256, "none")
            yield (
                f"{version} is stored with manifest digest {bucket.versions[version]} and registered with {said}:"
                f" run `{track_command(bucket.name, version)}`"
            )


def _aliases(bucket: BucketView, registry: Registry) -> Iterator[str]:
    versions = {one.number: one.tags.get(MODEL_VERSION) for one in registry.versions}
    track_all = f"run `{track_command(bucket.name)}`"
    for channel, version in sorted(bucket.channels.items()):
        if version not in bucket.versions:
            yield f"channel {channel} points at {version}, which is not stored: move it onto one that is"
        elif not can_be_alias(channel):
            continue
        elif channel not in registry.aliases:
            yield f"channel {channel} points at {version} and there is no such alias: {track_all}"
        elif (said := versions.get(registry.aliases[channel])) != version:
            yield f"channel {channel} points at {version} and the alias at {said or 'nothing'}: {track_all}"
    for alias in sorted(registry.aliases.keys() - bucket.channels.keys()):
        yield f"alias {alias} is no channel: {track_all}, which takes it away"
