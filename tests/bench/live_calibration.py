"""Live calibration on real months: errors and coverage with it and without, whatever the producer does to outcomes.

    python -m tests.bench.live_calibration --service yellow --train 2018-01..2020-02 --months 2020-03..2020-06

Trains on the first months and serves the others ride by ride; a ride arrives at its pickup. Its outcome is in the hour
that is joined three hours later, and after each day in New York the calibration ticks, up to 15 minutes later, and
serves 150 s after that. Any months of TLC in the folder of TLC_DATA_DIR will do. Options change what the producer
reports:

    --tick hourly         after each joined hour
    --at-once             what is learned serves with the next hour: no outcome is waited for
    --garbage 0.05        a share of the outcomes is anything from 1 to 60 minutes
    --missing 0.5         a share never arrives
    --late-hours 24       outcomes arrive so much later, and the stack is told so (OutcomeDelayMinutes)
    --unreported-over 30  outcomes of longer rides never arrive
    --unit seconds        outcomes are in another unit: seconds or hours

Prints a table by month, or one line of JSON with --json. --plot FILE.svg draws error and coverage by day. --cost
1000000 measures one tick with an hour of so many of these rides instead: CPU and memory.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.cli.output import live_display, write_lines, write_table
from lambda_function.core.bundle import ModelBundle
from tests.bench.figures import BUDGET_LINE, svg_axes
from tests.bench.timing import peak_bytes
from tests.kits.live_rides import (
    HORIZON_S,
    RUN_AND_ACTIVATION_S,
    LiveRides,
    Served,
    each_day,
    each_hour,
    labelled_hour,
    serve,
)
from training.data.load import tlc_months
from training.data.months import Service, parse_months
from training.data.rides import MAX_DURATION_MINUTES, MIN_DURATION_MINUTES, Rides, take_columns
from training.errors import UserError
from training.model.calibrate import LEVEL
from training.monitoring.calibration.tick import first_state, tick
from training.monitoring.hours import Hour
from training.workflows.pipeline import train

TICKS = {"daily": each_day, "hourly": each_hour}
UNITS = {"minutes": 1.0, "seconds": 60.0, "hours": 1 / 60}
MAX_OUTCOME_MINUTES = 24 * 60.0
"""The join takes no longer outcome."""

_N_VALIDATE_RIDES = 1_000


@dataclass(frozen=True, slots=True)
class Producer:
    """What a producer does to outcomes before it reports them.

    Attributes:
        garbage: The share that is anything from 1 to 60 minutes.
        missing: The share that never arrives.
        unreported_over: Outcomes of longer rides never arrive, in minutes.
        unit: Of what it reports as minutes.
        seed: Of the choice of rides.
    """

    garbage: float = 0.0
    missing: float = 0.0
    unreported_over: float = np.inf
    unit: str = "minutes"
    seed: int = 1

    def outcomes(self, duration_minutes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the outcomes (n,) that the join takes from what is reported; NaN where there is none."""
        rng = np.random.default_rng(self.seed)
        n_rides = len(duration_minutes)
        anything = rng.uniform(MIN_DURATION_MINUTES, MAX_DURATION_MINUTES, n_rides)
        reported = np.where(rng.random(n_rides) < self.garbage, anything, duration_minutes) * UNITS[self.unit]
        lost = (rng.random(n_rides) < self.missing) | (duration_minutes > self.unreported_over)
        return np.where(lost | (reported > MAX_OUTCOME_MINUTES), np.nan, reported)


@dataclass(frozen=True, slots=True)
class MonthFigures:
    """A month's rides without calibration (raw) and with it; errors in minutes, predicted minus actual."""

    month: str
    n_rides: int
    raw_rmse: float
    rmse: float
    raw_bias: float
    bias: float
    raw_coverage: float
    coverage: float
    n_ticks: int
    n_frozen: int


def train_model(service: Service, months: str) -> ModelBundle:
    """Train as `ridecast train` does; the model is validated on some of these rides, which says nothing."""
    rides = load(service, months)
    return train(service, rides, rides.head(_N_VALIDATE_RIDES), has_reference=False).bundle.model


def load(service: Service, months: str) -> Rides:
    """Load months such as 2018-01..2020-02."""
    return tlc_months(service)(parse_months(months))


def measure(live: LiveRides, served: Served) -> list[MonthFigures]:
    """Return the figures of each month of rides (n,)."""
    month_of = live.pickup_time.astype("datetime64[M]")
    ends = np.array([f"{one.state.as_of}:00" for one in served.ticks], "datetime64[s]") - np.timedelta64(12, "h")
    figures = []
    for month in np.unique(month_of):
        rows = month_of == month
        actual = live.duration_minutes[rows]
        frozen = [
            tick.frozen is not None
            for tick, end in zip(served.ticks, ends, strict=True)
            if end.astype("M8[M]") == month
        ]
        raw, with_it = served.raw_minutes[rows] - actual, served.minutes[rows] - actual
        figures.append(
            MonthFigures(
                str(month),
                len(actual),
                _rmse(raw),
                _rmse(with_it),
                float(raw.mean()),
                float(with_it.mean()),
                _coverage(served.raw_low[rows], actual, served.raw_high[rows]),
                _coverage(served.low[rows], actual, served.high[rows]),
                len(frozen),
                sum(frozen),
            )
        )
    return figures


def _rmse(errors: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(errors * errors)))


def _coverage(low: NDArray[np.float64], actual: NDArray[np.float64], high: NDArray[np.float64]) -> float:
    return float(np.mean((low <= actual) & (actual <= high)))


