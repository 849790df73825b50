"""Golden rides: events and what is predicted for them, which a bundle carries and every function replays first."""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

from lambda_function.events import Ride, RideEvent
from lambda_function.features import FEATURE_NAMES, RideColumns, feature_matrix
from lambda_function.interval import Interval, IntervalTables
from lambda_function.model import GoldenRide
from training.dataset import MAX_DURATION_MINUTES, MIN_DURATION_MINUTES, Rides

N_GOLDEN_RIDES = 100
_N_AT_THRESHOLDS = 30
_N_MISSING = 10
_RANGE_MINUTES = MIN_DURATION_MINUTES, MAX_DURATION_MINUTES


def golden_file(
    fitted: HistGradientBoostingRegressor, arrays: dict[str, NDArray[Any]], rides: Rides, interval: Interval | None
) -> bytes:
    """Picks a hundred rides, some at thresholds and some with missing values, and has scikit-learn predict them.

    Args:
        fitted: The forest.
        arrays: The same, as `forest_arrays` gives it.
        rides: To pick from, at least one.
        interval: What the rides' intervals are of, if they are to have any.

    Returns:
        The file's bytes, a ride a line.
    """
    chosen = rides.take(np.linspace(0, len(rides) - 1, N_GOLDEN_RIDES).astype(np.intp))
    columns = chosen.columns
    miles = np.where(columns.trip_distance_miles >= 0, columns.trip_distance_miles, 0.0)
    at_thresholds = _distances_at_thresholds(arrays)
    miles[: len(at_thresholds)] = at_thresholds
    miles[-_N_MISSING:] = 0.0
    dropoff_zone = columns.dropoff_zone.copy()
    dropoff_zone[-_N_MISSING // 2 :] = 264
    columns = RideColumns(columns.pickup_zone, dropoff_zone, miles, columns.pickup_minute)
    matrix = feature_matrix(columns)
    minutes = fitted.predict(matrix).clip(*_RANGE_MINUTES)
    times = columns.pickup_minute.astype("datetime64[m]").astype("datetime64[s]").astype(str)
    golden = [
        GoldenRide(
            msgspec.Raw(
                msgspec.json.encode(RideEvent(Ride(int(pickup), int(dropoff), float(mile), str(time)), number))
            ),
            float(minute),
            bounds,
        )
        for number, (pickup, dropoff, mile, time, minute, bounds) in enumerate(
            zip(
                columns.pickup_zone,
                dropoff_zone,
                miles,
                times,
                minutes,
                _bounds(interval, minutes, matrix),
                strict=True,
            )
        )
    ]
    return b"[\n" + b",\n".join(msgspec.json.encode(ride) for ride in golden) + b"\n]\n"


def _bounds(
    interval: Interval | None, minutes: NDArray[np.float64], matrix: NDArray[np.float64]
) -> list[tuple[float, float]] | list[None]:
    """Returns the intervals (n,) of predictions, if they have any."""
    if interval is None:
        return [None] * len(minutes)
    low, high = IntervalTables.of(interval, _RANGE_MINUTES).bounds(minutes, matrix)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def _distances_at_thresholds(arrays: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Returns distances (m,) at thresholds and one ulp to either side."""
    of_distance = arrays["split_feature"] == FEATURE_NAMES.index("trip_distance_miles")
    thresholds = np.unique(arrays["split_threshold"][of_distance])
    thresholds = thresholds[np.isfinite(thresholds)]
    if not len(thresholds):
        return thresholds
    picked = thresholds[np.linspace(0, len(thresholds) - 1, _N_AT_THRESHOLDS // 3).astype(np.intp)]
    return np.concatenate([picked, np.nextafter(picked, -np.inf), np.nextafter(picked, np.inf)])
