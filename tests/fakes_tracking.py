"""A stand-in for MLflow with its rules: legal names, parameters that never change, runs and versions that exist.

Faults are values, as in `tests/fakes.py`: `script` holds an outcome for each call; None, or no entry, is success.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from training.errors import TrackingError
from training.tracking.store import RegisteredVersion, Registry, RunDataset, RunFacts

LEGAL_NAME = re.compile(r"[\w.\- /:]{1,250}", re.ASCII)
URI = "http://mlflow.invalid"
GONE = TrackingError(URI, "failed (Connection refused)")


@dataclass(slots=True)
class FakeRun:
    """A run and what was logged to it."""

    experiment: str
    name: str
    tags: dict[str, str]
    parameters: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    datasets: tuple[RunDataset, ...] = ()
    span_s: tuple[float | None, float | None] = (None, None)
    has_ended: bool = False


@dataclass(slots=True)
class FakeTracking:
    """A `TrackingStore` in memory that counts its calls."""

    script: list[Exception | None] = field(default_factory=list)
    runs: dict[str, FakeRun] = field(default_factory=dict)
    models: dict[str, dict[int, dict[str, str]]] = field(default_factory=dict)
    aliases: dict[str, dict[str, int]] = field(default_factory=dict)
    n_calls: int = 0
    uri: str = URI

    def find_run(self, experiment: str, tag: str, value: str) -> str | None:
        """Return the oldest run with a tag."""
        self._begin()
        found = (run_id for run_id, run in self.runs.items() if run.experiment == experiment)
        return next((run_id for run_id in found if self.runs[run_id].tags.get(tag) == value), None)

    def begin_run(self, experiment: str, name: str, tags: Mapping[str, str], began_s: float | None = None) -> str:
        """Begin a run."""
        self._begin()
        run_id = f"run{len(self.runs)}"
        self.runs[run_id] = FakeRun(experiment, name, dict(tags), span_s=(began_s, None))
        return run_id

    def log(self, run_id: str, facts: RunFacts) -> None:
        """Log facts."""
        self._begin()
        run = self.runs[run_id]
        assert all(LEGAL_NAME.fullmatch(name) for names in (facts.parameters, facts.metrics) for name in names)
        assert all(run.parameters.get(name, value) == value for name, value in facts.parameters.items())
        run.parameters |= facts.parameters
        run.metrics |= facts.metrics
        run.tags |= facts.tags
        run.datasets = facts.datasets

    def put_files(self, run_id: str, folder: Path) -> None:
        """Store a folder's files."""
        self._begin()
        found = (path for path in folder.rglob("*") if path.is_file())
        self.runs[run_id].files |= {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}

    def end_run(self, run_id: str, ended_s: float | None = None) -> None:
        """End a run."""
        self._begin()
        run = self.runs[run_id]
        run.has_ended, run.span_s = True, (run.span_s[0], ended_s)

    def read_registry(self, registered_model: str) -> Registry:
        """Read a registered model."""
        self._begin()
        versions = self.models.get(registered_model, {})
        return Registry(
            tuple(RegisteredVersion(number, dict(tags)) for number, tags in sorted(versions.items())),
            dict(self.aliases.get(registered_model, {})),
        )

    def add_version(self, registered_model: str, run_id: str, description: str, tags: Mapping[str, str]) -> int:
        """Add a version."""
        self._begin()
        assert run_id in self.runs
        versions = self.models.setdefault(registered_model, {})
        number = max(versions, default=0) + 1
        versions[number] = dict(tags)
        return number

    def tag_version(self, registered_model: str, number: int, tags: Mapping[str, str]) -> None:
        """Set tags."""
        self._begin()
        self.models[registered_model][number] |= tags

    def set_alias(self, registered_model: str, alias: str, number: int) -> None:
        """Point an alias."""
        self._begin()
        assert number in self.models[registered_model]
        self.aliases.setdefault(registered_model, {})[alias] = number

    def delete_alias(self, registered_model: str, alias: str) -> None:
        """Delete an alias."""
        self._begin()
        del self.aliases[registered_model][alias]

    def _begin(self) -> None:
        self.n_calls += 1
        outcome = self.script.pop(0) if self.script else None
        if outcome:
            raise outcome
