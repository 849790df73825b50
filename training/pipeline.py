"""A training run: load, fit, evaluate beside the baseline, export. Publishing is a step of its own."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lambda_function.errors import BundleError
from lambda_function.features import feature_matrix
from lambda_function.model import MANIFEST, PARITY_MINUTES
from training.baseline import Baseline, fit_baseline
from training.dataset import MAX_DURATION_MINUTES, MIN_DURATION_MINUTES, Rides
from training.errors import ExportError
from training.evaluate import Errors, measure_errors
from training.export import ExportedBundle, TrainingFacts, export_bundle, read_bundle, software, training_data
from training.fit import PARAMETERS, fit_forest
from training.months import Month, Service

METRIC_DECIMALS = 4
"""Of the minutes in a manifest's metrics."""


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """What a run gives: the bundle, the baseline of the same split, and the errors of both on the validation rides."""

    bundle: ExportedBundle
    baseline: Baseline
    errors: Errors
    baseline_errors: Errors
    n_train: int


def train(
    service: Service,
    train_rides: Rides,
    validate_rides: Rides,
    parameters: dict[str, Any] | None = None,
    on_step: Callable[[str], None] = lambda _: None,
) -> TrainingRun:
    """Fits model and baseline on the training rides and measures both on the validation rides.

    Args:
        service: Names the version.
        train_rides: All that anything is fitted on.
        validate_rides: Later rides, only measured on.
        parameters: scikit-learn's; `fit.PARAMETERS` where not given.
        on_step: Told what begins.

    Raises:
        ExportError: The forest is not one that bit masks can hold.
        BundleError: The exported model predicts something else than the fitted one.
    """
    parameters = PARAMETERS if parameters is None else parameters
    on_step("fitting the baseline")
    baseline = fit_baseline(train_rides)
    baseline_errors = measure_errors(baseline.predict(validate_rides.columns), validate_rides.duration_minutes)
    on_step("fitting the forest")
    fitted = fit_forest(train_rides, parameters)
    on_step("evaluating")
    matrix = feature_matrix(validate_rides.columns)
    minutes = fitted.predict(matrix).clip(MIN_DURATION_MINUTES, MAX_DURATION_MINUTES)
    errors = measure_errors(minutes, validate_rides.duration_minutes)
    facts = TrainingFacts(
        service=service,
        train_months=months_of(train_rides),
        validate_months=months_of(validate_rides),
        parameters=parameters,
        metrics={"validate": _rounded(errors), "validate_baseline": _rounded(baseline_errors)},
    )
    on_step("exporting")
    bundle = export_bundle(fitted, train_rides, facts)
    _check_parity(bundle, matrix, minutes)
    return TrainingRun(bundle, baseline, errors, baseline_errors, len(train_rides))


def find_bundle(
    folder: Path, service: Service, train_rides: Rides, validate_rides: Rides, parameters: dict[str, Any] | None = None
) -> ExportedBundle | None:
    """Returns a bundle in a folder that training on these rides would give again, or None.

    One that no longer loads is passed over, not an error: training makes it anew.
    """
    for manifest in sorted(folder.glob(f"{service}-*/{MANIFEST}")):
        try:
            bundle = read_bundle(manifest.parent)
        except BundleError:
            continue
        made = bundle.model.manifest
        if (
            made.data == training_data(train_rides)
            and made.validate_months == tuple(str(month) for month in months_of(validate_rides))
            and made.parameters == (PARAMETERS if parameters is None else parameters)
            and made.software == software()
        ):
            return bundle
    return None


def months_of(rides: Rides) -> tuple[Month, ...]:
    """Returns the months that rides come from, ascending."""
    return tuple(source.month for source in rides.sources)


def _rounded(errors: Errors) -> dict[str, Any]:
    """Returns errors for the manifest, and so for the version, which no machine may change.

    The baseline's solver stops within 1e-8 minutes of where it stops with another number of threads.
    """
    return {name: round(value, METRIC_DECIMALS) for name, value in asdict(errors).items()}


def _check_parity(bundle: ExportedBundle, matrix: NDArray[np.float64], minutes: NDArray[np.float64]) -> None:
    """Compares the bundle with scikit-learn on every validation ride, not on the golden ones alone."""
    off_minutes = float(np.abs(bundle.model.predict(matrix) - minutes).max())
    if not off_minutes <= PARITY_MINUTES:
        raise ExportError(f"the exported model is up to {off_minutes:.3g} minutes off scikit-learn's predictions")
