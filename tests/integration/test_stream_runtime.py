"""The stream function in AWS's own runtime: cold start, same bytes as in process, crash, deadline, pre-traffic hook."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from infra.local.aws import LocalAws
from infra.local.runtime.emulator import EmulatedRuntime
from infra.local.runtime.function import FunctionConfig
from infra.local.runtime.in_process import FunctionError, FunctionExitError, running_in_process
from infra.local.stack import DeployedStack
from lambda_function.aws.output_path import OutputPath
from lambda_function.aws.settings import PreTrafficSettings
from lambda_function.pre_traffic import NO_MODEL, PASSED, Trial, Verdict
from tests.bench.deployed import bench_cold_start
from tests.builders import (
    SMALL_PARAMETERS,
    event_id,
    invocation,
    lambda_record,
    ride_bytes,
    sequence_number,
    small_rides,
)
from tests.fakes import publish_bundle
from tests.kits.canary import BATCHES_A_MINUTE, MINUTES, TENTH, alarms_of_a_canary
from tests.kits.emulator import needs_emulator, stub
from tests.kits.streams import read_stream
from tests.kits.watched_aws import WatchedAws, watched_aws
from training.model.bundle import ExportedBundle
from training.model.fit import fit_forest

pytestmark = needs_emulator

N_CHUNK = 500  # records in one PutRecords


@pytest.fixture(scope="module")
def stack(stack: DeployedStack, aws: LocalAws, bundle: ExportedBundle) -> DeployedStack:
    """A stack with a model on its channel."""
    publish_bundle(aws.client("s3"), bundle, stack.function.environment["MODEL_CHANNEL"], stack.bucket)
    return stack


@dataclass(frozen=True)
class Output:
    """An output stream for one test."""

    aws: LocalAws
    name: str

    def predictions(self) -> list[tuple[str, bytes]]:
        """Read partition keys and bytes from the beginning."""
        return [(record.partition_key, record.data) for record in read_stream(self.aws.client("kinesis"), self.name)]

    def ids(self) -> list[str]:
        """Read prediction ids from the beginning."""
        return [json.loads(data)["prediction_id"] for _, data in self.predictions()]


_names = (f"predictions-{number}" for number in count())


@pytest.fixture
def new_output(aws: LocalAws, stack: DeployedStack) -> Callable[[], Output]:
    def make() -> Output:
        output = Output(aws, next(_names))
        aws.client("kinesis").create_stream(StreamName=output.name, ShardCount=1)
        return output

    return make


@pytest.fixture
def ours(stack: DeployedStack, package: Path, output: Output) -> FunctionConfig:
    """The function of the template, with an output stream for this test."""
    return replace(stack.function, package=package).with_variables(OUTPUT_STREAM=output.name)


@pytest.fixture
def output(new_output: Callable[[], Output]) -> Output:
    return new_output()


def rides(n: int) -> dict[str, Any]:
    return invocation(*(ride_bytes(number) for number in range(n)))


def test_cold_start_has_its_parts_and_a_warm_invocation_is_shorter(
    ours: FunctionConfig, log: Path, record_property: Callable[[str, object], None]
) -> None:
    with EmulatedRuntime(ours, log) as runtime:
        assert runtime(rides(1)) == {"batchItemFailures": []}
        first = runtime.last
        warm_ms = []
        for _ in range(3):
            runtime(rides(1))
            assert runtime.last.init_ms is None
            warm_ms.append(runtime.last.duration_ms)
        peak_mb = runtime.peak_rss_bytes() / 1e6

    assert first.init_ms is not None
    assert first.duration_ms is not None
    assert first.init_ms > 0
    assert first.duration_ms > min(ms for ms in warm_ms if ms is not None)
    assert 30 < peak_mb < 200
    record_property("init_ms", first.init_ms)
    record_property("first_invocation_ms", first.duration_ms)
    record_property("warm_ms", warm_ms)


def test_batch_gives_the_same_bytes_as_in_process(
    aws: LocalAws, stack: DeployedStack, ours: FunctionConfig, new_output: Callable[[], Output], log: Path
) -> None:
    datas = [ride_bytes(number, trip_distance=number / 7) for number in range(1, 1201)]
    datas[3] = datas[700] = b"no ride"
    event = invocation(*datas)
    in_process, emulated = new_output(), new_output()
    with running_in_process(ours.with_variables(OUTPUT_STREAM=in_process.name), log) as in_this_process:
        expected = in_this_process(event)
    expected_rejects = rejects(aws, stack)

    with EmulatedRuntime(ours.with_variables(OUTPUT_STREAM=emulated.name), log) as runtime:
        assert runtime(event) == expected == {"batchItemFailures": []}

    assert emulated.predictions() == in_process.predictions()
    assert len(emulated.predictions()) == 1198
    assert rejects(aws, stack) == expected_rejects
    assert len(expected_rejects) == 1


def rejects(aws: LocalAws, stack: DeployedStack) -> dict[str, bytes]:
    s3 = aws.client("s3")
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket=stack.bucket, Prefix="rejects/").get("Contents", ())]
    return {key: s3.get_object(Bucket=stack.bucket, Key=key)["Body"].read() for key in keys}


def test_crash_after_publishing_repeats_the_same_predictions(
    ours: FunctionConfig, output: Output, tmp_path: Path, log: Path
) -> None:
    crash = (
        "from lambda_function.handler import lambda_handler as ours\n"
        "response = ours(event, context)\n"
        "if not os.path.exists(os.environ['CRASHED']):\n"
        "    open(os.environ['CRASHED'], 'x').close()\n"
        "    os._exit(3)\n"
        "return response"
    )
    environment = {**ours.environment, "CRASHED": str(tmp_path / "crashed")}
    function = stub(tmp_path, crash, environment=environment, site_packages=[ours.package])
    with EmulatedRuntime(function, log) as runtime:
        with pytest.raises(FunctionExitError, match="predictor ended its process with exit code 3"):
            runtime(rides(600))
        assert runtime(rides(600)) == {"batchItemFailures": []}

    predictions = output.predictions()
    assert output.ids() == [event_id(position) for position in range(600)] * 2
    assert predictions[:600] == predictions[600:]


def test_missing_settings_are_named_by_the_first_invocation(ours: FunctionConfig, log: Path) -> None:
    missing = {"OUTPUT_STREAM", "BUCKET"}
    environment = {name: value for name, value in ours.environment.items() if name not in missing}
    with (
        EmulatedRuntime(replace(ours, environment=environment), log) as runtime,
        pytest.raises(
            FunctionError, match=r"ConfigurationError: .*OUTPUT_STREAM, BUCKET is missing: set it in template"
        ),
    ):
        runtime(rides(1))


def with_kinesis(function: FunctionConfig, slow: WatchedAws, timeout_s: int, margin_ms: int) -> FunctionConfig:
    variables = {"AWS_ENDPOINT_URL_KINESIS": slow.endpoint_url, "DEADLINE_MARGIN_MS": str(margin_ms)}
    return replace(function, timeout_s=timeout_s).with_variables(**variables)


def test_function_on_a_slow_stream_ends_in_time_and_the_next_invocations_publish_the_rest(
    aws: LocalAws, ours: FunctionConfig, output: Output, log: Path
) -> None:
    # Three requests fit into the time before the margin, which leaves three seconds for a slow machine.
    n, timeout_s, event = 6 * N_CHUNK, 6, rides(6 * N_CHUNK)
    n_done, n_invocations = 0, 0
    with (
        watched_aws(aws.endpoint_url, delay_s=0.9) as slow,
        EmulatedRuntime(with_kinesis(ours, slow, timeout_s, margin_ms=3000), log) as runtime,
    ):
        while n_done < n and n_invocations < 20:
            response: Any = runtime({"Records": event["Records"][n_done:]})
            assert runtime.last.duration_ms is not None
            assert runtime.last.duration_ms < timeout_s * 1000
            n_done = len(output.ids())
            failures = [{"itemIdentifier": sequence_number(n_done)}] if n_done < n else []
            assert response == {"batchItemFailures": failures}
            n_invocations += 1

    assert output.ids() == [event_id(position) for position in range(n)]
    assert n_invocations > 1


def test_function_on_a_stream_that_hangs_ends_in_time(
    aws: LocalAws, ours: FunctionConfig, output: Output, log: Path
) -> None:
    with (
        watched_aws(aws.endpoint_url, delay_s=60) as slow,
        EmulatedRuntime(with_kinesis(ours, slow, 8, margin_ms=6000), log) as runtime,
    ):
        response = runtime(rides(2 * N_CHUNK))

    assert response == {"batchItemFailures": [{"itemIdentifier": sequence_number(0)}]}
    assert output.ids() == []


@dataclass
class EmulatedLambda:
    """Lambda's Invoke call, answered by the emulator."""

    runtime: EmulatedRuntime

    def invoke(self, *, FunctionName: str, Payload: bytes) -> dict[str, Any]:  # noqa: N803
        """Invoke the only version."""
        answer = self.runtime(json.loads(Payload))
        return {"Payload": io.BytesIO(json.dumps(answer).encode())}


