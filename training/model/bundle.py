"""A bundle: its files, the model loaded from them, and its folder on disk. This module imports no scikit-learn."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from lambda_function.core.bundle import FOREST, GOLDEN, MANIFEST, ModelBundle, check_files, load_bundle, sha256
from lambda_function.errors import BundleError
from training.model.results import EVALUATION, Evaluation, decode_evaluation
from training.room import writing

REFERENCE = "reference.json"
"""The file with which monitoring compares later days; training/monitoring/monitor/reference.py encodes it."""


@dataclass(frozen=True, slots=True)
class ExportedBundle:
    """A bundle's files by name, and the model loaded from them."""

    files: Mapping[str, bytes]
    model: ModelBundle

    @property
    def model_version(self) -> str:
        """The immutable id of this model."""
        return self.model.model_version

    @property
    def manifest_sha256(self) -> str:
        """The digest by which a channel names this bundle."""
        return sha256(self.files[MANIFEST])

    def evaluation(self) -> Evaluation | None:
        """Decode the evaluation; None for a bundle without one.

        Raises:
            BundleError: The file does not decode.
        """
        if EVALUATION not in self.files:
            return None
        try:
            return decode_evaluation(self.files[EVALUATION])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BundleError(self.model_version, EVALUATION, f"does not decode: {error}") from error


def write_bundle(bundle: ExportedBundle, folder: Path) -> Path:
    """Write a bundle into ``folder/<version>`` and return that; the manifest comes last and completes it."""
    target = folder / bundle.model_version
    with writing(target):
        target.mkdir(parents=True, exist_ok=True)
        for name in (*bundle.model.manifest.files, MANIFEST):
            part = target / f".{name}.part"
            part.write_bytes(bundle.files[name])
            part.replace(target / name)  # an interrupted run leaves no partial file under its name
    return target


def read_bundle(folder: Path, model_version: str | None = None) -> ExportedBundle:
    """Read and check a bundle that `write_bundle` wrote.

    Args:
        folder: The bundle's folder.
        model_version: The version that it must be; by default the folder's name.

    Raises:
        BundleError: The bundle is invalid; the message names the file and the problem.
    """
    files = _read_files(folder, (FOREST, GOLDEN, MANIFEST))
    model = load_bundle(model_version or folder.name, sha256(files.get(MANIFEST, b"")), files)
    files |= _read_files(folder, model.manifest.files)
    check_files(model.manifest, files)
    return ExportedBundle(files, model)


def _read_files(folder: Path, names: Iterable[str]) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}
