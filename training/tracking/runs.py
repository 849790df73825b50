"""A run in MLflow for each version, from its bundle alone: so it can be made, or completed, at any time."""

import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import distributions
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from lambda_function.core.bundle import Manifest, sha256
from lambda_function.errors import BundleError
from training.errors import TrackingError, TrackingUnavailableError
from training.model.bundle import ExportedBundle
from training.model.evaluation import EVALUATION, Evaluation, Measured, MonthsResult, SliceResult, decode_evaluation
from training.tracking.store import RunFacts, TrackingStore, remedy

# MERGED FROM training/tracking/facts.py
# What a run says of a bundle: parameters, metrics and tags, all read from the bundle itself.
MODEL_VERSION, MANIFEST_SHA256 = "ridecast.model_version", "ridecast.manifest_sha256"
"""Tags of runs and of registered versions: what ties them to a bundle."""

_ILLEGAL = re.compile(r"[^A-Za-z0-9_\-. ]")  # what MLflow takes in a name, but for its `/` and `:`
_MAX_PARAMETER_CHARACTERS = 6000  # MLflow's


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model comes from. The first three are None where they cannot be told: installed code has no commit.

    `git_dirty` says that the code was another than the commit's.
    """

    git_commit: str | None = None
    git_dirty: bool | None = None
    uv_lock_sha256: str | None = None
    python: str
    platform: str
    packages: dict[str, str]


def run_facts(bundle: ExportedBundle, environment: Environment | None) -> RunFacts:
    """Reads a run's facts from a bundle.

    Args:
        bundle: Any; one of before `evaluation.json` has only what its manifest says.
        environment: What it was trained in, None where that is no longer known.

    Raises:
        BundleError: Its evaluation does not decode.
    """
    return RunFacts(_parameters(bundle.model.manifest), _metrics(bundle), _tags(bundle, environment))


def metric_name(*parts: str) -> str:
    """Joins parts to a name that MLflow takes; its pages put what stands before the last ``/`` into one section.

    >>> metric_name("validate", "boroughs", "rmse_minutes.Queens to Bronx")
    'validate/boroughs/rmse_minutes.Queens to Bronx'
    >>> metric_name("validate", "pair", "rmse_minutes.A/B → C")
    'validate/pair/rmse_minutes.A_B _ C'
    """
    return "/".join(_ILLEGAL.sub("_", part) for part in parts)


def _parameters(manifest: Manifest) -> dict[str, str]:
    parameters = {
        "service": manifest.service,
        "train_months": ", ".join(manifest.train_months),
        "validate_months": ", ".join(manifest.validate_months),
        "feature_names": ", ".join(manifest.feature_names),
        **{f"parameters/{name}": value for name, value in _leaves(manifest.parameters)},
        **{f"software/{name}": value for name, value in manifest.software.items()},
    }
    for data in manifest.data:
        told = f"{data.month}: {data.n_kept} of {data.n_rows} rows kept, sha256 {data.sha256}"
        parameters[f"data/{data.file}"] = told
    return {metric_name(*name.split("/")): str(told)[:_MAX_PARAMETER_CHARACTERS] for name, told in parameters.items()}


def _metrics(bundle: ExportedBundle) -> dict[str, float]:
    manifest = bundle.model.manifest
    metrics = {
        "train/n_rides": float(sum(data.n_kept for data in manifest.data)),
        "bundle/n_bytes": float(sum(map(len, bundle.files.values()))),
    }
    evaluation = _evaluation(bundle)
    if evaluation is None:
        numbers = ((name, value) for name, value in _leaves(manifest.metrics) if _is_number(value))
        return metrics | {metric_name(*name.split(".")): float(value) for name, value in numbers}
    metrics.update(_months_metrics("validate", evaluation.validate))
    if evaluation.test:
        metrics.update(_months_metrics("test", evaluation.test))
    for late in evaluation.without_pickup_time:
        metrics.update(_measured("without_pickup_time", late.model, "", f".{late.arrival}"))
    return metrics


def _evaluation(bundle: ExportedBundle) -> Evaluation | None:
    if EVALUATION not in bundle.files:
        return None
    try:
        return decode_evaluation(bundle.files[EVALUATION])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(bundle.model_version, EVALUATION, f"does not decode: {error}") from error


def _months_metrics(part: str, result: MonthsResult) -> Iterator[tuple[str, float]]:
    """Gives all metrics of one set of months: the whole first, as in ``validate/rmse_minutes``, then its slices."""
    yield from _result_metrics(part, result, "")
    for one in result.slices:
        yield from _result_metrics(f"{part}/{one.by}", one, f".{one.name}")


def _result_metrics(section: str, result: MonthsResult | SliceResult, end: str) -> Iterator[tuple[str, float]]:
    yield from _measured(section, result.model, "", end)
    yield from _measured(section, result.baseline, "baseline_", end)
    for figure in ("coverage", "width_minutes"):
        value = getattr(result, figure)
        if value is not None:
            yield metric_name(*section.split("/"), figure + end), value


def _measured(section: str, measured: Measured, begin: str, end: str) -> Iterator[tuple[str, float]]:
    for figure, value in msgspec.structs.asdict(measured).items():
        if not (begin and figure == "n_rides"):  # the baseline's rides are the model's
            yield metric_name(*section.split("/"), begin + figure + end), float(value)


def _tags(bundle: ExportedBundle, environment: Environment | None) -> dict[str, str]:
    tags = {
        MODEL_VERSION: bundle.model_version,
        MANIFEST_SHA256: bundle.manifest_sha256,
        "mlflow.source.name": "ridecast train",
        "mlflow.source.type": "LOCAL",
    }
    if environment is None:
        return tags
    known = {
        "mlflow.source.git.commit": environment.git_commit,  # MLflow's own name: its pages show it
        "ridecast.git_dirty": environment.git_dirty,
        "ridecast.uv_lock_sha256": environment.uv_lock_sha256,
        "ridecast.python": environment.python,
        "ridecast.platform": environment.platform,
    }
    return tags | {name: str(value) for name, value in known.items() if value is not None}


def _leaves(tree: Mapping[str, Any], begin: str = "") -> Iterator[tuple[str, Any]]:
    """Gives what stands in nested mappings, by names joined with dots."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{begin}{name}.")
        else:
            yield f"{begin}{name}", value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


