"""The built package in AWS's own runtime: cold start, timeout, crash, limits, the deadline, and the whole demo."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from infra.bench.cold_start import bench_cold_start
from infra.demo.function_run import FunctionRun, function_config
from infra.errors import EmulatorError
from infra.local.emulator import EmulatedRuntime, FunctionConfig, FunctionRaisedError
from infra.local.rie import HOST, RieProcess, find_rie, free_ports
from infra.local.runtime import FunctionExitError, FunctionResponseError, FunctionTimeoutError
from infra.local.server import LocalAws
from infra.package import PYTHON, build_for_host, host_architecture
from infra.stack import DeployedStack, deploy
from infra.streams import StreamReader
from tests.builders import (
    SMALL_PARAMETERS,
    event_id,
    invocation,
    ride_bytes,
    sequence_number,
    small_rides,
)
from tests.integration.slow_kinesis import slow_kinesis
from tests.integration.test_demo import offline, ridecast
from training.export import ExportedBundle
from training.fit import fit_forest
from training.publish import move_channel, store_bundle

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_rie() is None, reason="the emulator comes with aws-sam-cli, for Linux"),
    pytest.mark.skipif(sys.version_info[:2] != PYTHON, reason="the function's runtime is Python 3.13"),
    pytest.mark.skipif(host_architecture() is None, reason="Lambda has no such processor"),
]

N_CHUNK = 500  # records in one PutRecords
PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAws]:
    with LocalAws() as running:
        yield running


@pytest.fixture(scope="module")
def stack(aws: LocalAws, bundle: ExportedBundle) -> DeployedStack:
    """A stack with a model on its channel."""
    stack, s3 = deploy(aws.client), aws.client("s3")
    store_bundle(s3, stack.bucket, bundle)
    move_channel(s3, stack.bucket, stack.environment["MODEL_CHANNEL"], bundle.model_version, bundle.manifest_sha256)
    return stack


@pytest.fixture(scope="module")
def package() -> Path:
    return build_for_host().folder


@dataclass(frozen=True)
class Output:
    """A stream of predictions, of one test alone."""

    aws: LocalAws
    name: str

    def predictions(self) -> list[tuple[str, bytes]]:
        """Reads it from its beginning: partition keys and bytes."""
        reader = StreamReader(self.aws.client("kinesis"), self.name, "TRIM_HORIZON")
        return [(record.partition_key, record.data) for record in iter_all(reader)]

    def ids(self) -> list[str]:
        """Reads it from its beginning: prediction ids."""
        return [json.loads(data)["prediction_id"] for _, data in self.predictions()]


def iter_all(reader: StreamReader) -> Iterator[Any]:
    while records := reader.read_once():
        yield from records


_names = (f"predictions-{number}" for number in count())


@pytest.fixture
def new_output(aws: LocalAws, stack: DeployedStack) -> Callable[[], Output]:
    def make() -> Output:
        output = Output(aws, next(_names))
        aws.client("kinesis").create_stream(StreamName=output.name, ShardCount=1)
        return output

    return make


@pytest.fixture
def ours(aws: LocalAws, stack: DeployedStack, package: Path, output: Output) -> FunctionConfig:
    """Our function as the template has it, with an output stream of this test's own."""
    config = function_config(aws, stack, package)
    return replace(config, environment={**config.environment, "OUTPUT_STREAM": output.name})


@pytest.fixture
def output(new_output: Callable[[], Output]) -> Output:
    return new_output()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "function.log"


