"""The port to whatever keeps runs and registered models: MLflow (`mlflow_store.py`), or a fake in tests."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What is logged of a run. Parameters never change, for the bundle never does; tags may."""

    parameters: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """A version of a registered model.

    Attributes:
        number: MLflow's, from 1.
        tags: What ties it to a bundle; anybody may have changed them.
    """

    number: int
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Registry:
    """A registered model as it stands: its versions, and the number that each alias points at."""

    versions: tuple[RegisteredVersion, ...] = ()
    aliases: Mapping[str, int] = field(default_factory=dict)


class TrackingStore(Protocol):
    """Keeps runs and registered models. Every method raises TrackingError where it could not do its part."""

    @property
    def uri(self) -> str:
        """Where it is, for people: without a password."""

    def find_run(self, experiment: str, tag: str, value: str) -> str | None:
        """Returns the id of the oldest run that has a tag; None where there is none."""

    def begin_run(self, experiment: str, name: str, tags: Mapping[str, str]) -> str:
        """Begins a run, in an experiment that is made where it is new, and returns its id."""

    def log(self, run_id: str, facts: RunFacts) -> None:
        """Logs facts, in as few calls as there can be. Once more with the same facts changes nothing."""

    def put_files(self, run_id: str, folder: Path) -> None:
        """Lays a folder's files beside a run, in place of those of the same names."""

    def end_run(self, run_id: str) -> None:
        """Says that a run has all that belongs to it."""

    def read_registry(self, registered_model: str) -> Registry:
        """Reads a registered model; one that is not there has no versions."""

    def add_version(self, registered_model: str, run_id: str, description: str, tags: Mapping[str, str]) -> int:
        """Adds a version to a registered model, which is made where it is new, and returns its number."""

    def tag_version(self, registered_model: str, number: int, tags: Mapping[str, str]) -> None:
        """Sets tags of a version."""

    def set_alias(self, registered_model: str, alias: str, number: int) -> None:
        """Points an alias at a version."""

    def delete_alias(self, registered_model: str, alias: str) -> None:
        """Takes an alias away."""


# MERGED FROM training/tracking/remedies.py
# What mends a mirror that has missed something: the command that errors and differences name.
def track_command(bucket: str, model_version: str | None = None) -> str:
    """Returns the command that tells MLflow of one version of a bucket, or of all of them.

    >>> track_command("rides", "green-2021-01-3f2a9c1d0b7e")
    'ridecast models track green-2021-01-3f2a9c1d0b7e --bucket rides'
    >>> track_command("file:my bucket")
    "ridecast models track --all --bucket 'file:my bucket'"
    """
    return shlex.join(["ridecast", "models", "track", model_version or "--all", "--bucket", bucket])


def remedy(bucket: str, model_version: str | None = None) -> str:
    """Returns what to do once MLflow is back.

    >>> remedy("rides", "green-2021-01-3f2a9c1d0b7e")
    'the bundle is saved; run `ridecast models track green-2021-01-3f2a9c1d0b7e --bucket rides` when it is back'
    """
    if model_version:
        return f"the bundle is saved; run `{track_command(bucket, model_version)}` when it is back"
    return f"see that MLFLOW_TRACKING_URI names one that runs; `{track_command(bucket)}` catches up"
