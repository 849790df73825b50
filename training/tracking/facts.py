"""What a run of MLflow logs of a version: a few metrics, the table of all results, parameters, tags and datasets."""

import re
from collections.abc import Iterator, Mapping

import msgspec

from training.model.bundle import ExportedBundle
from training.model.results import MonthsResult, SliceResult
from training.registry.catalog import leaves
from training.tracking.environment import Environment
from training.tracking.store import RunDataset, RunFacts
from training.tracking.training_record import TrainingRecord

MODEL_VERSION, MANIFEST_SHA256 = "ridecast.model_version", "ridecast.manifest_sha256"
"""Tags that tie runs and registered versions to a bundle."""

SLICES = "slices.json"
"""The table of all results in a run: `mlflow.load_table` reads it."""

_MEASURED = ("rmse_minutes", "mae_minutes", "bias_minutes")
_COLUMNS = (
    *("part", "by", "name", "n_rides", *_MEASURED),
    *(f"baseline_{name}" for name in _MEASURED),
    *("coverage", "width_minutes"),
)
_NO_MORE = (None,) * 5  # for a result of the model alone: neither a baseline nor intervals
_PARTS = {"test": "unseen", "validate": "validation"}
_ILLEGAL = re.compile(r"[^A-Za-z0-9_\-. ]")  # what MLflow allows in a name, without its `/` and `:`
_MAX_PARAMETER_CHARACTERS = 6000  # MLflow's limit


def run_facts(
    bundle: ExportedBundle, environment: Environment | None, record: TrainingRecord | None = None
) -> RunFacts:
    """Read what a run logs from a bundle. A bundle without an evaluation has fewer metrics.

    Raises:
        BundleError: The evaluation does not decode.
    """
    results = _results(bundle, record)
    return RunFacts(
        _parameters(bundle),
        _metrics(bundle, results),
        {**_tags(bundle, environment), **_description(bundle, results)},
        _datasets(bundle, record),
    )


def _results(bundle: ExportedBundle, record: TrainingRecord | None) -> dict[str, MonthsResult]:
    """Return the errors by part, ``test`` and ``validate``; {} for a bundle without an evaluation."""
    evaluation = bundle.evaluation()
    test = (evaluation and evaluation.test) or (record and record.test)
    results = {"test": test, "validate": evaluation and evaluation.validate}
    return {part: result for part, result in results.items() if result}


def legal_name(*parts: str) -> str:
    """Join parts to a name that MLflow accepts. Its pages group names by the text before the last ``/``.

    >>> legal_name("data", "labelled/2026-08: Ä")
    'data/labelled_2026-08_ _'
    """
    return "/".join(_ILLEGAL.sub("_", part) for part in parts)


def _parameters(bundle: ExportedBundle) -> dict[str, str]:
    manifest = bundle.model.manifest
    parameters = {
        "bundle/n_bytes": sum(map(len, bundle.files.values())),
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
    return {legal_name(*name.split("/")): str(value)[:_MAX_PARAMETER_CHARACTERS] for name, value in parameters.items()}


def _metrics(bundle: ExportedBundle, results: Mapping[str, MonthsResult]) -> dict[str, float]:
    """Return the few figures that one compares runs by, in the order of MLflow's page; `SLICES` has all others."""
    manifest = bundle.model.manifest
    metrics: dict[str, float] = {}
    if not results:
        numbers = ((name, value) for name, value in leaves(manifest.metrics) if _is_number(value))
        metrics = {legal_name(*name.split(".")): float(value) for name, value in numbers}
    for part, result in results.items():
        figures = {
            "rmse_minutes": result.model.rmse_minutes,
            "baseline_rmse_minutes": result.baseline.rmse_minutes,
            "mae_minutes": result.model.mae_minutes,
            "bias_minutes": result.model.bias_minutes,
            "coverage": result.coverage,
            "width_minutes": result.width_minutes,
            "n_rides": result.model.n_rides,
        }
        metrics |= {f"{part}/{name}": float(value) for name, value in figures.items() if value is not None}
    return metrics | {"train/n_rides": float(sum(data.n_kept for data in manifest.data))}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def slices_file(bundle: ExportedBundle, record: TrainingRecord | None) -> dict[str, bytes]:
    """Return the table of all results as MLflow stores a table; {} for a bundle without an evaluation."""
    evaluation = bundle.evaluation()
    rows = [row for part, result in _results(bundle, record).items() for row in _rows(part, result)]
    rows += [
        ("validate", "without pickup time", late.arrival, *msgspec.structs.astuple(late.model), *_NO_MORE)
        for late in (evaluation.without_pickup_time if evaluation else ())
    ]
    table = {"columns": _COLUMNS, "data": rows}
    return {SLICES: msgspec.json.encode(table)} if rows else {}


def _rows(part: str, result: MonthsResult) -> Iterator[tuple[object, ...]]:
    """Yield a row for all rides, then one for each slice."""
    yield part, "all", "all", *_figures(result)
    for one in result.slices:
        yield part, one.by, one.name, *_figures(one)


def _figures(result: MonthsResult | SliceResult) -> tuple[object, ...]:
    _, *baseline = msgspec.structs.astuple(result.baseline)  # measured on the same rides
    return *msgspec.structs.astuple(result.model), *baseline, result.coverage, result.width_minutes


def _datasets(bundle: ExportedBundle, record: TrainingRecord | None) -> tuple[RunDataset, ...]:
    parts = {"training": bundle.model.manifest.data}
    if record:
        parts |= {"validation": record.validate_data, "test": record.test_data}
    return tuple(
        RunDataset(
            one.file if one.month in one.file else f"{one.file} {one.month}",
            one.sha256,
            context,
            {"num_rows": one.n_rows, "num_rows_kept": one.n_kept},
        )
        for context, data in parts.items()
        for one in data
    )


def _description(bundle: ExportedBundle, results: Mapping[str, MonthsResult]) -> dict[str, str]:
    """Return the tag that MLflow shows as the run's description, and the one that lists its table."""
    manifest = bundle.model.manifest
    lines = [f"Minutes of {manifest.service} taxi rides, learned from {', '.join(manifest.train_months)}."]
    for part, result in results.items():
        months, minutes = ", ".join(result.months), f"{result.model.rmse_minutes:.2f}"
        course = f"{result.baseline.rmse_minutes:.2f}"
        lines.append(f"RMSE on {months} ({_PARTS[part]}): **{minutes} minutes**; the course's linear model: {course}.")
    lines.append(f'In Python: `from training import load_model`, then `load_model("{bundle.model_version}")`.')
    tags = {"mlflow.note.content": "\n\n".join(lines)}
    if results:
        tags["mlflow.loggedArtifacts"] = msgspec.json.encode([{"path": SLICES, "type": "table"}]).decode()
    return tags


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
