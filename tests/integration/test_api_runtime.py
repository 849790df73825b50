"""The HTTP API's function in AWS's own runtime, and the modules that each function imports."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infra.local.aws import LocalAws
from infra.local.runtime.emulator import EmulatedRuntime
from infra.local.runtime.function import FunctionConfig
from infra.local.stack import DeployedStack
from infra.stack.template import ROOT
from tests.bench.deployed import api_config, bench_api, prediction_event
from tests.builders import SMALL_PARAMETERS, invocation, ride_bytes, small_rides
from tests.fakes import FakeFunction, publish_bundle
from tests.kits.emulator import needs_emulator
from training.model.bundle import ExportedBundle
from training.model.fit import fit_forest


@pytest.fixture(scope="module")
def function(aws: LocalAws, stack: DeployedStack, package: Path) -> FunctionConfig:
    """The template's function; its channel has no model yet."""
    return api_config(aws, package)


def answer(runtime: EmulatedRuntime, body: bytes) -> tuple[int, Any]:
    response: Any = runtime(prediction_event(body))
    return response["statusCode"], msgspec.json.decode(response["body"])


@needs_emulator
def test_built_package_answers_as_the_stream_does(
    aws: LocalAws, stack: DeployedStack, function: FunctionConfig, bundle: ExportedBundle, log: Path
) -> None:
    publish_bundle(aws.client("s3"), bundle, "served", stack.bucket)
    on_the_stream = FakeFunction(bundle)
    on_the_stream.invoke(invocation(ride_bytes()))

    with EmulatedRuntime(function.with_variables(MODEL_CHANNEL="served"), log) as runtime:
        status, prediction = answer(runtime, ride_bytes())
        bad_status, problem = answer(runtime, b"{")
        again = answer(runtime, ride_bytes())

    ((_, data),) = on_the_stream.kinesis.taken
    streamed = msgspec.json.decode(data)
    assert status == 200
    assert {**prediction, "prediction_id": ""} == {**streamed, "prediction_id": ""}
    assert (bad_status, problem["reason"]) == (400, "not_json")
    assert again == (200, prediction)


@needs_emulator
def test_stack_without_a_model_comes_up_and_answers_once_there_is_one(
    aws: LocalAws, stack: DeployedStack, function: FunctionConfig, bundle: ExportedBundle, log: Path
) -> None:
    with EmulatedRuntime(function.with_variables(MODEL_CHANNEL="not-yet"), log) as runtime:
        before, problem = answer(runtime, ride_bytes())
        publish_bundle(aws.client("s3"), bundle, "not-yet", stack.bucket)
        after, _ = answer(runtime, ride_bytes())

    assert (before, after) == (503, 200)
    assert "release one" in problem["detail"]


@needs_emulator
def test_bench_compares_with_scikit_learn(bundle: ExportedBundle) -> None:
    figures = {
        figure.name: figure.value for figure in bench_api(bundle, fit_forest(small_rides(), SMALL_PARAMETERS), 10)
    }

    assert len(figures) == 6
    assert all(value > 0 for value in figures.values())


def imported_by(module: str) -> set[str]:
    code = f"import sys, {module}; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)  # noqa: S603 - our own arguments
    return set(done.stdout.split())


def test_function_on_the_stream_imports_nothing_of_the_api() -> None:
    imported = imported_by("lambda_function.handler")

    assert "lambda_function.core.processor" in imported
    assert not {name for name in imported if name.startswith("lambda_function.api.handler")}
    assert not {name for name in imported if name.startswith("aws_lambda_powertools.event_handler")}


def test_function_behind_the_api_imports_nothing_that_its_cold_start_cannot_afford() -> None:
    imported = imported_by("lambda_function.api.handler")

    assert "aws_lambda_powertools.event_handler" in imported
    assert not {"boto3", "pydantic", "sklearn", "infra", "training", "lambda_function.api.openapi"} & imported