def trial(aws: LocalAws, stack: DeployedStack, runtime: EmulatedRuntime, channel: str, **variables: str) -> Trial:
    """Return the hook's trial of a version that runs in the emulator, whose configuration has these variables."""
    functions, name = aws.client("lambda"), stack.function.name
    configuration = functions.get_function_configuration(FunctionName=name)
    changed = {"Variables": {**configuration["Environment"]["Variables"], **variables}}
    functions.update_function_configuration(FunctionName=name, Environment=changed)
    version = functions.publish_version(FunctionName=name)["FunctionArn"]
    settings = PreTrafficSettings(bucket=stack.bucket, model_channel=channel, new_version=version)
    output_path = OutputPath(functions, aws.client("kinesis"), aws.client("kms"), aws.client("iam"))
    return Trial(settings, aws.client("s3"), EmulatedLambda(runtime), output_path)


def test_version_with_a_wrong_output_stream_is_stopped_by_the_hook(
    aws: LocalAws, stack: DeployedStack, ours: FunctionConfig, bundle: ExportedBundle, log: Path
) -> None:
    """Measured before: such a version passed the hook, since a rehearsal publishes nothing, and then the canary."""
    publish_bundle(aws.client("s3"), bundle, "stable", stack.bucket)

    with EmulatedRuntime(ours.with_variables(OUTPUT_STREAM="nope"), log) as runtime:
        verdict = trial(aws, stack, runtime, "stable", OUTPUT_STREAM="nope").run()

    assert not verdict.passed
    assert "may not kinesis:PutRecords on " in verdict.why
    assert verdict.why.endswith(":stream/nope does not exist")


