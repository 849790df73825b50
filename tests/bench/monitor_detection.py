"""What the detectors see on real months, beside common rules on the same days.

    python -m tests.bench.monitor_detection --service yellow --train 2018-01..2020-02 --served 2020-03..2020-06
        [--reference-days 90] [--mix green 2023-01 --share 0.1] [--acknowledge] [--plot build/monitor_detection.svg]

A model is trained as `ridecast train` does; the later months are served by it, each ride on the day of its pickup.
Prints the quantities of the last day, the alarms in words, errors by month, and how many days each rule would have
raised an alarm on; then one line of JSON. Draws the evidence. With `--reference-days`, only the last days of the
reference count. With `--mix`, a share of each day's rides are drawn from rides of another service. With
`--acknowledge`, every alarm is acknowledged at the end of its day.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from infra.cli.output import live_display
from tests.bench.common_rules import RuleDays, day_rules, ride_rules
from tests.bench.figures import BUDGET_LINE, svg_axes
from tests.bench.monitored_months import MonitoredModel, load, train_monitored
from training.data.rides import Rides
from training.monitoring.monitor.day_values import count_quantiles, error_values, pooled, usual_range
from training.monitoring.monitor.days import Days, Floats
from training.monitoring.monitor.detectors import GROUPS, THRESHOLD, Evidence, watch
from training.monitoring.monitor.explain import explain
from training.monitoring.monitor.quantities import PERFORMANCE_QUANTITIES
from training.monitoring.monitor.reference import Reference

PLOT = Path("build/monitor_detection.svg")


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """What the detectors and the common rules say of served days."""

    reference: Reference
    served: Days
    evidence: Evidence
    rules: tuple[RuleDays, ...]

    def report(self) -> dict[str, Any]:
        """Return dates of alarms, and days with alarms by rule."""
        return {
            "n_reference_days": len(self.reference.days),
            "n_served_days": len(self.served),
            "alarms": [
                {"day": str(alarm.day), "group": alarm.group, "quantity": alarm.quantity, "since": str(alarm.since)}
                for alarm in self.evidence.alarms
            ],
            "most_evidence": {
                "data": round(float(self.evidence.data.max(initial=0)), 1),
                "performance": round(float(self.evidence.performance.max(initial=0)), 1),
            },
            "rules": {rule.rule: int(rule.is_alarm.sum()) for rule in self.rules},
        }


def detect(model: MonitoredModel, rides: Rides, n_reference_days: int | None = None) -> Detection:
    """Watch the days of served rides, and apply the rules to them."""
    served = model.days(rides)
    reference = shorten(model.reference, n_reference_days)
    by_ride = ride_rules(model.values(model.rides), model.values(rides), rides.pickup_time.astype("datetime64[D]"))
    rules = (*by_ride, *day_rules(reference.days, served))
    return Detection(reference, served, watch(reference.days, served), rules)


def shorten(reference: Reference, n_days: int | None) -> Reference:
    """Return the reference with its last days only; all of them if None."""
    return reference if n_days is None else replace(reference, days=reference.days.take(slice(-n_days, None)))


def mix(days: Days, other: Days, share: float, seed: int = 0) -> Days:
    """Replace a share of each day's rides by rides drawn from all the others' days."""
    rng = np.random.default_rng(seed)
    theirs = pooled(other)
    n_theirs = np.rint(days.n * share).astype(np.int64)
    kept = 1 - n_theirs / days.n
    counts = {
        name: table * kept[:, None] + rng.multinomial(n_theirs, _shares(theirs.counts[name][0]))
        for name, table in days.counts.items()
    }
    columns = ("sum_error", "sum_squared_error", "n_within")
    sums = {name: getattr(days, name) * kept + n_theirs * getattr(theirs, name) / theirs.n for name in columns}
    return replace(days, counts=counts, **sums)


def _shares(counts: Floats) -> Floats:
    return counts / counts.sum()


def show(found: Detection) -> None:
    """Print the tables."""
    console = Console()
    console.print(_quantities(found))
    for alarm in found.evidence.alarms:
        console.print(f"{alarm.group} alarm on {alarm.day}: {explain(alarm, found.reference, found.served)}")
    if not found.evidence.alarms:
        console.print("no alarm")
    console.print(_months(found))
    console.print(_rules(found))


def _quantities(found: Detection) -> Table:
    """Show the last day: data quantities by their medians."""
    last = found.served.take(slice(-1, None))
    usual = found.reference.days.take(found.reference.days.kind == last.kind)
    table = _table(f"{last.day[0]} beside reference days of its kind", "quantity", "today", "usual", "p", "evidence")
    for column, name in enumerate(found.evidence.names):
        if name in PERFORMANCE_QUANTITIES:
            now, before = error_values(name, last), error_values(name, usual)
        else:
            now, before = (
                count_quantiles(days.counts[name], found.reference.edges[name], 0.5) for days in (last, usual)
            )
        low, high = usual_range(before)
        p, evidence = found.evidence.p[-1, column], found.evidence.path[-1, column]
        table.add_row(name, f"{now[0]:.2f}", f"{low:.2f} to {high:.2f}", f"{p:.3f}", f"{evidence:,.1f}")
    return table


def _months(found: Detection) -> Table:
    table = _table("Errors", "month", "RMSE", "bias", "coverage", "most evidence: data", "performance")
    rows: list[tuple[str, Days, Evidence | None]] = [("reference", found.reference.days, None)]
    month = found.served.day.astype("datetime64[M]")
    for one in np.unique(month):
        table_row = month == one
        rows.append((str(one), found.served.take(table_row), found.evidence))
    for name, days, evidence in rows:
        one_day = pooled(days)
        rmse, bias, coverage = (float(error_values(each, one_day)[0]) for each in ("mse", "bias", "coverage"))
        most = ("", "")
        if evidence is not None:
            at = month == np.datetime64(name, "M")
            most = (f"{evidence.data[at].max():,.1f}", f"{evidence.performance[at].max():,.1f}")
        table.add_row(name, f"{rmse**0.5:.2f}", f"{bias:+.2f}", f"{coverage:.3f}", *most)
    return table


def _rules(found: Detection) -> Table:
    n_days = len(found.served)
    table = _table(f"Alarms on {n_days} days", "rule", "group", "days with an alarm", "first")
    for group in ("data", "performance"):
        ours = [alarm for alarm in found.evidence.alarms if alarm.group == group]
        table.add_row("ridecast", group, f"{len(ours)} alarms", str(ours[0].day) if ours else "")
    for rule in found.rules:
        first = str(found.served.day[rule.is_alarm.argmax()]) if rule.is_alarm.any() else ""
        table.add_row(f"{rule.rule} (reimplemented)", rule.group, str(int(rule.is_alarm.sum())), first)
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def plot(found: Detection, path: Path) -> None:
    """Draw the evidence of each quantity and group, and the threshold, as SVG."""
    evidence = found.evidence
    with svg_axes(path, 2, 11) as axes:
        for group, group_evidence, area in zip(
            ("data", "performance"), (evidence.data, evidence.performance), axes, strict=True
        ):
            for column, name in enumerate(evidence.names):
                if evidence.groups[column] == group:
                    area.plot(evidence.days, np.maximum(evidence.path[:, column], 0.1), linewidth=0.8, label=name)
            area.plot(evidence.days, np.maximum(group_evidence, 0.1), color="black", linewidth=1.6, label="mean")
            area.axhline(THRESHOLD, label=f"alarm: {THRESHOLD:g}", **BUDGET_LINE)
            area.set(title=f"Evidence of {group}", yscale="log", ylabel="evidence, 1 at the start")
            area.tick_params(axis="x", rotation=30)
            area.legend(fontsize="x-small", loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, serve, watch and report."""
    parser = argparse.ArgumentParser(description="What the detectors see on real months.")
    parser.add_argument("--service", choices=["green", "yellow"], default="yellow", help="taxi service")
    parser.add_argument("--train", default="2018-01..2020-02", help="months to train on")
    parser.add_argument("--served", default="2020-03..2020-06", help="later months")
    parser.add_argument("--reference-days", type=int, metavar="N", help="use the reference's last N days only")
    parser.add_argument("--mix", nargs=2, metavar=("SERVICE", "MONTHS"), help="rides to mix in")
    parser.add_argument("--share", type=float, default=0.1, help="share of the rides mixed in")
    parser.add_argument("--acknowledge", action="store_true", help="acknowledge each alarm at once")
    parser.add_argument("--plot", type=Path, default=PLOT, help="the SVG to write")
    options = parser.parse_args(arguments)
    with live_display() as display:
        model = train_monitored(options.service, load(options.service, options.train), display.step)
        display.step("serving")
        found = detect(model, load(options.service, options.served), options.reference_days)
        if options.mix:
            served = mix(found.served, model.days(load(*options.mix)), options.share)
            found = replace(found, served=served, evidence=watch(found.reference.days, served), rules=())
        if options.acknowledge:
            every_day = dict.fromkeys(GROUPS, found.served.day.tolist())
            found = replace(found, evidence=watch(found.reference.days, found.served, every_day))
    show(found)
    plot(found, options.plot)
    sys.stdout.write(json.dumps(found.report()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
