"""Permutation importance: how much worse a model gets where it is told somebody else's distance, time or place."""

import numpy as np
from numpy.typing import NDArray

from lambda_function.features import feature_matrix
from lambda_function.model import ModelBundle
from training.data.rides import Rides
from training.evaluate import measure_errors
from training.report.facts import FeatureImportance

MAX_IMPORTANCE_RIDES = 20_000
N_SHUFFLES = 3
SEED = 20090101

GROUPS = {"pickup place": "pickup_", "drop-off place": "dropoff_"}
"""Features that tell one thing, by how their names begin: alone, each would be stood in for by the others."""


def feature_importance(model: ModelBundle, rides: Rides) -> tuple[FeatureImportance, ...]:
    """Shuffles features among rides, N_SHUFFLES times, always alike, and sees how much the RMSE rises.

    Args:
        model: Reads the features that its manifest names.
        rides: At least one; MAX_IMPORTANCE_RIDES of them are drawn where there are more.

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
    whole = _rmse_minutes(model, matrix, rides)
    found = []
    for name, features in together.items():
        columns = [names.index(feature) for feature in features]
        rises = [_rmse_minutes(model, _shuffled(matrix, columns, rows), rides) - whole for rows in order]
        found.append(FeatureImportance(name, features, float(np.mean(rises)), min(rises), max(rises)))
    return tuple(found)


def sample_rides(rides: Rides, n_rides: int) -> Rides:
    """Draws rides, always the same, in their order; all where there are no more."""
    if len(rides) <= n_rides:
        return rides
    return rides.take(np.sort(np.random.default_rng(SEED).choice(len(rides), n_rides, replace=False)))


def _shuffled(matrix: NDArray[np.float64], columns: list[int], rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Gives every ride another one's values in these columns, of one and the same ride in all of them."""
    shuffled = matrix.copy()
    shuffled[:, columns] = matrix[np.ix_(rows, columns)]
    return shuffled


def _rmse_minutes(model: ModelBundle, matrix: NDArray[np.float64], rides: Rides) -> float:
    return measure_errors(model.predict(matrix), rides.duration_minutes).rmse_minutes