def test_version_that_the_output_stream_refuses_is_rolled_back_by_the_canary(
    ours: FunctionConfig, output: Output, log: Path
) -> None:
    """As when the stream's own policy refuses it, which the hook cannot see. Measured before: no alarm sounded."""
    n_batches = MINUTES * BATCHES_A_MINUTE
    with (
        EmulatedRuntime(ours, log) as old,
        EmulatedRuntime(ours.with_variables(OUTPUT_STREAM="nope"), log) as new,
    ):
        sounded = alarms_of_a_canary(old, new, lambda number: {"Records": [lambda_record(ride_bytes(number), number)]})

    assert "FunctionErrorsAlarm" in sounded
    assert len(output.ids()) == n_batches * (TENTH - 1) / TENTH


def test_pre_traffic_hook_tries_a_built_version_without_publishing(
    aws: LocalAws, stack: DeployedStack, ours: FunctionConfig, output: Output, bundle: ExportedBundle, log: Path
) -> None:
    s3 = aws.client("s3")

    with EmulatedRuntime(ours.with_variables(MODEL_CHANNEL="not-yet"), log) as runtime:
        hook = trial(aws, stack, runtime, "not-yet", OUTPUT_STREAM=stack.output_stream)
        assert hook.run() == Verdict(passed=True, why=NO_MODEL)
        publish_bundle(s3, bundle, "not-yet", stack.bucket)
        assert hook.run() == Verdict(passed=True, why=PASSED)
        assert output.ids() == []

        runtime(rides(1))

    assert len(output.ids()) == 1


def test_bench_measures_cold_start_and_memory_beside_scikit_learns(bundle: ExportedBundle) -> None:
    figures = bench_cold_start(bundle, fit_forest(small_rides(), SMALL_PARAMETERS), rides(2000), n=1)
    rows = {one.name: one for one in figures}

    assert (rows["cold start: both"].unit, rows["cold start: both"].budget) == ("ms", 300.0)
    assert (rows["memory: peak at batches of 2,000"].unit, rows["memory: peak at batches of 2,000"].budget) == (
        "MB",
        110.0,
    )
    assert all(one.value > 0 for one in figures)
    assert rows["cold start: shorter than scikit-learn's"].value > 1
