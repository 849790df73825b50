"""Log one MLflow run for each version. A run is built from the bundle alone, so it can be logged again at any time."""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from training.errors import TrackingError
from training.model.bundle import ExportedBundle
from training.tracking.environment import ENVIRONMENT, Environment, decode_environment
from training.tracking.facts import MODEL_VERSION, run_facts, slices_file
from training.tracking.pyfunc import pyfunc_files
from training.tracking.store import TrackingStore
from training.tracking.training_record import TRAINING_RECORD, TrainingRecord, decode_record

BUNDLE_FOLDER = "bundle"
"""The folder of the bundle's files in a run; the artifacts lie beside it."""


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
        artifacts: By name, as in ``report.html`` and ``plots/residuals.svg``. ENVIRONMENT becomes tags, too;
            TRAINING_RECORD gives the run's times, its test metrics and the rides that it was measured on.
        bucket: The bucket that stores the version, if any; the hint of an error names it.

    Returns:
        The run's id.

    Raises:
        TrackingError: The run is not complete; a later call completes it.
        BundleError: The bundle's evaluation does not decode.
    """
    artifacts = artifacts or {}
    record = _record(artifacts)
    began_s, ended_s = record.span_s if record else (None, None)
    facts = run_facts(bundle, _environment(artifacts), record)
    experiment = f"ridecast-{bundle.model.manifest.service}"
    with with_remedy(store, bucket, bundle.model_version):
        run_id = store.find_run(experiment, MODEL_VERSION, bundle.model_version)
        if run_id is None:
            run_id = store.begin_run(experiment, bundle.model_version, {MODEL_VERSION: bundle.model_version}, began_s)
        store.log(run_id, facts)
        with TemporaryDirectory() as folder:
            _write_files(Path(folder), bundle, {**artifacts, **slices_file(bundle, record)})
            store.put_files(run_id, Path(folder))
        store.end_run(run_id, ended_s)
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


def _environment(artifacts: Mapping[str, bytes]) -> Environment | None:
    try:
        return decode_environment(artifacts[ENVIRONMENT])
    except (KeyError, msgspec.DecodeError, UnicodeDecodeError):
        return None  # it is only an artifact


def _record(artifacts: Mapping[str, bytes]) -> TrainingRecord | None:
    try:
        return decode_record(artifacts[TRAINING_RECORD])
    except (KeyError, msgspec.DecodeError, UnicodeDecodeError):
        return None  # as above


def _write_files(folder: Path, bundle: ExportedBundle, artifacts: Mapping[str, bytes]) -> None:
    """Write the bundle and its artifacts into a folder, as the run stores them."""
    model = {**pyfunc_files(bundle), **bundle.files}
    files = {f"{BUNDLE_FOLDER}/{name}": data for name, data in model.items()}
    for name, data in {**artifacts, **files}.items():
        target = folder / name
        if not target.resolve().is_relative_to(folder.resolve()):
            raise OSError(f"{name} leads out of its folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
