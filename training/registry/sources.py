"""The two places of trained versions: a bucket, and the local folder that training writes bundles to."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lambda_function.core.bundle import MANIFEST
from lambda_function.errors import BundleError
from training.errors import NoSuchVersionError
from training.model.bundle import ExportedBundle, read_bundle
from training.registry.bucket import Bucket
from training.registry.versions import (
    list_artifacts,
    put_artifact,
    read_file,
    read_stored,
    resolve_version,
    stored_versions,
)
from training.room import writing


@dataclass(frozen=True, slots=True)
class Sources:
    """A bucket, and a folder of bundles."""

    bucket: Bucket
    folder: Path

    def resolve(self, name: str) -> str:
        """Return the version that a name means: a version in the folder, else as `resolve_version` finds it.

        Raises:
            NoSuchVersionError: The name fits no version, or it is the beginning of several.
        """
        if (self.folder / name / MANIFEST).is_file():
            return name
        return resolve_version(self.bucket, name)

    def all_versions(self) -> tuple[str, ...]:
        """List the bucket's versions, then those versions of the folder that load."""
        stored = stored_versions(self.bucket)
        local = sorted(path.parent.name for path in self.folder.glob(f"*/{MANIFEST}"))
        return (*stored, *(version for version in local if version not in stored and self._loads(version)))

    def _loads(self, version: str) -> bool:
        try:
            read_bundle(self.folder / version)
        except BundleError:
            return False
        return True

    def is_stored(self, model_version: str) -> bool:
        """Return whether the bucket holds a version; False means that only the folder does.

        Raises:
            NoSuchVersionError: Neither holds it.
        """
        if read_file(self.bucket, model_version, MANIFEST) is not None:
            return True
        if (self.folder / model_version / MANIFEST).is_file():
            return False
        raise NoSuchVersionError(self.bucket.name, model_version, stored_versions(self.bucket))

    def read(self, model_version: str) -> tuple[ExportedBundle, dict[str, bytes], bool]:
        """Read a version.

        Returns:
            The bundle, its artifacts by name (the bucket's in place of the folder's), and whether the bucket holds it.

        Raises:
            NoSuchVersionError: Neither the bucket nor the folder holds it.
            BundleError: A file is missing or wrong.
            BucketError: S3 failed.
        """
        folder, is_stored = self.folder / model_version, self.is_stored(model_version)
        bundle = read_stored(self.bucket, model_version) if is_stored else read_bundle(folder)
        artifacts = dict(_artifacts_in(folder, bundle))
        if is_stored:
            names = list_artifacts(self.bucket, bundle.model.manifest)
            found = {name: read_file(self.bucket, model_version, name) for name in names}
            artifacts |= {name: data for name, data in found.items() if data is not None}
        return bundle, artifacts, is_stored


def write_artifacts(folder: Path, artifacts: dict[str, bytes]) -> None:
    """Write artifacts beside a bundle in its folder."""
    for name, data in artifacts.items():
        path = folder / name
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def put_artifacts(bucket: Bucket, model_version: str, artifacts: dict[str, bytes]) -> None:
    """Store artifacts beside a version in a bucket."""
    for name, data in artifacts.items():
        put_artifact(bucket, model_version, name, data)


def _artifacts_in(folder: Path, bundle: ExportedBundle) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in bundle.files:
            yield name, path.read_bytes()
