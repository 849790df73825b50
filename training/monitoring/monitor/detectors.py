"""Detect that the data or the performance of a model have changed, with a stated rate of false alarms.

Each served day is compared, quantity by quantity, with the model's reference days of its kind. A score says how unusual
a day is among them, for so many rides. The share of days that are at least as unusual is a p-value, and `0.5 / sqrt(p)`
an e-value: 1 or less in the mean while nothing changes (Vovk and Wang 2021, "E-values: calibration, combination and
applications"). A quantity's evidence is multiplied by each day's e-value, and one more attempt begins each day: an
e-detector of Shiryaev and Roberts (Shin, Ramdas and Rinaldo 2024, "E-detectors"). If days are exchangeable, a threshold
of 365 lets a group of quantities raise one false alarm in 365 days at most, and both groups together one in 180.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.monitoring.monitor.days import Days, Floats
from training.monitoring.monitor.quantities import PERFORMANCE_QUANTITIES

Group = Literal["data", "performance"]
GROUPS: tuple[Group, ...] = ("data", "performance")

BIAS, MSE, COVERAGE = PERFORMANCE = PERFORMANCE_QUANTITIES

THRESHOLD = 365.0
"""A group's evidence at which it raises an alarm: the least mean number of days between two false ones."""

MIN_REFERENCE_DAYS = 9
"""With fewer reference days of its kind, a day is not tested: its e-value could hardly be above 1."""

MAX_EVIDENCE = 1e6
"""Evidence grows no further: it is far above the threshold, and a change that has gone should be seen to go."""

_SCORE_DECIMALS = 9  # scores that differ less are equal: the last bits of a sum differ between processors
_TINY = 1e-12
_NO_DISTANCE = 1e-20  # squared shares: rounding errors are below it, a ride in a billion above


@dataclass(frozen=True, slots=True)
class Rules:
    """What makes days of different size comparable, and what counts as unusual. Tests change one at a time.

    Attributes:
        threshold: Evidence at which a group raises an alarm.
        tolerance: A day's score is divided by it before it is ranked: days a little beyond all others are no news.
        has_size_term: Whether a day of few rides may lie further from the others, by its sampling variance.
        caps_weights: Whether a day weighs at most as much as the median day in the mean of days.
        floor: The least variance between days, in sampling variances of a day of median size.
    """

    threshold: float = THRESHOLD
    tolerance: float = 1.25
    has_size_term: bool = True
    caps_weights: bool = True
    floor: float = 0.5


RULES = Rules()