def plot_days(live: LiveRides, served: Served, path: Path) -> None:
    """Draw error and coverage of each day, without calibration and with it."""
    day_of = live.pickup_time.astype("datetime64[D]")
    days, which, n_rides = np.unique(day_of, return_inverse=True, return_counts=True)
    actual = live.duration_minutes

    def mean(values: NDArray[Any]) -> NDArray[np.float64]:
        return np.bincount(which, values) / n_rides

    series = {
        name: (np.sqrt(mean((minutes - actual) ** 2)), mean((low <= actual) & (actual <= high)))
        for name, minutes, low, high in (
            ("without calibration", served.raw_minutes, served.raw_low, served.raw_high),
            ("with daily calibration", served.minutes, served.low, served.high),
        )
    }
    draw_days(days, series, path)


def draw_days(
    days: NDArray[np.datetime64],
    series: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]],
    path: Path,
) -> None:
    """Draw RMSE and coverage (n,) of each day (n,) by name, two of them, as SVG."""
    with svg_axes(path, 2, 11) as (errors, coverage):
        for colour, (name, (rmse_minutes, covered)) in zip(("#b35806", "#2166ac"), series.items(), strict=True):
            errors.plot(days, rmse_minutes, label=name, color=colour, linewidth=1.3)
            coverage.plot(days, covered, label=name, color=colour, linewidth=1.3)
        errors.set(title="Error", ylabel="RMSE of the day, minutes")
        coverage.set(title="Coverage", ylabel="share of rides inside their interval")
        coverage.axhline(LEVEL, label=f"target: {LEVEL:.0%}", **BUDGET_LINE)
        errors.set_ylim(bottom=0)
        coverage.set_ylim(0, 1)
        for axes in (errors, coverage):
            axes.tick_params(axis="x", rotation=30)
            axes.legend(frameon=False, loc="lower left")


def show_cost(model: ModelBundle, live: LiveRides, n_rides: int) -> None:
    """Tick once with an hour of so many rides, and print CPU and what the peak of memory rises by."""
    rows = np.resize(np.arange(len(live)), n_rides)
    hour = Hour.of(float(live.arrival_s[0]))
    labelled = labelled_hour(hour, take_columns(live.columns, rows), live.duration_minutes[rows])
    state = first_state(model.model_version, hour)
    before_bytes, started_s = peak_bytes(), time.process_time()
    tick(model, state, [labelled], hour + 1)
    cpu_s, memory_mb = time.process_time() - started_s, (peak_bytes() - before_bytes) / 1e6
    write_lines([f"a tick with {n_rides:,} rides: {cpu_s:.2f} s of CPU, {memory_mb:.0f} MB beside the rides"])


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.live_calibration", description="See the docstring.")
    parser.add_argument("--service", default="yellow", choices=("green", "yellow"))
    parser.add_argument("--train", default="2018-01..2020-02", help="months to train on")
    parser.add_argument("--months", default="2020-03..2020-06", help="months to serve")
    parser.add_argument("--tick", default="daily", choices=sorted(TICKS))
    parser.add_argument("--at-once", action="store_true", help="wait for no outcome")
    parser.add_argument("--garbage", type=float, default=0.0, metavar="SHARE")
    parser.add_argument("--missing", type=float, default=0.0, metavar="SHARE")
    parser.add_argument("--late-hours", type=float, default=0.0, metavar="HOURS")
    parser.add_argument("--unreported-over", type=float, default=np.inf, metavar="MINUTES")
    parser.add_argument("--unit", default="minutes", choices=sorted(UNITS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cost", type=int, default=0, metavar="RIDES", help="measure a tick with so many rides")
    parser.add_argument("--plot", type=Path, metavar="FILE")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Train, serve, and print the figures by month."""
    chosen = _parsed(arguments)
    with live_display() as display:
        display.step(f"training on {chosen.service} {chosen.train}")
        model = train_model(chosen.service, chosen.train)
        display.step(f"serving {chosen.months}")
        live = LiveRides.of(load(chosen.service, chosen.months))
        if chosen.cost:
            show_cost(model, live, chosen.cost)
            return 0
        producer = Producer(chosen.garbage, chosen.missing, chosen.unreported_over, chosen.unit, chosen.seed)
        outcomes = producer.outcomes(live.duration_minutes)
        delay_s = 0.0 if chosen.at_once else HORIZON_S + RUN_AND_ACTIVATION_S + chosen.late_hours * 3600
        served = serve(model, live, outcomes, TICKS[chosen.tick], delay_s)
    figures = measure(live, served)
    if chosen.plot:
        plot_days(live, served, chosen.plot)
    reasons = sorted({one.frozen.reason for one in served.ticks if one.frozen})
    if chosen.json:
        sys.stdout.write(json.dumps({"months": [asdict(one) for one in figures], "frozen_by": reasons}) + "\n")
        return 0
    columns = (
        "month",
        "rides",
        "RMSE raw",
        "served",
        "change",
        "bias raw",
        "served",
        "coverage raw",
        "served",
        "frozen",
    )
    title = f"{chosen.service}, trained on {chosen.train}; minutes; frozen ticks of all ticks"
    write_table(title, columns, map(_row, figures), numeric=columns[1:])
    if reasons:
        write_lines([f"frozen because outcomes are {', '.join(reasons)}"])
    return 0


def _row(one: MonthFigures) -> tuple[str, ...]:
    return (
        one.month,
        f"{one.n_rides:,}",
        f"{one.raw_rmse:.3f}",
        f"{one.rmse:.3f}",
        f"{one.rmse - one.raw_rmse:+.3f}",
        f"{one.raw_bias:+.2f}",
        f"{one.bias:+.2f}",
        f"{one.raw_coverage:.3f}",
        f"{one.coverage:.3f}",
        f"{one.n_frozen}/{one.n_ticks}",
    )


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        sys.exit(f"{error}")
