"""The forest on trees small enough to check by hand, its tables and its folding. tests/parity compares all of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lambda_function.core.folding import MIN_RIDES, Column, fold
from lambda_function.core.forest import _DE_BRUIJN, _DE_BRUIJN_SHIFT, FOREST_DTYPES, Forest
from lambda_function.core.thresholds import Thresholds
from lambda_function.errors import ForestError
from tests.builders import Arrays, stump_arrays

ALL = 0xFFFFFFFF


def rows(*values: float) -> NDArray[np.float64]:
    return np.array(values).reshape(-1, 1)


def predict(arrays: Arrays, *values: float) -> list[float]:
    minutes: list[float] = Forest.from_arrays(arrays, 1).predict(rows(*values)).tolist()
    return minutes


def forest_arrays(
    splits: list[tuple[int, float, int, int, bool]], leaves: list[list[float]], base_minutes: float = 0.0
) -> Arrays:
    """Return the arrays of trees: splits as (feature, threshold, tree, leaves on the left as bits, missing right)."""
    leaf_minutes = np.zeros((len(leaves), 32))
    for number, minutes in enumerate(leaves):
        leaf_minutes[number, : len(minutes)] = minutes
    feature, threshold, tree, left, missing_right = zip(*splits, strict=True) if splits else ((),) * 5
    return {
        "split_feature": np.array(feature, np.uint8),
        "split_threshold": np.array(threshold, np.float64),
        "split_tree": np.array(tree, np.uint16),
        "split_mask": np.array([ALL & ~bits for bits in left], np.uint32),
        "split_missing_right": np.array(missing_right, np.bool_),
        "leaf_minutes": leaf_minutes,
        "base_minutes": np.array(base_minutes),
    }


def test_value_on_the_threshold_goes_left_and_one_ulp_above_goes_right() -> None:
    on, above, below = 2.5, np.nextafter(2.5, 3), np.nextafter(2.5, 2)
    assert predict(stump_arrays(2.5), below, on, above) == [10, 10, 20]


def test_infinite_values_go_to_their_ends() -> None:
    assert predict(stump_arrays(2.5), -np.inf, np.inf) == [10, 20]


def test_split_on_missing_values_alone_has_an_infinite_threshold() -> None:
    arrays = stump_arrays(np.inf, missing_right=True)
    assert predict(arrays, 1e308, np.inf, np.nan) == [10, 10, 20]


@pytest.mark.parametrize(("missing_right", "minutes"), [(False, 10), (True, 20)])
def test_missing_value_follows_the_direction_of_the_split(missing_right: bool, minutes: float) -> None:
    assert predict(stump_arrays(2.5, missing_right=missing_right), np.nan) == [minutes]


def test_zeros_of_both_signs_are_equal() -> None:
    assert predict(stump_arrays(0.0), 0.0, -0.0, 5e-324, -5e-324) == [10, 10, 20, 10]
    assert predict(stump_arrays(-0.0), 0.0, -0.0) == [10, 10]


def test_tree_of_one_leaf_gives_that_leaf() -> None:
    assert predict(forest_arrays([], [[7.0]], base_minutes=1.0), 0.0, np.nan, np.inf) == [8, 8, 8]


def test_trees_add_up_to_the_base() -> None:
    splits = [(0, 1.0, 0, 0b1, False), (0, 2.0, 1, 0b1, True)]
    arrays = forest_arrays(splits, [[1.0, 2.0], [10.0, 20.0], [100.0]], base_minutes=0.5)
    assert predict(arrays, 0, 1.5, 3, np.nan) == [111.5, 112.5, 122.5, 121.5]


def test_tree_of_three_leaves_on_one_feature() -> None:
    # x <= 1: leaf 0; x <= 2: leaf 1; else leaf 2
    arrays = forest_arrays([(0, 1.0, 0, 0b001, False), (0, 2.0, 0, 0b010, False)], [[10, 20, 30]])
    assert predict(arrays, 0.5, 1.5, 2.5) == [10, 20, 30]


def test_tree_on_two_features() -> None:
    # a <= 1 ? (b <= 5 ? leaf 0 : leaf 1) : leaf 2
    arrays = forest_arrays([(0, 1.0, 0, 0b011, True), (1, 5.0, 0, 0b001, False)], [[10, 20, 30]])
    matrix = np.array([[0, 4], [0, 6], [2, 4], [2, 6], [np.nan, 4], [0, np.nan]], float)
    assert Forest.from_arrays(arrays, 2).predict(matrix).tolist() == [10, 20, 30, 30, 30, 10]


def test_tree_of_32_leaves_reaches_each() -> None:
    splits = [(0, float(n), 0, 1 << n, False) for n in range(31)]  # a chain: x <= n is leaf n
    arrays = forest_arrays(splits, [[float(100 + n) for n in range(32)]])
    assert predict(arrays, *range(32)) == [100.0 + n for n in range(32)]


def test_no_rows_give_no_minutes() -> None:
    assert Forest.from_arrays(stump_arrays(), 1).predict(np.empty((0, 1))).shape == (0,)


def test_columns_that_are_not_contiguous_are_read_all_the_same() -> None:
    wide = np.random.default_rng(0).normal(2, 2, (200, 3))
    forest = Forest.from_arrays(stump_arrays(feature=1), 3)
    assert forest.predict(np.asfortranarray(wide)).tolist() == forest.predict(wide).tolist()
    assert forest.predict(wide[::2]).tolist() == forest.predict(wide).tolist()[::2]


@pytest.mark.parametrize("shape", [(3, 2), (3,), (1, 1, 1), ()])
def test_matrix_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"want \(n, 1\)"):
        Forest.from_arrays(stump_arrays(), 1).predict(np.zeros(shape))


@pytest.mark.parametrize("name", FOREST_DTYPES)
def test_missing_array_is_named(name: str) -> None:
    arrays = stump_arrays()
    del arrays[name]
    with pytest.raises(ForestError, match=f"array {name} is missing"):
        Forest.from_arrays(arrays, 1)


@pytest.mark.parametrize("name", FOREST_DTYPES)
@pytest.mark.parametrize("dtype", ["O", "S8", "c16", "i8", "M8[s]", "f4"])
def test_array_of_another_dtype_is_named(name: str, dtype: str) -> None:
    arrays = stump_arrays()
    arrays[name] = arrays[name].astype(dtype)
    with pytest.raises(ForestError, match=f"array {name} has dtype .*, want {np.dtype(FOREST_DTYPES[name])}"):
        Forest.from_arrays(arrays, 1)


@pytest.mark.parametrize("name", FOREST_DTYPES)
def test_array_of_another_shape_is_named(name: str) -> None:
    arrays = stump_arrays()
    arrays[name] = arrays[name][..., np.newaxis]
    with pytest.raises(ForestError, match="has shape"):
        Forest.from_arrays(arrays, 1)


def test_windows_of_the_constant_number_the_bits() -> None:
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    assert sorted(((bits * _DE_BRUIJN) >> _DE_BRUIJN_SHIFT).tolist()) == list(range(32))


MANY = 2000
"""Enough values for the table to be used."""

Floats = NDArray[np.float64]


AS_IN_FORESTS = st.floats(-100, 1500).map(lambda value: round(value, 2))


def about(thresholds: Floats) -> Floats:
    """Return values on the thresholds, one ulp to either side, between and beyond them, and missing."""
    with np.errstate(over="ignore"):  # infinity follows the largest number
        beside = [thresholds, np.nextafter(thresholds, -np.inf), np.nextafter(thresholds, np.inf)]
    ends = np.array([-np.inf, -1.7e308, -1.0, -5e-324, -0.0, 0.0, 5e-324, 1.0, 1.7e308, np.inf, np.nan])
    return np.concatenate([*beside, ends, np.random.default_rng(0).normal(0, 100, MANY)])


def assert_table_and_search_agree(thresholds: Floats) -> None:
    values = about(thresholds)
    known = ~np.isnan(values)
    many = Thresholds.of(thresholds).count_below(values)
    one_by_one = [int(Thresholds.of(thresholds).count_below(values[n : n + 1])[0]) for n in range(200)]
    np.testing.assert_array_equal(many[known], np.searchsorted(thresholds, values[known], side="left"))
    np.testing.assert_array_equal(many[:200][known[:200]], np.array(one_by_one)[known[:200]])
    assert ((many >= 0) & (many <= len(thresholds))).all()


THRESHOLDS: dict[str, list[float]] = {
    "none": [],
    "one": [2.5],
    "two": [1.0, 2.0],
    "one, and the endless one": [2.5, np.inf],
    "only the endless one": [np.inf],
    "both ends": [-np.inf, 0.0, np.inf],
    "evenly spread": list(np.linspace(0, 1440, 250)),
    "crowded at one end": [*np.linspace(0, 1e-6, 300), 1e6],
    "closer than they can be cut": [1.0, float(np.nextafter(1.0, 2)), float(np.nextafter(1.0, 0))],
    "as far apart as can be": [-1.7e308, 0.0, 1.7e308],
    "far apart and finite": [-8e307, 0.0, 8e307],
    "smallest there are": [-5e-324, 0.0, 5e-324],
    "powers": [2.0**n for n in range(-200, 200, 3)],
    "more than cells": list(np.linspace(-3, 3, 9000)),
}


@pytest.mark.parametrize("thresholds", THRESHOLDS.values(), ids=THRESHOLDS)
def test_table_and_search_agree(thresholds: list[float]) -> None:
    assert_table_and_search_agree(np.unique(np.array(thresholds, np.float64)))


@given(st.lists(st.floats(allow_nan=False), max_size=300) | st.lists(AS_IN_FORESTS, max_size=300))
def test_table_and_search_agree_on_any_thresholds(thresholds: list[float]) -> None:
    assert_table_and_search_agree(np.unique(np.array(thresholds, np.float64)))


def rows_of(columns: list[Column]) -> list[NDArray[np.intp]]:
    """Return the table rows of each ride, unfolded."""
    unfolded: list[NDArray[np.intp]] = []
    for column in columns:
        unfolded += [rows[column.rows] for rows in column.combinations] if column.combinations else [column.rows]
    return unfolded


@given(st.lists(st.integers(1, 400), min_size=1, max_size=6), st.integers(1, 700), st.integers(0, 2**32 - 1))
def test_every_ride_finds_the_rows_it_had(n_table_rows: list[int], n_kinds: int, seed: int) -> None:
    # GIVEN rides of that many kinds: rides of a kind share all their rows
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, n_kinds, MIN_RIDES + 100)
    rows = [rng.integers(0, n, n_kinds)[kind] for n in n_table_rows]
    columns = fold(rows, n_table_rows)
    assert [feature for column in columns for feature in column.features] == list(range(len(rows)))
    for found, expected in zip(rows_of(columns), rows, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_neighbours_with_few_combinations_become_one_look_up() -> None:
    place = np.arange(MIN_RIDES) % 100
    columns = fold([place, place * 2, np.arange(MIN_RIDES)], [100, 200, MIN_RIDES])
    assert [column.features for column in columns] == [(0, 1), (2,)]


def test_all_columns_of_a_zone_become_one_look_up() -> None:
    pickup = np.arange(MIN_RIDES) % 100
    dropoff = np.arange(MIN_RIDES) // 100
    rows = [pickup, pickup % 7, pickup * 2, pickup // 3, dropoff, dropoff * 3]
    columns = fold(rows, [100, 7, 200, 34, 40, 120])
    assert [column.features for column in columns] == [(0, 1, 2, 3), (4, 5)]
    assert [len(column.combinations[0]) for column in columns] == [100, 6]


@pytest.mark.parametrize("n_rides", [1, MIN_RIDES - 1])
def test_small_batch_is_left_as_it_is(n_rides: int) -> None:
    rows = [np.zeros(n_rides, np.intp)] * 2
    assert [column.features for column in fold(rows, [3, 3])] == [(0,), (1,)]


def test_neighbours_with_many_combinations_are_left_as_they_are() -> None:
    rows = [np.arange(MIN_RIDES) % 200, np.arange(MIN_RIDES) // 7 % 200]
    assert [column.features for column in fold(rows, [200, 200])] == [(0,), (1,)]
