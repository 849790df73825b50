"""How far predictions are off, in minutes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Errors:
    """Errors over rides.

    `rmse_minutes` weighs the large ones, `mae_minutes` is the everyday one, `bias_minutes` is above 0 where
    predictions are too long on the whole.
    """

    n_rides: int
    rmse_minutes: float
    mae_minutes: float
    bias_minutes: float


def measure_errors(predicted_minutes: NDArray[np.float64], actual_minutes: NDArray[np.float64]) -> Errors:
    """Compares two arrays (n,), n > 0, of minutes.

    >>> measure_errors(np.array([10.0, 20.0]), np.array([13.0, 16.0]))
    Errors(n_rides=2, rmse_minutes=3.5355339059327378, mae_minutes=3.5, bias_minutes=0.5)
    """
    error = predicted_minutes - actual_minutes
    rmse_minutes = float(np.sqrt(np.mean(error * error)))
    return Errors(len(error), rmse_minutes, float(np.mean(np.abs(error))), float(np.mean(error)))
