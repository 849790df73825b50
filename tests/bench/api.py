"""One prediction over HTTP in AWS's own runtime, warm, beside a handler that asks scikit-learn.

Timed by the emulator around the function, as Lambda would bill it: from handing the event to the runtime until its
answer is there. The runtime's own reading and writing of JSON is in it; API Gateway and the network are not.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

from infra.local.aws import LocalAws
from infra.local.runtime.emulator import EmulatedRuntime, FunctionConfig
from infra.local.runtime.function import function_config
from infra.local.runtime.http import http_event
from infra.local.stack import DeployedStack, deploy
from infra.stack.package import build_for_host
from tests.bench.comparator_package import comparator_of, store_pickled
from tests.bench.figures import MS, TIMES, Figure
from training.model.bundle import ExportedBundle
from training.registry.bucket import Bucket
from training.registry.channels import move_channel, store_bundle

API_HANDLER = "lambda_function.api.lambda_handler"
P99_BUDGET_MS = 5.0
LEAST_RATIO = 1.5
N_INVOCATIONS = 1000

_N_WARM_UP = 20
_COMPARATOR = Path(__file__).with_name("api_comparator.py")
_ARRIVAL_TIME_S = 1_609_834_500.25
_RIDE = (
    b'{"ride": {"PULocationID": 130, "DOLocationID": 205, "trip_distance": 3.66,'
    b' "pickup_datetime": "2021-01-05T08:15:00"}, "ride_id": 256}'
)


@dataclass(frozen=True, slots=True)
class Latency:
    """Of many invocations, one after the other, warm.

    Attributes:
        p50_ms: The median.
        p99_ms: One in a hundred took longer.
    """

    p50_ms: float
    p99_ms: float


def prediction_event(body: bytes = _RIDE) -> dict[str, Any]:
    """Returns the event with which API Gateway asks for predictions."""
    return http_event("POST", "/predictions", {"content-type": "application/json"}, body, _ARRIVAL_TIME_S)


def api_config(aws: LocalAws, stack: DeployedStack, package: Path) -> FunctionConfig:
    """Tells the emulator what the stack says of the function behind the HTTP API."""
    (found,) = (one for one in aws.client("lambda").list_functions()["Functions"] if one["Handler"] == API_HANDLER)
    environment = {name: str(value) for name, value in found["Environment"]["Variables"].items()}
    return replace(
        function_config(aws, stack, package),
        handler=API_HANDLER,
        environment={**environment, **aws.environment, "OMP_NUM_THREADS": "1"},
        timeout_s=int(found["Timeout"]),
        memory_mb=int(found["MemorySize"]),
        name=found["FunctionName"],
    )


def measure_latencies(
    functions: Mapping[str, FunctionConfig], event: Mapping[str, Any], n: int, folder: Path
) -> dict[str, Latency]:
    """Invokes functions n times each, in turn: what else the machine does hits all of them alike.

    Args:
        functions: By name.
        event: The same for all.
        n: How often.
        folder: For their logs.

    Raises:
        FunctionError: An invocation failed.
    """
    with _running(functions, folder) as runtimes:
        for _ in range(_N_WARM_UP):
            for runtime in runtimes.values():
                runtime(event)
        times: dict[str, list[float]] = {name: [] for name in runtimes}
        for _ in range(n):
            for name, runtime in runtimes.items():
                runtime(event)
                times[name].append(runtime.last.duration_ms or 0.0)
    return {name: Latency(*np.percentile(column, [50, 99]).tolist()) for name, column in times.items()}


@contextmanager
def _running(functions: Mapping[str, FunctionConfig], folder: Path) -> Iterator[dict[str, EmulatedRuntime]]:
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(EmulatedRuntime(function, folder / f"{name}.log"))
            for name, function in functions.items()
        }


def bench_api(bundle: ExportedBundle, fitted: HistGradientBoostingRegressor, n: int = N_INVOCATIONS) -> list[Figure]:
    """Measures our package with a bundle, and the comparator with the same model, on the embedded AWS.

    Both on one thread, as with the one vCPU that the template gives: scikit-learn's own threads would wait for another.

    Args:
        bundle: What our package loads.
        fitted: What the comparator unpickles.
        n: Invocations of each.

    Raises:
        UserError: There is no emulator here, or the package can't be built.
    """
    with LocalAws() as aws, TemporaryDirectory(prefix="api-bench-") as name:
        folder = Path(name)
        stack, s3 = deploy(aws.client), aws.client("s3")
        store_bundle(Bucket(s3, stack.bucket), bundle)
        channel = stack.environment["MODEL_CHANNEL"]
        move_channel(Bucket(s3, stack.bucket), channel, bundle.model_version, bundle.manifest_sha256)
        store_pickled(s3, stack.bucket, _plain(fitted))
        ours = api_config(aws, stack, build_for_host().folder)
        functions = {"ours": ours, "scikit-learn": comparator_of(ours, _COMPARATOR, folder)}
        latencies = measure_latencies(functions, prediction_event(), n, folder)
    return _figures(latencies["ours"], latencies["scikit-learn"])


def _plain(fitted: HistGradientBoostingRegressor) -> HistGradientBoostingRegressor:
    """Returns a forest of scikit-learn's own class, which needs nothing of ours to be unpickled."""
    plain = HistGradientBoostingRegressor()
    vars(plain).update(vars(fitted))
    return plain


def _figures(ours: Latency, theirs: Latency) -> list[Figure]:
    return [
        Figure("HTTP: one prediction, warm, median", ours.p50_ms, MS),
        Figure("HTTP: one prediction, warm, p99", ours.p99_ms, MS, P99_BUDGET_MS),
        Figure("HTTP: the same by scikit-learn, median", theirs.p50_ms, MS),
        Figure("HTTP: the same by scikit-learn, p99", theirs.p99_ms, MS),
        Figure("HTTP: faster than scikit-learn, median", theirs.p50_ms / ours.p50_ms, TIMES, LEAST_RATIO),
        Figure("HTTP: faster than scikit-learn, p99", theirs.p99_ms / ours.p99_ms, TIMES),
    ]
