"""The baseline that every report compares with: the MLOps Zoomcamp's linear model, fitted on the same rides.

It is a linear regression on one-hot pairs of zones and the raw distance, as the course's lessons build it with a
DictVectorizer. Rides of one pair differ only in distance and duration, so a few sums over each pair determine the
regression. It is fitted from those sums, in the same memory for any number of rides.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lambda_function.core.features import LAST_ZONE, RideColumns
from training.data.rides import MAX_DURATION_MINUTES, MIN_DURATION_MINUTES, Rides
from training.model.least_squares import Vector, solve_least_squares

_N_ZONES = LAST_ZONE + 1
_N_PAIRS = _N_ZONES * _N_ZONES


@dataclass(frozen=True, slots=True, eq=False)
class Baseline:
    """The fitted baseline."""

    # float64 (266 * 266,), by pickup zone times 266 plus dropoff zone: minutes at distance 0. A pair without training
    # rides has the intercept.
    pair_minutes: NDArray[np.float64]
    minutes_per_mile: float  # the same for all pairs

    def predict(self, rides: RideColumns) -> NDArray[np.float64]:
        """Return minutes (n,), clipped to 1 to 60, the range of the durations, as a model's are.

        Some months have a distance of 100,000 miles or more. Unclipped, one such ride may give a whole month an RMSE of
        over 1,000 minutes, and every candidate would be better.
        """
        return self.regression_minutes(rides).clip(MIN_DURATION_MINUTES, MAX_DURATION_MINUTES)

    def regression_minutes(self, rides: RideColumns) -> NDArray[np.float64]:
        """Return what the regression itself predicts (n,): minutes of any size and sign, as the course's model does."""
        minutes: NDArray[np.float64] = self.pair_minutes[_pairs(rides)] + self.minutes_per_mile * _miles(rides)
        return minutes


class _PairRides(NamedTuple):
    """Four weighted rides for each pair of zones, which give the same regression as all rides of the pair.

    Together they have the pair's number of rides, its means, and its spread of distance and duration. Each attribute is
    float64 (4, n_pairs); `weight` is the number of rides that one stands for.
    """

    weight: Vector
    miles: Vector
    minutes: Vector


def fit_baseline(rides: Rides) -> Baseline:
    """Fit the regression on training rides.

    The course's own pipeline varies in the fourth digit with the order of the rides, because its solver stops early on
    raw distances of up to 300,000 miles. This fit agrees with it to that digit, and the same rides give the same bits
    on every machine.
    """
    seen, pair_rides = _summarise_pairs(rides)
    coefficients, intercept = _solve(pair_rides)
    pair_minutes = np.full(_N_PAIRS, intercept)
    pair_minutes[seen] += coefficients[:-1]
    return Baseline(pair_minutes, float(coefficients[-1]))


def _pairs(rides: RideColumns) -> NDArray[np.int64]:
    return rides.pickup_zone.astype(np.int64) * _N_ZONES + rides.dropoff_zone


def _miles(rides: RideColumns) -> NDArray[np.float64]:
    """Return distances with 0 for missing ones, as the course fills them."""
    miles: NDArray[np.float64] = np.nan_to_num(rides.trip_distance_miles)
    return miles


def _summarise_pairs(rides: Rides) -> tuple[NDArray[np.intp], _PairRides]:
    """Return the pairs that have rides, ascending, and four rides for each; needs memory for five numbers a ride."""
    pairs, miles, minutes = _pairs(rides.columns), _miles(rides.columns), rides.duration_minutes
    n_rides = np.bincount(pairs, minlength=_N_PAIRS)
    seen = np.flatnonzero(n_rides)

    def mean(values: Vector) -> Vector:
        of_pairs: Vector = np.bincount(pairs, values, _N_PAIRS) / np.maximum(n_rides, 1)
        return of_pairs

    mean_miles, mean_minutes = mean(miles), mean(minutes)
    miles -= mean_miles[pairs]
    minutes = minutes - mean_minutes[pairs]
    spread = np.sqrt(mean(miles * miles)[seen])
    along = np.divide(mean(miles * minutes)[seen], spread, out=np.zeros(len(seen)), where=spread > 0)
    across = np.sqrt(np.maximum(mean(minutes * minutes)[seen] - along * along, 0.0))
    return seen, _PairRides(
        weight=np.tile(n_rides[seen] / 4, (4, 1)),
        miles=mean_miles[seen] + np.outer((1, 1, -1, -1), spread),
        minutes=mean_minutes[seen] + np.outer((1, 1, -1, -1), along) + np.outer((1, -1, 1, -1), across),
    )


def _solve(rides: _PairRides) -> tuple[Vector, float]:
    """Return coefficients (n_pairs + 1,), the distance's last, and the intercept.

    As in scikit-learn, rows are multiplied by the root of their weight, and the intercept replaces the means.
    """
    root = np.sqrt(rides.weight)
    share = rides.weight / rides.weight.sum()
    pair_share = share.sum(axis=0)
    mean_miles, mean_minutes = float((share * rides.miles).sum()), float((share * rides.minutes).sum())

    def times(coefficients: Vector) -> Vector:
        of_pairs, slope = coefficients[:-1], coefficients[-1]
        mean = (pair_share * of_pairs).sum() + mean_miles * slope
        rows: Vector = (root * (of_pairs + rides.miles * slope) - root * mean).ravel()
        return rows

    def transposed_times(rows: Vector) -> Vector:
        weighted = root * rows.reshape(root.shape)
        total = weighted.sum()
        # One after the other, as SciPy's product does: the rounding of this sum decides where the solver stops.
        slope = np.cumsum(rides.miles * weighted)[-1] - mean_miles * total
        return np.append(weighted.sum(axis=0) - pair_share * total, slope)

    wanted = (root * (rides.minutes - mean_minutes)).ravel()
    coefficients = solve_least_squares(times, transposed_times, wanted)
    intercept = mean_minutes - float((pair_share * coefficients[:-1]).sum()) - mean_miles * float(coefficients[-1])
    return coefficients, intercept
