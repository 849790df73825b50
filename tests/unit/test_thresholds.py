"""Counting thresholds below a value: the table for many values gives the same as the binary search for few."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lambda_function.core.thresholds import Thresholds

MANY = 2000
"""Values enough for the table to be used."""

Floats = NDArray[np.float64]


def about(thresholds: Floats) -> Floats:
    """Values on the thresholds and one ulp to either side, between them and beyond them, and missing."""
    with np.errstate(over="ignore"):  # infinity follows the largest number
        beside = [thresholds, np.nextafter(thresholds, -np.inf), np.nextafter(thresholds, np.inf)]
    ends = np.array([-np.inf, -1.7e308, -1.0, -5e-324, -0.0, 0.0, 5e-324, 1.0, 1.7e308, np.inf, np.nan])
    return np.concatenate([*beside, ends, np.random.default_rng(0).normal(0, 100, MANY)])


def assert_told_alike(thresholds: Floats) -> None:
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
def test_table_and_search_tell_the_same(thresholds: list[float]) -> None:
    assert_told_alike(np.unique(np.array(thresholds, np.float64)))


@given(st.lists(st.floats(allow_nan=False), max_size=300))
def test_table_and_search_tell_the_same_of_any_thresholds(thresholds: list[float]) -> None:
    assert_told_alike(np.unique(np.array(thresholds, np.float64)))


@given(st.lists(st.floats(-100, 1500).map(lambda value: round(value, 2)), max_size=300))
def test_table_and_search_tell_the_same_of_thresholds_as_forests_have_them(thresholds: list[float]) -> None:
    assert_told_alike(np.unique(np.array(thresholds, np.float64)))