def stub(folder: Path, body: str, **settings: Any) -> FunctionConfig:
    """A package that is one module: `event` and `context` are there for its body to use."""
    package = folder / "stub"
    package.mkdir()
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    (package / "stub.py").write_text(f"import os, time\ndef lambda_handler(event, context):\n{lines}\n")
    defaults: dict[str, Any] = {"environment": {"AWS_DEFAULT_REGION": "us-east-1"}, "timeout_s": 30}
    return FunctionConfig(package=package, handler="stub.lambda_handler", **{**defaults, **settings})


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
    assert runtime.init_ms == first.init_ms > 10
    assert runtime.stats.n_invocations == 4
    assert first.duration_ms > 2 * min(ms for ms in warm_ms if ms is not None)
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
    its_environment = {**stack.environment, "OUTPUT_STREAM": in_process.name}
    with FunctionRun(log).start(aws, replace(stack, environment=its_environment)) as in_this_process:
        expected = in_this_process(event)
    expected_rejects = rejects(aws, stack)

    theirs = replace(ours, environment={**ours.environment, "OUTPUT_STREAM": emulated.name})
    with EmulatedRuntime(theirs, log) as runtime:
        assert runtime(event) == expected == {"batchItemFailures": []}

    assert emulated.predictions() == in_process.predictions()
    assert len(emulated.predictions()) == 1198
    assert rejects(aws, stack) == expected_rejects
    assert len(expected_rejects) == 1


def rejects(aws: LocalAws, stack: DeployedStack) -> dict[str, bytes]:
    s3 = aws.client("s3")
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket=stack.bucket, Prefix="rejects/").get("Contents", ())]
    return {key: s3.get_object(Bucket=stack.bucket, Key=key)["Body"].read() for key in keys}


def test_package_and_boto3_are_importable_and_nothing_of_the_repository_is(tmp_path: Path, log: Path) -> None:
    body = (
        "from importlib.util import find_spec\n"
        "return {name: find_spec(name) is not None for name in event['names']}, os.environ['AWS_EXECUTION_ENV']"
    )
    foreign = ["infra", "training", "tests", "lambda_function", "sklearn", "pandas", "moto", "numpy", "samcli"]
    with EmulatedRuntime(stub(tmp_path, body), log) as runtime:
        answer = runtime({"names": ["boto3", "jmespath", *foreign]})

    assert answer == [{"boto3": True, "jmespath": True, **dict.fromkeys(foreign, False)}, "AWS_Lambda_python3.13"]


