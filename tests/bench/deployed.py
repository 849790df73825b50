"""Our package in AWS's own runtime, beside handlers that use scikit-learn: cold start, memory, HTTP.

Both have the same model, on a local AWS. The emulator around a function times it as Lambda would bill it: from the
event's arrival at the runtime until its answer. The runtime's own parsing and writing of JSON is included; API Gateway
and the network are not.
"""

import base64
import json
import pickle
import shutil
import statistics
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

from infra.local.aws import LocalAws
from infra.local.runtime.emulator import EmulatedRuntime
from infra.local.runtime.function import FunctionConfig, read_function
from infra.local.runtime.http import http_event
from infra.local.stack import DeployedStack, deploy
from infra.stack.package import build_for_host
from tests.bench.figures import MB, MS, TIMES, Figure
from training.model.bundle import ExportedBundle
from training.registry.bucket import Bucket
from training.registry.channels import move_channel, store_bundle

COLD_START_BUDGET_MS = 300.0
PEAK_MEMORY_BUDGET_MB = 110.0
N_STARTS = 5
N_LARGE_BATCHES = 5  # the first batch does not reach the peak of the others

API_HANDLER = "lambda_function.api.lambda_handler"
P99_BUDGET_MS = 5.0
LEAST_RATIO = 1.5
N_INVOCATIONS = 1000

_N_WARM_UP = 20
_ARRIVAL_TIME_S = 1_609_834_500.25
_RIDE = (
    b'{"ride": {"PULocationID": 130, "DOLocationID": 205, "trip_distance": 3.66,'
    b' "pickup_datetime": "2021-01-05T08:15:00"}, "ride_id": 256}'
)
_MODEL_KEY = "comparator/model.pkl"
_COMPARATOR = Path(__file__).with_name("packaged_comparator.py")


@dataclass(frozen=True, slots=True)
class Deployed:
    """A stack with both models in its bucket."""

    aws: LocalAws
    stack: DeployedStack
    package: Path  # Our built package
    folder: Path  # For logs and the comparator's package; deleted at the end


@contextmanager
def deployed_models(bundle: ExportedBundle, fitted: HistGradientBoostingRegressor) -> Iterator[Deployed]:
    """Deploy the stack to a local AWS, and store our bundle in its channel and scikit-learn's model as a pickle.

    Raises:
        UserError: There is no emulator, or the package can't be built.
    """
    with LocalAws() as aws, TemporaryDirectory(prefix="bench-") as folder:
        stack, s3 = deploy(aws), aws.client("s3")
        bucket = Bucket(s3, stack.bucket)
        store_bundle(bucket, bundle)
        move_channel(bucket, stack.function.environment["MODEL_CHANNEL"], bundle.model_version, bundle.manifest_sha256)
        s3.put_object(Bucket=stack.bucket, Key=_MODEL_KEY, Body=pickle.dumps(fitted))
        yield Deployed(aws, stack, build_for_host().folder, Path(folder))


def comparator_of(ours: FunctionConfig, handler: str, folder: Path) -> FunctionConfig:
    """Return the packaged comparator, configured as our function.

    Args:
        ours: The function to compare with.
        handler: One of the comparator's functions.
        folder: The folder in which its package is made.
    """
    package = folder / "comparator"
    package.mkdir()
    shutil.copy(_COMPARATOR, package)
    return replace(
        ours.with_variables(MODEL_KEY=_MODEL_KEY),
        package=package,
        handler=f"{_COMPARATOR.stem}.{handler}",
        site_packages=[Path(sysconfig.get_path("purelib"))],
    )


# Cold start and memory ------------------------------------------------------------------------------------------------


class ColdStart(NamedTuple):
    """Medians over several cold starts."""

    init_ms: float  # the runtime's start and the imports
    first_ms: float  # the first invocation: clients, the model from S3, its verification, one ride
    total_ms: float  # Both
    warm_ms: float  # the same invocation once more


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
    n_rides, peak_mb = len(event["Records"]), peak_bytes / 1e6
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


# One prediction over HTTP, warm ---------------------------------------------------------------------------------------


class Latency(NamedTuple):
    """Median and 99th percentile of many warm invocations, one after the other."""

    p50_ms: float
    p99_ms: float


def prediction_event(body: bytes = _RIDE) -> dict[str, Any]:
    """Return the event of API Gateway for a request for predictions."""
    return http_event("POST", "/predictions", {"content-type": "application/json"}, body, _ARRIVAL_TIME_S)


def api_config(aws: LocalAws, package: Path) -> FunctionConfig:
    """Return the emulator's configuration of the stack's function behind the HTTP API."""
    (found,) = (one for one in aws.client("lambda").list_functions()["Functions"] if one["Handler"] == API_HANDLER)
    function = read_function(aws, found["FunctionName"])
    return replace(function.with_variables(OMP_NUM_THREADS="1"), package=package)


def measure_latencies(
    functions: Mapping[str, FunctionConfig], event: Mapping[str, Any], n: int, folder: Path
) -> dict[str, Latency]:
    """Invoke functions n times each, in turn, so that other load of the machine affects all of them alike.

    Raises:
        FunctionError: An invocation failed.
    """
    with ExitStack() as stack:
        runtimes = {
            name: stack.enter_context(EmulatedRuntime(function, folder / f"{name}.log"))
            for name, function in functions.items()
        }
        times: dict[str, list[float]] = {name: [] for name in runtimes}
        for _ in range(_N_WARM_UP + n):
            for name, runtime in runtimes.items():
                runtime(event)
                times[name].append(runtime.last.duration_ms or 0.0)
    return {name: Latency(*np.percentile(column[_N_WARM_UP:], [50, 99]).tolist()) for name, column in times.items()}


def bench_api(bundle: ExportedBundle, fitted: HistGradientBoostingRegressor, n: int = N_INVOCATIONS) -> list[Figure]:
    """Measure our package with a bundle, and the comparator with the same model, with n invocations of each.

    Both run on one thread, as with the one vCPU of the template: scikit-learn's own threads would wait for another.

    Raises:
        UserError: There is no emulator, or the package can't be built.
    """
    with deployed_models(bundle, fitted) as deployed:
        function = api_config(deployed.aws, deployed.package)
        functions = {"ours": function, "theirs": comparator_of(function, "api_handler", deployed.folder)}
        latencies = measure_latencies(functions, prediction_event(), n, deployed.folder)
    ours, theirs = latencies["ours"], latencies["theirs"]
    return [
        Figure("HTTP: one prediction, warm, median", ours.p50_ms, MS),
        Figure("HTTP: one prediction, warm, p99", ours.p99_ms, MS, P99_BUDGET_MS),
        Figure("HTTP: the same by scikit-learn, median", theirs.p50_ms, MS),
        Figure("HTTP: the same by scikit-learn, p99", theirs.p99_ms, MS),
        Figure("HTTP: faster than scikit-learn, median", theirs.p50_ms / ours.p50_ms, TIMES, LEAST_RATIO),
        Figure("HTTP: faster than scikit-learn, p99", theirs.p99_ms / ours.p99_ms, TIMES),
    ]
