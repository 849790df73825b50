"""The interface to a store of runs and registered models: MLflow (`mlflow_store.py`), or a fake in tests."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a run logs. Parameters never change, because the bundle never does; tags may."""

    parameters: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


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

    def begin_run(self, experiment: str, name: str, tags: Mapping[str, str]) -> str:
        """Begin a run, create its experiment if that is new, and return the run's id."""

    def log(self, run_id: str, facts: RunFacts) -> None:
        """Log facts, in as few calls as possible. Logging the same facts again changes nothing."""

    def put_files(self, run_id: str, folder: Path) -> None:
        """Store a folder's files with a run, in place of those with the same names."""

    def end_run(self, run_id: str) -> None:
        """Mark a run as finished."""

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


def sync_command(bucket: str | None, model_version: str | None = None) -> str:
    """Return the command that logs one version of a bucket, or all of them, to MLflow.

    >>> sync_command("rides", "green-2021-01-3f2a9c1d0b7e")
    'ridecast models sync green-2021-01-3f2a9c1d0b7e --bucket rides'
    >>> sync_command("file:my bucket")
    "ridecast models sync --all --bucket 'file:my bucket'"
    """
    where = ("--bucket", bucket) if bucket else ()
    return shlex.join(("ridecast", "models", "sync", model_version or "--all", *where))


def remedy(bucket: str | None, model_version: str | None = None) -> str:
    """Return what to do when MLflow works again.

    >>> remedy("rides", "green-2021-01-3f2a9c1d0b7e")
    'the bundle is saved; run `ridecast models sync green-2021-01-3f2a9c1d0b7e --bucket rides` when it is back'
    """
    if model_version:
        return f"the bundle is saved; run `{sync_command(bucket, model_version)}` when it is back"
    return f"check that MLFLOW_TRACKING_URI names a running server, then run `{sync_command(bucket)}`"
