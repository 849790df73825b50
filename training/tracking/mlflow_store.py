"""The tracking store in MLflow. No other file of this project imports mlflow."""

import fcntl
import json
import os
import re
import sqlite3
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from training.errors import TrackingError
from training.project import build_folder
from training.tracking.store import RegisteredVersion, Registry, RunDataset, RunFacts

TRACKING_URI = "MLFLOW_TRACKING_URI"
"""MLflow's own variable: the URI of a server or of a database."""

LOCAL_FOLDER = build_folder() / "mlflow"
"""The default folder: mlflow.db, and artifacts/ beside it."""

LOCAL_DATABASE = LOCAL_FOLDER / "mlflow.db"

_SQLITE = "sqlite:///"
_LOCK = ".lock"
_MAX_DIGEST_CHARACTERS = 36  # MLflow's limit for a dataset's
_KIND = {"mlflow.experimentKind": "custom_model_development"}  # or its pages show it as a chat model's
_MAX_WHY_CHARACTERS = 300
_OTHER_SCHEMA = re.compile(r"out-of-date database schema \((.*?)\)")
"""MLflow's words for a database that another version of it has made."""

# Defaults for MLflow's environment variables: a server that does not answer costs seconds, not four minutes as with
# MLflow's own defaults; no telemetry; and MLflow prints nothing.
_ENVIRONMENT = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def open_store(uri: str | None = None) -> "MlflowStore":
    """Return the store at a URI; without one at MLFLOW_TRACKING_URI, else in LOCAL_FOLDER. Does not connect yet."""
    return MlflowStore(uri or os.environ.get(TRACKING_URI) or f"{_SQLITE}{LOCAL_DATABASE.resolve()}")


