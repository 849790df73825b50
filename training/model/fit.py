"""Fitting: features and durations in, a gradient-boosted forest out."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

from lambda_function.core.features import FEATURE_NAMES, MINUTES_PER_DAY, RideColumns, feature_matrix
from training.data.rides import Rides
from training.model.parameters import PARAMETERS as PARAMETERS  # noqa: PLC0414 - imported from here as well
from training.model.parameters import check_parameters

_RIDES_A_BLOCK = 1 << 17  # 13 MB of features at a time
_N_BINNING_RIDES = 200_000  # as many as scikit-learn looks at: where its bins end needs no more
_MONTH_OF_YEAR = FEATURE_NAMES.index("month_of_year")
_MONTHS_A_YEAR = 12
_WEIGHT_DECIMALS = 6  # powers differ in their last bit between processors, and trees may not


def fit_forest(rides: Rides, parameters: dict[str, Any]) -> HistGradientBoostingRegressor:
    """Fits the model on rides, of which it sees features and durations only.

    Splits by the month of the year are made only where the rides have all twelve: in fewer, a month tells when a ride
    took place, not what season it was, and the next month is none of them.

    The same rides and parameters give the same trees, whatever the number of threads. Beside the rides it takes some
    80 bytes a ride: their features are put into bins block by block, and never stand in memory as numbers all at once.

    Raises:
        ParameterError: A parameter is unknown, or has a value that it cannot have.
    """
    check_parameters(parameters)
    half_life_days = parameters.get("half_life_days")
    others = {name: value for name, value in parameters.items() if name != "half_life_days"}
    if "max_features" in others:
        others["max_features"] = float(others["max_features"])  # scikit-learn takes a 1 for something else than a 1.0
    weights = None if half_life_days is None else age_weights(rides.columns.pickup_minute, half_life_days)
    forest = _BlockwiseForest(early_stopping=False, **others)
    return forest.fit_rides(rides.columns, rides.duration_minutes, weights)


def age_weights(pickup_minute: NDArray[np.integer[Any]], half_life_days: float) -> NDArray[np.float64]:
    """Returns what rides count (n,), 0 to 1: those of the latest day 1, half of it every so many days before.

    >>> age_weights(np.array([0, 2 * 1440, 2 * 1440 + 5]), half_life_days=2.0).tolist()
    [0.5, 1.0, 1.0]
    """
    day = pickup_minute // MINUTES_PER_DAY
    age_days = day.max(initial=0) - day
    weight_by_age = 0.5 ** (np.arange(age_days.max(initial=0) + 1) / half_life_days)
    return weight_by_age.round(_WEIGHT_DECIMALS).take(age_days)


class _BlockwiseForest(HistGradientBoostingRegressor):  # type: ignore[misc]  # scikit-learn has no types
    """scikit-learn's forest, given rides in place of a matrix.

    It overrides the one step that reads the matrix, which is private: a scikit-learn that has changed it fails the
    tests, which compare the trees with those of the forest that is given a matrix.
    """

    def fit_rides(
        self, columns: RideColumns, minutes: NDArray[np.float64], weights: NDArray[np.float64] | None
    ) -> HistGradientBoostingRegressor:
        """Fits on rides, their durations in minutes and what each counts, (n,) each."""
        self._columns = columns
        plain = HistGradientBoostingRegressor()
        try:
            # Of the matrix scikit-learn reads nothing but its shape: this one takes 8 bytes.
            self.fit(np.broadcast_to(0.0, (len(columns), len(FEATURE_NAMES))), minutes, weights)
        finally:
            del self._columns
        vars(plain).update(vars(self))  # fitted, it is like any other: nobody needs this class to use or pickle it
        return plain

    def _bin_data(self, matrix: NDArray[np.float64], *_: Any, **__: Any) -> NDArray[np.uint8]:
        """Returns each ride's bin of each feature, uint8 (n, n_features), having decided where the bins end."""
        n_rides = len(matrix)
        some = np.linspace(0, n_rides - 1, min(n_rides, _N_BINNING_RIDES)).astype(np.intp)
        self._bin_mapper.fit(feature_matrix(_take(self._columns, some)))
        bins = np.empty(matrix.shape, np.uint8, order="F")
        for start in range(0, n_rides, _RIDES_A_BLOCK):
            block = slice(start, start + _RIDES_A_BLOCK)
            bins[block] = self._bin_mapper.transform(feature_matrix(_take(self._columns, block)))
        if len(np.unique(bins[:, _MONTH_OF_YEAR])) < _MONTHS_A_YEAR:
            bins[:, _MONTH_OF_YEAR] = 0  # one bin cannot be split
        return bins


def _take(columns: RideColumns, rows: slice | NDArray[np.intp]) -> RideColumns:
    return RideColumns(
        pickup_zone=columns.pickup_zone[rows],
        dropoff_zone=columns.dropoff_zone[rows],
        trip_distance_miles=columns.trip_distance_miles[rows],
        pickup_minute=columns.pickup_minute[rows],
    )
