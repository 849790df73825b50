"""What a run says of a bundle: parameters, metrics and tags, all read from the bundle itself."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from lambda_function.errors import BundleError
from lambda_function.model import Manifest
from training.evaluation import EVALUATION, Evaluation, Measured, MonthsResult, SliceResult, decode_evaluation
from training.export import ExportedBundle
from training.tracking.environment import Environment

MODEL_VERSION, MANIFEST_SHA256 = "ridecast.model_version", "ridecast.manifest_sha256"
"""Tags of runs and of registered versions: what ties them to a bundle."""

_ILLEGAL = re.compile(r"[^A-Za-z0-9_\-. ]")  # what MLflow takes in a name, but for its `/` and `:`
_MAX_PARAMETER_CHARACTERS = 6000  # MLflow's


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What is logged of a run. Parameters never change, for the bundle never does; tags may."""

    parameters: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


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
