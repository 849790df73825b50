"""Deliveries as training data. These are made up; read your own records here, into the same columns."""

import hashlib

import numpy as np

from lambda_function.core.features import LAST_ZONE, UNKNOWN_ZONE, RideColumns, feature_matrix
from training.data.months import Month
from training.data.rides import Rides, Source, month_facts

_STRAIGHT_LINE = 12  # the column of the features


def load_deliveries(month: Month, n_deliveries: int) -> Rides:
    """Return a month's deliveries, sorted by the time at which they were collected."""
    rng = np.random.default_rng([month.year, month.month])
    n_seconds = int((month.end - month.start) / np.timedelta64(1, "s"))
    collected = month.start + np.sort(rng.integers(n_seconds, size=n_deliveries)).astype("timedelta64[s]")
    zones = rng.integers(1, LAST_ZONE, size=(2, n_deliveries))
    zones[rng.random(zones.shape) < 0.01] = UNKNOWN_ZONE
    columns = RideColumns(
        pickup_zone=zones[0],
        dropoff_zone=zones[1],
        trip_distance_miles=np.zeros(n_deliveries),
        pickup_minute=collected.astype("datetime64[m]").astype(np.int64),
        parcels=rng.integers(1, 6, n_deliveries),
    )
    miles = np.nan_to_num(feature_matrix(columns)[:, _STRAIGHT_LINE], nan=3.0) * 1.3 + rng.gamma(2, 0.2, n_deliveries)
    columns.trip_distance_miles[:] = miles.round(2)
    is_rush_hour = np.isin(columns.pickup_minute // 60 % 24, (8, 9, 16, 17, 18))
    usual_minutes = 4 + 2 * columns.parcels + 60 * miles / np.where(is_rush_hour, 9, 15)
    minutes = (usual_minutes * rng.lognormal(0, 0.1, n_deliveries)).clip(1, 60)
    facts = month_facts(month, columns, collected, minutes)
    digest = hashlib.sha256(collected.tobytes() + minutes.tobytes()).hexdigest()
    source = Source("made up", month, digest, n_deliveries, n_deliveries, {}, facts)
    return Rides(columns, collected, minutes, (source,))