class Alarm(NamedTuple):
    """The day at whose end a group's evidence reached the threshold."""

    day: date
    group: Group
    quantity: str  # the one with the most evidence
    evidence: float  # the group's
    since: date  # the day since which the quantity's evidence has grown


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What the detectors found on each of n served days, for q quantities: the data's, then the performance's."""

    days: NDArray[np.datetime64]  # datetime64[D] (n,), ascending
    names: tuple[str, ...]
    groups: tuple[Group, ...]  # of each quantity
    p: Floats  # (n, q): share of days at least as unusual; NaN where a day is not tested
    path: Floats  # (n, q): evidence at the end of the day
    data: Floats  # (n,): mean evidence of the data quantities
    performance: Floats  # (n,): mean evidence of the performance quantities
    alarms: tuple[Alarm, ...]  # ascending
    joined: NDArray[np.bool_]  # (n,): whether the day joined the reference
    is_on: Mapping[Group, bool]  # whether the group's last alarm is still unacknowledged
    current: Floats  # (q,): evidence after the last day: 0 if its alarm was acknowledged at the end of that day


def watch(
    reference: Days,
    served: Days,
    acknowledged: Mapping[str, Sequence[date]] | None = None,
    rules: Rules = RULES,
) -> Evidence:
    """Compare each served day with the reference days and the served days before it that joined them.

    A day joins the reference unless an alarm is on. An alarm stays on until the end of a day at which it was
    acknowledged: then its group's evidence begins at 0 again.

    Args:
        reference: The model's own reference days, out of fold.
        served: Days in any order, each once.
        acknowledged: The days at whose end an alarm was acknowledged, by group.
        rules: Only tests change them.

    Raises:
        ValueError: A day is served twice, or the quantities or bins of both differ.
    """
    served = served.take(np.argsort(served.day, kind="stable"))
    reference = reference.take(np.argsort(reference.day, kind="stable"))
    _check(reference, served)
    run = _Run(reference, served, rules)
    watches = {group: _GroupWatch(group, run, tuple((acknowledged or {}).get(group, ()))) for group in GROUPS}
    for row, day in enumerate(run.days):
        for one in watches.values():
            one.acknowledge(day)
        run.test(row)
        for one in watches.values():
            one.look(row, day)
        if not any(one.is_on for one in watches.values()):
            run.join(row)
    for one in watches.values():
        one.acknowledge(date.max)
    alarms = sorted(alarm for one in watches.values() for alarm in one.alarms)
    data, performance = (watches[group].evidence for group in GROUPS)
    is_on = {group: one.is_on for group, one in watches.items()}
    return Evidence(
        days=served.day,
        names=run.names,
        groups=run.groups,
        p=run.p,
        path=run.path,
        data=data,
        performance=performance,
        alarms=tuple(alarms),
        joined=run.joined,
        is_on=is_on,
        current=run.current,
    )


def _check(reference: Days, served: Days) -> None:
    if len(np.unique(served.day)) < len(served):
        raise ValueError("a day is served twice")
    shapes = [{name: table.shape[1] for name, table in days.counts.items()} for days in (reference, served)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"reference and served days have other quantities or bins: {shapes[0]} and {shapes[1]}")


class _Run:
    """All days, those of the reference first, and the evidence of each quantity so far."""

    def __init__(self, reference: Days, served: Days, rules: Rules) -> None:
        days = Days.concat(reference, served)
        data_names = tuple(days.counts)
        has_intervals = bool((reference.n_with_interval > 0).any())
        performance_names = PERFORMANCE if has_intervals else PERFORMANCE[:2]
        self.names = data_names + performance_names
        self.groups = _groups(len(data_names), len(performance_names))
        self.rules = rules
        self.days: list[date] = served.day.tolist()
        self._n_reference = len(reference)
        self._kind = days.kind
        self._has_rides = days.n > 0
        self._n = days.n
        self._shares, self._starts = _cumulative_shares(days)
        self._errors = _mean_errors(days, len(performance_names))
        self._members = {
            int(kind): ((reference.kind == kind) & (reference.n > 0)).nonzero()[0].tolist()
            for kind in np.unique(days.kind)
        }
        self.p = np.full((len(served), len(self.names)), np.nan)
        self.path = np.zeros((len(served), len(self.names)))
        self.joined = np.zeros(len(served), np.bool_)
        self.current = np.zeros(len(self.names))

    def test(self, row: int) -> None:
        """Rank a served day among its kind, and multiply the evidence by its e-values."""
        day = self._n_reference + row
        members = self._members[int(self._kind[day])]
        if self._has_rides[day] and len(members) >= MIN_REFERENCE_DAYS:
            self.p[row] = self._rank(np.array([*members, day]))
            e = 0.5 / np.sqrt(self.p[row])
            grown = np.minimum((self.current + 1) * e, MAX_EVIDENCE)
            self.current = np.where(np.isnan(e), self.current, grown)
        self.path[row] = self.current

    def join(self, row: int) -> None:
        """Add a served day to the reference days of its kind."""
        day = self._n_reference + row
        if self._has_rides[day]:
            self._members[int(self._kind[day])].append(day)
            self.joined[row] = True

    def _rank(self, bag: NDArray[np.intp]) -> Floats:
        """Return the p-value (q,) of the bag's last day for each quantity."""
        n = self._n[bag]
        means, variances, n_errors = (column[bag] for column in self._errors)
        of_data = data_scores(self._shares[bag], self._starts, n, self.rules)
        of_errors = error_scores(means, variances, n_errors, self.rules)
        return rank_shares(np.hstack([of_data, of_errors]), self.rules.tolerance)


