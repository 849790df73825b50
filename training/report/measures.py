"""What the report measures itself: errors by predicted duration and by pickup zone, and feature importance."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lambda_function.core.bundle import ModelBundle
from lambda_function.core.features import ZONE_PLACES, feature_matrix
from training.data.rides import Rides
from training.evaluation.metrics import measure_errors
from training.model.results import Measured

BIN_MINUTES = 5.0
MIN_RIDES_A_BIN = 50
MIN_RIDES_A_ZONE = 20
"""With fewer rides, a root mean square depends more on one ride than on the place."""

MAX_IMPORTANCE_RIDES = 20_000
N_SHUFFLES = 3
SEED = 20090101

GROUPS = {"pickup place": "pickup_", "drop-off place": "dropoff_"}
"""Features that describe one thing, by the prefix of their names. Alone, each can be replaced by the others."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PredictedRides:
    """Validation rides and their predictions; a sample of them if the months have too many rides to draw."""

    months: tuple[str, ...]
    n_all: int  # rides in those months; more than the arrays have if they are a sample
    pickup_zone: NDArray[np.int64]  # (n,), LocationID
    actual_minutes: NDArray[np.float64]  # (n,), like the other arrays
    predicted_minutes: NDArray[np.float64]
    baseline_minutes: NDArray[np.float64]
    interval_minutes: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None  # ends; None without intervals

    def __len__(self) -> int:
        return len(self.actual_minutes)


@dataclass(frozen=True, slots=True)
class DurationBin:
    """Rides whose predictions are within the same BIN_MINUTES."""

    low_minutes: float
    n_rides: int
    error_minutes: tuple[float, float, float]  # 10th, 50th and 90th percentiles of predicted less actual
    coverage: float | None  # of the intervals, 0 to 1; None without intervals
    width_minutes: float | None  # the intervals' mean width; None without intervals

    @property
    def middle_minutes(self) -> float:
        """The bin's position in a plot."""
        return self.low_minutes + BIN_MINUTES / 2


@dataclass(frozen=True, slots=True)
class ZoneErrors:
    """The errors of the rides that start in one zone."""

    zone: int
    longitude: float
    latitude: float
    errors: Measured


@dataclass(frozen=True, slots=True)
class FeatureImportance:
    """The rise of the RMSE when features' values are shuffled among the rides: mean and range of the repeats."""

    name: str  # the feature's, or that of a group whose features are shuffled together
    features: tuple[str, ...]
    rise_minutes: float
    low_minutes: float
    high_minutes: float


def by_predicted_duration(rides: PredictedRides) -> tuple[DurationBin, ...]:
    """Split rides by predicted duration; bins of fewer than MIN_RIDES_A_BIN rides are left out."""
    number = (rides.predicted_minutes // BIN_MINUTES).astype(np.intp)
    found = (np.flatnonzero(number == each) for each in np.unique(number))
    return tuple(_bin(rides, rows) for rows in found if len(rows) >= MIN_RIDES_A_BIN)


def by_pickup_zone(rides: PredictedRides) -> tuple[ZoneErrors, ...]:
    """Measure errors by pickup zone, ascending; zones without a place or with too few rides are left out."""
    zones, n_rides = np.unique(rides.pickup_zone, return_counts=True)
    chosen = zones[(n_rides >= MIN_RIDES_A_ZONE) & ~np.isnan(ZONE_PLACES[zones, 0])]
    return tuple(_zone(rides, int(zone)) for zone in chosen)


def feature_importance(model: ModelBundle, rides: Rides) -> tuple[FeatureImportance, ...]:
    """Measure how much the RMSE rises when features are shuffled, N_SHUFFLES times. The result is reproducible.

    Args:
        model: The model.
        rides: At least one ride; MAX_IMPORTANCE_RIDES are drawn if there are more.

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
    rmse_minutes = _rmse_minutes(model, matrix, rides)
    found = []
    for name, features in together.items():
        columns = [names.index(feature) for feature in features]
        rises = [_rmse_minutes(model, _shuffled(matrix, columns, rows), rides) - rmse_minutes for rows in order]
        found.append(FeatureImportance(name, features, float(np.mean(rises)), min(rises), max(rises)))
    return tuple(found)


def sample_rides(rides: Rides, n_rides: int) -> Rides:
    """Return a sample of rides in their order, always the same; all rides if there are at most `n_rides`."""
    if len(rides) <= n_rides:
        return rides
    return rides.take(np.sort(np.random.default_rng(SEED).choice(len(rides), n_rides, replace=False)))


def _bin(rides: PredictedRides, rows: NDArray[np.intp]) -> DurationBin:
    predicted, actual = rides.predicted_minutes[rows], rides.actual_minutes[rows]
    p10, median, p90 = np.percentile(predicted - actual, (10, 50, 90))
    coverage = width_minutes = None
    if rides.interval_minutes is not None:
        low, high = (ends[rows] for ends in rides.interval_minutes)
        coverage = float(((low <= actual) & (actual <= high)).mean())
        width_minutes = float((high - low).mean())
    return DurationBin(
        low_minutes=float(predicted[0] // BIN_MINUTES * BIN_MINUTES),
        n_rides=len(rows),
        error_minutes=(float(p10), float(median), float(p90)),
        coverage=coverage,
        width_minutes=width_minutes,
    )


def _zone(rides: PredictedRides, zone: int) -> ZoneErrors:
    rows = rides.pickup_zone == zone
    longitude, latitude = ZONE_PLACES[zone]
    errors = measure_errors(rides.predicted_minutes[rows], rides.actual_minutes[rows])
    return ZoneErrors(zone, float(longitude), float(latitude), errors)


def _shuffled(matrix: NDArray[np.float64], columns: list[int], rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Replace these columns of every ride by those of another ride, the same one for all columns."""
    shuffled = matrix.copy()
    shuffled[:, columns] = matrix[np.ix_(rows, columns)]
    return shuffled


def _rmse_minutes(model: ModelBundle, matrix: NDArray[np.float64], rides: Rides) -> float:
    return measure_errors(model.predict(matrix), rides.duration_minutes).rmse_minutes
