"""Tree ensembles as bit masks: arrays in, minutes out.

The leaves of each tree are numbered from left to right; each is one bit of a uint32. A split that a ride fails
(value > threshold) rules out the leaves on its left and clears their bits. Once every failed split has cleared its
bits, the lowest bit still set is the leaf the ride falls into. This is QuickScorer (Lucchese et al., SIGIR 2015); as
the order of clearing does not matter, all splits on one feature below a value collapse into one row of masks, one
mask a tree. So a batch costs one look-up and one AND a feature, whatever the trees' depth.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lambda_function.core.folding import Column, fold
from lambda_function.core.thresholds import Thresholds
from lambda_function.errors import ForestError

MAX_LEAVES = 32
"""Bits of a mask."""

MAX_TABLE_BYTES = 1 << 27
"""The limit for all tables of masks together, if every split had its own threshold: 500 trees would take 30 MB, 1,000
would take 121 MB. A table has a row per threshold and a column per tree, so a small archive could ask for a terabyte.
A bundle at the limits of forest and golden rides loads in 0.5 s of CPU, 2 s at the smallest memory of the template."""

FOREST_DTYPES: dict[str, type[np.generic]] = {
    "split_feature": np.uint8,
    "split_threshold": np.float64,
    "split_tree": np.uint16,
    "split_mask": np.uint32,
    "split_missing_right": np.bool_,
    "leaf_minutes": np.float64,
    "base_minutes": np.float64,
}
"""The arrays that define a forest, by name; `Forest.from_arrays` gives their shapes."""

# Trees are taken in groups whose tables (some 230 rows a feature x trees x 4 B) fit in the second-level cache, rides
# in blocks whose masks (rides x trees x 4 B) and leaf numbers (8 B) do. CPU with 500 trees, us a ride: groups of 125
# and blocks of 128 rides 1.65, 256 1.44; groups of 250 and 64 1.55, 128 1.50, 256 1.55; one group and 64 1.60, 256
# 1.78.
# Fewer groups serve a ride alone better.
_GROUP_TREES = 250
_BLOCK_RIDES = 128

# B(2, 5): every 5-bit window of this constant differs, so (bit * constant) >> 27 numbers the 32 possible lowest bits.
_DE_BRUIJN = np.uint32(0x077CB531)
_DE_BRUIJN_SHIFT = np.uint32(27)

_LAST_LEAF = np.uint32(1 << 31)  # no split clears it: a ride always falls into a leaf


@dataclass(frozen=True, slots=True)
class Forest:
    """An ensemble ready to predict. Build it with `from_arrays`."""

    n_features: int  # the number of columns of a matrix
    n_trees: int  # trees
    base_minutes: float  # the start of the sum over the trees
    _thresholds: tuple[Thresholds, ...]
    _groups: tuple["_TreeGroup", ...]

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]], n_features: int) -> Self:
        """Build the tables of masks.

        Args:
            arrays: split_* (n_splits,): feature number, threshold, tree number, the mask that a ride right of the
                threshold keeps, and whether a missing value goes right; leaf_minutes (n_trees, 32), unused leaves 0;
                base_minutes (). Dtypes as in FOREST_DTYPES.
            n_features: The number of columns of the matrices to predict.

        Raises:
            ForestError: An array is missing, of another dtype or shape, or out of range.
        """
        _check(arrays, n_features)
        leaf_minutes = arrays["leaf_minutes"]
        groups = [slice(start, start + _GROUP_TREES) for start in range(0, len(leaf_minutes), _GROUP_TREES)]
        thresholds, tables = [], []
        for feature in range(n_features):  # cut into groups at once: all tables together are held only once
            values, masks = _mask_table(arrays, feature, len(leaf_minutes))
            thresholds.append(Thresholds.of(values))
            tables.append([np.ascontiguousarray(masks[:, trees]) for trees in groups])
        return cls(
            n_features=n_features,
            n_trees=len(leaf_minutes),
            base_minutes=float(arrays["base_minutes"]),
            _thresholds=tuple(thresholds),
            _groups=tuple(
                _TreeGroup.of(masks, leaf_minutes[trees])
                for masks, trees in zip(zip(*tables, strict=True), groups, strict=True)
            ),
        )

    def predict(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return minutes (n,) for a matrix (n, n_features); NaN means missing.

        A row gives the same bits alone and in any batch.

        Raises:
            ValueError: The matrix has another number of columns.
        """
        if matrix.shape[1:] != (self.n_features,):
            raise ValueError(f"matrix is {matrix.shape}, want (n, {self.n_features})")
        rows = [_table_rows(thresholds, matrix[:, feature]) for feature, thresholds in enumerate(self._thresholds)]
        columns = fold(rows, [len(thresholds.values) + 2 for thresholds in self._thresholds])
        minutes = np.full(len(matrix), self.base_minutes)
        for group in self._groups:
            group.add_to(minutes, columns)
        return minutes


