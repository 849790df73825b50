"""Errors of the last days beside the reference, with a plain interval: what no alarm looks at, as slow decay."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from training.monitoring.monitor.day_figures import DayFigures
from training.monitoring.monitor.days import Days
from training.monitoring.monitor.figures import RawAndServed
from training.monitoring.monitor.status import Recent
from training.monitoring.summary import Sums

N_RECENT_DAYS = 28
"""Four weeks: each weekday counts four times."""

_Z = 1.959964  # of the normal distribution, two-sided 95 %


@dataclass(frozen=True, slots=True)
class _Ratio:
    """A quantity that is a sum over rides divided by their number, or the root of that."""

    quantity: str
    errors: Callable[[RawAndServed], Sums]
    total: Callable[[Sums], float]
    n: Callable[[Sums], int]
    is_root: bool = False

    def value(self, ratio: float) -> float:
        return math.sqrt(max(ratio, 0.0)) if self.is_root else ratio


def _both(
    name: str, total: Callable[[Sums], float], n: Callable[[Sums], int] = lambda sums: sums.n, *, is_root: bool = False
) -> tuple[_Ratio, _Ratio]:
    return (
        _Ratio(f"{name}_served", lambda errors: errors.served, total, n, is_root),
        _Ratio(f"{name}_raw", lambda errors: errors.raw, total, n, is_root),
    )


_RATIOS = (
    *_both("rmse", lambda sums: sums.sum_squared_error, is_root=True),
    *_both("mae", lambda sums: sums.sum_absolute_error),
    *_both("bias", lambda sums: sums.sum_error),
    *_both("coverage", lambda sums: sums.n_within_interval, lambda sums: sums.n_with_interval),
)


def recent(days: Sequence[DayFigures], reference: Days | None) -> tuple[Recent, ...]:
    """Return errors of the last days, at most N_RECENT_DAYS, served and raw.

    Args:
        days: Ascending.
        reference: Reference days; their errors are raw ones.
    """
    last = [one.figures.errors for one in days[-N_RECENT_DAYS:]]
    return tuple(_recent(ratio, last, reference) for ratio in _RATIOS) if last else ()


def _recent(ratio: _Ratio, days: Sequence[RawAndServed], reference: Days | None) -> Recent:
    sums = [ratio.errors(one) for one in days]
    value, ends = ratio_interval([(ratio.total(one), ratio.n(one)) for one in sums])
    low, high = (None, None) if ends is None else map(ratio.value, ends)
    return Recent(
        n_days=len(days),
        quantity=ratio.quantity,
        value=None if value is None else ratio.value(value),
        low=low,
        high=high,
        reference=None if reference is None else _reference_value(ratio, reference),
    )


def _reference_value(ratio: _Ratio, reference: Days) -> float | None:
    """Return the same of all reference days; they have no absolute errors."""
    name = ratio.quantity.partition("_")[0]
    if name == "coverage":
        n = float(reference.n_with_interval.sum())
        return float(reference.n_within.sum()) / n if n else None
    total = {"rmse": reference.sum_squared_error, "bias": reference.sum_error}.get(name)
    n = float(reference.n.sum())
    return ratio.value(float(total.sum()) / n) if total is not None and n else None


def ratio_interval(parts: Iterable[tuple[float, float]]) -> tuple[float | None, tuple[float, float] | None]:
    """Return the ratio of the sums of a day's total and number, and a 95 % interval over the days.

    The days are taken as independent, and their rides as one draw each: the usual interval of a ratio estimator
    (Cochran 1977, "Sampling techniques", 6.4), with Student's quantile. It needs three days with rides.

    >>> value, ends = ratio_interval([(10.0, 2), (12.0, 2), (8.0, 2), (10.0, 2)])
    >>> value, [round(end, 2) for end in ends]
    (5.0, [3.71, 6.29])
    """
    days = [(total, n) for total, n in parts if n]
    n_rides = sum(n for _, n in days)
    if not n_rides:
        return None, None
    ratio = math.fsum(total for total, _ in days) / n_rides
    if len(days) < 3:  # noqa: PLR2004 - Student's quantile of one degree of freedom is 13: it says nothing
        return ratio, None
    squares = math.fsum((total - ratio * n) ** 2 for total, n in days)
    half = _student(len(days) - 1) * math.sqrt(squares * len(days) / (len(days) - 1)) / n_rides
    return ratio, (ratio - half, ratio + half)


def _student(freedom: int) -> float:
    """Return Student's two-sided 95 % quantile, to 1 % from 2 degrees of freedom on (Abramowitz and Stegun 26.7.5).

    >>> [round(_student(freedom), 2) for freedom in (3, 9, 27)]
    [3.16, 2.26, 2.05]
    """
    z = _Z
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + math.fsum(term / freedom**power for power, term in enumerate(terms, 1))
