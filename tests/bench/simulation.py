"""The simulation on real months: its CPU beside that of one training, and the bars on its result.

    TLC_DATA_DIR=… python -m tests.bench.simulation

Runs `ridecast simulate` with its defaults: yellow 2020-01 to 2020-06 after training on 2019, in this process. Trains
once on 120,000 made-up rides for comparison. Prints each figure with its bar, and exits with 1 if one is not met.
Ratios hold on a busy machine, minutes do not. --out FOLDER draws the timeline there.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from infra.cli.output import error_console, minutes_text, write_table
from infra.cli.simulate import Lines, write_result
from infra.local.simulate.measure import Figures
from infra.local.simulate.options import RIDES_A_MONTH, SimulateOptions
from infra.local.simulate.result import SimulationResult
from infra.local.simulate.simulate import simulate
from training.data.load import synthetic_months
from training.data.months import parse_months
from training.errors import UserError
from training.workflows.pipeline import train

SHIFTED_MONTH = "2020-04"
MAX_SERVED_RMSE, MIN_OTHER_RMSE, MAX_RATIO = 3.9, 7.0, 8.0

_N_VALIDATE_RIDES = 1_000


class Bar(NamedTuple):
    """A measured figure, what is wanted, and whether it is so."""

    name: str
    value: str
    wanted: str
    is_met: bool


def bars(result: SimulationResult) -> list[Bar]:
    """Return the bars on the result of the default months."""
    (month,) = (one for one in result.months if one.period == SHIFTED_MONTH)
    audit = result.audit
    promoted = [one for one in result.runs if one.outcome == "promoted"]
    rolled_back = [one for one in result.runs if one.outcome == "rolled back"]
    return [
        _at_most(f"served RMSE {SHIFTED_MONTH}", month.served_rmse, MAX_SERVED_RMSE),
        _at_least(month, "frozen"),
        _at_least(month, "linear"),
        Bar(f"course's forest RMSE {SHIFTED_MONTH}", minutes_text(month.course_rmse), "", is_met=True),
        Bar("retrainings promoted", str(len(promoted)), "at least 1", bool(promoted)),
        Bar("promotions rolled back", str(len(rolled_back)), "0", not rolled_back),
        Bar(
            "lost, conflicting, skewed",
            f"{audit.n_lost}, {audit.n_conflicting}, {audit.n_skewed}",
            "0, 0, 0",
            audit.is_sound,
        ),
    ]


def _at_most(name: str, value: float | None, most: float) -> Bar:
    return Bar(name, minutes_text(value), f"at most {most:g}", value is not None and value <= most)


def _at_least(month: Figures, model: str) -> Bar:
    value = getattr(month, f"{model}_rmse") or 0.0
    return Bar(f"{model} RMSE {month.period}", f"{value:.2f}", f"at least {MIN_OTHER_RMSE:g}", value >= MIN_OTHER_RMSE)


def train_once() -> None:
    """Train on 120,000 made-up rides, with the reference of monitoring."""
    rides = synthetic_months(10_000)(parse_months("2019-01..2019-12"))
    train("yellow", rides, rides.head(_N_VALIDATE_RIDES))


def cpu_s(do: Callable[[], object]) -> float:
    """Return the seconds of CPU that a call takes, over all threads."""
    started_s = time.process_time()
    do()
    return time.process_time() - started_s


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, train, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.simulation", description="The simulation's bars.")
    parser.add_argument("--rides-a-month", type=int, default=RIDES_A_MONTH)
    parser.add_argument("--out", type=Path, help="folder for the timeline, its page and the result")
    options = parser.parse_args(arguments)
    display = Lines(error_console())
    results: list[SimulationResult] = []
    started_s = time.monotonic()
    try:
        simulated_s = cpu_s(
            lambda: results.append(simulate(SimulateOptions(rides_a_month=options.rides_a_month), display))
        )
    except UserError as error:
        display.step(str(error))
        return 2
    minutes = (time.monotonic() - started_s) / 60
    (result,) = results
    if result.data != "tlc":
        display.step("the real months are not on this machine: set TLC_DATA_DIR")
        return 2
    if options.out:
        write_result(result, options.out)
    display.step("training once on 120,000 rides")
    trained_s = cpu_s(train_once)
    ratio = simulated_s / trained_s
    found = [
        *bars(result),
        Bar("CPU, times one training", f"{ratio:.1f}", f"at most {MAX_RATIO:g}", ratio <= MAX_RATIO),
        Bar("CPU, s", f"{simulated_s:.0f} and {trained_s:.0f}", "", is_met=True),
        Bar("minutes on this machine", f"{minutes:.1f}", "", is_met=True),
    ]
    rows = [(one.name, one.value, one.wanted, "yes" if one.is_met else "no") for one in found]
    write_table("The simulation", ("what", "measured", "wanted", "met"), rows)
    return 0 if all(one.is_met for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
