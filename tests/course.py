"""The course's own linear model: the reference that `training.model.baseline` reproduces."""

import numpy as np
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline, make_pipeline

from lambda_function.core.features import RideColumns
from training.data.rides import Rides


def course_pipeline(rides: Rides) -> Pipeline:
    """Fit the model as the course's lessons do, from a dict a ride: only for few rides."""
    pipeline = make_pipeline(DictVectorizer(), LinearRegression())
    return pipeline.fit(course_features(rides.columns), rides.duration_minutes)


def course_features(rides: RideColumns) -> list[dict[str, str | float]]:
    """Return the course's features, a dict a ride."""
    zones = zip(rides.pickup_zone.tolist(), rides.dropoff_zone.tolist(), strict=True)
    return [
        {"PU_DO": f"{pickup}_{dropoff}", "trip_distance": miles}
        for (pickup, dropoff), miles in zip(zones, np.nan_to_num(rides.trip_distance_miles).tolist(), strict=True)
    ]
