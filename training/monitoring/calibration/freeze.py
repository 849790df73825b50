"""When a calibration keeps its weights: outcomes that can't be trusted would teach it nonsense.

Each rule allows for chance: it acts only if the share of rides is over its limit by more than three standard deviations
of a share of so many rides. So a quiet hour with a single odd outcome freezes nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

MAX_DROPPED_SHARE = 0.1
"""Of the outcomes, those that are 3 times the calibrated minutes or more, or a third or less. 1 to 3 % are usual."""

MIN_OUTCOME_SHARE = 0.5
"""Of the rides due, those with an outcome."""

MAX_SHARE_DIFFERENCE = 0.1
"""Of the shares with an outcome between thirds of the rides by predicted minutes: outcomes that are missing by duration
would bias what is learned."""

STANDARD_DEVIATIONS = 3.0
"""A limit is exceeded if it is by so many standard deviations of the share."""

_N_THIRDS = 3

_MIN_RATIO, _MAX_RATIO, _BINS_A_DECADE = 1e-5, 1e6, 40
_RATIO_EDGES = np.array(
    [float(f"{_MIN_RATIO * 10 ** (n / _BINS_A_DECADE):.6g}") for n in range(11 * _BINS_A_DECADE + 1)]
)

_UNITS = (("milliseconds", 60_000.0), ("seconds", 60.0), ("hours", 1 / 60), ("days", 1 / 1440))
_UNIT_FACTOR = 2.0  # a median within this factor of a unit's names the unit


class HourCounts(msgspec.Struct, frozen=True, kw_only=True):
    """An hour's rides that have a prediction; the first two by third of the hour's rides by predicted minutes."""

    hour: str
    n_due: tuple[int, int, int]
    n_outcomes: tuple[int, int, int]
    n_used: int
    n_dropped: int


@dataclass(frozen=True, slots=True)
class Freeze:
    """Why a tick keeps the weights; `text` is a clause for people, as in ``outcomes look like seconds …``."""

    reason: Literal["dropped", "missing", "missing by duration"]
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Ratios:
    """How often outcomes are so many times the calibrated minutes: counts by bin of the logarithm."""

    counts: NDArray[np.int64]

    @classmethod
    def none(cls) -> Self:
        """Return the counts of no outcomes."""
        return cls(np.zeros(len(_RATIO_EDGES) - 1, np.int64))

    @classmethod
    def of(cls, ratios: NDArray[np.float64]) -> Self:
        """Count ratios (n,); NaN counts nowhere."""
        known = ratios[~np.isnan(ratios)]
        n_bins = len(_RATIO_EDGES) - 1
        bins = (np.searchsorted(_RATIO_EDGES, known) - 1).clip(0, n_bins - 1)
        return cls(np.bincount(bins, minlength=n_bins))

    def __add__(self, other: "Ratios") -> "Ratios":
        return Ratios(self.counts + other.counts)

    @property
    def median(self) -> float | None:
        """The median, to 6 %; None without outcomes."""
        total = int(self.counts.sum())
        if not total:
            return None
        place = int(np.searchsorted(self.counts.cumsum(), (total + 1) // 2))
        return float(np.sqrt(_RATIO_EDGES[place] * _RATIO_EDGES[place + 1]))


def thirds_by_rank(minutes: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the third of each ride (n,), 0 to 2, by its rank; of equal minutes, the first has the lower rank.

    >>> thirds_by_rank(np.array([5.0, 30.0, 12.0])).tolist(), thirds_by_rank(np.array([7.0])).tolist()
    ([0, 2, 1], [1])
    """
    n_rides = len(minutes)
    thirds = np.empty(n_rides, np.intp)
    thirds[np.argsort(minutes, kind="stable")] = (2 * np.arange(n_rides) + 1) * _N_THIRDS // (2 * max(n_rides, 1))
    return thirds


def count_thirds(thirds: NDArray[np.intp]) -> tuple[int, int, int]:
    """Return the number of rides in each third, given the third of each ride (n,)."""
    short, middle, long = np.bincount(thirds, minlength=_N_THIRDS).tolist()
    return short, middle, long