@dataclass(frozen=True, slots=True)
class _TreeGroup:
    """Some of the trees: for each feature a table of masks (m + 2, n_trees), and leaf values by de Bruijn window."""

    masks: tuple[NDArray[np.uint32], ...]
    leaf_minutes: NDArray[np.float64]
    tree_offsets: NDArray[np.uint32]

    @classmethod
    def of(cls, masks: tuple[NDArray[np.uint32], ...], leaf_minutes: NDArray[np.float64]) -> Self:
        by_window = np.empty_like(leaf_minutes)
        bits = np.uint32(1) << np.arange(MAX_LEAVES, dtype=np.uint32)
        by_window[:, (bits * _DE_BRUIJN) >> _DE_BRUIJN_SHIFT] = leaf_minutes
        offsets = np.arange(len(leaf_minutes), dtype=np.uint32) * np.uint32(MAX_LEAVES)
        return cls(masks, by_window.reshape(-1), offsets)

    def add_to(self, minutes: NDArray[np.float64], columns: list[Column]) -> None:
        """Add these trees' minutes to each ride's (n,), given the rows of its masks."""
        tables = [self._table(column) for column in columns]
        size, n_trees = min(_BLOCK_RIDES, len(minutes)), len(self.tree_offsets)
        masks = np.empty((size, n_trees), np.uint32)
        scratch = np.empty_like(masks)
        leaves = np.empty((size, n_trees), np.intp)
        values = np.empty((size, n_trees))
        for start in range(0, len(minutes), _BLOCK_RIDES):
            block = slice(start, start + _BLOCK_RIDES)
            n = len(minutes[block])
            _surviving_leaves(tables, [column.rows[block] for column in columns], masks[:n], scratch[:n])
            _window_of_lowest_bit(masks[:n], scratch[:n])
            masks[:n] += self.tree_offsets
            leaves[:n] = masks[:n]  # widened once: `take` would do it in small pieces
            self.leaf_minutes.take(leaves[:n], out=values[:n], mode="clip")
            minutes[block] += values[:n].sum(axis=1)

    def _table(self, column: Column) -> NDArray[np.uint32]:
        """Return the masks (rows, n_trees) of a column."""
        first, *others = column.features
        if not others:
            return self.masks[first]
        joint = self.masks[first].take(column.combinations[0], axis=0)
        for feature, rows in zip(others, column.combinations[1:], strict=True):
            joint &= self.masks[feature].take(rows, axis=0)
        return joint


def _surviving_leaves(
    tables: list[NDArray[np.uint32]],
    rows: list[NDArray[np.intp]],
    masks: NDArray[np.uint32],
    scratch: NDArray[np.uint32],
) -> None:
    """Write each ride's remaining leaves of each tree into masks."""
    tables[0].take(rows[0], axis=0, out=masks, mode="clip")
    for table, row in zip(tables[1:], rows[1:], strict=True):
        table.take(row, axis=0, out=scratch, mode="clip")
        masks &= scratch


