"""False alarms of the detectors on simulated quarters of steady days, and how soon a full shift is found.

    python -m tests.bench.monitor_false_alarms --quarters 1000 [--service yellow] [--train 2018-01..2020-02]
        [--block-days 7 28] [--sizes] [--shift 2020-04]

A model is trained on the months, and all their days are predicted out of fold. Blocks of these days are drawn at random
into quarters (steady_quarters.py), so every alarm is a false one. With `--sizes`, reference and served days have other
numbers of rides than each other; and the first 14 days of another month, at every size, must be found. Prints a table
and one line of JSON. Exits with 1 if blocks of a week have more than 0.25 false alarms a quarter,
if longer ones have fewer than 180 days between two, or if a shift is missed.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product

import numpy as np
from rich.console import Console
from rich.table import Table

from infra.cli.output import live_display
from tests.bench.monitored_months import load, train_monitored
from tests.bench.steady_quarters import (
    N_SERVED_DAYS,
    DayEffects,
    Quarter,
    followed_by,
    n_alarms,
    redate,
    steady_quarters,
)
from training.monitoring.monitor.days import Days
from training.monitoring.monitor.detectors import GROUPS
from training.monitoring.monitor.explain import PROMISED_DAYS

N_RIDES = (330, 2_200, 1_000_000)
MAX_FALSE_ALARMS = 0.25
"""A quarter of blocks of a week, data and performance together. Users are promised 0.5: 180 days between two."""

N_SHIFTED_DAYS = 14
_A_WEEK = 7


@dataclass(frozen=True, slots=True)
class FalseAlarms:
    """The alarms on steady quarters, and the days until a shift was found."""

    block_days: int  # days that were drawn together
    n_reference_rides: int | None  # of every reference day; None: as many as it had
    n_served_rides: int | None
    n_quarters: int
    data: float  # a quarter
    performance: float
    mean_e: float  # mean e-value of all tested days and quantities: at most 1 if days are exchangeable
    shift_found: float | None = None  # share of quarters in which data and performance alarms came within 14 days
    last_shift_day: int | None = None  # the latest day of them, from 1

    @property
    def both(self) -> float:
        """Alarms of both groups a quarter."""
        return self.data + self.performance

    @property
    def days_between(self) -> float:
        """Mean days between two false alarms."""
        return N_SERVED_DAYS / self.both if self.both else np.inf

    @property
    def is_kept(self) -> bool:
        """Whether the demands are met: of blocks of more than a week, only the promise to users."""
        most = MAX_FALSE_ALARMS if self.block_days <= _A_WEEK else N_SERVED_DAYS / PROMISED_DAYS
        return self.both <= most and self.shift_found in {None, 1.0}


def count_alarms(
    quarters: Iterator[Quarter],
    sizes: tuple[int | None, int | None] = (None, None),
    shifted: Iterator[Days] | None = None,
    block_days: int = 7,
) -> FalseAlarms:
    """Watch each quarter, and each of the shifted days after its reference."""
    alarms, mean_e, latest = [], [], []
    for quarter in quarters:
        evidence = quarter.watch()
        mean_e.append(float(np.nanmean(0.5 / np.sqrt(evidence.p))))
        alarms.append(n_alarms(evidence))
        if shifted is not None:
            latest.append(_day_of_both(followed_by(quarter, next(shifted))))
    found = [day for day in latest if day is not None]
    return FalseAlarms(
        block_days=block_days,
        n_reference_rides=sizes[0],
        n_served_rides=sizes[1],
        n_quarters=len(alarms),
        data=sum(one["data"] for one in alarms) / len(alarms),
        performance=sum(one["performance"] for one in alarms) / len(alarms),
        mean_e=float(np.mean(mean_e)),
        shift_found=len(found) / len(latest) if latest else None,
        last_shift_day=max(found, default=None),
    )


def _day_of_both(quarter: Quarter) -> int | None:
    """Return the number of the day, from 1, by whose end both groups have raised an alarm; None if they have not."""
    evidence = quarter.watch()
    first = {alarm.group: alarm.day for alarm in reversed(evidence.alarms)}
    return 1 + (max(first.values()) - evidence.days.tolist()[0]).days if len(first) == len(GROUPS) else None


def resized_quarters(pool: Days, n_quarters: int, sizes: tuple[int, int], seed: int = 0) -> Iterator[Quarter]:
    """Draw quarters whose reference days and served days have so many rides."""
    rng = np.random.default_rng(seed)
    effects = DayEffects.of(pool)
    numbered = replace(pool, sum_error=np.arange(float(len(pool))))  # finds a day again after the draw
    for quarter in steady_quarters(numbered, n_quarters, seed=seed):
        parts = [
            redate(effects.take(days.sum_error.astype(np.intp)).draw(n_rides, rng), days.day[0])
            for days, n_rides in zip((quarter.reference, quarter.served), sizes, strict=True)
        ]
        yield Quarter(*parts)


def resized_days(days: Days, n_rides: int, seed: int = 0) -> Iterator[Days]:
    """Draw the first days again and again with so many rides."""
    effects = DayEffects.of(days)
    rng = np.random.default_rng(seed)
    while True:
        yield effects.take(np.arange(min(N_SHIFTED_DAYS, len(days)))).draw(n_rides, rng)


def show(figures: Sequence[FalseAlarms]) -> None:
    """Print a table."""
    table = Table(title="False alarms a quarter on steady days", title_justify="left")
    for name in (
        "days a block",
        "rides a reference day",
        "rides a served day",
        "data",
        "performance",
        "both",
        "days between",
        "mean e",
    ):
        table.add_column(name, justify="right")
    table.add_column("shift found", justify="right")
    table.add_column("by day", justify="right")
    for one in figures:
        sizes = ("as they are" if n is None else f"{n:,}" for n in (one.n_reference_rides, one.n_served_rides))
        numbers = (f"{one.data:.3f}", f"{one.performance:.3f}", f"{one.both:.3f}", f"{one.days_between:,.0f}")
        shift = ("", "") if one.shift_found is None else (f"{one.shift_found:.0%}", str(one.last_shift_day))
        table.add_row(
            str(one.block_days), *sizes, *numbers, f"{one.mean_e:.2f}", *shift, style="" if one.is_kept else "red"
        )
    Console().print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, draw, count and report."""
    parser = argparse.ArgumentParser(description="False alarms of the detectors on steady days.")
    parser.add_argument("--quarters", type=int, default=1000, help="quarters to simulate")
    parser.add_argument("--service", choices=["green", "yellow"], default="yellow", help="taxi service")
    parser.add_argument("--train", default="2018-01..2020-02", help="months whose days are drawn")
    parser.add_argument("--block-days", type=int, nargs="+", default=[7], help="days that stay together")
    parser.add_argument("--sizes", action="store_true", help="also days of other sizes than the reference's")
    parser.add_argument("--shift", help="with --sizes: another month that must be found, as 2020-04")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    options = parser.parse_args(arguments)
    figures = []
    with live_display() as display:
        model = train_monitored(options.service, load(options.service, options.train), display.step)
        display.step("predicting all days out of fold")
        pool = model.all_days()
        for block_days in options.block_days:
            display.step(f"{options.quarters:,} quarters in blocks of {block_days} days")
            quarters = steady_quarters(pool, options.quarters, block_days, options.seed)
            figures.append(count_alarms(quarters, block_days=block_days))
        shift = model.days(load(options.service, options.shift)) if options.shift else None
        for sizes in product(N_RIDES, N_RIDES) if options.sizes else ():
            display.step(f"days of {sizes[0]:,} and {sizes[1]:,} rides")
            resized = resized_quarters(pool, options.quarters, sizes, seed=options.seed)
            shifted = None if shift is None else resized_days(shift, sizes[1], options.seed)
            figures.append(count_alarms(resized, sizes, shifted))
    show(figures)
    sys.stdout.write(json.dumps({"figures": [asdict(one) for one in figures]}) + "\n")
    return 0 if all(one.is_kept for one in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
