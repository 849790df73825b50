"""Thresholds: the table counts as the search does, wherever a value stands."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lambda_function.thresholds import Thresholds

MANY = 600
ANY_FLOAT = st.floats(allow_nan=False)


def assert_counts_like_search(thresholds: np.ndarray, values: np.ndarray) -> None:
    padded = np.resize(values, MANY)  # few values take another way
    expected = thresholds.searchsorted(padded, side="left")
    np.testing.assert_array_equal(Thresholds.of(thresholds).count_below(padded), expected)


@given(
    st.lists(ANY_FLOAT.filter(lambda value: value > -np.inf), max_size=300, unique=True),
    arrays(np.float64, st.integers(1, 40), elements=ANY_FLOAT),
)
def test_any_value_is_counted_as_a_search_counts_it(thresholds: list[float], values: np.ndarray) -> None:
    assert_counts_like_search(np.sort(np.array(thresholds, np.float64)), values)


@given(st.integers(1, 250), st.integers(0, 2**32 - 1))
def test_values_at_thresholds_and_an_ulp_beside_are_counted_as_a_search_counts_them(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    thresholds = np.unique(rng.choice([rng.normal(size=n), rng.exponential(size=n) ** 5, rng.integers(0, 9, n)]))
    beside = np.concatenate([thresholds, np.nextafter(thresholds, -np.inf), np.nextafter(thresholds, np.inf)])
    assert_counts_like_search(thresholds, beside)


def test_missing_value_is_counted_without_going_out_of_bounds() -> None:
    thresholds = Thresholds.of(np.array([1.0, 2.0, np.inf]))
    assert 0 <= thresholds.count_below(np.full(MANY, np.nan)).max() <= 3


def test_no_thresholds_are_below_anything() -> None:
    assert Thresholds.of(np.array([])).count_below(np.array([-1.0, np.inf])).tolist() == [0, 0]
