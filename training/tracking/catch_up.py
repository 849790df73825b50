"""Tells MLflow what it has missed, version by version: from the bucket, or from where training has left it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lambda_function.errors import BundleError
from lambda_function.model import MANIFEST, bundle_key
from training.errors import NoSuchVersionError
from training.export import ExportedBundle, read_bundle
from training.registry.objects import list_objects
from training.registry.versions import read_file, read_stored, resolve_version, stored_versions
from training.tracking.mirror import register
from training.tracking.runs import track_run
from training.tracking.store import TrackingStore


@dataclass(frozen=True, slots=True)
class Tracked:
    """What MLflow has of a version now. `registered` is None where the bucket does not hold it."""

    model_version: str
    run_id: str
    registered: int | None


@dataclass(frozen=True, slots=True)
class Sources:
    """Where bundles are: a bucket, and the folder that training writes them to."""

    s3: Any
    bucket: str
    folder: Path

    def resolve(self, name: str) -> str:
        """Returns the version that a person means: one of the bucket's as `registry.resolve_version`, or a folder's.

        Raises:
            NoSuchVersionError: None is called so, or several are.
        """
        if (self.folder / name / MANIFEST).is_file():
            return name
        return resolve_version(self.s3, self.bucket, name)

    def all_versions(self) -> tuple[str, ...]:
        """Returns the bucket's versions, and those in the folder that load."""
        stored = stored_versions(self.s3, self.bucket)
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
            PublishError: The bucket did not answer as needed.
        """
        folder = self.folder / model_version
        is_stored = self._is_stored(model_version)
        bundle = read_stored(self.s3, self.bucket, model_version) if is_stored else read_bundle(folder)
        papers = dict(self._papers_in_folder(folder, bundle))
        if is_stored:
            papers |= self._papers_in_bucket(bundle)
        return bundle, papers, is_stored

    def _is_stored(self, model_version: str) -> bool:
        if read_file(self.s3, self.bucket, model_version, MANIFEST) is not None:
            return True
        if (self.folder / model_version / MANIFEST).is_file():
            return False
        raise NoSuchVersionError(self.bucket, model_version, stored_versions(self.s3, self.bucket))

    @staticmethod
    def _papers_in_folder(folder: Path, bundle: ExportedBundle) -> Iterator[tuple[str, bytes]]:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and _is_paper(name, bundle):
                yield name, path.read_bytes()

    def _papers_in_bucket(self, bundle: ExportedBundle) -> dict[str, bytes]:
        prefix = bundle_key(bundle.model_version, "")
        names = [listed.key.removeprefix(prefix) for listed in list_objects(self.s3, self.bucket, prefix)]
        papers = {
            name: read_file(self.s3, self.bucket, bundle.model_version, name)
            for name in names
            if _is_paper(name, bundle)
        }
        return {name: data for name, data in papers.items() if data is not None}


def catch_up(store: TrackingStore, sources: Sources, model_version: str) -> Tracked:
    """Tracks a version as training does, and registers it if the bucket holds it.

    Raises:
        TrackingError: MLflow did not take all of it; once more later completes it.
        NoSuchVersionError: There is no such version.
        BundleError: Something about it is wrong.
        PublishError: The bucket did not answer as needed.
    """
    bundle, papers, is_stored = sources.read(model_version)
    run_id = track_run(store, bundle, papers, sources.bucket)
    number = register(store, sources.bucket, bundle, run_id) if is_stored else None
    return Tracked(model_version, run_id, number)


def _is_paper(name: str, bundle: ExportedBundle) -> bool:
    return name != MANIFEST and name not in bundle.model.manifest.files