class MlflowStore:
    """A `TrackingStore` in MLflow. The first call imports mlflow and creates the database."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        parts = urlsplit(uri)
        self._login, at, _ = parts.netloc.rpartition("@")
        self.uri = uri.replace(self._login + at, "", 1)

    @cached_property
    def _client(self) -> Any:
        os.environ.update({name: value for name, value in _ENVIRONMENT.items() if name not in os.environ})
        try:
            import mlflow  # noqa: PLC0415 - takes a second, and is optional
        except ModuleNotFoundError as error:
            hint = "run `uv sync --inexact --extra tracking`, then `ridecast models sync --all`"
            raise TrackingError(self.uri, "cannot be used because mlflow is not installed", hint) from error
        folder = self._database_folder
        if folder is None:
            return mlflow.MlflowClient(self._uri)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two first runs at once must not both create the tables
            return mlflow.MlflowClient(self._uri)

    @property
    def _database_folder(self) -> Path | None:
        """The folder of a SQLite database; None for anything else."""
        return Path(self._uri.removeprefix(_SQLITE)).parent.resolve() if self._uri.startswith(_SQLITE) else None

    def find_run(self, experiment: str, tag: str, value: str) -> str | None:
        """Return the id of the oldest run with a tag; None if there is none."""
        with self._tracking_errors():
            found = self._client.get_experiment_by_name(experiment)
            if found is None:
                return None
            runs = self._client.search_runs(
                [found.experiment_id], f"tags.`{tag}` = '{value}'", max_results=1, order_by=["attributes.start_time"]
            )
            return str(runs[0].info.run_id) if runs else None

    def begin_run(self, experiment: str, name: str, tags: Mapping[str, str], began_s: float | None = None) -> str:
        """Begin a run, create its experiment if that is new, and return the run's id."""
        with self._tracking_errors():
            began_ms = None if began_s is None else round(began_s * 1000)
            experiment_id = self._experiment_id(experiment)
            run = self._client.create_run(experiment_id, run_name=name, tags=dict(tags), start_time=began_ms)
            return str(run.info.run_id)

    def _experiment_id(self, experiment: str) -> str:
        """Return the id of an experiment; create it unless it is there, or somebody else is just creating it."""
        from mlflow.exceptions import MlflowException  # noqa: PLC0415

        found = self._client.get_experiment_by_name(experiment)
        if found is None:
            try:
                return self._make_experiment(experiment)
            except MlflowException:
                found = self._client.get_experiment_by_name(experiment)
                if found is None:
                    raise
        return str(found.experiment_id)

    def _make_experiment(self, experiment: str) -> str:
        """Create an experiment with its files beside the database; a server chooses the place itself."""
        folder = self._database_folder
        location = (folder / "artifacts" / experiment).as_uri() if folder else None
        return str(self._client.create_experiment(experiment, location, _KIND))

    def log(self, run_id: str, facts: RunFacts) -> None:
        """Log facts, up to a thousand metrics a call. Logging the same facts again changes nothing."""
        with self._tracking_errors():
            from mlflow.entities import Metric, Param, RunTag  # noqa: PLC0415

            # The run's beginning is the same each time, so MLflow stores the same points.
            began_ms = self._client.get_run(run_id).info.start_time
            metrics = [Metric(name, value, began_ms, 0) for name, value in facts.metrics.items()]
            parameters = [Param(name, value) for name, value in facts.parameters.items()]
            tags = [RunTag(name, value) for name, value in facts.tags.items()]
            self._client.log_batch(run_id, metrics, parameters, tags)  # splits what exceeds the server's limit
            if facts.datasets:
                self._client.log_inputs(run_id, [_dataset_input(one) for one in facts.datasets])

    def put_files(self, run_id: str, folder: Path) -> None:
        """Store a folder's files with a run, in place of those with the same names."""
        with self._tracking_errors():
            self._client.log_artifacts(run_id, str(folder))

    def end_run(self, run_id: str, ended_s: float | None = None) -> None:
        """Mark a run as finished."""
        with self._tracking_errors():
            ended_ms = round((time.time() if ended_s is None else ended_s) * 1000)
            self._client.set_terminated(run_id, "FINISHED", ended_ms)

    def read_registry(self, registered_model: str) -> Registry:
        """Read a registered model; one that does not exist has no versions."""
        with self._tracking_errors():
            if not self._has_model(registered_model):
                return Registry()
            aliases = self._client.get_registered_model(registered_model).aliases
            versions = tuple(
                RegisteredVersion(int(one.version), dict(one.tags)) for one in self._versions(registered_model)
            )
            by_number = tuple(sorted(versions, key=lambda one: one.number))
            return Registry(by_number, {alias: int(number) for alias, number in aliases.items()})

    def _versions(self, registered_model: str) -> Iterator[Any]:
        page = self._client.search_model_versions(f"name = '{registered_model}'")
        yield from page
        while page.token:
            page = self._client.search_model_versions(f"name = '{registered_model}'", page_token=page.token)
            yield from page

    def _has_model(self, registered_model: str) -> bool:
        return bool(self._client.search_registered_models(f"name = '{registered_model}'"))

    def add_version(self, registered_model: str, run_id: str, description: str, tags: Mapping[str, str]) -> int:
        """Add a version to a registered model, create the model if it is new, and return the version's number."""
        with self._tracking_errors():
            self._make_model(registered_model)
            made = self._client.create_model_version(
                registered_model,
                f"runs:/{run_id}/bundle",
                run_id,
                tags=dict(tags),
                description=description,
                await_creation_for=0,
            )
            return int(made.version)

    def _make_model(self, registered_model: str) -> None:
        """Create a registered model unless it is there, or somebody else is just creating it."""
        from mlflow.exceptions import MlflowException  # noqa: PLC0415

        if not self._has_model(registered_model):
            try:
                self._client.create_registered_model(registered_model)
            except MlflowException:
                if not self._has_model(registered_model):
                    raise

    def tag_version(self, registered_model: str, number: int, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        with self._tracking_errors():
            for name, value in tags.items():
                self._client.set_model_version_tag(registered_model, str(number), name, value)

    def set_alias(self, registered_model: str, alias: str, number: int) -> None:
        """Point an alias at a version."""
        with self._tracking_errors():
            self._client.set_registered_model_alias(registered_model, alias, str(number))

    def delete_alias(self, registered_model: str, alias: str) -> None:
        """Delete an alias."""
        with self._tracking_errors():
            self._client.delete_registered_model_alias(registered_model, alias)

    @contextmanager
    def _tracking_errors(self) -> Iterator[None]:
        """Turn every error of MLflow and its libraries into a TrackingError, and hide their warnings."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except TrackingError:
            raise
        except Exception as error:  # a broken server makes them raise a dozen kinds
            why = _why(error).replace(self._login, "***") if self._login else _why(error)
            if schema := _OTHER_SCHEMA.search(why):
                hint = f"back it up, then run `mlflow db upgrade {self.uri}`; if it is newer, install a newer mlflow"
                raise TrackingError(self.uri, f"has a schema of another version ({schema[1]})", hint) from error
            raise TrackingError(self.uri, f"failed ({why})") from error


def _dataset_input(dataset: RunDataset) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag  # noqa: PLC0415

    source, profile = json.dumps({"uri": dataset.name}), json.dumps(dict(dataset.profile))
    one = Dataset(dataset.name, dataset.sha256[:_MAX_DIGEST_CHARACTERS], "local", source, profile=profile)
    return DatasetInput(one, [InputTag("mlflow.data.context", dataset.context)])


def _why(error: BaseException) -> str:
    """Return an error's cause in one line: the innermost error of network, disk or database in its chain."""
    from urllib3.exceptions import HTTPError  # noqa: PLC0415 - comes with mlflow

    cause, inner = error, _inner(error)
    while inner:
        if isinstance(inner, HTTPError | OSError | sqlite3.Error):
            cause = inner
        inner = _inner(inner)
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    return lines[0][:_MAX_WHY_CHARACTERS]


def _inner(error: BaseException) -> BaseException | None:
    """Return the error that caused an error; urllib3 passes some as arguments."""
    arguments = (argument for argument in error.args if isinstance(argument, BaseException))
    return error.__cause__ or error.__context__ or next(arguments, None)
