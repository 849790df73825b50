"""What a report shows: values, already computed. For a part that is missing, the page says how to get it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lambda_function.core.bundle import Manifest, ModelBundle
from lambda_function.core.features import ZONE_PLACES, feature_matrix
from training.data.rides import Rides
from training.errors import ZonesFileError
from training.evaluation.backtest import AgeRow
from training.evaluation.gate import GateReport
from training.evaluation.metrics import measure, measure_errors, predictor
from training.model.baseline import Baseline
from training.model.bundle import ExportedBundle
from training.model.results import EVALUATION, Evaluation, Measured, MonthsResult, decode_evaluation


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PredictedRides:
    """Validation rides beside what is predicted for them, or a sample of them where a month holds too many to draw.

    Attributes:
        months: Whose rides they are.
        n_all: How many rides those months hold; more than the arrays where they are a sample.
        pickup_zone: int64 (n,), LocationID.
        actual_minutes: float64 (n,).
        predicted_minutes: float64 (n,).
        baseline_minutes: float64 (n,), or None where no baseline was fitted.
        interval_minutes: Lower and upper ends, float64 (n,) each, or None where the bundle has no intervals.
    """

    months: tuple[str, ...]
    n_all: int
    pickup_zone: NDArray[np.int64]
    actual_minutes: NDArray[np.float64]
    predicted_minutes: NDArray[np.float64]
    baseline_minutes: NDArray[np.float64] | None = None
    interval_minutes: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None

    def __len__(self) -> int:
        return len(self.actual_minutes)


@dataclass(frozen=True, slots=True)
class FeatureImportance:
    """How much the RMSE rises where features' values are shuffled among the rides: mean and range over repeats.

    `name` is the feature's, or that of a group whose features are shuffled together.
    """

    name: str
    features: tuple[str, ...]
    rise_minutes: float
    low_minutes: float
    high_minutes: float


@dataclass(frozen=True, slots=True)
class PreviousModel:
    """The model before, on the same rides. `has_learnt` names those of their months that it was trained on."""

    model_version: str
    errors: Measured
    has_learnt: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ReportFacts:
    """All that a report shows.

    Attributes:
        manifest: What the bundle says of itself.
        manifest_sha256: Its digest, as a channel names it.
        evaluation: The bundle's `evaluation.json`.
        rides: Validation rides and their predictions.
        importance: Of groups of features and of each alone.
        n_importance_rides: How many rides it was measured on.
        previous: The model that this one would replace.
        ageing: Rows of a backtest, or of this very model on the months after its training; in any order.
        verdict: What the gate says.
        breaches: Rules of the data contract that the training months break and somebody allowed, a sentence each.
        outlines: Rings of the zones' outlines, float64 (m, 2) each: longitude, latitude.
        interval_level: The share of rides that intervals promise to hold, or None where the bundle has none.
        run: More lines for how it was made, by name: what only the run itself knows, like time or code version.
    """

    manifest: Manifest
    manifest_sha256: str
    evaluation: Evaluation | None = None
    rides: PredictedRides | None = None
    importance: tuple[FeatureImportance, ...] = ()
    n_importance_rides: int = 0
    previous: PreviousModel | None = None
    ageing: tuple[AgeRow, ...] = ()
    verdict: GateReport | None = None
    breaches: tuple[str, ...] = ()
    outlines: tuple[NDArray[np.float64], ...] = ()
    interval_level: float | None = None
    run: Mapping[str, str] = field(default_factory=dict)

    @property
    def results(self) -> tuple[MonthsResult, ...]:
        """What the evaluation holds: validation months, then test months."""
        if self.evaluation is None:
            return ()
        return tuple(result for result in (self.evaluation.validate, self.evaluation.test) if result)


# MERGED FROM training/report/gather.py
# From a bundle and the rides it was measured on to what its report shows.
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


# MERGED FROM training/report/summaries.py
# Predicted rides in few numbers: by predicted duration and by pickup zone.
BIN_MINUTES = 5.0
MIN_RIDES_A_BIN = 50
MIN_RIDES_A_ZONE = 20
"""A root mean square of fewer rides says more about one of them than about the place."""

N_ZONES_LISTED, MIN_RIDES_LISTED = 8, 100


@dataclass(frozen=True, slots=True)
class DurationBin:
    """Rides of which the prediction lies within BIN_MINUTES of each other.

    `error_minutes` are the 10th, 50th and 90th percentiles of predicted less actual; `coverage` (0 to 1) and
    `width_minutes` (mean) are those of the intervals, None where there are none.
    """

    low_minutes: float
    n_rides: int
    error_minutes: tuple[float, float, float]
    coverage: float | None
    width_minutes: float | None

    @property
    def middle_minutes(self) -> float:
        """Where a plot puts it."""
        return self.low_minutes + BIN_MINUTES / 2


@dataclass(frozen=True, slots=True)
class ZoneErrors:
    """The rides that start in one zone."""

    zone: int
    longitude: float
    latitude: float
    errors: Measured


def by_predicted_duration(rides: PredictedRides) -> tuple[DurationBin, ...]:
    """Splits rides by what is predicted for them; bins of fewer than MIN_RIDES_A_BIN rides are left out."""
    number = (rides.predicted_minutes // BIN_MINUTES).astype(np.intp)
    found = (np.flatnonzero(number == each) for each in np.unique(number))
    return tuple(_bin(rides, rows) for rows in found if len(rows) >= MIN_RIDES_A_BIN)


def by_pickup_zone(rides: PredictedRides) -> tuple[ZoneErrors, ...]:
    """Errors by pickup zone, of zones that have a place and enough rides, ascending by zone."""
    zones, n_rides = np.unique(rides.pickup_zone, return_counts=True)
    chosen = zones[(n_rides >= MIN_RIDES_A_ZONE) & ~np.isnan(ZONE_PLACES[zones, 0])]
    return tuple(_zone(rides, int(zone)) for zone in chosen)


def covered(rides: PredictedRides) -> NDArray[np.bool_] | None:
    """Says ride by ride whether its interval holds what came, both ends included; None where there is none."""
    if rides.interval_minutes is None:
        return None
    low, high = rides.interval_minutes
    inside: NDArray[np.bool_] = (low <= rides.actual_minutes) & (rides.actual_minutes <= high)
    return inside


def _bin(rides: PredictedRides, rows: NDArray[np.intp]) -> DurationBin:
    predicted = rides.predicted_minutes[rows]
    low, middle, high = np.percentile(predicted - rides.actual_minutes[rows], (10, 50, 90))
    inside = covered(rides)
    return DurationBin(
        low_minutes=float(predicted[0] // BIN_MINUTES * BIN_MINUTES),
        n_rides=len(rows),
        error_minutes=(float(low), float(middle), float(high)),
        coverage=None if inside is None else float(inside[rows].mean()),
        width_minutes=_mean_width(rides, rows),
    )


def _mean_width(rides: PredictedRides, rows: NDArray[np.intp]) -> float | None:
    if rides.interval_minutes is None:
        return None
    low, high = rides.interval_minutes
    return float((high[rows] - low[rows]).mean())


def _zone(rides: PredictedRides, zone: int) -> ZoneErrors:
    rows = rides.pickup_zone == zone
    longitude, latitude = ZONE_PLACES[zone]
    errors = measure_errors(rides.predicted_minutes[rows], rides.actual_minutes[rows])
    return ZoneErrors(zone, float(longitude), float(latitude), errors)


# MERGED FROM training/report/importance.py
# Permutation importance: how much worse a model gets where it is told somebody else's distance, time or place.
MAX_IMPORTANCE_RIDES = 20_000
N_SHUFFLES = 3
SEED = 20090101

GROUPS = {"pickup place": "pickup_", "drop-off place": "dropoff_"}
"""Features that tell one thing, by how their names begin: alone, each would be stood in for by the others."""


def feature_importance(model: ModelBundle, rides: Rides) -> tuple[FeatureImportance, ...]:
    """Shuffles features among rides, N_SHUFFLES times, always alike, and sees how much the RMSE rises.

    Args:
        model: Reads the features that its manifest names.
        rides: At least one; MAX_IMPORTANCE_RIDES of them are drawn where there are more.

    Returns:
        First the GROUPS, then every feature alone, in the manifest's order.
    """
    rides = sample_rides(rides, MAX_IMPORTANCE_RIDES)
    matrix = feature_matrix(rides.columns)
    names = model.manifest.feature_names
    groups = {group: tuple(name for name in names if name.startswith(start)) for group, start in GROUPS.items()}
    together = {
        **{group: features for group, features in groups.items() if features},
        **{name: (name,) for name in names},
    }
    order = np.stack([np.random.default_rng((SEED, number)).permutation(len(rides)) for number in range(N_SHUFFLES)])
    whole = _rmse_minutes(model, matrix, rides)
    found = []
    for name, features in together.items():
        columns = [names.index(feature) for feature in features]
        rises = [_rmse_minutes(model, _shuffled(matrix, columns, rows), rides) - whole for rows in order]
        found.append(FeatureImportance(name, features, float(np.mean(rises)), min(rises), max(rises)))
    return tuple(found)


def sample_rides(rides: Rides, n_rides: int) -> Rides:
    """Draws rides, always the same, in their order; all where there are no more."""
    if len(rides) <= n_rides:
        return rides
    return rides.take(np.sort(np.random.default_rng(SEED).choice(len(rides), n_rides, replace=False)))


def _shuffled(matrix: NDArray[np.float64], columns: list[int], rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Gives every ride another one's values in these columns, of one and the same ride in all of them."""
    shuffled = matrix.copy()
    shuffled[:, columns] = matrix[np.ix_(rows, columns)]
    return shuffled


def _rmse_minutes(model: ModelBundle, matrix: NDArray[np.float64], rides: Rides) -> float:
    return measure_errors(model.predict(matrix), rides.duration_minutes).rmse_minutes


# MERGED FROM training/report/outlines.py
# Outlines of TLC's zones, from a GeoJSON file: what a map shows beneath its dots.
def read_outlines(path: Path) -> tuple[NDArray[np.float64], ...]:
    """Reads the rings of a GeoJSON's polygons: float64 (m, 2) each, longitude and latitude.

    Raises:
        ZonesFileError: It cannot be read or holds no outlines.
    """
    try:
        document = json.loads(path.read_bytes())
        rings = tuple(ring for feature in document["features"] for ring in _rings(feature["geometry"]))
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ZonesFileError(path) from error
    if not rings:
        raise ZonesFileError(path)
    return rings


def _rings(geometry: Any) -> Iterator[NDArray[np.float64]]:
    polygons = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    for polygon in polygons:
        for ring in polygon:
            yield np.array(ring, np.float64)[:, :2]
