"""From a bundle and the rides it was measured on to what its report shows."""

from lambda_function.features import feature_matrix
from lambda_function.model import ModelBundle
from training.baseline import Baseline
from training.data.rides import Rides
from training.data.tally import predictor
from training.evaluate import measure
from training.evaluation import EVALUATION, decode_evaluation
from training.registry.bundle import ExportedBundle
from training.report.facts import PredictedRides, PreviousModel, ReportFacts
from training.report.importance import MAX_IMPORTANCE_RIDES, feature_importance, sample_rides

MAX_RIDES = 200_000
"""Drawn and mapped; more would change no picture."""


def gather_facts(
    bundle: ExportedBundle,
    rides: Rides | None = None,
    *,
    baseline: Baseline | None = None,
    previous: ExportedBundle | None = None,
) -> ReportFacts:
    """Computes what of a report has to be computed; `dataclasses.replace` adds what was found out before.

    That is ageing, verdict, breaches, outlines (`outlines.read_outlines`) and run; without them the report says so.

    Args:
        bundle: The model; its `evaluation.json` is read where it has one.
        rides: Those of its validation months; MAX_RIDES of them at most are drawn, always the same.
        baseline: Fitted on its training rides: stands beside the model among the residuals.
        previous: The model it would replace, measured on the same rides.
    """
    evaluation, interval = bundle.files.get(EVALUATION), bundle.model.manifest.interval
    drawn = None if rides is None else sample_rides(rides, MAX_RIDES)
    importance = () if drawn is None else feature_importance(bundle.model, drawn)
    return ReportFacts(
        manifest=bundle.model.manifest,
        manifest_sha256=bundle.manifest_sha256,
        evaluation=None if evaluation is None else decode_evaluation(evaluation),
        rides=None if rides is None or drawn is None else _predicted(bundle.model, drawn, baseline, len(rides)),
        importance=importance,
        n_importance_rides=0 if drawn is None else min(len(drawn), MAX_IMPORTANCE_RIDES),
        previous=None if rides is None or previous is None else _previous(previous.model, rides),
        interval_level=interval.level if interval else None,
    )


def _predicted(model: ModelBundle, rides: Rides, baseline: Baseline | None, n_all: int) -> PredictedRides:
    matrix = feature_matrix(rides.columns)
    minutes = model.predict(matrix)
    bounds = model.interval_bounds(matrix, minutes)
    return PredictedRides(
        months=tuple(str(source.month) for source in rides.sources),
        n_all=n_all,
        pickup_zone=rides.columns.pickup_zone,
        actual_minutes=rides.duration_minutes,
        predicted_minutes=minutes,
        baseline_minutes=None if baseline is None else baseline.predict(rides.columns),
        interval_minutes=bounds,
    )


def _previous(model: ModelBundle, rides: Rides) -> PreviousModel:
    months = {str(source.month) for source in rides.sources}
    learnt = tuple(sorted(months & set(model.manifest.train_months)))
    return PreviousModel(model.model_version, measure(predictor(model), rides), learnt)
