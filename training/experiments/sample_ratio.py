"""The sample-ratio check: did the arms of a split get the planned shares of the rides?

If one arm's rides get lost, or come twice, the arms no longer have the same kind of rides, and comparing their errors
means nothing. The check is looked at daily, so its error rate holds over all looks: it is the Bayes factor of Lindon
and Malek, Anytime-Valid Inference for Multinomial Count Data, NeurIPS 2022, for two arms.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

import msgspec
import numpy as np
from numpy.typing import NDArray

LEVEL = 0.01
"""How often the check fails, ever, though every ride got its arm as planned."""

_CONCENTRATION = 10_000.0
"""Of the prior of a wrong share: at a planned half, its standard deviation is half a percentage point."""


class SampleRatio(msgspec.Struct, frozen=True):
    """The result of the check. Whenever it is looked at, `p_bound` is at most p with probability at most p."""

    p_bound: float
    is_ok: bool


def sample_ratio(counts: NDArray[np.integer], share: float | Sequence[float]) -> SampleRatio:
    """Check the arms' counts of rides after every day.

    Each ride must have drawn its arm by itself. Rides that share an id share an arm, so ids that come many times make
    the check fail.

    Args:
        counts: int (n_days, 2): the champion's and the candidate's rides, in order of days.
        share: The candidate's planned share, between 0 and 1; or the share of each day, if it grew.

    >>> sample_ratio(np.array([[900, 100]] * 10), 0.1).is_ok
    True
    >>> sample_ratio(np.array([[950, 100]] * 100), 0.1).is_ok
    False
    """
    shares = [share] * len(counts) if isinstance(share, float | int) else list(share)
    most = max(_log_evidence(counts, shares), default=0.0)
    p_bound = math.exp(-max(most, 0.0))
    return SampleRatio(p_bound, p_bound > LEVEL)


def _log_evidence(counts: NDArray[np.integer], shares: Sequence[float]) -> Iterator[float]:
    """Give the logarithm of the Bayes factor against the planned shares after each day.

    Days of one share add up. A new share begins a factor of its own, and factors of disjoint days multiply.
    """
    before = after = 0.0
    for share, days in groupby(zip(shares, counts, strict=True), key=lambda pair: pair[0]):
        n = np.zeros(2)
        for _, day in days:
            n += day
            after = before + _log_factor(float(n[0]), float(n[1]), share)
            yield after
        before = after


def _log_factor(n_champion: float, n_candidate: float, share: float) -> float:
    """Return the log of how much likelier the counts are under the prior of wrong shares than under the planned one."""
    champion, candidate = _CONCENTRATION * (1 - share), _CONCENTRATION * share
    wrong = _log_beta(champion + n_champion, candidate + n_candidate) - _log_beta(champion, candidate)
    return wrong - n_champion * math.log1p(-share) - n_candidate * math.log(share)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
