"""The model's parameters: their defaults, and a check of their values before a fit."""

import difflib
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from training.errors import UserError

PARAMETERS: dict[str, Any] = {
    "max_iter": 500,
    "max_leaf_nodes": 31,
    "learning_rate": 0.1,
    "max_features": 0.5,
    "min_samples_leaf": 40,
    "l2_regularization": 10.0,
    "half_life_days": 180.0,
    "random_state": 1,
}
"""Chosen inside training months: fitted before a day of the month, compared on the days after.

`half_life_days` is ours, the others are scikit-learn's: a ride so much older than the latest has half its weight.
See docs/decisions/0005 for the comparison.
"""

MAX_LEAF_NODES = 32
"""The bits of a mask in `lambda_function.core.forest`."""

_MAX_TREES = 65_535  # numbered by 16 bits
_MAX_SEED = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`, both included unless `above_low`."""

    wanted: str  # the range in words, as in `a number above 0`
    low: float
    high: float = math.inf
    whole: bool = False  # whole numbers only
    above_low: bool = False

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        if self.whole and not isinstance(value, int):
            return False
        return self.low <= value <= self.high and not (self.above_low and value == self.low)


KNOWN_PARAMETERS: Mapping[str, Range] = {
    "max_iter": Range(f"a whole number from 1 to {_MAX_TREES}", 1, _MAX_TREES, whole=True),
    "max_leaf_nodes": Range(f"a whole number from 2 to {MAX_LEAF_NODES}", 2, MAX_LEAF_NODES, whole=True),
    "learning_rate": Range("a number above 0, at most 1", 0, 1, above_low=True),
    "max_features": Range("a number above 0, at most 1", 0, 1, above_low=True),
    "min_samples_leaf": Range("a whole number from 1", 1, whole=True),
    "l2_regularization": Range("a number from 0", 0),
    "max_bins": Range("a whole number from 2 to 255", 2, 255, whole=True),
    "max_depth": Range("a whole number from 1", 1, whole=True),
    "random_state": Range(f"a whole number from 0 to {_MAX_SEED}", 0, _MAX_SEED, whole=True),
    "half_life_days": Range("a number above 0", 0, above_low=True),
}
"""The parameters of scikit-learn's `HistGradientBoostingRegressor` whose forests fit into bit masks, and ours."""


def check_parameters(parameters: Mapping[str, Any]) -> None:
    """Raise UserError if a parameter is unknown or has a value out of its range.

    >>> check_parameters({"max_iter": 400, "learning_rate": 0.13})
    """
    for name, value in parameters.items():
        if name not in KNOWN_PARAMETERS:
            raise UserError(f"{name} is no parameter", suggest_name(name, KNOWN_PARAMETERS))
        if value not in KNOWN_PARAMETERS[name]:
            raise UserError(f"{name} is {value!r}", f"give {KNOWN_PARAMETERS[name].wanted}")


def suggest_name(name: str, known: Collection[str]) -> str:
    """Return a hint for an unknown name: the closest known one, or all of them."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"choose among {', '.join(known)}"
