"""Tree ensembles as bit masks: arrays in, minutes out.

Each tree's leaves are numbered from left to right and stand for the bits of one uint32. A split that a ride fails
(value > threshold) rules out the leaves on its left: it clears their bits. Once every failed split has cleared its
bits, the lowest bit still set is the leaf the ride falls into. This is QuickScorer (Lucchese et al., SIGIR 2015); as
the order of clearing does not matter, all splits on one feature below a value collapse into one row of masks, one
mask a tree, that a binary search finds. So a batch costs one search and one AND a feature, whatever the trees' depth.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lambda_function.errors import ForestError

MAX_LEAVES = 32
"""Bits of a mask."""

FOREST_DTYPES: dict[str, type[np.generic]] = {
    "split_feature": np.uint8,
    "split_threshold": np.float64,
    "split_tree": np.uint16,
    "split_mask": np.uint32,
    "split_missing_right": np.bool_,
    "leaf_minutes": np.float64,
    "base_minutes": np.float64,
}
"""The arrays that define a forest, by name; shapes stand in `Forest.from_arrays`."""

# Rides a block: the masks of a block (rides x trees x 4 B) and the leaf numbers (8 B) stay in the second-level cache.
# Timed with 500 trees: 16 rides 2.1 us a ride, 32 to 64 1.8, 128 1.9, 512 2.5.
_BLOCK = 64

# B(2, 5): every 5-bit window of this constant differs, so (bit * constant) >> 27 numbers the 32 possible lowest bits.
_DE_BRUIJN = np.uint32(0x077CB531)
_DE_BRUIJN_SHIFT = np.uint32(27)

_LAST_LEAF = np.uint32(1 << 31)  # no split clears it: a ride always falls into a leaf


@dataclass(frozen=True, slots=True)
class Forest:
    """A ready ensemble. Build it with `from_arrays`.

    Attributes:
        n_features: Columns a matrix must have.
        n_trees: Trees.
        base_minutes: What the sum over the trees starts from.
    """

    n_features: int
    n_trees: int
    base_minutes: float
    _thresholds: tuple[NDArray[np.float64], ...]
    _masks: tuple[NDArray[np.uint32], ...]
    _leaf_minutes: NDArray[np.float64]
    _tree_offsets: NDArray[np.uint32]

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]], n_features: int) -> Self:
        """Builds the tables of masks.

        Args:
            arrays: split_* (n_splits,): feature number, threshold, tree number, the mask that a ride right of the
                threshold keeps, and whether a missing value goes right; leaf_minutes (n_trees, 32), unused leaves 0;
                base_minutes (). Dtypes as in FOREST_DTYPES.
            n_features: Columns of the matrices to come.

        Raises:
            ForestError: An array is missing, of another dtype or shape, or out of range.
        """
        _check(arrays, n_features)
        leaf_minutes = arrays["leaf_minutes"]
        n_trees = len(leaf_minutes)
        tables = [_mask_table(arrays, feature, n_trees) for feature in range(n_features)]
        leaf_by_window = np.empty_like(leaf_minutes)
        bits = np.uint32(1) << np.arange(MAX_LEAVES, dtype=np.uint32)
        leaf_by_window[:, (bits * _DE_BRUIJN) >> _DE_BRUIJN_SHIFT] = leaf_minutes
        return cls(
            n_features=n_features,
            n_trees=n_trees,
            base_minutes=float(arrays["base_minutes"]),
            _thresholds=tuple(thresholds for thresholds, _ in tables),
            _masks=tuple(masks for _, masks in tables),
            _leaf_minutes=leaf_by_window.reshape(-1),
            _tree_offsets=np.arange(n_trees, dtype=np.uint32) * np.uint32(MAX_LEAVES),
        )

    def predict(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns minutes (n,) for a matrix (n, n_features); NaN means missing.

        A row gives the same bits alone as in any batch.

        Raises:
            ValueError: The matrix has another number of columns.
        """
        if matrix.shape[1:] != (self.n_features,):
            raise ValueError(f"matrix is {matrix.shape}, want (n, {self.n_features})")
        rows = [_table_rows(thresholds, matrix[:, feature]) for feature, thresholds in enumerate(self._thresholds)]
        minutes = np.empty(len(matrix))
        size = min(_BLOCK, len(matrix))
        masks = np.empty((size, self.n_trees), np.uint32)
        scratch = np.empty_like(masks)
        leaves = np.empty((size, self.n_trees), np.intp)
        values = np.empty((size, self.n_trees))
        for start in range(0, len(matrix), _BLOCK):
            n = min(_BLOCK, len(matrix) - start)
            block = slice(start, start + n)
            self._surviving_leaves([column[block] for column in rows], masks[:n], scratch[:n])
            _window_of_lowest_bit(masks[:n], scratch[:n])
            masks[:n] += self._tree_offsets
            leaves[:n] = masks[:n]  # widened once: `take` would do it in small pieces
            self._leaf_minutes.take(leaves[:n], out=values[:n], mode="clip")
            values[:n].sum(axis=1, out=minutes[block])
        return minutes + self.base_minutes

    def _surviving_leaves(
        self, rows: list[NDArray[np.intp]], masks: NDArray[np.uint32], scratch: NDArray[np.uint32]
    ) -> None:
        """Writes each ride's surviving leaves of each tree into masks."""
        self._masks[0].take(rows[0], axis=0, out=masks, mode="clip")
        for table, row in zip(self._masks[1:], rows[1:], strict=True):
            table.take(row, axis=0, out=scratch, mode="clip")
            masks &= scratch


def _window_of_lowest_bit(masks: NDArray[np.uint32], scratch: NDArray[np.uint32]) -> None:
    """Replaces each mask by the de Bruijn window of its lowest set bit, in place."""
    np.negative(masks, out=scratch)
    masks &= scratch
    masks *= _DE_BRUIJN
    masks >>= _DE_BRUIJN_SHIFT


def _table_rows(thresholds: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Returns the row of a feature's mask table for each value: the number of thresholds below it; last for NaN."""
    rows = thresholds.searchsorted(values, side="left")
    rows[np.isnan(values)] = len(thresholds) + 1
    return rows


def _mask_table(
    arrays: dict[str, NDArray[Any]], feature: int, n_trees: int
) -> tuple[NDArray[np.float64], NDArray[np.uint32]]:
    """Returns one feature's thresholds (m,), ascending, and its masks (m + 2, n_trees).

    Row i holds the leaves left once the i lowest thresholds have been failed; the last row is for missing values.
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
    """Refuses whatever would make `predict` wrong, slow to fail, or read out of bounds."""
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
    ):
        if wrong:
            raise ForestError(sentence)
