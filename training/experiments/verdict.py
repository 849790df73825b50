"""The verdict of an experiment: is the candidate better, worse, or as good as the champion?

Rides of one day share its weather, traffic and events, so their errors are not independent. Therefore the unit is the
day. Each day gives one difference: the champion's squared errors less the candidate's, summed over the same rides.

An experiment is looked at every day, and ends when it has an answer. An interval for one look would be wrong too often
then. So the bounds are a confidence sequence: with probability 1 - alpha it holds the mean difference on all days at
once. It is the t-sequence of Wang and Ramdas, Anytime-valid t-tests and confidence sequences for Gaussian means with
unknown variance, Sequential Analysis 44, 2025 (Gaussian mixture, c = 1; Lai, Annals of Statistics 4, 1976, began it).
Days are taken as independent and their differences as normal; docs/experiments.md has the error rates on real days.
"""

import math
from collections.abc import Sequence
from datetime import date
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from training.errors import UserError
from training.experiments.sample_ratio import sample_ratio

Floats = NDArray[np.float64]

Answer = Literal["better", "worse", "equivalent", "undecided", "running", "void"]
"""Of the candidate, against the champion. `running`: no answer yet; `undecided`: none within the budget.

`equivalent`: surely within the margin, whatever the sign. `void`: the arms of a split got other shares than planned.
"""

_ROUNDING = 1e-12  # of the largest difference: more than sums of some thousand days are off by
_TINY = 1e-9  # square minutes a day, less than any real sum: a perfect champion can be compared with
_MOST_DAYS = 1_000  # that are estimated ahead


class Rules(msgspec.Struct, frozen=True):
    """When an experiment has an answer. Raises UserError if a figure is out of its range."""

    margin_percent: float = 2.0  # of the champion's MSE; 2% of MSE are about 1% of RMSE
    budget_days: int = 28  # by the calendar, days without rides included
    first_look_days: int = 7  # days with rides before the first look: a week has every kind of day
    alpha: float = 0.05  # how often the sequence may miss the mean difference, ever

    def __post_init__(self) -> None:
        if not 0 <= self.margin_percent < math.inf:
            raise UserError(f"the margin is {self.margin_percent}%", "give a number from 0, such as 2%")
        if not 1 <= self.first_look_days <= self.budget_days:
            raise UserError(
                f"the first look is after {self.first_look_days} days and the budget is {self.budget_days} days",
                "give a budget of at least as many days as the first look needs, which are at least 1",
            )
        if not 0 < self.alpha < 1:
            raise UserError(f"alpha is {self.alpha}", "give a probability between 0 and 1, such as 0.05")


class DayLosses(msgspec.Struct, frozen=True):
    """A day's squared errors in square minutes, summed over the same rides for both versions (shadow)."""

    day: date
    n_rides: int  # 0: a day without rides, which counts for the budget only
    champion: float
    candidate: float


class ArmLosses(msgspec.Struct, frozen=True):
    """A day's squared errors in square minutes, summed over each arm's own rides (split)."""

    day: date
    n_champion: int  # rides
    champion_sum: float
    n_candidate: int
    candidate_sum: float


class Bounds(NamedTuple):
    """A confidence sequence after each day: float64 (..., n_days) each. Where low > high no mean fits all days."""

    low: Floats
    high: Floats


class Look(msgspec.Struct, frozen=True):
    """What the days so far say of the candidate, in percent of the champion's MSE; above 0 it is better."""

    day: date  # the last of them
    number: int  # of this day, from 1 for the experiment's first
    n_days: int  # with rides, so far
    mean_percent: float
    low_percent: float | None  # None before the first look, and while the days are too few for any bound
    high_percent: float | None
    is_contradiction: bool = False  # no mean fits this day and the days before; the bounds are those of this day alone


class Verdict(msgspec.Struct, frozen=True):
    """The answer, with the figures of the day that gave it; without an answer, of the last day."""

    answer: Answer
    decided_on_day: int | None  # from 1 for the experiment's first day; None without an answer from the days
    mean_percent: float | None  # None without any day that counts
    low_percent: float | None  # None before the first look
    high_percent: float | None
    n_days: int  # days with rides that were used
    needed: str  # what an answer still needs, as a sentence
    is_contradiction: bool = False  # the last day contradicted the days before


def sequence(differences: Floats, rules: Rules) -> Bounds:
    """Return bounds of the mean of daily differences after each day, each within those of the day before.

    Args:
        differences: float64 (..., n_days), in order; leading axes are sequences of their own.
        rules: Bounds are infinite before `first_look_days` days, and at any alpha before a few days.

    >>> days = np.array([5.0, 7, 6, 5, 6, 7, 6, 5])
    >>> [np.round(bound, 1).tolist() for bound in sequence(days, Rules(first_look_days=6))]
    [[-inf, -inf, -inf, -inf, -inf, 4.0, 4.6, 4.6], [inf, inf, inf, inf, inf, 8.0, 7.4, 7.1]]
    """
    n = np.arange(1, differences.shape[-1] + 1)
    mean = np.cumsum(differences, axis=-1) / n
    rounding = _ROUNDING * np.maximum.accumulate(np.abs(differences), axis=-1)
    half = np.maximum(_half_width(_squares(differences, mean), n, rules.alpha), rounding)
    half[..., : rules.first_look_days - 1] = np.inf
    return Bounds(np.maximum.accumulate(mean - half, axis=-1), np.minimum.accumulate(mean + half, axis=-1))


