"""LSQR (Paige and Saunders 1982), the solver of scikit-learn's linear regression on sparse data: same steps, same stop.

The order of SciPy's sums, and so the last digits of its result, depends on the processor and the number of threads.
Here every sum is numpy's, in the same order on every machine.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
"""float64 (m,) or (n,): an entry a row or a column of the matrix."""

TOLERANCE = 1e-6
"""scikit-learn's default, of the residual and of the coefficients."""


def solve_least_squares(
    times: Callable[[Vector], Vector], transposed_times: Callable[[Vector], Vector], wanted: Vector
) -> Vector:
    """Find the coefficients (n,) that bring a matrix's product nearest to `wanted` (m,); of several, the smallest.

    The matrix (m, n) is given as its products: `times` maps (n,) to (m,), `transposed_times` (m,) to (n,). Stops where
    SciPy's lsqr stops at `TOLERANCE`: well before the best fit if columns differ much in scale.
    """
    wanted_norm = _norm(wanted)
    found = np.zeros_like(transposed_times(wanted))
    if not wanted_norm:
        return found
    left = wanted / wanted_norm
    right, alpha = _normalised(transposed_times(left))
    direction, rho_bar, residual_norm = right, alpha, wanted_norm
    matrix_norm2 = 0.0
    for _ in range(2 * len(found) if alpha else 0):
        left, beta = _normalised(times(right) - alpha * left)
        matrix_norm2 += alpha * alpha + beta * beta
        right, alpha = _normalised(transposed_times(left) - beta * right)
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
    """Return the vector scaled to length 1, unless it is 0, and its length."""
    norm = _norm(vector)
    return (vector / norm if norm else vector), norm


def _norm(vector: Vector) -> float:
    return math.sqrt(float(np.square(vector).sum()))
