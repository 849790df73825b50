"""Growth of time and memory of a training with its rides: in proportion, within 6 GB for a year of yellow taxis.

    python -m tests.bench.training_growth [--rides 1000000 5000000 20000000 36000000]

Each size is trained in a process of its own (`--probe N_RIDES N_TREES`), with the parameters of `ridecast train`.
Draws docs/bench/training_growth.svg and prints one line of JSON. Exits with 1 if the memory is more than `BUDGET_GB`.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from infra.cli.output import live_display
from tests.bench.figures import BUDGET_LINE, svg_axes
from tests.bench.timing import peak_bytes
from training.data.months import Month
from training.data.rides import concat_rides
from training.data.synthetic import synthetic_rides
from training.model.parameters import PARAMETERS
from training.workflows.pipeline import train

N_RIDES = (1_000_000, 5_000_000, 20_000_000, 36_000_000)
"""The last is twelve months of three million rides."""

BUDGET_GB = 6.0
PLOT = Path("docs/bench/training_growth.svg")
_SECONDS_PER_MINUTE = 60
_FIRST_MONTH, _N_MONTHS = Month(2019, 1), 12
_N_VALIDATE_RIDES = 60_000
_SEED = 1


@dataclass(frozen=True, slots=True)
class TrainingCost:
    """Time and memory of one training."""

    n_rides: int  # rides trained on
    n_trees: int  # Trees fitted
    seconds: float  # Wall-clock time from the first import's end to the bundle
    seconds_by_step: dict[str, float]  # the same, by step
    peak_gb: float  # Highest resident memory of the process, in 10^9 bytes


def measure_training(
    n_rides: int, n_trees: int = PARAMETERS["max_iter"], on_step: Callable[[str], None] = lambda _: None
) -> TrainingCost:
    """Train in a process of its own, and call `on_step` with the name of each step as it begins.

    Raises:
        CalledProcessError: The training failed, or was killed for lack of memory.
    """
    command = [sys.executable, "-m", "tests.bench.training_growth", "--probe", str(n_rides), str(n_trees)]
    message: dict[str, Any] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own code
        for line in process.stdout or ():
            message = json.loads(line)
            if "step" in message:
                on_step(message["step"])
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return TrainingCost(**message)


def probe(n_rides: int, n_trees: int) -> None:
    """Train on twelve months with this number of rides in total, validate on the month after, and print messages."""
    started_s = time.perf_counter()
    steps: dict[str, float] = {}

    def on_step(step: str) -> None:
        steps[step] = time.perf_counter() - started_s
        _write({"step": step})

    on_step("making up rides")
    months = [_FIRST_MONTH]
    while len(months) <= _N_MONTHS:
        months.append(months[-1].next())
    # Month by month, so that no month is in memory twice.
    train_rides = concat_rides(synthetic_rides(month, n_rides // _N_MONTHS, _SEED) for month in months[:-1])
    validate_rides = synthetic_rides(months[-1], _N_VALIDATE_RIDES, _SEED)
    run = train("yellow", train_rides, validate_rides, {**PARAMETERS, "max_iter": n_trees}, on_step)
    seconds = time.perf_counter() - started_s
    ends = [*list(steps.values())[1:], seconds]
    by_step = {step: end - began for (step, began), end in zip(steps.items(), ends, strict=True)}
    _write(asdict(TrainingCost(run.n_train, n_trees, seconds, by_step, peak_bytes() / 1e9)))


def plot_training(costs: Sequence[TrainingCost], path: Path) -> None:
    """Draw time and memory against rides, as SVG."""
    rides_millions = [cost.n_rides / 1e6 for cost in costs]
    with svg_axes(path, 2, 9) as (time_axes, peak_axes):
        minutes = [cost.seconds / _SECONDS_PER_MINUTE for cost in costs]
        time_axes.plot(rides_millions, minutes, marker="o", label="the training")
        peak_axes.plot(rides_millions, [cost.peak_gb for cost in costs], marker="o", label="the training")
        peak_axes.axhline(BUDGET_GB, label=f"budget: {BUDGET_GB:g} GB", **BUDGET_LINE)
        time_axes.set(title="Time on two cores", ylabel="time, minutes")
        peak_axes.set(title="Peak memory of the process", ylabel="peak memory, GB")
        for axes in (time_axes, peak_axes):
            axes.set(xlabel="rides trained on, millions", xlim=(0, None), ylim=(0, None))
            axes.legend(loc="lower right")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each size, draw, and report."""
    parser = argparse.ArgumentParser(description="Growth of time and memory of a training with its rides.")
    parser.add_argument("--rides", type=int, nargs="+", default=N_RIDES, metavar="N", help="sizes to train on")
    parser.add_argument("--plot", type=Path, default=PLOT, help="the SVG to write")
    parser.add_argument("--probe", type=int, nargs=2, metavar="N", help="train in this process: rides and trees")
    options = parser.parse_args(arguments)
    if options.probe:
        probe(*options.probe)
        return 0
    with live_display() as display:
        costs = [measure_training(n_rides, on_step=_labelled(display.step, n_rides)) for n_rides in options.rides]
    plot_training(costs, options.plot)
    _write({"trainings": [asdict(cost) for cost in costs], "budget_gb": BUDGET_GB})
    return 0 if all(cost.peak_gb <= BUDGET_GB for cost in costs) else 1


def _write(message: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _labelled(show: Callable[[str], None], n_rides: int) -> Callable[[str], None]:
    return lambda step: show(f"{n_rides:,} rides: {step}")


if __name__ == "__main__":
    sys.exit(main())
