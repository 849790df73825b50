"""LSQR (Paige and Saunders 1982), the solver of scikit-learn's linear regression on sparse data: same steps, same stop.

SciPy's adds up in an order that the kind of processor and the number of threads decide, and so decide the last digits
of what is fitted. Here every sum is numpy's, in one order everywhere.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
"""float64 (m,) or (n,): an entry a row or a column of the matrix."""

TOLERANCE = 1e-6
"""scikit-learn's default, of the residual and of the coefficients."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """A matrix (m, n) that is known by what it does to vectors.

    Attributes:
        times: Takes (n,) to (m,).
        transposed_times: Takes (m,) to (n,).
    """

    times: Callable[[Vector], Vector]
    transposed_times: Callable[[Vector], Vector]


def solve_least_squares(matrix: Matrix, wanted: Vector) -> Vector:
    """Finds coefficients (n,) with which the matrix comes near (m,), the smallest of them where many do.

    Stops as SciPy's lsqr does at `TOLERANCE`: where columns differ much in scale, well before the best fit.
    """
    wanted_norm = _norm(wanted)
    found = np.zeros_like(matrix.transposed_times(wanted))
    if not wanted_norm:
        return found
    left = wanted / wanted_norm
    right, alpha = _normalised(matrix.transposed_times(left))
    direction, rho_bar, residual_norm = right, alpha, wanted_norm
    matrix_norm2 = 0.0
    for _ in range(2 * len(found) if alpha else 0):
        left, beta = _normalised(matrix.times(right) - alpha * left)
        matrix_norm2 += alpha * alpha + beta * beta
        right, alpha = _normalised(matrix.transposed_times(left) - beta * right)
        rho = math.hypot(rho_bar, beta)
        cosine, sine = rho_bar / rho, beta / rho
        step, rho_bar = cosine * residual_norm / rho, -cosine * alpha
        gradient_norm = alpha * abs(sine * cosine * residual_norm)
        residual_norm *= sine
        found = found + step * direction
        direction = right - (sine * alpha / rho) * direction
        size = math.sqrt(matrix_norm2) * _norm(found) / wanted_norm
        if (
            residual_norm / wanted_norm <= TOLERANCE * (1 + size)
            or gradient_norm <= TOLERANCE * math.sqrt(matrix_norm2) * residual_norm
        ):
            break
    return found


def _normalised(vector: Vector) -> tuple[Vector, float]:
    """Returns the vector at length 1, unless it is 0, and its length."""
    norm = _norm(vector)
    return (vector / norm if norm else vector), norm


def _norm(vector: Vector) -> float:
    return math.sqrt(float(np.square(vector).sum()))
