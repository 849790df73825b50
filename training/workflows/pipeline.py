"""Train a model: split, fit, calibrate, evaluate beside the baseline, and export a bundle."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

from lambda_function.core.bundle import MANIFEST, PARITY_MINUTES, ModelBundle
from lambda_function.core.features import FEATURE_NAMES, feature_matrix
from lambda_function.core.forest import Forest
from lambda_function.errors import BundleError
from training.data.months import Service
from training.data.rides import MAX_DURATION_MINUTES, MIN_DURATION_MINUTES, Rides
from training.errors import UserError
from training.evaluation.metrics import arrival_scenarios, evaluate, measure_errors
from training.model.baseline import Baseline, fit_baseline
from training.model.bundle import REFERENCE, ExportedBundle, read_bundle
from training.model.calibrate import Predict, calibrate, measure_stretch, split_calibration, stretch_interval
from training.model.export import TrainingFacts, export_bundle, forest_arrays, software, training_data
from training.model.fit import fit_forest
from training.model.parameters import PARAMETERS
from training.model.results import EVALUATION, ArrivalResult, Evaluation, encode_evaluation
from training.monitoring.monitor.reference import build_reference

_BLOCK_RIDES = 1 << 17


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """A trained bundle, the baseline of the same rides, and the evaluation of both on the validation rides."""

    bundle: ExportedBundle
    baseline: Baseline
    evaluation: Evaluation
    n_train: int


def train(
    service: Service,
    train_rides: Rides,
    validate_rides: Rides,
    parameters: dict[str, Any] | None = None,
    on_step: Callable[[str], None] = lambda _: None,
    *,
    has_reference: bool = True,
) -> TrainingRun:
    """Fit model and baseline on the training rides, and measure both on the validation rides.

    One training ride in twenty is only for the calibration of the intervals. Validation rides are later ones. Without a
    reference, monitoring has nothing to compare days with; training takes half the time.

    Raises:
        UserError: A parameter is unknown or out of its range, or bit masks cannot represent the forest. Or the exported
            model predicts something else than the fitted one.
        BundleError: The exported model does not load.
    """
    parameters = PARAMETERS if parameters is None else parameters
    on_step("fitting the baseline")
    baseline = fit_baseline(train_rides)
    on_step("fitting the forest")
    fit_rides, calibration_rides = split_calibration(train_rides)
    fitted = fit_forest(fit_rides, parameters)
    on_step("calibrating the intervals")
    interval = calibrate(_predict(fitted, calibration_rides), calibration_rides, fit_rides)
    fit = partial(_fit, parameters=parameters)
    if interval is not None:
        interval = stretch_interval(interval, measure_stretch(train_rides, fit))
    reference = None
    if has_reference:
        on_step("measuring days for monitoring")
        reference = build_reference(train_rides, fit, interval)
    facts = TrainingFacts(
        service=service, train_months=train_rides.months, validate_months=validate_rides.months, parameters=parameters
    )
    on_step("evaluating")
    model = export_bundle(fitted, train_rides, facts, interval).model  # as the function loads it
    _check_parity(model, fitted, validate_rides)
    evaluation = _evaluate(model, baseline, validate_rides, train_rides)
    on_step("exporting")
    metrics = {
        "validate": msgspec.to_builtins(evaluation.validate.model),
        "validate_baseline": msgspec.to_builtins(evaluation.validate.baseline),
    }
    files = {EVALUATION: encode_evaluation(evaluation)} | ({REFERENCE: reference} if reference else {})
    bundle = export_bundle(fitted, train_rides, replace(facts, metrics=metrics), interval, files)
    return TrainingRun(bundle, baseline, evaluation, len(train_rides))


def find_bundle(
    folder: Path, service: Service, train_rides: Rides, validate_rides: Rides, parameters: dict[str, Any] | None = None
) -> ExportedBundle | None:
    """Return a bundle in a folder that training on these rides would produce again; None if there is none.

    A bundle that does not load is skipped, because training replaces it.
    """
    for path in sorted(folder.glob(f"{service}-*/{MANIFEST}")):
        try:
            bundle = read_bundle(path.parent)
        except BundleError:
            continue
        manifest = bundle.model.manifest
        if (
            manifest.data == training_data(train_rides)
            and manifest.validate_months == tuple(str(month) for month in validate_rides.months)
            and manifest.parameters == (PARAMETERS if parameters is None else parameters)
            and manifest.software == software()
            and REFERENCE in manifest.files  # bundles of earlier versions have none
        ):
            return bundle
    return None


def _evaluate(model: ModelBundle, baseline: Baseline, rides: Rides, train_rides: Rides) -> Evaluation:
    """Measure on the validation rides, and again as if their events had no pickup time."""
    return Evaluation(
        validate=evaluate(model, baseline, rides, train_rides),
        without_pickup_time=tuple(
            ArrivalResult(arrival, measure_errors(model.predict(feature_matrix(columns)), rides.duration_minutes))
            for arrival, columns in arrival_scenarios(rides.columns).items()
        ),
    )


def _fit(rides: Rides, parameters: dict[str, Any]) -> Predict:
    """Fit a model that only measures. It predicts as the function does, in an eighth of scikit-learn's time."""
    forest = Forest.from_arrays(forest_arrays(fit_forest(rides, parameters)), len(FEATURE_NAMES))
    return lambda some: forest.predict(feature_matrix(some.columns)).clip(MIN_DURATION_MINUTES, MAX_DURATION_MINUTES)


def _predict(fitted: HistGradientBoostingRegressor, rides: Rides) -> NDArray[np.float64]:
    minutes: NDArray[np.float64] = fitted.predict(feature_matrix(rides.columns)) if len(rides) else np.empty(0)
    return minutes.clip(MIN_DURATION_MINUTES, MAX_DURATION_MINUTES)


def _check_parity(model: ModelBundle, fitted: HistGradientBoostingRegressor, rides: Rides) -> None:
    """Compare the bundle with scikit-learn on every validation ride, not only on the golden rides."""
    for start in range(0, len(rides), _BLOCK_RIDES):
        block = rides.take(slice(start, start + _BLOCK_RIDES))
        off_minutes = np.abs(model.predict(feature_matrix(block.columns)) - _predict(fitted, block)).max()
        if not off_minutes <= PARITY_MINUTES:
            raise UserError(f"the exported model is up to {off_minutes:.3g} minutes off scikit-learn's predictions")
