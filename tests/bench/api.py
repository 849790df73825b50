"""One prediction over HTTP in AWS's own runtime, warm, beside a handler that uses scikit-learn.

Timed by the emulator around the function, as Lambda would bill it: from the event's arrival at the runtime until its
answer. The runtime's own parsing and writing of JSON is included; API Gateway and the network are not.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

from infra.local.aws import LocalAws
from infra.local.runtime.emulator import EmulatedRuntime
from infra.local.runtime.function import FunctionConfig, read_function
from infra.local.runtime.http import http_event
from tests.bench.deployed import comparator_of, deployed_models
from tests.bench.figures import MS, TIMES, Figure
from training.model.bundle import ExportedBundle

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