def _groups(n_data: int, n_performance: int) -> tuple[Group, ...]:
    data, performance = GROUPS
    return (data,) * n_data + (performance,) * n_performance


def _cumulative_shares(days: Days) -> tuple[Floats, NDArray[np.intp]]:
    """Return the cumulative shares (n, all bins), quantities side by side, and each quantity's first column.

    The last bin, of rides without a value, is left out: the cumulative share before it says as much.
    """
    tables = []
    for counts in days.counts.values():
        total = np.maximum(counts.sum(axis=1, keepdims=True), _TINY)
        tables.append((counts / total).cumsum(axis=1)[:, :-1])
    widths = [table.shape[1] for table in tables]
    return np.hstack(tables), np.cumsum([0, *widths[:-1]]).astype(np.intp)


def _mean_errors(days: Days, n_quantities: int) -> tuple[Floats, Floats, Floats]:
    """Return by day and performance quantity (n, q): the mean, the variance by ride, and the number of rides."""
    n, n_interval = np.maximum(days.n, _TINY), np.maximum(days.n_with_interval, _TINY)
    has_interval = (days.n_with_interval > 0) & ~np.isnan(days.n_within)
    coverage = np.where(has_interval, days.n_within / n_interval, np.nan)
    columns = [
        (days.sum_error / n, days.var_error, days.n),
        (days.sum_squared_error / n, days.var_squared_error, days.n),
        (coverage, coverage * (1 - coverage), np.where(has_interval, days.n_with_interval, 0.0)),
    ][:n_quantities]
    means, variances, counts = (np.column_stack(column) for column in zip(*columns, strict=True))
    return means, variances, counts


def data_scores(shares: Floats, starts: NDArray[np.intp], n: Floats, rules: Rules = RULES) -> Floats:
    """Return how far each day lies from the mean of the others, over what is usual for so many rides.

    The distance is that of Cramer and von Mises: squared differences of cumulative shares, summed over bins.

    Args:
        shares: Cumulative shares of m days, float64 (m, all bins); the last day is the one in question.
        starts: The first column of each of q quantities.
        n: Rides of each day (m,), above 0.
        rules: Which of the terms are used.

    Returns:
        float64 (m, q), 0 or more.
    """
    median = float(np.median(n))
    weight = (np.minimum(n, median) if rules.caps_weights else n)[:, None]
    weighted = shares * weight
    centre = (weighted.sum(axis=0) - weighted) / (weight.sum() - weight)
    distance = np.add.reduceat((shares - centre) ** 2, starts, axis=1)
    distance[distance < _NO_DISTANCE] = 0.0
    variance = np.add.reduceat(centre * (1 - centre), starts, axis=1)
    by_chance = variance / n[:, None] if rules.has_size_term else np.zeros_like(variance)
    excess = ((distance - by_chance) * weight)[:-1].sum(axis=0) / weight[:-1].sum()
    between_days = np.maximum(excess, rules.floor * variance.mean(axis=0) / median)
    scores: Floats = distance / np.maximum(between_days + by_chance, _TINY)
    return scores


