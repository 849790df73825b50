"""Fitting: features and durations in, a gradient-boosted forest out."""

from typing import Any

from sklearn.ensemble import HistGradientBoostingRegressor

from lambda_function.features import feature_matrix
from training.dataset import Rides

PARAMETERS: dict[str, Any] = {
    "max_iter": 500,
    "max_leaf_nodes": 31,
    "learning_rate": 0.1,
    "max_features": 0.5,
    "min_samples_leaf": 40,
    "l2_regularization": 10.0,
    "random_state": 1,
}
"""Chosen inside the training months: fitted before the 23rd of 2021-01 and of 2023-01, compared on the days after.

See docs/decisions/0005 for what was compared.
"""


def fit_forest(rides: Rides, parameters: dict[str, Any]) -> HistGradientBoostingRegressor:
    """Fits the model on rides, of which it sees features and durations only.

    The same rides and parameters give the same trees, whatever the number of threads.
    """
    model = HistGradientBoostingRegressor(early_stopping=False, **parameters)
    return model.fit(feature_matrix(rides.columns), rides.duration_minutes)
