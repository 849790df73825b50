"""Time and memory of the monitor's figures of an hour, by its rides: in proportion, within 5 s and 0.8 GB a million.

And what an experiment adds for each version that it scores.

    python -m tests.bench.monitor_hour [--rides 100000 1000000 4000000]

Each size is made and measured in processes of its own (`--make` and `--probe`). All rides are judged, by a model of
full size with intervals. Prints one line of JSON. Exits with 1 if a million rides take more than `BUDGET_S` or
`BUDGET_GB`.
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

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lambda_function.core.bundle import ModelBundle
from lambda_function.core.calibration import CALIBRATION_FORMAT, N_WEIGHTS, Calibration
from tests.bench.subjects import build_subject
from tests.bench.timing import peak_bytes
from tests.builders_labelled import SCHEMA
from training.data.labelled import FILE, LABELLED
from training.data.months import Month
from training.data.synthetic import synthetic_rides
from training.experiments.scoring import losses_of
from training.model.bundle import read_bundle, write_bundle
from training.monitoring.hours import FIRST, Hour
from training.monitoring.labelled_hour import decode_labelled_hour
from training.monitoring.monitor.figures import hour_figures
from training.monitoring.monitor.quantities import DATA_QUANTITIES
from training.monitoring.summary import HourSummary

N_RIDES = (100_000, 1_000_000, 4_000_000)
BUDGET_S, BUDGET_GB = 5.0, 0.8
"""CPU and peak memory of an hour of a million rides."""

HOUR = Hour.parse("2026-08-01T09")
_MILLION = 1_000_000
_N_SCORED = 2
_WEIGHTS = (-0.1, *(0.0,) * (N_WEIGHTS - 1))


@dataclass(frozen=True, slots=True)
class FiguresCost:
    """Time and memory of the figures of one hour."""

    n_rides: int
    read_s: float  # CPU to read the labelled rides
    figures_s: float  # CPU to predict them again, count and sum
    scoring_s: float  # CPU of an experiment to score a version, with calibration, when it scores two
    peak_gb: float  # highest resident memory of the process, in 10^9 bytes


def make_hour(n_rides: int, path: Path) -> None:
    """Write a file of labelled rides."""
    rides = synthetic_rides(Month(2021, 1), n_rides, seed=3)
    columns, start = rides.columns, np.datetime64(HOUR.start.replace(tzinfo=None), "us")
    minutes = np.round(rides.duration_minutes, 2)
    falses = np.zeros(n_rides, np.bool_)
    values = {
        "event_id": [f"shardId-000000000000:{place:056d}" for place in range(n_rides)],
        "ride_id": [str(place) for place in range(n_rides)],
        "arrival_time": start + np.arange(n_rides),
        "pickup_zone": columns.pickup_zone.astype(np.int16),
        "dropoff_zone": columns.dropoff_zone.astype(np.int16),
        "trip_distance_miles": columns.trip_distance_miles,
        "pickup_time": rides.pickup_time.astype("M8[us]"),
        "has_pickup_time": ~falses,
        "model_version": ["green-2021-01-3f2a9c1d0b7e"] * n_rides,
        "predicted_minutes": minutes,
        "low_minutes": minutes - 2.0,
        "high_minutes": minutes + 3.0,
        "duration_minutes": rides.duration_minutes,
        "outcome_time": np.full(n_rides, start + np.timedelta64(20, "m")),
        "outcome_id": ["shardId-000000000000:1"] * n_rides,
        "status": [LABELLED] * n_rides,
        **dict.fromkeys(("contradicting", "conflicting", "skewed"), falses),
    }
    table = pa.table({name: pa.array(column) for name, column in values.items()}).cast(SCHEMA)
    pq.write_table(table, path, compression="zstd")


def probe(n_rides: int, path: Path, model: ModelBundle) -> FiguresCost:
    """Make the figures of a file, and return the cost."""
    edges = {name: np.linspace(0.5, 20.0, 19) for name in DATA_QUANTITIES}
    started_s = time.process_time()
    hour = decode_labelled_hour(path.read_bytes(), HOUR)
    read_s = time.process_time()
    figures = hour_figures(hour, HourSummary(hour=str(HOUR), pass_number=FIRST, horizon_minutes=180), model, edges)
    done_s = time.process_time()
    calibration = Calibration(
        format=CALIBRATION_FORMAT,
        model_version=model.model_version,
        as_of=str(HOUR),
        weights=_WEIGHTS,
        interval_scale=1.0,
    )
    losses = losses_of(hour, [model.calibrated(calibration)] * _N_SCORED)
    scored_s = time.process_time()
    if figures.n_judged != n_rides:
        raise SystemExit(f"{figures.n_judged:,} rides are judged, and not {n_rides:,}")
    if losses[0].n_rides != n_rides:
        raise SystemExit(f"{losses[0].n_rides:,} rides are scored, and not {n_rides:,}")
    scoring_s = (scored_s - done_s) / _N_SCORED
    return FiguresCost(n_rides, read_s - started_s, done_s - read_s, scoring_s, peak_bytes() / 1e9)


def measure(n_rides: int, folder: Path) -> FiguresCost:
    """Make an hour and measure its figures, in processes of their own; the folder holds the model."""
    for step in ("--make", "--probe"):
        command = [sys.executable, "-m", "tests.bench.monitor_hour", step, str(n_rides), str(folder)]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own code
    return FiguresCost(**json.loads(answer.stdout.splitlines()[-1]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each size, and report."""
    parser = argparse.ArgumentParser(description="Time and memory of the monitor's figures of an hour.")
    parser.add_argument("--rides", type=int, nargs="+", default=N_RIDES, metavar="N", help="sizes to measure")
    for step in ("--make", "--probe"):
        parser.add_argument(step, nargs=2, metavar=("RIDES", "FOLDER"), help="one step in this process")
    options = parser.parse_args(arguments)
    if options.make:
        make_hour(int(options.make[0]), Path(options.make[1]) / FILE)
        return 0
    if options.probe:
        folder = Path(options.probe[1])
        (bundle,) = (path for path in folder.iterdir() if path.is_dir())  # its name is the version
        cost = probe(int(options.probe[0]), folder / FILE, read_bundle(bundle).model)
        sys.stdout.write(json.dumps(asdict(cost)) + "\n")
        return 0
    with tempfile.TemporaryDirectory(prefix="bench-monitor-") as name:
        folder = Path(name)
        write_bundle(build_subject().with_intervals, folder)
        costs = [measure(n_rides, folder) for n_rides in options.rides]
    sys.stdout.write(json.dumps({"hours": [asdict(cost) for cost in costs]}) + "\n")
    million = [cost for cost in costs if cost.n_rides == _MILLION]
    is_within = all(cost.read_s + cost.figures_s <= BUDGET_S and cost.peak_gb <= BUDGET_GB for cost in million)
    return 0 if is_within else 1


if __name__ == "__main__":
    sys.exit(main())
