"""Sums over rides by slice, a block of rides at a time: what errors are computed from when the rides are many."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lambda_function.features import RideColumns, feature_matrix
from lambda_function.model import ModelBundle
from training.data.rides import Rides
from training.data.slices import Slicing

BLOCK_RIDES = 100_000
"""Rides predicted at once. A block's matrix and what is computed of it take some 30 MB, however many rides there are.

It is part of what an evaluation says, to the last bits: sums depend on where they are cut.
"""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of some rides: float64 (n,) each.

    Attributes:
        error_minutes: Predicted less actual; below 0 where the prediction is too short.
        covered: 1 where the interval, as it is sent, holds the actual duration; None without intervals.
        width_minutes: From the interval's low to its high end; None without intervals.
    """

    error_minutes: Floats
    covered: Floats | None = None
    width_minutes: Floats | None = None


@dataclass(slots=True)
class Tally:
    """Sums by slice of one slicing, float64 (n_slices,) each; `covered` and `width_minutes` stay 0 without intervals.

    `squares` has square minutes, `absolutes` and `errors` have minutes.
    """

    slicing: Slicing
    n_rides: Floats = field(init=False)
    squares: Floats = field(init=False)
    absolutes: Floats = field(init=False)
    errors: Floats = field(init=False)
    covered: Floats = field(init=False)
    width_minutes: Floats = field(init=False)
    has_intervals: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        sums = np.zeros((6, len(self.slicing.names)))
        self.n_rides, self.squares, self.absolutes, self.errors, self.covered, self.width_minutes = sums

    def add(self, rides: RideColumns, outcome: Outcome) -> None:
        """Adds rides and what became of them; a ride that is in no slice of this slicing counts nowhere."""
        number = self.slicing.number(rides)
        error = outcome.error_minutes
        self.n_rides += self._sums(number, None)
        self.squares += self._sums(number, error * error)
        self.absolutes += self._sums(number, np.abs(error))
        self.errors += self._sums(number, error)
        if outcome.covered is not None:
            self.has_intervals = True
            self.covered += self._sums(number, outcome.covered)
            self.width_minutes += self._sums(number, outcome.width_minutes)

    def _sums(self, number: NDArray[np.intp], values: Floats | None) -> Floats:
        n_slices = len(self.slicing.names)
        return np.bincount(number, values, minlength=n_slices + 1)[:n_slices].astype(np.float64)


Predictor = Callable[[Rides], Outcome]
"""Predicts rides and compares with what they took."""


def predictor(model: ModelBundle) -> Predictor:
    """Returns a bundle's predictor, intervals included where it has them."""
    return lambda rides: _outcome(model, rides)


def plain_predictor(predict: Callable[[RideColumns], Floats]) -> Predictor:
    """Returns the predictor of anything that has minutes for rides by column, without intervals."""
    return lambda rides: Outcome(predict(rides.columns) - rides.duration_minutes)


def tally_rides(predict: Predictor, rides: Rides, slicings: Sequence[Slicing]) -> list[Tally]:
    """Predicts rides, block by block, and sums up what became of them, by each of the slicings."""
    tallies = [Tally(slicing) for slicing in slicings]
    for start in range(0, len(rides), BLOCK_RIDES):
        block = rides.take(slice(start, start + BLOCK_RIDES))
        outcome = predict(block)
        for tally in tallies:
            tally.add(block.columns, outcome)
    return tallies


def _outcome(model: ModelBundle, rides: Rides) -> Outcome:
    matrix = feature_matrix(rides.columns)
    minutes = model.predict(matrix)
    error = minutes - rides.duration_minutes
    bounds = model.interval_bounds(matrix, minutes)
    if bounds is None:
        return Outcome(error)
    low, high = bounds
    covered = (low <= rides.duration_minutes) & (rides.duration_minutes <= high)
    return Outcome(error, covered.astype(np.float64), high - low)
