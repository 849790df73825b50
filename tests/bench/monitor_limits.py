"""How large a change must be to be found: changes of known size planted into steady quarters.

    python -m tests.bench.monitor_limits [--service yellow] [--train 2018-01..2020-02] [--mix green 2023-01]
        [--quarters 20] [--reference-days 364 90] [--rides 100000]

Reference and served days are real ones, drawn as in `tests.bench.monitor_false_alarms`. Each change holds from the
first served day, or grows until the last, the 91st. Prints for each change the share of quarters with an alarm of its
group within 14, 28 and 91 days, and the median day; then one line of JSON.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product

import numpy as np
from rich.console import Console
from rich.table import Table

from infra.cli.output import live_display
from tests.bench.monitor_detection import mix
from tests.bench.monitor_false_alarms import resized_quarters
from tests.bench.monitored_months import load, train_monitored
from tests.bench.steady_quarters import N_REFERENCE_DAYS, N_SERVED_DAYS, Quarter, steady_quarters
from training.monitoring.monitor.days import Days, Floats
from training.monitoring.monitor.detectors import Group

Change = Callable[[Days], Days]


@dataclass(frozen=True, slots=True)
class Planted:
    """A change, and the group that should raise an alarm."""

    name: str
    group: Group
    change: Change


@dataclass(frozen=True, slots=True)
class Found:
    """How often and when a change was found."""

    name: str
    group: str
    within_14_days: float  # share of quarters
    within_28_days: float
    within_91_days: float
    median_day: float | None  # from 1; None if most quarters have no alarm


def add_bias(minutes: float) -> Change:
    """Predictions are longer by so many minutes; coverage stays."""
    return lambda days: replace(
        days,
        sum_error=days.sum_error + minutes * days.n,
        sum_squared_error=days.sum_squared_error + 2 * minutes * days.sum_error + minutes**2 * days.n,
    )


def scale_errors(factor: float, *, grows: bool = False) -> Change:
    """All errors are larger by a factor, or grow to it during the quarter; coverage stays."""

    def change(days: Days) -> Days:
        by: Floats = np.linspace(1.0, factor, len(days)) if grows else np.full(len(days), factor)
        return replace(
            days,
            sum_error=days.sum_error * by,
            sum_squared_error=days.sum_squared_error * by**2,
            var_error=days.var_error * by**2,
            var_squared_error=days.var_squared_error * by**4,
        )

    return change


def lose_coverage(points: float, *, grows: bool = False) -> Change:
    """So many percentage points fewer rides end within their interval, or that many at the end of the quarter."""

    def change(days: Days) -> Days:
        lost: Floats = np.linspace(0.0, points, len(days)) if grows else np.full(len(days), points)
        return replace(days, n_within=days.n_within - lost / 100 * days.n_with_interval)

    return change


def lose_values(quantity: str, share: float) -> Change:
    """A quantity is missing in a share of the rides that have it."""

    def change(days: Days) -> Days:
        kept = days.counts[quantity] * (1 - share)
        kept[:, -1] = days.n - kept[:, :-1].sum(axis=1)
        return replace(days, counts={**days.counts, quantity: kept})

    return change


def planted_changes(other: Days | None, other_name: str) -> list[Planted]:
    """Return the changes; `other` has days of rides to mix in."""
    changes = [Planted("none", "performance", lambda days: days), Planted("none", "data", lambda days: days)]
    changes += [
        Planted(f"predictions {minutes:g} minutes too long", "performance", add_bias(minutes))
        for minutes in (0.25, 0.5, 1.0, 2.0)
    ]
    changes += [
        Planted(f"errors {factor - 1:.0%} larger", "performance", scale_errors(factor)) for factor in (1.05, 1.1, 1.2)
    ]
    changes.append(Planted("errors grow by 10% in the quarter", "performance", scale_errors(1.1, grows=True)))
    changes += [
        Planted(f"coverage {points} points lower", "performance", lose_coverage(points)) for points in (3, 5, 10)
    ]
    changes.append(Planted("coverage falls by 5 points in the quarter", "performance", lose_coverage(5, grows=True)))
    changes += [
        Planted(f"distance missing in {share:.0%} of the rides", "data", lose_values("trip_distance_miles", share))
        for share in (0.02, 0.05, 0.1, 1.0)
    ]
    if other is not None:
        changes += [Planted(f"{share:.0%} {other_name}", "data", _mix(other, share)) for share in (0.05, 0.1, 0.2, 0.5)]
    return changes


def _mix(other: Days, share: float) -> Change:
    return lambda days: mix(days, other, share)


def find(planted: Planted, quarters: Sequence[Quarter]) -> Found:
    """Plant the change into every quarter, and watch."""
    days: list[float] = []
    for quarter in quarters:
        evidence = replace(quarter, served=planted.change(quarter.served)).watch()
        first = next((alarm.day for alarm in evidence.alarms if alarm.group == planted.group), None)
        days.append(np.inf if first is None else 1 + (first - evidence.days.tolist()[0]).days)
    in_14, in_28, in_91 = (float(np.mean(np.array(days) <= within)) for within in (14, 28, N_SERVED_DAYS))
    median = float(np.median(days))
    return Found(planted.name, planted.group, in_14, in_28, in_91, median if np.isfinite(median) else None)


def shorten(quarter: Quarter, n_days: int) -> Quarter:
    """Return the quarter with the last days of its reference only."""
    return replace(quarter, reference=quarter.reference.take(slice(-n_days, None)))


def show(results: Sequence[Found], title: str) -> None:
    """Print a table."""
    table = Table(title=title, title_justify="left")
    table.add_column("change")
    table.add_column("alarm")
    for name in ("within 14 days", "28 days", "91 days", "median day"):
        table.add_column(name, justify="right")
    for one in results:
        shares = (f"{share:.0%}" for share in (one.within_14_days, one.within_28_days, one.within_91_days))
        table.add_row(one.name, one.group, *shares, "" if one.median_day is None else f"{one.median_day:g}")
    Console().print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, plant, watch and report."""
    parser = argparse.ArgumentParser(description="How large a change must be to be found.")
    parser.add_argument("--quarters", type=int, default=20, help="quarters a change")
    parser.add_argument("--service", choices=["green", "yellow"], default="yellow", help="taxi service")
    parser.add_argument("--train", default="2018-01..2020-02", help="months whose days are drawn")
    parser.add_argument("--mix", nargs=2, metavar=("SERVICE", "MONTHS"), help="rides to mix in")
    parser.add_argument(
        "--reference-days", type=int, nargs="+", default=[N_REFERENCE_DAYS], metavar="N", help="its last N days"
    )
    parser.add_argument("--rides", type=int, nargs="*", default=[], metavar="N", help="also days of N rides")
    options = parser.parse_args(arguments)
    with live_display() as display:
        model = train_monitored(options.service, load(options.service, options.train), display.step)
        display.step("predicting all days out of fold")
        pool = model.all_days()
        other = model.days(load(*options.mix)) if options.mix else None
    changes = planted_changes(other, f"{options.mix[0]} rides" if options.mix else "")
    report = {}
    for n_rides, n_days in product((None, *options.rides), options.reference_days):
        drawn = (
            steady_quarters(pool, options.quarters)
            if n_rides is None
            else resized_quarters(pool, options.quarters, (n_rides, n_rides))
        )
        quarters = [shorten(quarter, n_days) for quarter in drawn]
        results = [find(planted, quarters) for planted in changes]
        size = f"{np.median(pool.n) if n_rides is None else n_rides:,.0f} rides a day, {n_days} reference days"
        show(results, f"{size}, {options.quarters} quarters")
        report[size] = [asdict(one) for one in results]
    sys.stdout.write(json.dumps(report) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
