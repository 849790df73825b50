"""The MLOps Zoomcamp's model, on the same split: what every report is compared with.

One-hot pairs of zones and the raw distance into a linear regression, as its lessons build it with a DictVectorizer.
Rides of one pair differ in nothing but distance and duration, so a few sums over each pair decide all that the
regression learns: it is fitted from those, on any number of rides in the same memory.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline, make_pipeline

from lambda_function.core.features import LAST_ZONE, RideColumns
from training.data.rides import Rides
from training.model.least_squares import Matrix, Vector, solve_least_squares

_N_ZONES = LAST_ZONE + 1
_N_PAIRS = _N_ZONES * _N_ZONES


@dataclass(frozen=True, slots=True, eq=False)
class Baseline:
    """The fitted baseline. Build it with `fit_baseline`.

    Attributes:
        pair_minutes: float64 (266 * 266,), by pickup zone times 266 plus dropoff zone: minutes at distance 0. A pair
            that training has not seen has the intercept.
        minutes_per_mile: The same for all pairs.
    """

    pair_minutes: NDArray[np.float64]
    minutes_per_mile: float

    def predict(self, rides: RideColumns) -> NDArray[np.float64]:
        """Returns minutes (n,)."""
        minutes: NDArray[np.float64] = self.pair_minutes[_pairs(rides)] + self.minutes_per_mile * _miles(rides)
        return minutes


@dataclass(frozen=True, slots=True)
class _Stand:
    """Four rides for all of a pair, which a regression on pairs and distance cannot tell from them.

    They have the pair's number of rides between them, its means, and its spread of distance and duration.

    Attributes:
        weight: float64 (4, n_pairs), rides that one stands for.
        miles: float64 (4, n_pairs).
        minutes: float64 (4, n_pairs).
    """

    weight: Vector
    miles: Vector
    minutes: Vector


def fit_baseline(rides: Rides) -> Baseline:
    """Fits the regression on training rides, which are all that it sees.

    Agrees with `course_pipeline` as far as that agrees with itself: its solver stops early on raw distances of up to
    300,000 miles, and the order of the rides moves its errors in the fourth digit. The same rides give the same bits
    here, whatever the machine.
    """
    seen, stand = _stand_in(rides)
    coefficients, intercept = _solve(stand)
    pair_minutes = np.full(_N_PAIRS, intercept)
    pair_minutes[seen] += coefficients[:-1]
    return Baseline(pair_minutes, float(coefficients[-1]))


def course_pipeline(rides: Rides) -> Pipeline:
    """Fits the same model as the course's lessons do, a dict a ride: the measure of `fit_baseline`, for few rides."""
    pipeline = make_pipeline(DictVectorizer(), LinearRegression())
    return pipeline.fit(course_features(rides.columns), rides.duration_minutes)


def course_features(rides: RideColumns) -> list[dict[str, str | float]]:
    """The course's features: a dict a ride."""
    zones = zip(rides.pickup_zone.tolist(), rides.dropoff_zone.tolist(), strict=True)
    return [
        {"PU_DO": f"{pickup}_{dropoff}", "trip_distance": miles}
        for (pickup, dropoff), miles in zip(zones, _miles(rides).tolist(), strict=True)
    ]


def _pairs(rides: RideColumns) -> NDArray[np.int64]:
    return rides.pickup_zone.astype(np.int64) * _N_ZONES + rides.dropoff_zone


def _miles(rides: RideColumns) -> NDArray[np.float64]:
    """Distances with 0 for what is missing, as the course fills it."""
    miles: NDArray[np.float64] = np.nan_to_num(rides.trip_distance_miles)
    return miles


def _stand_in(rides: Rides) -> tuple[NDArray[np.intp], _Stand]:
    """Returns the pairs seen, ascending, and four rides for each; needs memory for five numbers a ride."""
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
    return seen, _Stand(
        weight=np.tile(n_rides[seen] / 4, (4, 1)),
        miles=mean_miles[seen] + np.outer((1, 1, -1, -1), spread),
        minutes=mean_minutes[seen] + np.outer((1, 1, -1, -1), along) + np.outer((1, -1, 1, -1), across),
    )


def _solve(rides: _Stand) -> tuple[Vector, float]:
    """Returns coefficients (n_pairs + 1,), the distance's last, and the intercept.

    As scikit-learn does: rows times the root of their weight, less the means, which the intercept takes.
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
        # One after the other, as SciPy's product does: how far the solver gets hangs on the rounding of this very sum.
        slope = np.cumsum(rides.miles * weighted)[-1] - mean_miles * total
        return np.append(weighted.sum(axis=0) - pair_share * total, slope)

    wanted = (root * (rides.minutes - mean_minutes)).ravel()
    coefficients = solve_least_squares(Matrix(times, transposed_times), wanted)
    intercept = mean_minutes - float((pair_share * coefficients[:-1]).sum()) - mean_miles * float(coefficients[-1])
    return coefficients, intercept