def freeze_of(
    day: Sequence[HourCounts], days: Sequence[HourCounts], ratios: Ratios, n_far_from_raw: int = 0
) -> Freeze | None:
    """Return why the outcomes of the last day's hours can't be trusted; None if they can.

    Args:
        day: The last day's hours.
        days: Those of the last three days: outcomes that are missing by duration may need so many to show.
        ratios: What the tick's outcomes look like, if they seem to be in another unit.
        n_far_from_raw: Of these, those that would be dropped beside the model's own minutes. If that is a usual number,
            it may be the calibration that is wrong.
    """
    due, outcomes = sum(sum(one.n_due) for one in day), sum(sum(one.n_outcomes) for one in day)
    n_dropped = sum(one.n_dropped for one in day)
    if _is_over(n_dropped, outcomes, MAX_DROPPED_SHARE):
        text = _dropped_text(n_dropped, outcomes, ratios.median)
        return Freeze("dropped", text + _raw_text(n_far_from_raw, int(ratios.counts.sum())))
    if _is_over(due - outcomes, due, 1 - MIN_OUTCOME_SHARE):
        return Freeze("missing", f"only {outcomes:,} of {due:,} rides have an outcome")
    return _by_duration(day) or _by_duration(days)


def _by_duration(hours: Sequence[HourCounts]) -> Freeze | None:
    """Return the freeze for outcomes that are missing more often in one third of the rides than in another."""
    due = [sum(one.n_due[third] for one in hours) for third in range(_N_THIRDS)]
    outcomes = [sum(one.n_outcomes[third] for one in hours) for third in range(_N_THIRDS)]
    if not _differ(due, outcomes):
        return None
    short, middle, long = (f"{n / max(n_due, 1):.0%}" for n, n_due in zip(outcomes, due, strict=True))
    return Freeze(
        "missing by duration",
        f"outcomes are missing by length of the ride ({short} of the third that is predicted to be shortest have one,"
        f" {middle} of the middle third, {long} of the longest)",
    )


def _is_over(n: int, n_all: int, limit: float) -> bool:
    """Return whether a share is over its limit, and not by chance."""
    return n - limit * n_all > STANDARD_DEVIATIONS * math.sqrt(limit * (1 - limit) * n_all)


def _differ(due: Sequence[int], outcomes: Sequence[int]) -> bool:
    """Return whether the shares of two thirds differ too much, and not by chance."""
    share = sum(outcomes) / sum(due) if sum(due) else 0.0
    for one, other in combinations([third for third in range(_N_THIRDS) if due[third]], 2):
        chance = STANDARD_DEVIATIONS * math.sqrt(share * (1 - share) * (1 / due[one] + 1 / due[other]))
        if abs(outcomes[one] / due[one] - outcomes[other] / due[other]) > max(MAX_SHARE_DIFFERENCE, chance):
            return True
    return False


def _dropped_text(n_dropped: int, n_outcomes: int, ratio: float | None) -> str:
    share = f"{n_dropped / n_outcomes:.0%} of {n_outcomes:,} outcomes"
    for unit, times in _UNITS:
        if ratio and times / _UNIT_FACTOR <= ratio <= times * _UNIT_FACTOR:
            is_larger = ratio > 1
            of_it = f"{ratio:,.0f} times the prediction" if is_larger else f"a {1 / ratio:,.0f}th of the prediction"
            return f"outcomes look like {unit} instead of minutes (their median is {of_it})"
    return f"{share} are over 3 times the prediction or below a third of it"


def _raw_text(n_far: int, n_outcomes: int) -> str:
    """Say that outcomes agree with the model's own minutes, if they do: else nobody would look at the calibration."""
    if not n_outcomes or _is_over(n_far, n_outcomes, MAX_DROPPED_SHARE):
        return ""
    return (
        f", but only {n_far / n_outcomes:.0%} are so far from the model without calibration: what was learned may be"
        " wrong, and `ridecast models calibrate --off` serves the model alone"
    )