def _window_of_lowest_bit(masks: NDArray[np.uint32], scratch: NDArray[np.uint32]) -> None:
    """Replace each mask by the de Bruijn window of its lowest set bit, in place."""
    np.negative(masks, out=scratch)
    masks &= scratch
    masks *= _DE_BRUIJN
    masks >>= _DE_BRUIJN_SHIFT


def _table_rows(thresholds: Thresholds, values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the row of a feature's mask table for each value: the number of thresholds below it; last for NaN."""
    rows = thresholds.count_below(values)
    rows[np.isnan(values)] = len(thresholds.values) + 1
    return rows


def _mask_table(
    arrays: dict[str, NDArray[Any]], feature: int, n_trees: int
) -> tuple[NDArray[np.float64], NDArray[np.uint32]]:
    """Return one feature's thresholds (m,), ascending, and its masks (m + 2, n_trees).

    Row i holds the leaves that remain after the i lowest thresholds have failed; the last row is for missing values.
    """
    chosen = arrays["split_feature"] == feature
    thresholds, position = np.unique(arrays["split_threshold"][chosen], return_inverse=True)
    tree, mask = arrays["split_tree"][chosen], arrays["split_mask"][chosen]
    table = np.full((len(thresholds) + 2, n_trees), np.uint32(0xFFFFFFFF))
    np.bitwise_and.at(table, (position + 1, tree), mask)
    np.bitwise_and.accumulate(table[:-1], axis=0, out=table[:-1])
    right = arrays["split_missing_right"][chosen]
    table[-1] = np.uint32(0xFFFFFFFF)
    np.bitwise_and.at(table, (np.full(right.sum(), len(thresholds) + 1), tree[right]), mask[right])
    return thresholds, table


def _check(arrays: dict[str, NDArray[Any]], n_features: int) -> None:
    """Raise ForestError for arrays that would make `predict` wrong or read out of bounds."""
    for name, dtype in FOREST_DTYPES.items():
        if name not in arrays:
            raise ForestError(f"array {name} is missing")
        if arrays[name].dtype != dtype:
            raise ForestError(f"array {name} has dtype {arrays[name].dtype}, want {np.dtype(dtype)}")
    _check_shapes(arrays)
    _check_values(arrays, n_features)


def _check_shapes(arrays: dict[str, NDArray[Any]]) -> None:
    n_splits = len(arrays["split_feature"].reshape(-1))
    shapes = {name: (n_splits,) for name in FOREST_DTYPES if name.startswith("split_")}
    n_trees = len(arrays["leaf_minutes"].reshape(-1)) // MAX_LEAVES
    for name, shape in {**shapes, "leaf_minutes": (n_trees, MAX_LEAVES), "base_minutes": ()}.items():
        if arrays[name].shape != shape:
            raise ForestError(f"array {name} has shape {arrays[name].shape}, want {shape}")
    if n_trees == 0:
        raise ForestError("leaf_minutes holds no tree")


def _check_values(arrays: dict[str, NDArray[Any]], n_features: int) -> None:
    n_trees = len(arrays["leaf_minutes"])
    finite = np.isfinite(arrays["leaf_minutes"]).all() and np.isfinite(arrays["base_minutes"])
    for wrong, sentence in (
        (
            (arrays["split_feature"] >= n_features).any(),
            f"split_feature goes beyond the {n_features} features there are",
        ),
        ((arrays["split_tree"] >= n_trees).any(), f"split_tree goes beyond the {n_trees} trees that have leaves"),
        ((arrays["split_mask"] & _LAST_LEAF == 0).any(), "split_mask may leave a ride without a leaf"),
        (np.isnan(arrays["split_threshold"]).any(), "split_threshold holds NaN"),
        (not finite, "leaf_minutes or base_minutes is not finite"),
        (
            (len(arrays["split_tree"]) + 2 * n_features) * n_trees * arrays["split_mask"].itemsize > MAX_TABLE_BYTES,
            f"{len(arrays['split_tree']):,} splits of {n_trees:,} trees are more than memory is taken for",
        ),
    ):
        if wrong:
            raise ForestError(sentence)
