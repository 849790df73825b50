"""Quarters of steady days: real days in blocks, drawn at random, so that nothing changes but what always varies.

A quarter is 91 served days after a reference of 364. Blocks of whole weeks keep what days of a week have in common, as
weather and events. Days can be drawn again with any number of rides: the effect of the day stays, and the variation by
chance is that of so many rides.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from training.monitoring.monitor.days import Days, Floats
from training.monitoring.monitor.detectors import GROUPS, RULES, Evidence, Group, Rules, watch

N_REFERENCE_DAYS, N_SERVED_DAYS = 364, 91
_FIRST_REFERENCE_DAY = np.datetime64("2001-01-01", "D")
_FIRST_SERVED_DAY = _FIRST_REFERENCE_DAY + np.timedelta64(N_REFERENCE_DAYS, "D")


@dataclass(frozen=True, slots=True, eq=False)
class Quarter:
    """A reference and the served days after it."""

    reference: Days
    served: Days

    def watch(self, rules: Rules = RULES) -> Evidence:
        """Run the detectors; each alarm is acknowledged at the end of its day, so that the next one counts too."""
        acknowledged = dict.fromkeys(GROUPS, self.served.day.tolist())
        return watch(self.reference, self.served, acknowledged, rules)


def steady_quarters(pool: Days, n_quarters: int, block_days: int = 7, seed: int = 0) -> Iterator[Quarter]:
    """Draw quarters from a pool of days in a row.

    The blocks of a quarter are all different if the pool has enough of them, else they are drawn with replacement.
    """
    rng = np.random.default_rng(seed)
    blocks = [np.arange(start, start + block_days) for start in range(0, len(pool) - block_days + 1, block_days)]
    n_blocks = -(-(N_REFERENCE_DAYS + N_SERVED_DAYS) // block_days)
    for _ in range(n_quarters):
        drawn = rng.choice(len(blocks), n_blocks, replace=n_blocks > len(blocks))
        rows = np.concatenate([blocks[block] for block in drawn])
        reference, served = np.split(rows[: N_REFERENCE_DAYS + N_SERVED_DAYS], [N_REFERENCE_DAYS])
        yield Quarter(redate(pool.take(reference), _FIRST_REFERENCE_DAY), redate(pool.take(served), _FIRST_SERVED_DAY))


def redate(days: Days, first: np.datetime64) -> Days:
    """Return the days as consecutive ones from a day on, each of the kind that it was."""
    return replace(days, day=first + np.arange(len(days)).astype("timedelta64[D]"))


def followed_by(quarter: Quarter, changed: Days) -> Quarter:
    """Return the quarter's reference, and changed days, in the order given, instead of its served days."""
    return Quarter(quarter.reference, redate(changed, _FIRST_SERVED_DAY))


def n_alarms(evidence: Evidence) -> dict[Group, int]:
    """Count alarms by group."""
    return {group: sum(alarm.group == group for alarm in evidence.alarms) for group in GROUPS}


@dataclass(frozen=True, slots=True, eq=False)
class DayEffects:
    """What days would show if they had very many rides.

    A day's own share is drawn towards the mean of its kind, so far that the days vary as much as they do beyond chance.
    """

    days: Days
    shares: dict[str, Floats]  # (n_days, bins + 1) by data quantity
    bias: Floats  # minutes
    mse: Floats  # square minutes
    coverage: Floats

    @staticmethod
    def of(days: Days) -> "DayEffects":
        """Estimate the effects of days with rides; each kind has several days."""
        shares = {name: np.empty_like(table) for name, table in days.counts.items()}
        bias, mse, coverage = (np.empty(len(days)) for _ in range(3))
        for kind in np.unique(days.kind):
            rows = (days.kind == kind).nonzero()[0]
            some = days.take(rows)
            for name, table in some.counts.items():
                observed = table / table.sum(axis=1, keepdims=True)
                centre = observed.mean(axis=0)
                shares[name][rows] = _shrink(observed, (centre * (1 - centre)).sum() / some.n)
            bias[rows] = _shrink((some.sum_error / some.n)[:, None], some.var_error / some.n)[:, 0]
            mse[rows] = _shrink((some.sum_squared_error / some.n)[:, None], some.var_squared_error / some.n)[:, 0]
            within = some.n_within / some.n_with_interval
            coverage[rows] = _shrink(within[:, None], within.mean() * (1 - within.mean()) / some.n)[:, 0]
        return DayEffects(days, shares, bias, mse, coverage)

    def draw(self, n_rides: int, rng: np.random.Generator) -> Days:
        """Draw the days with so many rides each. Mean squared errors are skewed, as a gamma distribution."""
        days = self.days
        n = np.full(len(days), float(n_rides))
        bias = self.bias + rng.normal(size=len(days)) * np.sqrt(days.var_error / n)
        shape = self.mse**2 / np.maximum(days.var_squared_error / n, 1e-12)
        mse = rng.gamma(shape, self.mse / shape)
        return replace(
            days,
            counts={name: rng.multinomial(n_rides, shares).astype(np.float64) for name, shares in self.shares.items()},
            n=n,
            sum_error=bias * n,
            sum_squared_error=mse * n,
            n_within=rng.binomial(n_rides, self.coverage).astype(np.float64),
            n_with_interval=n,
        )

    def take(self, rows: Sequence[int] | NDArray[np.intp]) -> "DayEffects":
        """Return the effects of these days."""
        at = np.asarray(rows, np.intp)
        shares = {name: table[at] for name, table in self.shares.items()}
        return DayEffects(self.days.take(at), shares, self.bias[at], self.mse[at], self.coverage[at])


def _shrink(observed: Floats, chance_variance: Floats | float) -> Floats:
    """Draw observations (n, m) towards their mean, until they vary by as much as they do beyond chance."""
    centre = observed.mean(axis=0)
    chance = np.broadcast_to(chance_variance, len(observed))
    total = ((observed - centre) ** 2).sum(axis=1)
    beyond = max(float((total - chance).mean()), 0.0)
    return centre + (observed - centre) * np.sqrt(beyond / (beyond + chance))[:, None]
