"""A run in MLflow for each version, from its bundle alone: so it can be made, or completed, at any time."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from training.errors import TrackingError, TrackingUnavailableError
from training.export import ExportedBundle
from training.tracking.environment import ENVIRONMENT, Environment, decode_environment
from training.tracking.facts import MODEL_VERSION, run_facts
from training.tracking.remedies import remedy
from training.tracking.store import TrackingStore

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
