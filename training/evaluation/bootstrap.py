"""Test whether one model is better than another, or was lucky: a paired bootstrap over days.

Rides of one day share its weather, traffic and events, so their errors are not independent: drawing single rides would
give too narrow an interval. So whole days are drawn, with replacement, and both models are measured on the same draw
(Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13: paired data, blocks, percentile
intervals). RMSE needs sums only, so a draw costs a few sums over days, however many rides there are.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
N_DRAWS = 2000
"""At 2,000 the ends of the interval differ by about a fiftieth of its width from seed to seed."""

_SEED = 20230331

Floats = NDArray[np.float64]


class Comparison(msgspec.Struct, frozen=True):
    """A candidate's RMSE less its champion's, in minutes: below 0 if the candidate is better."""

    difference_rmse_minutes: float  # on the rides as they are
    low: float  # the interval's lower end
    high: float  # its upper end
    level: float  # the share of draws between the two, 0 to 1
    n_days: int  # days with rides
    n_rides: int


def compare_days(
    n_rides: NDArray[np.integer] | Floats, candidate_squares: Floats, champion_squares: Floats
) -> Comparison:
    """Compare two models by the sums of their squared errors a day, in square minutes (n_days,).

    There is at least one ride in all; a day without rides is left out.
    """
    days = np.column_stack([n_rides, candidate_squares, champion_squares]).astype(np.float64)
    days = days[days[:, 0] > 0]
    n_days = len(days)
    times_drawn = np.random.default_rng(_SEED).multinomial(n_days, np.full(n_days, 1 / n_days), size=N_DRAWS)
    low, high = np.quantile(_differences(times_drawn @ days), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    (difference,) = _differences(days.sum(axis=0, keepdims=True))
    return Comparison(float(difference), float(low), float(high), LEVEL, n_days, int(days[:, 0].sum()))


def _differences(sums: Floats) -> Floats:
    """Return the RMSEs' differences (n,) of sums (n, 3): rides, the candidate's squares, the champion's."""
    candidate, champion = np.sqrt(sums[:, 1:] / sums[:, :1]).T
    difference: Floats = candidate - champion
    return difference
