"""Features that go together in a batch: several look-ups and ANDs a ride become one look-up.

A batch has few distinct pickup places, few dropoff places, and hardly more than one time of day. Where neighbouring
features have few distinct combinations of table rows, the masks of each combination are ANDed once, and looked up by
ride. All that is known of a zone is such a run of features: it costs a large batch little more than one.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_RIDES = 512
"""Below so many rides, finding the combinations costs more than it saves."""

_MAX_COMBINATIONS = 600  # the joint table (combinations x trees x 4 B) has to stay in the cache with the others
_RIDES_A_COMBINATION = 4
_MAX_CODES = 1 << 18

Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Column:
    """Where each ride (n,) finds its masks: a row of one feature's table, or of the joint table of several.

    Attributes:
        rows: intp (n,).
        features: One feature, or neighbours.
        combinations: With several, the row of each one's own table that each row of the joint table stands for, (m,) a
            feature.
    """

    rows: Rows
    features: tuple[int, ...]
    combinations: tuple[Rows, ...] = ()


def fold(rows: list[Rows], n_table_rows: list[int]) -> list[Column]:
    """Folds neighbouring features, as many as that pays for.

    Args:
        rows: A ride's row in each feature's table, (n,) a feature.
        n_table_rows: How many rows each of these tables has.
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
    """Adds the next feature to a column, or returns None where there are too many combinations."""
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
