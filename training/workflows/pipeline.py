"""A training run: split, fit, calibrate, evaluate beside the baseline, export. Publishing is a step of its own."""

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
from lambda_function.core.features import feature_matrix
from lambda_function.errors import BundleError
from training.data.months import Month, Service
from training.data.rides import MAX_DURATION_MINUTES, MIN_DURATION_MINUTES, Rides
from training.errors import UserError
from training.evaluation.metrics import arrival_scenarios, evaluate, measure_errors
from training.model.baseline import Baseline, fit_baseline
from training.model.bundle import ExportedBundle, read_bundle
from training.model.calibrate import Predict, calibrate, measure_stretch, split_calibration, stretch_interval
from training.model.export import TrainingFacts, export_bundle, software, training_data
from training.model.fit import fit_forest
from training.model.parameters import PARAMETERS
from training.model.results import ArrivalResult, Evaluation, MonthsResult, encode_evaluation

_BLOCK_RIDES = 1 << 17
_ARRIVAL_SEED = 1


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """What a run gives: the bundle, the baseline of the same rides, and how both do on the validation rides."""

    bundle: ExportedBundle
    baseline: Baseline
    evaluation: Evaluation
    n_train: int

    @property
    def validated(self) -> MonthsResult:
        """The validation rides' result: model, baseline, intervals, slices."""
        return self.evaluation.validate


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
        train_rides: All that anything is fitted or calibrated on; one in twenty only calibrates the intervals.
        validate_rides: Later rides, only measured on.
        parameters: The model's; `fit.PARAMETERS` where not given.
        on_step: Told what begins.

    Raises:
        UserError: A parameter is unknown or out of its range, or bit masks cannot represent the forest.
        BundleError: The exported model predicts something else than the fitted one.
    """
    parameters = PARAMETERS if parameters is None else parameters
    on_step("fitting the baseline")
    baseline = fit_baseline(train_rides)
    on_step("fitting the forest")
    fit_rides, calibration_rides = split_calibration(train_rides)
    fitted = fit_forest(fit_rides, parameters)
    on_step("calibrating the intervals")
    interval = calibrate(_predict(fitted, calibration_rides), calibration_rides, fit_rides)
    if interval is not None:
        interval = stretch_interval(interval, measure_stretch(train_rides, partial(_fit, parameters)))
    facts = TrainingFacts(
        service=service,
        train_months=months_of(train_rides),
        validate_months=months_of(validate_rides),
        parameters=parameters,
        metrics={},
    )
    on_step("evaluating")
    model = export_bundle(fitted, train_rides, facts, interval).model  # as the function would load it
    _check_parity(model, fitted, validate_rides)
    evaluation = _evaluate(model, baseline, validate_rides, train_rides)
    on_step("exporting")
    metrics = {
        "validate": msgspec.to_builtins(evaluation.validate.model),
        "validate_baseline": msgspec.to_builtins(evaluation.validate.baseline),
    }
    bundle = export_bundle(
        fitted, train_rides, replace(facts, metrics=metrics), interval, encode_evaluation(evaluation)
    )
    return TrainingRun(bundle, baseline, evaluation, len(train_rides))


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


def _evaluate(model: ModelBundle, baseline: Baseline, rides: Rides, train_rides: Rides) -> Evaluation:
    """Measures on the validation rides, and again as if their events carried no pickup time."""
    scenarios = arrival_scenarios(rides.columns, _ARRIVAL_SEED)
    return Evaluation(
        validate=evaluate(model, baseline, rides, train_rides),
        without_pickup_time=tuple(
            ArrivalResult(
                arrival, measure_errors(model.predict(feature_matrix(columns)), rides.duration_minutes)
            )
            for arrival, columns in scenarios.items()
        ),
    )


def _fit(parameters: dict[str, Any], rides: Rides) -> Predict:
    return partial(_predict, fit_forest(rides, parameters))


def _predict(fitted: HistGradientBoostingRegressor, rides: Rides) -> NDArray[np.float64]:
    minutes: NDArray[np.float64] = fitted.predict(feature_matrix(rides.columns)) if len(rides) else np.empty(0)
    return minutes.clip(MIN_DURATION_MINUTES, MAX_DURATION_MINUTES)


def _check_parity(model: ModelBundle, fitted: HistGradientBoostingRegressor, rides: Rides) -> None:
    """Compares the bundle with scikit-learn on every validation ride, not on the golden ones alone."""
    for start in range(0, len(rides), _BLOCK_RIDES):
        block = rides.take(slice(start, start + _BLOCK_RIDES))
        off_minutes = np.abs(model.predict(feature_matrix(block.columns)) - _predict(fitted, block)).max()
        if not off_minutes <= PARITY_MINUTES:
            raise UserError(f"the exported model is up to {off_minutes:.3g} minutes off scikit-learn's predictions")
