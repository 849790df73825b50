"""Which rides are held out to calibrate prediction intervals: evenly over time and kinds, and fitted on by nothing."""

import numpy as np
from numpy.typing import NDArray

from lambda_function.features import MAX_TRIP_DISTANCE_MILES, RideColumns
from training.data.rides import Rides

RIDES_PER_CALIBRATION_RIDE = 20
"""Each one held out is one less to learn from. See docs/decisions/0008 for what 2, 5 and 10 % cost and give."""

WITHOUT_DISTANCE_PER_CALIBRATION_RIDE = 5
"""Of rides without a distance: one in thirty, and with widths of their own. One in twenty of them would be too few."""

MAX_CALIBRATION_RIDES = 100_000
"""Of either sort. Coverage is known to a tenth of a percent there, and more would only be lost to the fit."""

MIN_CALIBRATION_RIDES = 60
"""Fewer are not held out at all: such a model has no intervals."""


def split_calibration(rides: Rides) -> tuple[Rides, Rides]:
    """Splits rides into those to fit on and those to calibrate on, each sorted by pickup.

    Returns:
        Rides to fit on, and rides to calibrate on, which are none where there are fewer than some 1,200 in all. The
        same rides are split in the same way on any machine.
    """
    held_out = calibration_mask(rides.columns)
    return rides.take(~held_out), rides.take(held_out)


def calibration_mask(rides: RideColumns) -> NDArray[np.bool_]:
    """Returns which of some rides (n,), sorted by pickup, are to calibrate on: bool (n,).

    It goes by which features there are, never by how long a ride took: within a kind, all rides are equally likely.
    """
    miles = rides.trip_distance_miles
    has_distance = (miles > 0) & (miles <= MAX_TRIP_DISTANCE_MILES)
    held_out = np.zeros(len(rides), np.bool_)
    held_out[_one_in(RIDES_PER_CALIBRATION_RIDE, has_distance.nonzero()[0])] = True
    held_out[_one_in(WITHOUT_DISTANCE_PER_CALIBRATION_RIDE, (~has_distance).nonzero()[0])] = True
    if np.count_nonzero(held_out) < MIN_CALIBRATION_RIDES:
        held_out[:] = False
    return held_out


def _one_in(n: int, rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Picks every n-th row, or fewer where those would be more than MAX_CALIBRATION_RIDES."""
    step = max(n, -(-len(rows) // MAX_CALIBRATION_RIDES))
    return rows[step // 2 :: step]