def looks(days: Sequence[DayLosses], rules: Rules) -> tuple[Look, ...]:
    """Return what each day with rides within the budget said when it was the last, in order of date.

    The bounds are of the mean difference a day, shown in percent of the champion's mean day so far. A day that
    contradicts the days before is the last look.

    Raises:
        UserError: A day is there twice, or its losses are no sums of squares.
    """
    _check(days)
    used = _used(days, rules)
    first = _first(days)
    champion = np.array([one.champion for one in used])
    differences = champion - np.array([one.candidate for one in used])
    n = np.arange(1, len(used) + 1)
    percent = 100 / np.maximum(np.cumsum(champion) / n, _TINY)
    columns = (percent * one for one in (np.cumsum(differences) / n, *sequence(differences, rules)))
    found: list[Look] = []
    for one, mean, low, high in zip(used, *(column.tolist() for column in columns), strict=True):
        number, bounds = _number(one.day, first), (_finite(low), _finite(high))
        if low > high:
            bounds = (2 * mean - high, high) if mean <= high else (low, 2 * mean - low)
        found.append(Look(one.day, number, len(found) + 1, mean, *bounds, is_contradiction=low > high))
        if low > high:
            break
    return tuple(found)


def judge(days: Sequence[DayLosses], rules: Rules) -> Verdict:
    """Judge a shadow: the first look with an answer decides, and later days don't change it.

    The days may come in any order. The first one, with rides or without, is day 1 of the budget.

    Raises:
        UserError: A day is there twice, or its losses are no sums of squares.

    >>> days = [DayLosses(date(2023, 2, day), 100, 1600.0, 1500.0 + day) for day in range(1, 29)]
    >>> verdict = judge(days, Rules())
    >>> verdict.answer, verdict.decided_on_day, verdict.mean_percent, verdict.needed
    ('better', 7, 6.0, 'nothing: the answer stands since day 7')
    """
    seen = looks(days, rules)
    for look in seen:
        answer = _answer(look, rules)
        if answer:
            return _verdict(answer, look, _why(answer, look))
    n_passed = _number(max(one.day for one in days), _first(days)) if days else 0
    left = rules.budget_days - n_passed
    needed = _needed(_used(days, rules), rules, left)
    return _verdict("running" if left > 0 else "undecided", seen[-1] if seen else None, needed)


def judge_split(days: Sequence[ArmLosses], share: float | Sequence[float | None], rules: Rules) -> Verdict:
    """Judge a split: each arm has its own rides, so a day's difference is that of the arms' means, times its rides.

    A day on which an arm has no rides counts for the budget only.

    Args:
        days: In any order.
        share: The candidate's share of rides, 0 to 1; or one for each of `days`, None for a day on which it changed.
        rules: As of a shadow.

    Raises:
        UserError: A day is there twice, or its losses are no sums of squares.
    """
    shares = [share] * len(days) if isinstance(share, float | int) else share
    ordered = sorted(zip(days, shares, strict=True), key=lambda pair: pair[0].day)
    paired = [as_if_paired(day) for day, _ in ordered]
    verdict = judge(paired, rules)
    last = verdict.decided_on_day or rules.budget_days
    first = _first(paired)
    counted = [(day, one) for day, one in ordered if _number(day.day, first) <= last and one is not None]
    counts = np.array([(day.n_champion, day.n_candidate) for day, _ in counted], dtype=np.int64).reshape(-1, 2)
    check = sample_ratio(counts, [one for _, one in counted])
    if check.is_ok:
        return verdict
    needed = (
        f"the arms got {counts[:, 0].sum():,} and {counts[:, 1].sum():,} rides, which is not the planned share"
        f" (p at most {check.p_bound:.1g}): find out which rides are missing, then start a new experiment"
    )
    return msgspec.structs.replace(verdict, answer="void", decided_on_day=None, needed=needed)


def _squares(x: Floats, mean: Floats) -> Floats:
    """Return the sums of squared deviations from the mean so far (Welford, Technometrics 4, 1962: nothing cancels)."""
    n = np.arange(2, x.shape[-1] + 1)
    squares = np.zeros_like(x)
    squares[..., 1:] = np.cumsum((n - 1) / n * (x[..., 1:] - mean[..., :-1]) ** 2, axis=-1)
    return squares


