"""Growth of time and memory of a training with its rides: in proportion, within 6 GB for a year of yellow taxis.

    python -m tests.bench.training_growth [--rides 1000000 5000000 20000000 36000000]

Each size is trained in a process of its own, with the parameters of `ridecast train`. Draws
docs/bench/training_growth.svg and prints one line of JSON. Exits with 1 if the memory is more than `BUDGET_GB`.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from infra.cli.output import live_display
from tests.bench.figures import svg_axes

N_RIDES = (1_000_000, 5_000_000, 20_000_000, 36_000_000)
"""The last is twelve months of three million rides."""

BUDGET_GB = 6.0
PLOT = Path("docs/bench/training_growth.svg")
_SECONDS_PER_MINUTE = 60


@dataclass(frozen=True, slots=True)
class TrainingCost:
    """Time and memory of one training.

    Attributes:
        n_rides: Rides trained on.
        n_trees: Trees fitted.
        seconds: Wall-clock time from the first import's end to the bundle.
        seconds_by_step: The same, by step.
        peak_gb: Highest resident memory of the process, in 10^9 bytes.
    """

    n_rides: int
    n_trees: int
    seconds: float
    seconds_by_step: dict[str, float]
    peak_gb: float


def measure_training(
    n_rides: int, n_trees: int | None = None, on_step: Callable[[str], None] = lambda _: None
) -> TrainingCost:
    """Run `training_growth_probe`, by default with the usual number of trees.

    Raises:
        CalledProcessError: The training failed, or was killed for lack of memory.
    """
    arguments = [str(n_rides), *([] if n_trees is None else [str(n_trees)])]
    command = [sys.executable, "-m", "tests.bench.training_growth_probe", *arguments]
    message: dict[str, Any] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own code
        for line in process.stdout or ():
            message = json.loads(line)
            if "step" in message:
                on_step(message["step"])
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return TrainingCost(**message)


def plot_training(costs: Sequence[TrainingCost], path: Path) -> None:
    """Draw time and memory against rides, as SVG."""
    rides_millions = [cost.n_rides / 1e6 for cost in costs]
    with svg_axes(path, 2, 9) as (time_axes, peak_axes):
        time_axes.plot(rides_millions, [cost.seconds / _SECONDS_PER_MINUTE for cost in costs], marker="o")
        time_axes.set(xlabel="rides, millions", ylabel="time, minutes", xlim=(0, None), ylim=(0, None))
        peak_axes.plot(rides_millions, [cost.peak_gb for cost in costs], marker="o")
        peak_axes.axhline(BUDGET_GB, color="0.6", linestyle="--")
        peak_axes.set(xlabel="rides, millions", ylabel="peak memory, GB", xlim=(0, None), ylim=(0, None))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each size, draw, and report."""
    parser = argparse.ArgumentParser(description="Growth of time and memory of a training with its rides.")
    parser.add_argument("--rides", type=int, nargs="+", default=N_RIDES, metavar="N", help="sizes to train on")
    parser.add_argument("--plot", type=Path, default=PLOT, help="the SVG to write")
    options = parser.parse_args(arguments)
    with live_display() as display:
        costs = [measure_training(n_rides, on_step=_labelled(display.step, n_rides)) for n_rides in options.rides]
    plot_training(costs, options.plot)
    sys.stdout.write(json.dumps({"trainings": [asdict(cost) for cost in costs], "budget_gb": BUDGET_GB}) + "\n")
    return 0 if all(cost.peak_gb <= BUDGET_GB for cost in costs) else 1


def _labelled(show: Callable[[str], None], n_rides: int) -> Callable[[str], None]:
    return lambda step: show(f"{n_rides:,} rides: {step}")


if __name__ == "__main__":
    sys.exit(main())
