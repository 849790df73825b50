"""A bundle in hand: its files, and the model that loading them gives. What moves bundles needs no scikit-learn."""

from collections.abc import Mapping
from dataclasses import dataclass

from lambda_function.core.bundle import MANIFEST, ModelBundle, sha256


@dataclass(frozen=True, slots=True)
class ExportedBundle:
    """A bundle's files by name, with the model that loading them gives."""

    files: Mapping[str, bytes]
    model: ModelBundle

    @property
    def model_version(self) -> str:
        """The immutable id of this model."""
        return self.model.model_version

    @property
    def manifest_sha256(self) -> str:
        """What a channel says of this bundle."""
        return sha256(self.files[MANIFEST])