def _half_width(squares: Floats, n: NDArray[np.int64], alpha: float) -> Floats:
    """Return the half-width of the t-sequence after n days, inf for too few days to have one.

    The mixture's martingale for a mean m is sqrt(1/(n+1)) * ((n+1) Q / ((n+1) Q - S^2)) ** (n/2), with Q the sum of
    (x - m)^2 and S that of x - m. It stays below 1/alpha with probability 1 - alpha (Ville). Solved for m.
    """
    k = (np.sqrt(n + 1) / alpha) ** (2 / n)
    bracket = 1 - k / (n + 1)
    is_finite = bracket > 0
    factor = (k - 1) / np.where(is_finite, n * bracket, 1.0)
    half: Floats = np.where(is_finite, np.sqrt(squares * factor), np.inf)
    return half


def _used(days: Sequence[DayLosses], rules: Rules) -> list[DayLosses]:
    """Return the days with rides within the budget, in order."""
    first = _first(days)
    used = (one for one in days if one.n_rides and _number(one.day, first) <= rules.budget_days)
    return sorted(used, key=lambda one: one.day)


def _check(days: Sequence[DayLosses]) -> None:
    """Raise UserError for the first day that can't be judged."""
    seen: set[date] = set()
    hint = "stop the experiment and start it again under another name"
    for one in days:
        if one.day in seen:
            raise UserError(f"{one.day} is there twice", hint)
        seen.add(one.day)
        for who, loss in (("champion", one.champion), ("candidate", one.candidate)):
            if not 0 <= loss < math.inf:
                raise UserError(f"the {who}'s squared errors of {one.day} add up to {loss}", hint)


def _answer(look: Look, rules: Rules) -> Answer | None:
    """Return what a look decides. Within the margin is `equivalent` even if the sign is sure: it would not matter.

    After a contradiction the difference is no longer what it was, so nothing speaks for the candidate.
    """
    if look.low_percent is None or look.high_percent is None:
        return None
    if look.is_contradiction:
        return "worse" if look.high_percent < 0 else "undecided"
    if -rules.margin_percent <= look.low_percent and look.high_percent <= rules.margin_percent:
        return "equivalent"
    if look.low_percent > 0:
        return "better"
    return "worse" if look.high_percent < 0 else None


def _verdict(answer: Answer, look: Look | None, needed: str) -> Verdict:
    if look is None:
        return Verdict(answer, None, None, None, None, 0, needed)
    is_decided = answer in {"better", "worse", "equivalent"}
    number = look.number if is_decided else None
    figures = look.mean_percent, look.low_percent, look.high_percent
    return Verdict(answer, number, *figures, look.n_days, needed, look.is_contradiction)


def _why(answer: Answer, look: Look) -> str:
    """Say why a look needs nothing more."""
    if answer == "undecided":
        return f"{look.day} contradicts the days before, so the difference has changed: start a new experiment"
    return f"nothing: the answer stands since day {look.number}"


def _needed(used: Sequence[DayLosses], rules: Rules, left: int) -> str:
    """Say what an answer still needs; `left` are the days that the budget has left, below 1 if it is over."""
    over = "" if left > 0 else f"the budget of {rules.budget_days} days is over: "
    if len(used) < max(rules.first_look_days, 2):
        missing = _counted(max(rules.first_look_days, 2) - len(used), "more day")
        return f"{over}{missing} with rides until the first look"
    more = _days_ahead(used, rules)
    about = f"more than {_MOST_DAYS:,} more days" if more is None else f"about {_counted(more, 'more day')}"
    about = f"{over}{about}, if they differ as the {len(used)} so far"
    is_enough = left <= 0 or (more is not None and more <= left)
    return about if is_enough else f"{about}, but the budget has {left} left"


def _days_ahead(used: Sequence[DayLosses], rules: Rules) -> int | None:
    """Return how many more days would decide at the mean and the variance of two days or more; None for very many."""
    differences = np.array([one.champion - one.candidate for one in used])
    scale = 100 / max(float(np.mean([one.champion for one in used])), _TINY)
    mean, deviation = abs(float(differences.mean())) * scale, float(differences.std(ddof=1)) * scale
    n = np.arange(len(used) + 1, len(used) + _MOST_DAYS + 1)
    half = _half_width(deviation**2 * (n - 1).astype(np.float64), n, rules.alpha)
    (decides,) = np.nonzero((mean > half) | (mean + half <= rules.margin_percent))
    return int(decides[0]) + 1 if len(decides) else None


def as_if_paired(day: ArmLosses) -> DayLosses:
    """Return a day's losses as if each arm had served all of the day's rides, with its own mean loss."""
    n_rides = day.n_champion + day.n_candidate
    if not day.n_champion or not day.n_candidate:
        return DayLosses(day.day, 0, 0.0, 0.0)
    champion, candidate = day.champion_sum / day.n_champion, day.candidate_sum / day.n_candidate
    return DayLosses(day.day, n_rides, champion * n_rides, candidate * n_rides)


def _first(days: Sequence[DayLosses]) -> date:
    """Return day 1, any date without days."""
    return min((one.day for one in days), default=date.min)


def _number(day: date, first: date) -> int:
    """Return the number of a day of an experiment, from 1 for its first."""
    return (day - first).days + 1


def _finite(bound: float) -> float | None:
    return bound if math.isfinite(bound) else None


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"