def error_scores(means: Floats, variances: Floats, n: Floats, rules: Rules = RULES) -> Floats:
    """Return how much worse each day's errors are than those of the others, over what is usual for so many rides.

    Args:
        means: Mean error, squared error and coverage of m days, the last in question, float64 (m, 2) or (m, 3).
        variances: Their variances by ride; NaN is unknown.
        n: The rides that they are means of; where it is 0, the score is NaN.
        rules: Which of the terms are used.

    Returns:
        float64 of the same shape: bias counts in both directions, squared error upwards, coverage downwards.
    """
    is_known = n > 0
    means, variances = np.where(is_known, means, 0.0), np.where(is_known, variances, 0.0)
    median = np.array([np.median(column[column > 0]) if column.any() else 1.0 for column in n.T])
    weight = np.minimum(n, median) if rules.caps_weights else n
    weighted = means * weight
    others = np.maximum(weight.sum(axis=0) - weight, _TINY)
    distance = means - (weighted.sum(axis=0) - weighted) / others
    has_variance = np.where(np.isnan(variances), 0.0, weight)  # a day of one ride has none
    variance = (np.nan_to_num(variances) * has_variance).sum(axis=0) / np.maximum(has_variance.sum(axis=0), _TINY)
    by_chance = variance / np.maximum(n, _TINY) if rules.has_size_term else np.zeros_like(means)
    excess = ((distance**2 - by_chance) * weight)[:-1].sum(axis=0) / np.maximum(weight[:-1].sum(axis=0), _TINY)
    between_days = np.maximum(excess, rules.floor * variance / median)
    scores = np.where(is_known, distance / np.sqrt(np.maximum(between_days + by_chance, _TINY)), np.nan)
    scores[:, 0] = np.abs(scores[:, 0])
    scores[:, 2:] *= -1
    return scores


def rank_shares(scores: Floats, tolerance: float = RULES.tolerance) -> Floats:
    """Return the share of days whose score is at least the last day's, reduced by the tolerance.

    Args:
        scores: float64 (m, q), the last day is the one in question; NaN is unknown.
        tolerance: 1 or more.

    Returns:
        float64 (q,), above 0 and at most 1: the last day counts itself. NaN where it is unknown, or too few others are.

    >>> rank_shares(np.array([[1.0], [2.0], [3.0], [4.0], [5.0], [6.0], [7.0], [8.0], [9.0], [9.9]])).tolist()
    [0.3]
    """
    scores = scores.round(_SCORE_DECIMALS)
    last = scores[-1]
    least = np.where(last > 0, last / tolerance, last)
    n_known = (~np.isnan(scores)).sum(axis=0)
    is_tested = ~np.isnan(last) & (n_known > MIN_REFERENCE_DAYS)
    shares: Floats = (scores >= least).sum(axis=0) / np.maximum(n_known, 1)
    return np.where(is_tested, shares, np.nan)


class _GroupWatch:
    """One group's evidence, its alarms, and whether one is on."""

    def __init__(self, group: Group, run: _Run, acknowledged: Sequence[date]) -> None:
        self._group = group
        self._run = run
        self._acknowledged = acknowledged
        self._columns = np.array([other == group for other in run.groups]).nonzero()[0]
        self._begin: int | None = 0  # the row at which the evidence began at 0; None: at the next one
        self.evidence = np.zeros(len(run.path))
        self.alarms: list[Alarm] = []
        self.is_on = False

    def acknowledge(self, day: date) -> None:
        """End the alarm if it was acknowledged at the end of a day before this one."""
        if self.is_on and any(self.alarms[-1].day <= at < day for at in self._acknowledged):
            self.is_on = False
            self._begin = None
            self._run.current[self._columns] = 0.0

    def look(self, row: int, day: date) -> None:
        """Note the evidence at the end of a day, and raise an alarm if it reaches the threshold."""
        if self._begin is None:
            self._begin = row
        by_quantity = self._run.path[row, self._columns]
        self.evidence[row] = by_quantity.mean()
        if self.is_on or self.evidence[row] < self._run.rules.threshold:
            return
        self.is_on = True
        quantity = int(self._columns[by_quantity.argmax()])
        since = self._run.days[self._begin + growth_start(self._run.p[self._begin : row + 1, quantity])]
        self.alarms.append(Alarm(day, self._group, self._run.names[quantity], float(self.evidence[row]), since))


def growth_start(p: Floats) -> int:
    """Return the day from which the product of e-values to the last day is greatest: the likeliest day of the change.

    >>> growth_start(np.array([0.1, 1.0, 0.5, 0.01, 0.3, 0.02]))
    3
    """
    log_e = np.log(0.5 / np.sqrt(np.where(np.isnan(p), 0.25, p)))
    after = log_e[::-1].cumsum()
    return len(p) - 1 - int(after.argmax())
