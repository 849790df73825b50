"""Join features of a batch, so that several look-ups and ANDs per ride become one look-up.

A batch has few distinct pickup places, few dropoff places, and about one time of day. If neighbouring features have
few distinct combinations of table rows, the masks of each combination are ANDed once and looked up per ride. All
features of a zone form such a run, so they cost a large batch little more than one feature.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_RIDES = 512
"""Below this number of rides, finding the combinations costs more than it saves."""

_MAX_COMBINATIONS = 600  # the joint table (combinations x trees x 4 B) has to stay in the cache with the others
_RIDES_A_COMBINATION = 4
_MAX_CODES = 1 << 18

Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Column:
    """The row of each ride's masks (n,): in one feature's table, or in the joint table of several.

    Attributes:
        rows: intp (n,).
        features: One feature, or neighbours.
        combinations: For several features: the row in each feature's table for each row of the joint table, (m,) per
            feature.
    """

    rows: Rows
    features: tuple[int, ...]
    combinations: tuple[Rows, ...] = ()


def fold(rows: list[Rows], n_table_rows: list[int]) -> list[Column]:
    """Join neighbouring features where that is faster.

    Args:
        rows: Each ride's row in each feature's table, (n,) per feature.
        n_table_rows: The number of rows of each table.
    """
    columns: list[Column] = []
    for feature, (row, n_rows) in enumerate(zip(rows, n_table_rows, strict=True)):
        joint = _join(columns[-1], n_table_rows, row, n_rows) if columns else None
        if joint:
            columns[-1] = joint
        else:
            columns.append(Column(row, (feature,)))
    return columns


def _join(column: Column, n_table_rows: list[int], second: Rows, width: int) -> Column | None:
    """Return a column with the next feature added; None if there are too many combinations."""
    first = column.rows
    n_codes = width * (len(column.combinations[0]) if column.combinations else n_table_rows[column.features[0]])
    if len(first) < MIN_RIDES or n_codes > _MAX_CODES:
        return None
    codes = first * width + second
    seen = np.zeros(n_codes, np.bool_)
    seen[codes] = True
    distinct = np.flatnonzero(seen)
    if len(distinct) > min(_MAX_COMBINATIONS, len(first) // _RIDES_A_COMBINATION):
        return None
    joint_row = np.empty(n_codes, np.intp)
    joint_row[distinct] = np.arange(len(distinct))
    before, last = distinct // width, distinct % width
    combinations = tuple(rows[before] for rows in column.combinations) or (before,)
    return Column(joint_row.take(codes), (*column.features, column.features[-1] + 1), (*combinations, last))
