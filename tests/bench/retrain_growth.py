"""Growth of time and memory of the collector and the trainer with the labelled rides of a year.

    python -m tests.bench.retrain_growth [--rides 500000 5000000]

A year of made-up rides lies in a folder, an object an hour of arrival, as the join writes them. The collector reads
them, and the trainer learns from what it has collected, each in a process of its own (`--probe STEP FOLDER`), with the
parameters of `ridecast train`. Requests to S3 are reads of files: a bucket adds its answers' times. Prints one line of
JSON. Exits with 1 if a step needs more memory than its function has.
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

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infra.cli.output import live_display
from tests.bench.timing import peak_bytes
from tests.builders_labelled import SCHEMA
from training.data.labelled import FILE, FOLDER, LABELLED
from training.data.months import Month
from training.data.rides import Rides
from training.data.synthetic import synthetic_rides
from training.registry.bucket import Bucket
from training.registry.folder_s3 import FolderS3

N_RIDES = (500_000, 5_000_000)
BUDGET_GB = {"collect": 3.0, "train": 10.0}
"""The functions' memory, less what the operating system and the runtime need."""

_FIRST_MONTH, _N_MONTHS = Month(2025, 1), 12
_FIRST, _LAST = "2025-01-01", "2025-12-31"
_KEY, _RUN = "loop/rides/bench.npz", "bench"
_SEED = 1
_NEW_YORK_S = 5 * 3600  # behind UTC


@dataclass(frozen=True, slots=True)
class StepCost:
    """Time and memory of one step."""

    step: str
    n_rides: int
    seconds: float  # wall-clock time; other processes of the machine lengthen it
    cpu_s: float  # of all threads
    peak_gb: float  # highest resident memory of the process, in 10^9 bytes


def store_year(n_rides: int, folder: Path) -> None:
    """Store a year of labelled rides, an object an hour of arrival: the pickup's, because events are sent at once."""
    month = _FIRST_MONTH
    for _ in range(_N_MONTHS):
        _store_month(synthetic_rides(month, n_rides // _N_MONTHS, _SEED), folder)
        month = month.next()


def _store_month(rides: Rides, folder: Path) -> None:
    arrival = rides.pickup_time + np.timedelta64(_NEW_YORK_S, "s")
    hours = arrival.astype("M8[h]")
    begins = np.flatnonzero(np.append(True, hours[1:] != hours[:-1]))
    table = _table(rides, arrival)
    for begin, end in zip(begins, [*begins[1:], len(rides)], strict=True):
        hour = hours[begin].item()
        path = folder / f"{FOLDER}/dt={hour:%Y-%m-%d}/hh={hour:%H}/{FILE}"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.slice(begin, end - begin), path, compression="zstd")


def _table(rides: Rides, arrival: np.ndarray) -> pa.Table:
    n = len(rides)
    columns = rides.columns
    numbers = np.arange(n)
    values = {
        "event_id": np.char.add(
            "shardId-000000000000:4959033827149025660855969253836157109592157598913658", numbers.astype(str)
        ),
        "ride_id": numbers.astype(str),
        "arrival_time": arrival.astype("M8[us]"),
        "pickup_zone": columns.pickup_zone.astype(np.int16),
        "dropoff_zone": columns.dropoff_zone.astype(np.int16),
        "trip_distance_miles": np.nan_to_num(columns.trip_distance_miles),
        "pickup_time": rides.pickup_time.astype("M8[us]"),
        "has_pickup_time": np.ones(n, np.bool_),
        "model_version": np.full(n, "green-2024-12-3f2a9c1d0b7e+2025-01-01T06"),
        "predicted_minutes": np.round(rides.duration_minutes * 1.1, 2),
        "low_minutes": np.round(rides.duration_minutes * 0.8, 2),
        "high_minutes": np.round(rides.duration_minutes * 1.4, 2),
        "duration_minutes": rides.duration_minutes,
        "outcome_time": (arrival + (rides.duration_minutes * 60).astype("m8[s]")).astype("M8[us]"),
        "outcome_id": np.char.add(
            "shardId-000000000001:49590338271490256608559692538361571095921575989136", numbers.astype(str)
        ),
        "status": np.full(n, LABELLED),
        **{name: np.zeros(n, np.bool_) for name in ("contradicting", "conflicting", "skewed")},
    }
    return pa.table([pa.array(values[name], SCHEMA.field(name).type) for name in SCHEMA.names], SCHEMA)


def measure(step: str, folder: Path) -> StepCost:
    """Run a step in a process of its own.

    Raises:
        CalledProcessError: It failed, or was killed for lack of memory.
    """
    command = [sys.executable, "-m", "tests.bench.retrain_growth", "--probe", step, str(folder)]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own code
    return StepCost(**json.loads(answer.stdout.splitlines()[-1]))


def probe(step: str, folder: Path) -> None:
    """Run a step and print its cost."""
    bucket = Bucket(FolderS3(folder), "bench")
    started_s, started_cpu_s = time.perf_counter(), time.process_time()
    n_rides = {"collect": _collect, "train": _train}[step](bucket)
    cost = StepCost(
        step, n_rides, time.perf_counter() - started_s, time.process_time() - started_cpu_s, peak_bytes() / 1e9
    )
    sys.stdout.write(json.dumps(asdict(cost)) + "\n")


def _collect(bucket: Bucket) -> int:
    from training.workflows.collected import collect  # noqa: PLC0415 - a function has either DuckDB or scikit-learn
    from training.workflows.loop.requests import CollectRequest  # noqa: PLC0415

    return collect(bucket, CollectRequest(run_id=_RUN, first=_FIRST, last=_LAST, key=_KEY, callback_id="")).n_rides


def _train(bucket: Bucket) -> int:
    from training.workflows.loop.requests import Collected, TrainRequest  # noqa: PLC0415
    from training.workflows.retrain import retrain  # noqa: PLC0415

    stored = bucket.read(f"loop/answers/{_RUN}/collect.json")
    if stored is None:
        raise SystemExit("collect first")
    collected = msgspec.json.decode(stored.body, type=Collected)
    request = TrainRequest(
        run_id=_RUN, rides_key=_KEY, rides_sha256=collected.sha256, channel="stable", service="yellow", gate_days=14,
        callback_id="",
    )  # fmt: skip
    return retrain(bucket, request).n_rides


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each size, and report."""
    parser = argparse.ArgumentParser(description="Growth of time and memory of the collector and the trainer.")
    parser.add_argument("--rides", type=int, nargs="+", default=N_RIDES, metavar="N", help="rides of a year")
    parser.add_argument("--probe", nargs=2, metavar=("STEP", "FOLDER"), help="one step in this process")
    options = parser.parse_args(arguments)
    if options.probe:
        probe(options.probe[0], Path(options.probe[1]))
        return 0
    costs: list[StepCost] = []
    with live_display() as display:
        for n_rides in options.rides:
            with tempfile.TemporaryDirectory(prefix="bench-retrain-") as folder:
                display.step(f"{n_rides:,} rides: storing a year of them")
                store_year(n_rides, Path(folder))
                for step in BUDGET_GB:
                    display.step(f"{n_rides:,} rides: {step}")
                    costs.append(measure(step, Path(folder)))
    sys.stdout.write(json.dumps({"steps": [asdict(cost) for cost in costs], "budget_gb": BUDGET_GB}) + "\n")
    return 0 if all(cost.peak_gb <= BUDGET_GB[cost.step] for cost in costs) else 1


if __name__ == "__main__":
    sys.exit(main())