def test_context_and_environment_are_the_templates(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIDECAST_USERS_OWN", "x")
    body = (
        "left_ms = context.get_remaining_time_in_millis()\n"
        "return left_ms, context.memory_limit_in_mb, context.function_name, dict(os.environ)"
    )
    function = stub(tmp_path, body, timeout_s=7, memory_mb=640, name="predict", environment={"COLOUR": "green"})
    with EmulatedRuntime(function, log) as runtime:
        answer: Any = runtime({})

    left_ms, memory_mb, name, environment = answer
    assert 6000 < left_ms <= 7000
    assert (memory_mb, name) == ("640", "predict")
    assert environment["COLOUR"] == "green"
    assert "RIDECAST_USERS_OWN" not in environment


def test_exception_is_raised_by_its_type_and_the_next_invocation_works(tmp_path: Path, log: Path) -> None:
    with EmulatedRuntime(stub(tmp_path, "return 1 / event['by']"), log) as runtime:
        with pytest.raises(FunctionRaisedError, match="predictor raised ZeroDivisionError: division by zero") as raised:
            runtime({"by": 0})
        assert runtime({"by": 2}) == 0.5

    assert raised.value.error_type == "ZeroDivisionError"
    assert "stub.py" in raised.value.stack_trace[0]


def test_exception_at_import_is_raised_by_its_type(tmp_path: Path, log: Path) -> None:
    function = replace(stub(tmp_path, "return 1"), handler="stub.no_such_name")
    with EmulatedRuntime(function, log) as runtime, pytest.raises(FunctionRaisedError, match="no_such_name") as raised:
        runtime({})

    assert raised.value.error_type == "Runtime.HandlerNotFound"


def test_function_that_hangs_is_killed_at_its_timeout_and_started_anew(tmp_path: Path, log: Path) -> None:
    function = stub(tmp_path, "if event['hang']: time.sleep(60)\nreturn os.getpid()", timeout_s=1)
    with EmulatedRuntime(function, log) as runtime:
        before = runtime({"hang": False})
        with pytest.raises(FunctionTimeoutError, match=r"predictor took 1\.\d+ s, its timeout is 1 s"):
            runtime({"hang": True})
        assert runtime({"hang": False}) != before
        assert runtime.last.init_ms is not None


def test_crash_after_publishing_brings_the_same_predictions_again(
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


def test_response_over_the_limit_or_not_json_is_no_response(tmp_path: Path, log: Path) -> None:
    body = "return 'x' * event['n'] if event['n'] else {1, 2}"
    with EmulatedRuntime(stub(tmp_path, body), log) as runtime:
        with pytest.raises(FunctionResponseError, match="is too large: Response payload size exceeded"):
            runtime({"n": 7_000_000})
        with pytest.raises(FunctionResponseError, match="is not JSON: Unable to marshal response"):
            runtime({"n": 0})
        assert runtime({"n": 3}) == "xxx"


def test_missing_settings_are_named_by_the_first_invocation(ours: FunctionConfig, log: Path) -> None:
    missing = {"OUTPUT_STREAM", "BUCKET"}
    environment = {name: value for name, value in ours.environment.items() if name not in missing}
    with (
        EmulatedRuntime(replace(ours, environment=environment), log) as runtime,
        pytest.raises(FunctionRaisedError, match="OUTPUT_STREAM, BUCKET is missing: set it in template") as raised,
    ):
        runtime(rides(1))

    assert raised.value.error_type == "ConfigurationError"


def with_kinesis(function: FunctionConfig, url: str, timeout_s: int, margin_ms: int) -> FunctionConfig:
    slow = {"AWS_ENDPOINT_URL_KINESIS": url, "DEADLINE_MARGIN_MS": str(margin_ms)}
    return replace(function, timeout_s=timeout_s, environment={**function.environment, **slow})


def test_slow_stream_never_gets_the_function_killed_and_the_next_invocations_do_the_rest(
    aws: LocalAws, ours: FunctionConfig, output: Output, log: Path
) -> None:
    n, timeout_s, event = 6 * N_CHUNK, 2, rides(6 * N_CHUNK)
    n_done, n_invocations = 0, 0
    with (
        slow_kinesis(aws.endpoint_url, delay_s=0.3) as url,
        EmulatedRuntime(with_kinesis(ours, url, timeout_s, margin_ms=900), log) as runtime,
    ):
        while n_done < n and n_invocations < 6:
            response: Any = runtime({"Records": event["Records"][n_done:]})
            assert runtime.last.duration_ms is not None
            assert runtime.last.duration_ms < timeout_s * 1000
            n_done = len(output.ids())
            failures = [{"itemIdentifier": sequence_number(n_done)}] if n_done < n else []
            assert response == {"batchItemFailures": failures}
            n_invocations += 1

    assert output.ids() == [event_id(position) for position in range(n)]
    assert n_invocations > 1


def test_stream_that_hangs_never_gets_the_function_killed(
    aws: LocalAws, ours: FunctionConfig, output: Output, log: Path
) -> None:
    with (
        slow_kinesis(aws.endpoint_url, delay_s=60) as url,
        EmulatedRuntime(with_kinesis(ours, url, 8, margin_ms=6000), log) as runtime,
    ):
        response = runtime(rides(2 * N_CHUNK))

    assert response == {"batchItemFailures": [{"itemIdentifier": sequence_number(0)}]}
    assert output.ids() == []


def addresses_of(pid: int) -> list[str]:
    """Where a process listens, as /proc/net writes it: IPv4 and IPv6."""
    tables = [Path(f"/proc/net/{name}").read_text() for name in ("tcp", "tcp6")]
    its_own = {str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()}
    rows = [line.split() for table in tables for line in table.splitlines()[1:]]
    return [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in its_own]


def test_emulator_listens_on_the_loopback_interface_only(tmp_path: Path, log: Path) -> None:
    with EmulatedRuntime(stub(tmp_path, "return 1"), log) as runtime:
        runtime({})
        addresses = addresses_of(runtime._rie._process.pid)

    assert len(addresses) == 2
    assert all(address.startswith("0100007F:") for address in addresses)


@pytest.mark.parametrize("taken_one", [0, 1])
def test_port_that_is_taken_in_the_last_moment_makes_another_try(taken_one: int, tmp_path: Path, log: Path) -> None:
    with socket.create_server((HOST, 0)) as holder:
        first_choice = list(free_ports())
        first_choice[taken_one] = holder.getsockname()[1]
        choices = iter([(first_choice[0], first_choice[1]), free_ports()])
        with RieProcess(["/bin/true"], {}, tmp_path, log, ports=lambda: next(choices)) as rie:
            assert rie.port not in first_choice

    assert "address already in use" in log.read_text()


def test_emulator_that_is_gone_is_reported(tmp_path: Path, log: Path) -> None:
    with EmulatedRuntime(stub(tmp_path, "return 1"), log) as runtime:
        runtime({})
        runtime._rie._process.kill()
        runtime._rie._process.wait(PATIENCE_S)
        with pytest.raises(EmulatorError, match=r"the runtime interface emulator gave no answer; see .*function\.log"):
            runtime({})


HANGING_PARENT = """
import sys
from pathlib import Path
from infra.local.emulator import EmulatedRuntime, FunctionConfig
package, log = map(Path, sys.argv[1:])
function = FunctionConfig(package=package, handler="stub.lambda_handler", environment={}, timeout_s=120)
with EmulatedRuntime(function, log) as runtime:
    runtime({})
"""


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_neither_emulator_nor_function_outlives_a_parent_that_is_interrupted_or_killed(
    end: signal.Signals, tmp_path: Path, log: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    function = stub(tmp_path, f"held = open({str(pipe)!r}, 'w')\nprint('here', file=held, flush=True)\ntime.sleep(100)")
    with subprocess.Popen(  # noqa: S603 - our own words
        [sys.executable, "-c", HANGING_PARENT, str(function.package), str(log)], stderr=subprocess.DEVNULL
    ) as parent:
        with pipe.open() as held:
            assert held.readline() == "here\n"  # the function is at work
            parent.send_signal(end)
            assert held.read() == ""  # the end of the pipe: the function's process is gone
        parent.wait(PATIENCE_S)


def test_bench_tells_cold_start_and_memory_beside_scikit_learns(bundle: ExportedBundle) -> None:
    figures = bench_cold_start(bundle, fit_forest(small_rides(), SMALL_PARAMETERS), rides(2000), n=1)
    rows = {name: (value, unit, budget) for name, value, unit, budget in figures}

    assert rows["cold start: both"][1:] == ("ms", 300.0)
    assert rows["memory: peak at batches of 2,000"][1:] == ("MB", 110.0)
    assert all(value > 0 for value, _, _ in rows.values())
    assert rows["cold start: shorter than scikit-learn's"][0] > 1


def check_demo(result: Mapping[str, Any]) -> None:
    assert result["rides"] == result["predicted"] + result["rejected"] == 2000
    assert (result["lost"], result["repeated"]) == (0, 0)


def test_demo_in_the_emulator_loses_nothing(tmp_path: Path) -> None:
    build_for_host()  # while there is a network
    options = ["--runtime", "emulator", "--rides", "2000", "--output", str(tmp_path), "--json"]
    ended = ridecast("demo", *options, environment=offline(tmp_path / "empty"))

    assert ended.code == 0, ended.err
    check_demo(ended.result)
    assert "REPORT RequestId" in (tmp_path / "function.log").read_text()
