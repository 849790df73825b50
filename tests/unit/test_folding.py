"""Folding: each ride finds the same rows as before, by fewer look-ups."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lambda_function.core.folding import MIN_RIDES, Column, fold


def rows_of(columns: list[Column]) -> list[NDArray[np.intp]]:
    """What each ride finds, unfolded again."""
    unfolded: list[NDArray[np.intp]] = []
    for column in columns:
        unfolded += [rows[column.rows] for rows in column.combinations] if column.combinations else [column.rows]
    return unfolded


@given(st.lists(st.integers(1, 400), min_size=1, max_size=6), st.integers(1, 700), st.integers(0, 2**32 - 1))
def test_every_ride_finds_the_rows_it_had(n_table_rows: list[int], n_kinds: int, seed: int) -> None:
    # GIVEN rides of so many kinds: those of a kind share all their rows
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


def test_all_that_is_known_of_a_zone_becomes_one_look_up() -> None:
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
