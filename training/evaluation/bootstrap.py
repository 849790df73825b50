"""Test whether one model is better than another, or was lucky: a paired bootstrap over days.

Rides of one day share its weather, traffic and events, so their errors are not independent: drawing single rides would
give too narrow an interval. So whole days are drawn, with replacement, and both models are measured on the same draw
(Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13: paired data, blocks, percentile
intervals). RMSE needs sums only, so a draw costs a few sums over days, however many rides there are.

Of sixty slices some are worse by chance. Their intervals are therefore simultaneous: of two equal models, one
comparison in twenty has an interval beside 0 in any slice at all (Westfall and Young, Resampling-Based Multiple
Testing, 1993, chapter 2: the largest of the studentised differences, "max T"). Slices overlap, and max T makes use of
that, where Bonferroni's correction would not. A slice of few days, such as the four Mondays of a month, has the wider
interval of Student's t.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
N_DRAWS = 2000
"""At 2,000 the ends of the interval differ by about a fiftieth of its width from seed to seed."""

_SEED = 20230331
_N_HALVINGS = 60
_TINY = 1e-9  # less than any sum of errors, so that a perfect champion can be compared with

Floats = NDArray[np.float64]


class Comparison(msgspec.Struct, frozen=True):
    """A candidate's RMSE less its champion's, in minutes: below 0 if the candidate is better."""

    difference_rmse_minutes: float  # on the rides as they are
    low: float  # the interval's lower end
    high: float  # its upper end
    level: float  # the share of draws between the two, 0 to 1
    n_days: int  # days with rides
    n_rides: int


class DaySums(NamedTuple):
    """Sums over the rides of each day and slice, by two models: float64 (n_days, n_slices) each."""

    n_rides: Floats
    candidate: Floats
    champion: Floats


class Intervals(NamedTuple):
    """A figure of each slice, float64 (n_slices,), with its interval, simultaneous over the slices."""

    value: Floats  # on the rides as they are
    low: Floats
    high: Floats

    def take(self, i: int) -> tuple[float, float, float]:
        """Return value, low and high of one slice."""
        return float(self.value[i]), float(self.low[i]), float(self.high[i])


def compare_days(
    n_rides: NDArray[np.integer] | Floats, candidate_squares: Floats, champion_squares: Floats
) -> Comparison:
    """Compare two models by the sums of their squared errors a day, in square minutes (n_days,).

    There is at least one ride in all; a day without rides is left out.
    """
    days = np.column_stack([n_rides, candidate_squares, champion_squares]).astype(np.float64)
    days = days[days[:, 0] > 0]
    n_days = len(days)
    low, high = np.quantile(_differences(_times_drawn(n_days) @ days), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    (difference,) = _differences(days.sum(axis=0, keepdims=True))
    return Comparison(float(difference), float(low), float(high), LEVEL, n_days, int(days[:, 0].sum()))


def compare_errors(squares: DaySums) -> Intervals:
    """Return how much greater the candidate's RMSE is than the champion's in each slice, as a share: 0.03 is 3%.

    The sums are of squared errors. Each slice has rides.
    """
    return _intervals(squares, lambda sums: np.sqrt(_ratio(sums)) - 1)


def compare_scores(scores: DaySums) -> Intervals:
    """Return how much greater, which is worse, the candidate's interval score is in each slice, as a share."""
    return _intervals(scores, lambda sums: _ratio(sums) - 1)


def compare_coverage(covered: DaySums, level: float) -> Intervals:
    """Return how much further the candidate's coverage is from the level than the champion's, in each slice.

    The sums are of rides within their intervals. 0.01 is one ride in a hundred. Each slice has rides.
    """

    def further(sums: DaySums) -> Floats:
        candidate, champion = (np.abs(one / sums.n_rides - level) for one in (sums.candidate, sums.champion))
        return candidate - champion

    return _intervals(covered, further)


def _ratio(sums: DaySums) -> Floats:
    """Return the candidate's sums as shares of the champion's, NaN without rides."""
    champion = np.where(sums.n_rides > 0, np.maximum(sums.champion, _TINY), np.nan)
    ratio: Floats = sums.candidate / champion
    return ratio


def _intervals(sums: DaySums, figure: Callable[[DaySums], Floats]) -> Intervals:
    """Return a figure of each slice with its interval; there may be no slice."""
    if not sums.n_rides.shape[1]:
        return Intervals(np.empty(0), np.empty(0), np.empty(0))
    kept = sums.n_rides.sum(axis=1) > 0
    sums = DaySums(*(one[kept] for one in sums))
    n_days = (sums.n_rides > 0).sum(axis=0)
    value = figure(DaySums(*(one.sum(axis=0) for one in sums)))
    times = _times_drawn(int(kept.sum())).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        off = figure(DaySums(*(times @ one for one in sums))) - value  # NaN where no day of a slice was drawn
        error = np.sqrt(np.nanmean(off * off, axis=0) * n_days / np.maximum(n_days - 1, 1))
        largest = np.nan_to_num(np.abs(off) / error).max(axis=1, initial=0.0)
    n_errors = round(float(np.quantile(largest, LEVEL)), 3)
    half = np.array([_student(n_errors, int(n) - 1) for n in np.maximum(n_days, 2)]) * error
    half[n_days == 1] = np.inf  # one day says nothing about others
    return Intervals(value, value - half, value + half)


@cache
def _student(n_errors: float, n_free: int) -> float:
    """Return the quantile of Student's t that is as unlikely as this many normal standard errors."""
    tail = math.erfc(n_errors / math.sqrt(2)) / 2
    low, high = 0.0, 1e6
    for _ in range(_N_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _student_tail(middle, n_free) > tail else (low, middle)
    return high


def _student_tail(value: float, n_free: int) -> float:
    """Return how often Student's t is above a value (Abramowitz and Stegun, 1964, formulas 26.7.3 and 26.7.4).

    >>> round(_student_tail(3.182, 3), 4)
    0.025
    """
    angle = math.atan(value / math.sqrt(n_free))
    sine, cosine = math.sin(angle), math.cos(angle)
    is_odd = n_free % 2
    term = total = 0.0 if n_free == 1 else (cosine if is_odd else 1.0)
    for k in range(2 + is_odd, n_free - 1, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    share = 2 / math.pi * (angle + sine * total) if is_odd else sine * total
    return (1 - share) / 2


def _times_drawn(n_days: int) -> NDArray[np.int64]:
    """Return how often each day is in each draw, (N_DRAWS, n_days)."""
    return np.random.default_rng(_SEED).multinomial(n_days, np.full(n_days, 1 / n_days), size=N_DRAWS)


def _differences(sums: Floats) -> Floats:
    """Return the RMSEs' differences (n,) of sums (n, 3): rides, the candidate's squares, the champion's."""
    candidate, champion = np.sqrt(sums[:, 1:] / sums[:, :1]).T
    difference: Floats = candidate - champion
    return difference
