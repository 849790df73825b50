"""Cold start and memory of the built package in AWS's own runtime, beside a handler that unpickles scikit-learn's."""

import base64
import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sklearn.ensemble import HistGradientBoostingRegressor

from infra.local.aws import LocalAws
from infra.local.runtime.emulator import EmulatedRuntime, FunctionConfig
from infra.local.runtime.function import function_config
from infra.local.stack import DeployedStack, deploy
from infra.stack.package import build_for_host
from tests.bench.comparator_package import comparator_of, store_pickled
from training.model.bundle import ExportedBundle
from training.registry.bucket import Bucket
from training.registry.channels import move_channel, store_bundle

COLD_START_BUDGET_MS = 300.0
PEAK_MEMORY_BUDGET_MB = 110.0
N_STARTS = 5
N_LARGE_BATCHES = 5  # the peak of the first is not yet that of the others

_COMPARATOR = Path(__file__).with_name("cold_comparator.py")
_BYTES_PER_MB = 1e6

FigureRow = tuple[str, float, str, float | None]
"""Name, value, unit, budget: what `tests.bench.__main__.Figure` is made of."""


@dataclass(frozen=True, slots=True)
class ColdStart:
    """Medians over several cold starts.

    Attributes:
        init_ms: The runtime's start and the imports.
        first_ms: The first invocation: clients, the model from S3, its verification, one ride.
        warm_ms: The same invocation once more.
    """

    init_ms: float
    first_ms: float
    warm_ms: float
    total_ms: float


def measure_cold_starts(function: FunctionConfig, event: Mapping[str, Any], n: int, log_path: Path) -> ColdStart:
    """Starts a function n times and invokes it twice each time.

    Args:
        function: Any package's.
        event: A small one, whose handling needs the model.
        n: How often.
        log_path: The functions' log.

    Raises:
        FunctionError: An invocation failed.
    """
    starts = [_cold_start(function, event, log_path) for _ in range(n)]
    init_ms, first_ms, warm_ms = (statistics.median(column) for column in zip(*starts, strict=True))
    total_ms = statistics.median(init_ms + first_ms for init_ms, first_ms, _ in starts)
    return ColdStart(init_ms, first_ms, warm_ms, total_ms)


def _cold_start(function: FunctionConfig, event: Mapping[str, Any], log_path: Path) -> tuple[float, float, float]:
    with EmulatedRuntime(function, log_path) as runtime:
        runtime(event)
        first = runtime.last
        runtime(event)
        return first.init_ms or 0.0, first.duration_ms or 0.0, runtime.last.duration_ms or 0.0


def measure_peak_bytes(function: FunctionConfig, event: Mapping[str, Any], n: int, log_path: Path) -> int:
    """Invokes a function n times in one process and returns the most memory that this had."""
    with EmulatedRuntime(function, log_path) as runtime:
        for _ in range(n):
            runtime(event)
        return runtime.peak_rss_bytes()


def bench_cold_start(
    bundle: ExportedBundle, fitted: HistGradientBoostingRegressor, event: Mapping[str, Any], n: int = N_STARTS
) -> list[FigureRow]:
    """Measures our package with a bundle, and the comparator with the same model, on the embedded AWS.

    Args:
        bundle: What our package loads.
        fitted: What the comparator unpickles.
        event: The largest batch; its first record is the small one.
        n: Cold starts of each.

    Raises:
        UserError: There is no emulator here, or the package can't be built.
    """
    one = {"Records": event["Records"][:1]}
    with LocalAws() as aws, TemporaryDirectory(prefix="cold-start-") as folder:
        stack = deploy(aws.client)
        _store_models(aws.client("s3"), stack, bundle, fitted)
        log = Path(folder, "function.log")
        ours = function_config(aws, stack, build_for_host().folder)
        our_start = measure_cold_starts(ours, one, n, log)
        their_start = measure_cold_starts(comparator_of(ours, _COMPARATOR, Path(folder)), one, n, log)
        peak_bytes = measure_peak_bytes(ours, course_sized(event), N_LARGE_BATCHES, log)
    return _rows(our_start, their_start, len(event["Records"]), peak_bytes)


def _rows(ours: ColdStart, theirs: ColdStart, n_rides: int, peak_bytes: int) -> list[FigureRow]:
    return [
        ("cold start: init, runtime and imports", ours.init_ms, "ms", None),
        ("cold start: first invocation, model from S3 and verified", ours.first_ms, "ms", None),
        ("cold start: both", ours.total_ms, "ms", COLD_START_BUDGET_MS),
        ("cold start: the same invocation, warm", ours.warm_ms, "ms", None),
        ("cold start: importing scikit-learn and unpickling", theirs.total_ms, "ms", None),
        ("cold start: shorter than scikit-learn's", theirs.total_ms / ours.total_ms, "times", None),
        (f"memory: peak at batches of {n_rides:,}", peak_bytes / _BYTES_PER_MB, "MB", PEAK_MEMORY_BUDGET_MB),
    ]


def _store_models(s3: Any, stack: DeployedStack, bundle: ExportedBundle, fitted: HistGradientBoostingRegressor) -> None:
    store_bundle(Bucket(s3, stack.bucket), bundle)
    move_channel(
        Bucket(s3, stack.bucket), stack.environment["MODEL_CHANNEL"], bundle.model_version, bundle.manifest_sha256
    )
    store_pickled(s3, stack.bucket, fitted)


def course_sized(event: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the event with rides as the course sends them, without `pickup_datetime`: 9,400 fit into Lambda's 6 MB.

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
