"""Predicted rides in few numbers: by predicted duration and by pickup zone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lambda_function.features import ZONE_PLACES
from training.evaluate import Errors, measure_errors
from training.report.facts import PredictedRides

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
    errors: Errors


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
