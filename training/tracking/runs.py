"""Log one MLflow run for each version. A run is built from the bundle alone, so it can be logged again at any time."""

import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from lambda_function.core.bundle import Manifest
from training.errors import TrackingError
from training.model.bundle import ExportedBundle
from training.model.results import Measured, MonthsResult, SliceResult
from training.registry.catalog import leaves
from training.tracking.environment import ENVIRONMENT, Environment, decode_environment
from training.tracking.store import RunFacts, TrackingStore

MODEL_VERSION, MANIFEST_SHA256 = "ridecast.model_version", "ridecast.manifest_sha256"
"""Tags that tie runs and registered versions to a bundle."""

BUNDLE_FOLDER = "bundle"
"""The folder of the bundle's files in a run; the artifacts lie beside it."""

_ILLEGAL = re.compile(r"[^A-Za-z0-9_\-. ]")  # what MLflow allows in a name, without its `/` and `:`
_MAX_PARAMETER_CHARACTERS = 6000  # MLflow's limit


def track_run(
    store: TrackingStore,
    bundle: ExportedBundle,
    artifacts: Mapping[str, bytes] | None = None,
    bucket: str | None = None,
) -> str:
    """Log a version as a run. If the version already has a run, complete that one and replace its files.

    Args:
        store: The tracking store.
        bundle: The version.
        artifacts: By name, as in ``report.html`` and ``plots/residuals.svg``; ENVIRONMENT becomes tags, too.
        bucket: The bucket that stores the version, if any; the hint of an error names it.

    Returns:
        The run's id.

    Raises:
        TrackingError: The run is not complete; a later call completes it.
        BundleError: The bundle's evaluation does not decode.
    """
    artifacts = artifacts or {}
    facts = run_facts(bundle, _environment(artifacts))
    experiment = f"ridecast-{bundle.model.manifest.service}"
    with with_remedy(store, bucket, bundle.model_version):
        run_id = store.find_run(experiment, MODEL_VERSION, bundle.model_version)
        if run_id is None:
            run_id = store.begin_run(experiment, bundle.model_version, {MODEL_VERSION: bundle.model_version})
        store.log(run_id, facts)
        with TemporaryDirectory() as folder:
            _write_files(Path(folder), bundle, artifacts)
            store.put_files(run_id, Path(folder))
        store.end_run(run_id)
    return run_id


def sync_command(bucket: str | None, model_version: str | None = None) -> str:
    """Return the command that logs one version of a bucket, or all of them, to MLflow.

    >>> sync_command("rides", "green-2021-01-3f2a9c1d0b7e")
    'ridecast models sync green-2021-01-3f2a9c1d0b7e --bucket rides'
    >>> sync_command("file:my bucket")
    "ridecast models sync --all --bucket 'file:my bucket'"
    """
    where = ("--bucket", bucket) if bucket else ()
    return shlex.join(("ridecast", "models", "sync", model_version or "--all", *where))


@contextmanager
def with_remedy(store: TrackingStore, bucket: str | None, model_version: str | None = None) -> Iterator[None]:
    """Add the command that completes the tracking to errors of the store, and turn an OSError into a TrackingError."""
    command = sync_command(bucket, model_version)
    hint = f"check that MLFLOW_TRACKING_URI names a running server, then run `{command}`"
    if model_version:
        hint = f"the bundle is saved; run `{command}` when it is back"
    try:
        yield
    except TrackingError as error:
        if error.hint:
            raise
        raise TrackingError(error.uri, error.problem, hint) from error
    except OSError as error:
        raise TrackingError(store.uri, f"did not get the files ({error})", hint) from error


def run_facts(bundle: ExportedBundle, environment: Environment | None) -> RunFacts:
    """Read a run's parameters, metrics and tags from a bundle. A bundle without an evaluation has fewer metrics.

    Raises:
        BundleError: The evaluation does not decode.
    """
    return RunFacts(_parameters(bundle.model.manifest), _metrics(bundle), _tags(bundle, environment))


def metric_name(*parts: str) -> str:
    """Join parts to a name that MLflow accepts. Its pages group names by the text before the last ``/``.

    >>> metric_name("validate", "boroughs", "rmse_minutes.Queens to Bronx")
    'validate/boroughs/rmse_minutes.Queens to Bronx'
    >>> metric_name("validate", "pair", "rmse_minutes.A/B → C")
    'validate/pair/rmse_minutes.A_B _ C'
    """
    return "/".join(_ILLEGAL.sub("_", part) for part in parts)


def _environment(artifacts: Mapping[str, bytes]) -> Environment | None:
    try:
        return decode_environment(artifacts[ENVIRONMENT])
    except (KeyError, msgspec.DecodeError, UnicodeDecodeError):
        return None  # it is only an artifact


def _write_files(folder: Path, bundle: ExportedBundle, artifacts: Mapping[str, bytes]) -> None:
    """Write the bundle and its artifacts into a folder, as the run stores them."""
    files = {f"{BUNDLE_FOLDER}/{name}": data for name, data in bundle.files.items()}
    for name, data in {**artifacts, **files}.items():
        target = folder / name
        if not target.resolve().is_relative_to(folder.resolve()):
            raise OSError(f"{name} leads out of its folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def _parameters(manifest: Manifest) -> dict[str, str]:
    parameters = {
        "service": manifest.service,
        "train_months": ", ".join(manifest.train_months),
        "validate_months": ", ".join(manifest.validate_months),
        "feature_names": ", ".join(manifest.feature_names),
        **{f"parameters/{name}": value for name, value in leaves(manifest.parameters)},
        **{f"software/{name}": value for name, value in manifest.software.items()},
        **{
            f"data/{data.file}": f"{data.month}: {data.n_kept} of {data.n_rows} rows kept, sha256 {data.sha256}"
            for data in manifest.data
        },
    }
    return {metric_name(*name.split("/")): str(value)[:_MAX_PARAMETER_CHARACTERS] for name, value in parameters.items()}


def _metrics(bundle: ExportedBundle) -> dict[str, float]:
    manifest = bundle.model.manifest
    metrics = {
        "train/n_rides": float(sum(data.n_kept for data in manifest.data)),
        "bundle/n_bytes": float(sum(map(len, bundle.files.values()))),
    }
    evaluation = bundle.evaluation()
    if evaluation is None:
        numbers = ((name, value) for name, value in leaves(manifest.metrics) if _is_number(value))
        return metrics | {metric_name(*name.split(".")): float(value) for name, value in numbers}
    metrics.update(_months_metrics("validate", evaluation.validate))
    if evaluation.test:
        metrics.update(_months_metrics("test", evaluation.test))
    for late in evaluation.without_pickup_time:
        metrics.update(_measured("without_pickup_time", late.model, "", f".{late.arrival}"))
    return metrics


def _months_metrics(part: str, result: MonthsResult) -> Iterator[tuple[str, float]]:
    """Yield the metrics of all rides first, as in ``validate/rmse_minutes``, then those of the slices."""
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
        if not (begin and figure == "n_rides"):  # the baseline is measured on the same rides
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


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
