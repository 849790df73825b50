"""Features that go together in a batch: two look-ups and an AND a ride become one look-up.

A batch has few distinct pickup places, few dropoff places, and hardly more than one time of day. Where two neighbouring
features have few distinct pairs of table rows, the masks of each pair are ANDed once, and looked up by ride.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_RIDES = 2048
"""Below so many rides, finding the pairs costs more than it saves."""

_MAX_PAIRS = 600  # the joint table (pairs x trees x 4 B) has to stay in the cache with the others
_RIDES_A_PAIR = 4
_MAX_CODES = 1 << 18

Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Column:
    """Where each ride (n,) finds its masks: a row of one feature's table, or of the joint table of two.

    Attributes:
        rows: intp (n,).
        features: One feature, or two.
        pairs: With two, the rows of both features' tables that each row of the joint table stands for, (m,) each.
    """

    rows: Rows
    features: tuple[int, ...]
    pairs: tuple[Rows, ...] = ()


def fold(rows: list[Rows], n_table_rows: list[int]) -> list[Column]:
    """Folds neighbouring features where that pays.

    Args:
        rows: A ride's row in each feature's table, (n,) a feature.
        n_table_rows: How many rows each of these tables has.
    """
    columns: list[Column] = []
    feature = 0
    while feature < len(rows):
        pair = _fold_two(feature, rows, n_table_rows) if feature + 1 < len(rows) else None
        columns.append(pair or Column(rows[feature], (feature,)))
        feature += len(columns[-1].features)
    return columns


def _fold_two(feature: int, rows: list[Rows], n_table_rows: list[int]) -> Column | None:
    first, second = rows[feature], rows[feature + 1]
    width = n_table_rows[feature + 1]
    n_codes = n_table_rows[feature] * width
    if len(first) < MIN_RIDES or n_codes > _MAX_CODES:
        return None
    codes = first * width + second
    seen = np.zeros(n_codes, np.bool_)
    seen[codes] = True
    distinct = np.flatnonzero(seen)
    if len(distinct) > min(_MAX_PAIRS, len(first) // _RIDES_A_PAIR):
        return None
    joint_row = np.empty(n_codes, np.intp)
    joint_row[distinct] = np.arange(len(distinct))
    return Column(joint_row[codes], (feature, feature + 1), (distinct // width, distinct % width))
