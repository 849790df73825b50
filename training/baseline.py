"""The MLOps Zoomcamp's model, on the same split: what every report is compared with.

One-hot pairs of zones and the raw distance through a DictVectorizer into a linear regression, as its lessons build it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline, make_pipeline

from lambda_function.features import RideColumns
from training.dataset import Rides


@dataclass(frozen=True, slots=True)
class Baseline:
    """The fitted baseline. Build it with `fit_baseline`."""

    pipeline: Pipeline

    def predict(self, rides: RideColumns) -> NDArray[np.float64]:
        """Returns minutes (n,)."""
        minutes: NDArray[np.float64] = self.pipeline.predict(_ride_dicts(rides))
        return minutes


def fit_baseline(rides: Rides) -> Baseline:
    """Fits vectoriser and regression on training rides, which are all that either sees."""
    pipeline = make_pipeline(DictVectorizer(), LinearRegression())
    return Baseline(pipeline.fit(_ride_dicts(rides.columns), rides.duration_minutes))


def _ride_dicts(rides: RideColumns) -> list[dict[str, Any]]:
    pairs = pd.DataFrame(
        {
            "PU_DO": pd.Series(rides.pickup_zone).astype(str) + "_" + pd.Series(rides.dropoff_zone).astype(str),
            "trip_distance": np.nan_to_num(rides.trip_distance_miles),  # the course fills what is missing with 0
        }
    )
    dicts: list[dict[str, Any]] = pairs.to_dict(orient="records")
    return dicts
