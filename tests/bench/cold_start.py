"""Cold start and memory of the built package in AWS's own runtime, beside a handler that unpickles scikit-learn's."""

import base64
import json
import statistics
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from sklearn.ensemble import HistGradientBoostingRegressor

from infra.local.runtime.emulator import EmulatedRuntime
from infra.local.runtime.function import FunctionConfig
from tests.bench.deployed import comparator_of, deployed_models
from tests.bench.figures import MB, MS, TIMES, Figure
from training.model.bundle import ExportedBundle

COLD_START_BUDGET_MS = 300.0
PEAK_MEMORY_BUDGET_MB = 110.0
N_STARTS = 5
N_LARGE_BATCHES = 5  # the first batch does not reach the peak of the others

_BYTES_PER_MB = 1e6


class ColdStart(NamedTuple):
    """Medians over several cold starts.

    Attributes:
        init_ms: The runtime's start and the imports.
        first_ms: The first invocation: clients, the model from S3, its verification, one ride.
        total_ms: Both.
        warm_ms: The same invocation once more.
    """

    init_ms: float
    first_ms: float
    total_ms: float
    warm_ms: float


def measure_cold_starts(function: FunctionConfig, event: Mapping[str, Any], n: int, log_path: Path) -> ColdStart:
    """Start a function n times, and invoke it twice each time with a small event that needs the model.

    Raises:
        FunctionError: An invocation failed.
    """
    starts = [_cold_start(function, event, log_path) for _ in range(n)]
    return ColdStart(*(statistics.median(column) for column in zip(*starts, strict=True)))


def _cold_start(function: FunctionConfig, event: Mapping[str, Any], log_path: Path) -> ColdStart:
    with EmulatedRuntime(function, log_path) as runtime:
        runtime(event)
        init_ms, first_ms = runtime.last.init_ms or 0.0, runtime.last.duration_ms or 0.0
        runtime(event)
        return ColdStart(init_ms, first_ms, init_ms + first_ms, runtime.last.duration_ms or 0.0)


def measure_peak_bytes(function: FunctionConfig, event: Mapping[str, Any], n: int, log_path: Path) -> int:
    """Invoke a function n times in one process, and return the process's peak memory."""
    with EmulatedRuntime(function, log_path) as runtime:
        for _ in range(n):
            runtime(event)
        return runtime.peak_rss_bytes()


def bench_cold_start(
    bundle: ExportedBundle, fitted: HistGradientBoostingRegressor, event: Mapping[str, Any], n: int = N_STARTS
) -> list[Figure]:
    """Measure our package with a bundle, and the comparator with the same model.

    Args:
        bundle: What our package loads.
        fitted: What the comparator unpickles.
        event: The largest batch; its first record is the small event.
        n: Cold starts of each.

    Raises:
        UserError: There is no emulator, or the package can't be built.
    """
    one = {"Records": event["Records"][:1]}
    with deployed_models(bundle, fitted) as deployed:
        log = deployed.folder / "function.log"
        function = replace(deployed.stack.function, package=deployed.package)
        ours = measure_cold_starts(function, one, n, log)
        comparator = comparator_of(function, "stream_handler", deployed.folder)
        theirs = measure_cold_starts(comparator, one, n, log)
        peak_bytes = measure_peak_bytes(function, course_sized(event), N_LARGE_BATCHES, log)
    n_rides, peak_mb = len(event["Records"]), peak_bytes / _BYTES_PER_MB
    return [
        Figure("cold start: init, runtime and imports", ours.init_ms, MS),
        Figure("cold start: first invocation, model from S3 and verified", ours.first_ms, MS),
        Figure("cold start: both", ours.total_ms, MS, COLD_START_BUDGET_MS),
        Figure("cold start: the same invocation, warm", ours.warm_ms, MS),
        Figure("cold start: importing scikit-learn and unpickling", theirs.total_ms, MS),
        Figure("cold start: shorter than scikit-learn's", theirs.total_ms / ours.total_ms, TIMES),
        Figure(f"memory: peak at batches of {n_rides:,}", peak_mb, MB, PEAK_MEMORY_BUDGET_MB),
    ]


def course_sized(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the event with rides as the course sends them, without `pickup_datetime`: 9,400 fit into Lambda's 6 MB.

    >>> data = base64.b64encode(b'{"ride": {"trip_distance": 1, "pickup_datetime": "2021"}, "ride_id": 1}').decode()
    >>> small = course_sized({"Records": [{"kinesis": {"data": data}}]})
    >>> base64.b64decode(small["Records"][0]["kinesis"]["data"])
    b'{"ride": {"trip_distance": 1}, "ride_id": 1}'
    """
    return {"Records": [{**record, "kinesis": _course_sized(record["kinesis"])} for record in event["Records"]]}


def _course_sized(kinesis: Mapping[str, Any]) -> dict[str, Any]:
    event = json.loads(base64.b64decode(kinesis["data"]))
    ride = {name: value for name, value in event["ride"].items() if name != "pickup_datetime"}
    return {**kinesis, "data": base64.b64encode(json.dumps({**event, "ride": ride}).encode()).decode()}
