"""The interface to a store of runs and registered models: MLflow (`mlflow_store.py`), or a fake in tests."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class RunDataset:
    """Rides that a run has used: the file, its digest, and what was done with it, as in ``training``."""

    name: str
    sha256: str
    context: str
    profile: Mapping[str, str | int]  # numbers of rows


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a run logs. Parameters never change, because the bundle never does; tags may."""

    parameters: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    datasets: tuple[RunDataset, ...] = ()


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """A version of a registered model: MLflow's number, from 1, and tags, which anybody may have changed."""

    number: int
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Registry:
    """A registered model: its versions, and the number that each alias points at."""

    versions: tuple[RegisteredVersion, ...] = ()
    aliases: Mapping[str, int] = field(default_factory=dict)


class TrackingStore(Protocol):
    """A store of runs and registered models. Every method raises TrackingError if it fails."""

    @property
    def uri(self) -> str:
        """The address to show, without a password."""

    def find_run(self, experiment: str, tag: str, value: str) -> str | None:
        """Return the id of the oldest run with a tag; None if there is none."""

    def begin_run(self, experiment: str, name: str, tags: Mapping[str, str], began_s: float | None = None) -> str:
        """Begin a run, create its experiment if that is new, and return the run's id.

        `began_s` is when its training began, in seconds since the epoch; by default now.
        """

    def log(self, run_id: str, facts: RunFacts) -> None:
        """Log facts, in as few calls as possible. Logging the same facts again changes nothing."""

    def put_files(self, run_id: str, folder: Path) -> None:
        """Store a folder's files with a run, in place of those with the same names."""

    def end_run(self, run_id: str, ended_s: float | None = None) -> None:
        """Mark a run as finished at a time, in seconds since the epoch; by default now."""

    def read_registry(self, registered_model: str) -> Registry:
        """Read a registered model; one that does not exist has no versions."""

    def add_version(self, registered_model: str, run_id: str, description: str, tags: Mapping[str, str]) -> int:
        """Add a version to a registered model, create the model if it is new, and return the version's number."""

    def tag_version(self, registered_model: str, number: int, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""

    def set_alias(self, registered_model: str, alias: str, number: int) -> None:
        """Point an alias at a version."""

    def delete_alias(self, registered_model: str, alias: str) -> None:
        """Delete an alias."""
