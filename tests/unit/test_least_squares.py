"""The solver finds the best fit, and of several the smallest; it stops where SciPy's stops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.linalg import lsqr

from training.model.least_squares import TOLERANCE, Vector, solve_least_squares


def solve(rows: Vector, wanted: Vector) -> Vector:
    """Solve for a matrix whose products are sums in numpy's order."""
    return solve_least_squares(
        lambda vector: (rows * vector).sum(axis=1), lambda vector: (rows.T * vector).sum(axis=1), wanted
    )


def random_rows(seed: int, n_rows: int = 30, n_columns: int = 5) -> Vector:
    return np.random.default_rng(seed).normal(size=(n_rows, n_columns))


@given(seed=st.integers(0, 2**32))
def test_finds_the_best_fit(seed: int) -> None:
    rows, wanted = random_rows(seed), random_rows(seed + 1, n_columns=1).ravel()
    best = np.linalg.lstsq(rows, wanted, rcond=None)[0]
    assert solve(rows, wanted) == pytest.approx(best, abs=1e-4)


@given(seed=st.integers(0, 2**32))
def test_of_many_fits_it_finds_the_smallest(seed: int) -> None:
    rows, wanted = random_rows(seed)[:, [0, 0, 1]], random_rows(seed + 1, n_columns=1).ravel()
    once, again, _ = solve(rows, wanted)
    assert once == pytest.approx(again, abs=1e-9)  # any other split of their sum fits as well


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e6])
@pytest.mark.parametrize("seed", range(5))
def test_stops_where_scipys_stops(seed: int, scale: float) -> None:
    rows, wanted = random_rows(seed), random_rows(seed + 1, n_columns=1).ravel()
    rows[:, -1] *= scale
    found = lsqr(rows, wanted, atol=TOLERANCE, btol=TOLERANCE)[0]
    assert solve(rows, wanted) == pytest.approx(found, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_stops_where_scipys_stops_on_the_way_to_a_perfect_fit(seed: int) -> None:
    rows = random_rows(seed) * [1, 1, 1, 1, 1000]
    wanted = rows[:, :-1].sum(axis=1)
    found = lsqr(rows, wanted, atol=TOLERANCE, btol=TOLERANCE)[0]
    assert solve(rows, wanted) == pytest.approx(found, abs=1e-9)


@pytest.mark.parametrize(("rows", "wanted"), [(np.ones((3, 2)), np.zeros(3)), (np.zeros((3, 2)), np.ones(3))])
def test_zero_matrix_and_zero_target_give_zeros(rows: Vector, wanted: Vector) -> None:
    assert solve(rows, wanted).tolist() == [0.0, 0.0]
