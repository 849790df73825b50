"""Fit a gradient-boosted forest on the features and durations of rides."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits  # a dependency of scikit-learn

from lambda_function.core.features import FEATURE_NAMES, MINUTES_PER_DAY, RideColumns, feature_matrix
from training.data.rides import Rides, take_columns
from training.model.parameters import check_parameters

_RIDES_A_BLOCK = 1 << 17  # 13 MB of features at a time
_MIN_RIDES_FOR_THREADS = 400_000
"""Fewer are fitted in one thread: 65,000 rides take 2 s in one. Threads wait for each other at every node of every
tree, and on a shared machine of two cores that took 8 s more, however many rides. The trees are the same."""
_N_BINNING_RIDES = 200_000  # scikit-learn, too, takes so many to find the ends of the bins
_MONTH_OF_YEAR = FEATURE_NAMES.index("month_of_year")
_MONTHS_A_YEAR = 12
_WEIGHT_DECIMALS = 6  # the last bit of a power differs between processors, which must not change the trees


def fit_forest(rides: Rides, parameters: dict[str, Any]) -> HistGradientBoostingRegressor:
    """Fit the model on the features and durations of rides.

    Trees split by the month of the year only if the rides have all twelve. With fewer, a month identifies a time and
    not a season, and no later month is one of them.

    The same rides and parameters give the same trees, whatever the number of threads. The fit needs some 80 bytes a
    ride besides the rides: their features are put into bins block by block, and are never all in memory as numbers.

    Raises:
        UserError: A parameter is unknown, or has a value out of its range.
    """
    check_parameters(parameters)
    half_life_days = parameters.get("half_life_days")
    others = {name: value for name, value in parameters.items() if name != "half_life_days"}
    if "max_features" in others:
        others["max_features"] = float(others["max_features"])  # scikit-learn treats 1 and 1.0 differently
    weights = None if half_life_days is None else age_weights(rides.columns.pickup_minute, half_life_days)
    forest = _BlockwiseForest(early_stopping=False, **others)
    return forest.fit_rides(rides.columns, rides.duration_minutes, weights)


def age_weights(pickup_minute: NDArray[np.integer[Any]], half_life_days: float) -> NDArray[np.float64]:
    """Return the weights of rides (n,), 0 to 1: the latest day has 1, and each half-life before it halves the weight.

    >>> age_weights(np.array([0, 2 * 1440, 2 * 1440 + 5]), half_life_days=2.0).tolist()
    [0.5, 1.0, 1.0]
    """
    day = pickup_minute // MINUTES_PER_DAY
    age_days = day.max(initial=0) - day
    weight_by_age = 0.5 ** (np.arange(age_days.max(initial=0) + 1) / half_life_days)
    return weight_by_age.round(_WEIGHT_DECIMALS).take(age_days)


def _threads(n_rides: int) -> AbstractContextManager[Any]:
    """Return a context in which a fit on so many rides has the right number of threads."""
    return threadpool_limits(1, "openmp") if n_rides < _MIN_RIDES_FOR_THREADS else nullcontext()


class _BlockwiseForest(HistGradientBoostingRegressor):  # type: ignore[misc]  # scikit-learn has no types
    """scikit-learn's forest, fitted on rides instead of a matrix.

    It overrides the private step that reads the matrix. If a new scikit-learn changes that step, the tests fail: they
    compare the trees with those of a forest fitted on a matrix.
    """

    def fit_rides(
        self, columns: RideColumns, minutes: NDArray[np.float64], weights: NDArray[np.float64] | None
    ) -> HistGradientBoostingRegressor:
        """Fit on rides, their durations in minutes and their weights, (n,) each."""
        self._columns = columns
        plain = HistGradientBoostingRegressor()
        try:
            # scikit-learn reads only the shape of the matrix: this one takes 8 bytes.
            with _threads(len(columns)):
                self.fit(np.broadcast_to(0.0, (len(columns), len(FEATURE_NAMES))), minutes, weights)
        finally:
            del self._columns
        vars(plain).update(vars(self))  # a plain forest: using or pickling it does not need this class
        return plain

    def _bin_data(self, matrix: NDArray[np.float64], *_: Any, **__: Any) -> NDArray[np.uint8]:
        """Find the ends of the bins and return each ride's bin of each feature, uint8 (n, n_features)."""
        n_rides = len(matrix)
        some = np.linspace(0, n_rides - 1, min(n_rides, _N_BINNING_RIDES)).astype(np.intp)
        self._bin_mapper.fit(feature_matrix(take_columns(self._columns, some)))
        bins = np.empty(matrix.shape, np.uint8, order="F")
        for start in range(0, n_rides, _RIDES_A_BLOCK):
            block = slice(start, start + _RIDES_A_BLOCK)
            bins[block] = self._bin_mapper.transform(feature_matrix(take_columns(self._columns, block)))
        if len(np.unique(bins[:, _MONTH_OF_YEAR])) < _MONTHS_A_YEAR:
            bins[:, _MONTH_OF_YEAR] = 0  # one bin cannot be split
        return bins
