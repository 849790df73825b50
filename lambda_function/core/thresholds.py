"""Count the thresholds below a value: by binary search, or for many values with a table of cells."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

_N_CELLS = 4096
_MAX_STEPS = 8
_MIN_WIDTH = 1e-9

# A table lookup costs some 50 us a call whatever the number of values, a search 40 ns a value.
_MANY_VALUES = 512


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Ascending thresholds of one feature, cut into cells of equal width. Build it with `of`.

    A value's cell is a monotonic function of the value. So thresholds in lower cells lie below it, those in higher
    cells don't, and only those in its own cell need comparing: one or two, where 4096 cells hold 250 thresholds.
    """

    values: NDArray[np.float64]  # float64 (m,), ascending, no NaN; the last may be +inf
    _closed: NDArray[np.float64]  # the values, and at their end one that nothing exceeds
    _first_in_cell: NDArray[np.intp]
    _low: float
    _cells_per_unit: float
    _n_steps: int

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Self:
        """Cut thresholds (m,), ascending, into cells."""
        finite = values[np.isfinite(values)]
        low, high = (float(finite[0]), float(finite[-1])) if len(finite) else (0.0, 0.0)
        width = high - low
        # None, too many or endless thresholds on one spot: there is nothing to cut, and the search serves.
        cells_per_unit = (_N_CELLS - 1) / width if _MIN_WIDTH < width < np.inf else 0.0
        cells = _cells(values, low, cells_per_unit)
        return cls(
            values=values,
            _closed=np.append(values, np.inf),
            _first_in_cell=cells.searchsorted(np.arange(_N_CELLS)),
            _low=low,
            _cells_per_unit=cells_per_unit,
            _n_steps=int(np.bincount(cells, minlength=1).max()),
        )

    def count_below(self, values: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return how many thresholds are below each of some values (n,); for NaN, any number up to m.

        >>> Thresholds.of(np.array([1.0, 2.0])).count_below(np.array([0.5, 1.0, 1.5, 9.0])).tolist()
        [0, 0, 1, 2]
        """
        if len(values) < _MANY_VALUES or not self._cells_per_unit or self._n_steps > _MAX_STEPS:
            return self.values.searchsorted(values, side="left")
        count = self._first_in_cell.take(_cells(values, self._low, self._cells_per_unit))
        for _ in range(self._n_steps):
            count += self._closed.take(count) < values
        return count


def _cells(values: NDArray[np.float64], low: float, cells_per_unit: float) -> NDArray[np.intp]:
    """Return each value's cell (n,); NaN goes into the first."""
    with np.errstate(over="ignore", invalid="ignore"):  # beyond either end is the last cell at that end
        cells = (values - low) * cells_per_unit
    return np.fmin(np.fmax(cells, 0.0), _N_CELLS - 1).astype(np.intp)
