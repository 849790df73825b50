"""Predict training rides out of fold: each by a model that did not learn from the ride's week.

A model errs less on the rides that it learned from than on later ones. Out of fold it meets each ride for the first
time, on a day that it has not seen, with the traffic and the weather of that day.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lambda_function.core.features import MINUTES_PER_DAY
from training.data.rides import Rides
from training.model.calibrate import Predict

N_FOLDS = 4
"""Each model learns from three weeks in four."""

MAX_FIT_RIDES = 500_000
"""Each model learns from about so many rides at most, drawn evenly: four fits then take a minute, whatever the data."""

FEW_RIDES = 10_000
"""With fewer rides there are two folds: so few say little, and a fit takes as long as one on many."""

_FEW_FOLDS = 2
_DAYS_A_WEEK = 7
_EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday; a week begins on Monday
_BLOCK_RIDES = 1 << 17


def find_folds(rides: Rides) -> NDArray[np.int8] | None:
    """Return the fold of each ride, int8 (n,), numbered from 0; None with fewer than two days.

    All rides of a week are of the same fold. With fewer weeks than folds, all rides of a day are.
    """
    first_day = int(rides.columns.pickup_minute.min()) // MINUTES_PER_DAY if len(rides) else 0
    day = rides.columns.pickup_minute // MINUTES_PER_DAY - first_day
    days = np.bincount(day).nonzero()[0]
    weeks = (days + first_day + _EPOCH_WEEKDAY) // _DAYS_A_WEEK
    units = weeks if len(np.unique(weeks)) >= N_FOLDS else days
    number = np.unique(units, return_inverse=True)[1]
    if number.max(initial=0) == 0:
        return None
    fold_of_day = np.zeros(days.max() + 1, np.int8)
    fold_of_day[days] = number % (N_FOLDS if len(rides) >= FEW_RIDES else _FEW_FOLDS)
    return fold_of_day.take(day)


def predict_out_of_fold(rides: Rides, fit: Callable[[Rides], Predict], n_last: int) -> NDArray[np.float64] | None:
    """Return the minutes (n_last,) of the last rides, predicted out of fold; None if the rides are of one day.

    Args:
        rides: Training rides, at least n_last.
        fit: Fits a model in the same way as on all of the rides.
        n_last: How many rides to predict. The models learn from the others too.
    """
    fold = find_folds(rides)
    if fold is None:
        return None
    minutes = np.empty(n_last)
    start = len(rides) - n_last
    for number in range(int(fold.max()) + 1):
        predict = fit(rides.take(_other_rows(fold, number)))
        for first in range(start, len(rides), _BLOCK_RIDES):
            rows = first + (fold[first : first + _BLOCK_RIDES] == number).nonzero()[0]
            if len(rows):
                minutes[rows - start] = predict(rides.take(rows))
    return minutes


def _other_rows(fold: NDArray[np.int8], number: int) -> NDArray[np.intp]:
    """Return the rows of rides of other folds, or of a sample of very many."""
    n_others = len(fold) - int(np.count_nonzero(fold == number))
    some = np.arange(0, len(fold), max(-(-n_others // MAX_FIT_RIDES), 1))
    rows: NDArray[np.intp] = some[fold[some] != number]
    return rows
