"""Growth of time and memory of a join with the rides of the hour: in proportion, within 25 s and 2 GB a million.

    python -m tests.bench.join_growth [--rides 100000 1000000 5000000] [--hours 1]

Each size is archived and joined in processes of their own (`--probe N_RIDES FOLDER`). The rides have predictions of a
model of full size, and 97 in 100 have outcomes; the audit predicts them again, up to a million. With `--hours 4`, the
stream goes on as busy until the horizon. Draws docs/bench/join_growth.svg and prints one line of JSON. Exits with 1 if
the memory of a million rides is more than `BUDGET_GB`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from infra.cli.output import live_display
from tests.bench.figures import BUDGET_LINE, MB, US, Figure, svg_axes
from tests.bench.subjects import build_subject
from tests.bench.timing import peak_bytes
from tests.builders_archive import HOUR, archive_steady_stream
from training.monitoring.join.join import join_hour
from training.monitoring.join.options import JoinOptions
from training.registry.bucket import Bucket
from training.registry.channels import store_bundle
from training.registry.folder_s3 import FolderS3

N_RIDES = (100_000, 1_000_000, 5_000_000)
BUDGET_S, BUDGET_GB = 25.0, 2.0
"""CPU and peak memory of an hour of a million rides."""

PLOT = Path("docs/bench/join_growth.svg")
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class JoinCost:
    """Time and memory of one join."""

    n_rides: int
    n_hours: int  # hours of the archive
    cpu_s: float
    peak_gb: float  # highest resident memory of the process, in 10^9 bytes


def measure_join(n_rides: int, n_hours: int = 1) -> JoinCost:
    """Archive and join an hour in processes of their own."""
    with tempfile.TemporaryDirectory(prefix="bench-join-") as folder:
        for step in ("--archive", "--probe"):
            command = [sys.executable, "-m", "tests.bench.join_growth", step, str(n_rides), str(n_hours), folder]
            answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own code
    return JoinCost(**json.loads(answer.stdout.splitlines()[-1]))


def bench_join() -> list[Figure]:
    """Return time and memory of an hour of a hundred thousand rides; the memory of the libraries is most of it."""
    cost = measure_join(N_RIDES[0])
    return [
        Figure("join and audit of 100,000 rides", cost.cpu_s / cost.n_rides * 1e6, US, BUDGET_S),
        Figure("memory: join and audit of 100,000 rides", cost.peak_gb * 1e3, MB, 600.0),
    ]


def archive_hours(n_rides: int, n_hours: int, folder: Path) -> None:
    """Archive a stream, and store its model."""
    s3 = FolderS3(folder)
    bundle = build_subject().with_intervals
    store_bundle(Bucket(s3, "bench"), bundle)
    archive_steady_stream(s3, bundle.model, n_rides, n_hours)


def probe(n_rides: int, n_hours: int, folder: Path) -> None:
    """Join the hour and print the cost."""
    bucket = Bucket(FolderS3(folder), "bench")
    started_s = time.process_time()
    summary = join_hour(bucket, HOUR, JoinOptions())
    cpu_s = time.process_time() - started_s
    if (summary.n_ride_events, summary.n_skewed, summary.n_lost) != (n_rides, 0, 0):
        raise SystemExit(f"the join found {summary}")
    sys.stdout.write(json.dumps(asdict(JoinCost(n_rides, n_hours, cpu_s, peak_bytes() / 1e9))) + "\n")


def plot_joins(costs: Sequence[JoinCost], path: Path) -> None:
    """Draw time and memory against rides, as SVG."""
    millions = [cost.n_rides / _MILLION for cost in costs]
    with svg_axes(path, 2, 9) as (time_axes, peak_axes):
        time_axes.plot(millions, [cost.cpu_s for cost in costs], marker="o", label="the join")
        budget = f"budget: {BUDGET_S:g} s a million"
        time_axes.plot(millions, [BUDGET_S * size for size in millions], label=budget, **BUDGET_LINE)
        peak_axes.plot(millions, [cost.peak_gb for cost in costs], marker="o", label="the join")
        peak_axes.axhline(BUDGET_GB, label=f"budget: {BUDGET_GB:g} GB", **BUDGET_LINE)
        time_axes.set(title="CPU of a join with its audit", ylabel="CPU, seconds")
        peak_axes.set(title="Peak memory of the process", ylabel="peak memory, GB")
        for axes in (time_axes, peak_axes):
            axes.set(xlabel="rides in the hour, millions", xlim=(0, None), ylim=(0, None))
            axes.legend(loc="lower right")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each size, draw, and report."""
    parser = argparse.ArgumentParser(description="Growth of time and memory of a join with the rides of the hour.")
    parser.add_argument("--rides", type=int, nargs="+", default=N_RIDES, metavar="N", help="sizes to join")
    parser.add_argument("--hours", type=int, default=1, help="hours of the stream")
    parser.add_argument("--plot", type=Path, default=PLOT, help="the SVG to write")
    for step in ("--archive", "--probe"):
        parser.add_argument(step, nargs=3, metavar=("RIDES", "HOURS", "FOLDER"), help="one step in this process")
    options = parser.parse_args(arguments)
    for step, run in ((options.archive, archive_hours), (options.probe, probe)):
        if step:
            run(int(step[0]), int(step[1]), Path(step[2]))
            return 0
    costs: list[JoinCost] = []
    with live_display() as display:
        for n_rides in options.rides:
            display.step(f"{n_rides:,} rides")
            costs.append(measure_join(n_rides, options.hours))
    plot_joins(costs, options.plot)
    sys.stdout.write(json.dumps({"joins": [asdict(cost) for cost in costs], "budget_gb": BUDGET_GB}) + "\n")
    return 0 if all(cost.peak_gb <= BUDGET_GB for cost in costs) else 1


if __name__ == "__main__":
    sys.exit(main())
