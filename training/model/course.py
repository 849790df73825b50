"""The MLOps Zoomcamp's random forest, which the course's streaming lambda serves: a model to compare with."""

from collections.abc import Callable

import numpy as np
from sklearn.ensemble import RandomForestRegressor
from sklearn.feature_extraction import DictVectorizer
from sklearn.pipeline import Pipeline, make_pipeline

from lambda_function.core.features import RideColumns
from training.data.rides import Rides

N_TREES = 50


def fit_course_forest(
    rides: Rides, on_trees: Callable[[int], None] = lambda _: None, n_jobs: int = -1, trees_a_step: int = 5
) -> Pipeline:
    """Fit the random forest that the course's streaming lambda serves.

    The trees are fitted in steps, to report progress: the result is the same as that of one call of `fit`.

    Args:
        rides: The training rides.
        on_trees: Receives the number of trees fitted so far; what it raises ends the fit.
        n_jobs: CPUs to use; all by default.
        trees_a_step: Trees between two calls of `on_trees`.

    Returns:
        A pipeline that predicts minutes from `course_features`. It knows zones and distance of a ride, and no time.
    """
    vectorizer = DictVectorizer()
    matrix = vectorizer.fit_transform(course_features(rides.columns))
    forest = RandomForestRegressor(max_depth=20, min_samples_leaf=10, random_state=0, warm_start=True, n_jobs=n_jobs)
    for n_trees in range(trees_a_step, N_TREES + 1, trees_a_step):
        forest.set_params(n_estimators=n_trees).fit(matrix, rides.duration_minutes)
        on_trees(n_trees)
    return make_pipeline(vectorizer, forest.set_params(n_jobs=None))


def course_features(rides: RideColumns) -> list[dict[str, str | float]]:
    """Return the course's features, a dict a ride."""
    zones = zip(rides.pickup_zone.tolist(), rides.dropoff_zone.tolist(), strict=True)
    return [
        {"PU_DO": f"{pickup}_{dropoff}", "trip_distance": miles}
        for (pickup, dropoff), miles in zip(zones, np.nan_to_num(rides.trip_distance_miles).tolist(), strict=True)
    ]