BUNDLE_FOLDER = "bundle"
"""Where a run keeps the bundle's own files; papers lie beside it."""

Papers = Mapping[str, Path | bytes]
"""What lies beside a bundle, by name: files, or their bytes."""


def track_run(
    store: TrackingStore, bundle: ExportedBundle, papers: Papers | None = None, bucket: str | None = None
) -> str:
    """Tells all about a version: facts, the bundle's files, and papers. A run that is there already is completed.

    Args:
        store: Where to.
        bundle: The version.
        papers: As in ``report.html``, ``plots/by_hour.png``; ENVIRONMENT among them says what it was trained in.
        bucket: Where it is stored, if anywhere: for what an error says to do.

    Returns:
        The run's id.

    Raises:
        TrackingError: Not all of it was taken; once more later completes it.
        BundleError: Its evaluation does not decode.
    """
    papers = papers or {}
    facts = run_facts(bundle, _environment(papers))
    experiment = f"ridecast-{bundle.model.manifest.service}"
    with about(store, bucket, bundle.model_version):
        run_id = store.find_run(experiment, MODEL_VERSION, bundle.model_version)
        if run_id is None:
            run_id = store.begin_run(experiment, bundle.model_version, {MODEL_VERSION: bundle.model_version})
        store.log(run_id, facts)
        with TemporaryDirectory() as folder:
            _lay_out(Path(folder), bundle, papers)
            store.put_files(run_id, Path(folder))
        store.end_run(run_id)
    return run_id


@contextmanager
def about(store: TrackingStore, bucket: str | None, model_version: str | None = None) -> Iterator[None]:
    """Has errors say what to track again, from which bucket, and makes TrackingError of a disk that is full."""
    what = remedy(bucket, model_version) if bucket else None
    try:
        yield
    except TrackingUnavailableError:
        raise
    except TrackingError as error:
        raise TrackingError(error.uri, error.problem, model_version, what) from error
    except OSError as error:
        raise TrackingError(store.uri, f"was not given the files ({error})", model_version, what) from error


def _environment(papers: Papers) -> Environment | None:
    """Reads what a version was trained in; None where nobody has said so."""
    paper = papers.get(ENVIRONMENT)
    try:
        data = paper.read_bytes() if isinstance(paper, Path) else paper
        return None if data is None else decode_environment(data)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None  # it is only a paper


def _lay_out(folder: Path, bundle: ExportedBundle, papers: Papers) -> None:
    """Writes everything into a folder as the run is to have it."""
    files: dict[str, Path | bytes] = {f"{BUNDLE_FOLDER}/{name}": data for name, data in bundle.files.items()}
    for name, data in {**papers, **files}.items():
        target = folder / name
        if not target.resolve().is_relative_to(folder.resolve()):
            raise OSError(f"{name} leads out of its folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data.read_bytes() if isinstance(data, Path) else data)


# MERGED FROM training/tracking/environment.py
# What a model was trained in: commit, lock file, Python, packages. A paper beside the bundle, for it is no input.
ENVIRONMENT = "environment.json"
"""The paper's name."""

_PROJECT = Path(__file__).parents[2]
_GIT_TIMEOUT_S = 10.0


def describe_environment(project: Path = _PROJECT) -> Environment:
    """Describes what this process runs in. To be asked when a model is trained: later it may be something else."""
    lock = project / "uv.lock"
    commit = _commit(project)
    return Environment(
        git_commit=commit,
        git_dirty=None if commit is None else _git(project, "status", "--porcelain") != "",
        uv_lock_sha256=sha256(lock.read_bytes()) if lock.is_file() else None,
        python=platform.python_version(),
        platform=platform.platform(),
        packages=dict(sorted((one.name, one.version) for one in distributions())),
    )


def encode_environment(environment: Environment) -> bytes:
    """Returns the paper's bytes."""
    return msgspec.json.format(msgspec.json.encode(environment), indent=1) + b"\n"


decode_environment = msgspec.json.Decoder(Environment).decode


def _commit(project: Path) -> str | None:
    """Returns the commit of a checkout; not that of a repository which merely has this project's package inside."""
    top = _git(project, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != project.resolve():
        return None
    return _git(project, "rev-parse", "--verify", "HEAD")


def _git(project: Path, *words: str) -> str | None:
    """Asks git; None where there is none, or it does not know."""
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "-C", str(project), *words]
    try:
        done = subprocess.run(  # noqa: S603 - git, with words from this file
            command, capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
