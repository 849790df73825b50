"""The emulator with a small function: its environment, errors, timeout and limits, and how its processes end."""

import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.local.ports import HOST
from infra.local.runtime.emulator import EmulatedRuntime
from infra.local.runtime.in_process import FunctionError, FunctionTimeoutError
from infra.local.runtime.rie import RieProcess, free_ports
from tests.kits.emulator import needs_emulator, stub
from training.errors import UserError

pytestmark = needs_emulator

PATIENCE_S = 120.0


def test_package_and_boto3_are_importable_and_nothing_of_the_repository_is(tmp_path: Path, log: Path) -> None:
    body = (
        "from importlib.util import find_spec\n"
        "return {name: find_spec(name) is not None for name in event['names']}, os.environ['AWS_EXECUTION_ENV']"
    )
    foreign = ["infra", "training", "tests", "lambda_function", "sklearn", "pandas", "moto", "numpy", "samcli"]
    with EmulatedRuntime(stub(tmp_path, body), log) as runtime:
        answer = runtime({"names": ["boto3", "jmespath", *foreign]})

    assert answer == [{"boto3": True, "jmespath": True, **dict.fromkeys(foreign, False)}, "AWS_Lambda_python3.13"]


def test_context_and_environment_are_as_configured(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIDECAST_USERS_OWN", "x")
    body = (
        "left_ms = context.get_remaining_time_in_millis()\n"
        "return left_ms, context.memory_limit_in_mb, context.function_name, dict(os.environ)"
    )
    function = stub(tmp_path, body, timeout_s=7, memory_mb=640, name="predict", environment={"COLOUR": "green"})
    with EmulatedRuntime(function, log) as runtime:
        answer: Any = runtime({})

    left_ms, memory_mb, name, environment = answer
    assert 0 < left_ms <= 7000
    assert (memory_mb, name) == ("640", "predict")
    assert environment["COLOUR"] == "green"
    assert "RIDECAST_USERS_OWN" not in environment


def test_exception_is_raised_by_its_type_and_the_next_invocation_works(tmp_path: Path, log: Path) -> None:
    with EmulatedRuntime(stub(tmp_path, "return 1 / event['by']"), log) as runtime:
        with pytest.raises(FunctionError, match="predictor raised ZeroDivisionError: division by zero"):
            runtime({"by": 0})
        assert runtime({"by": 2}) == 0.5


def test_exception_at_import_is_raised_by_its_type(tmp_path: Path, log: Path) -> None:
    function = replace(stub(tmp_path, "return 1"), handler="stub.no_such_name")
    handler_not_found = r"raised Runtime\.HandlerNotFound: .*no_such_name"
    with EmulatedRuntime(function, log) as runtime, pytest.raises(FunctionError, match=handler_not_found):
        runtime({})


def test_function_that_hangs_is_killed_at_its_timeout_and_restarted(tmp_path: Path, log: Path) -> None:
    function = stub(tmp_path, "if event['hang']: time.sleep(60)\nreturn os.getpid()", timeout_s=1)
    with EmulatedRuntime(function, log) as runtime:
        before = runtime({"hang": False})
        with pytest.raises(FunctionTimeoutError, match=r"predictor took [\d.]+ s, its timeout is 1 s"):
            runtime({"hang": True})
        assert runtime({"hang": False}) != before
        assert runtime.last.init_ms is not None


def test_response_over_the_limit_or_not_json_is_a_failure(tmp_path: Path, log: Path) -> None:
    body = "return 'x' * event['n'] if event['n'] else {1, 2}"
    with EmulatedRuntime(stub(tmp_path, body), log) as runtime:
        with pytest.raises(FunctionError, match="is too large: Response payload size exceeded"):
            runtime({"n": 7_000_000})
        with pytest.raises(FunctionError, match="is not JSON: Unable to marshal response"):
            runtime({"n": 0})
        assert runtime({"n": 3}) == "xxx"


def addresses_of(pid: int) -> list[str]:
    """Return the addresses on which a process listens, IPv4 and IPv6, in the form of /proc/net."""
    tables = [Path(f"/proc/net/{name}").read_text() for name in ("tcp", "tcp6")]
    own_sockets = {str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()}
    rows = [line.split() for table in tables for line in table.splitlines()[1:]]
    return [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in own_sockets]


def test_emulator_listens_on_the_loopback_interface_only(tmp_path: Path, log: Path) -> None:
    with EmulatedRuntime(stub(tmp_path, "return 1"), log) as runtime:
        runtime({})
        addresses = addresses_of(runtime._rie._process.pid)

    assert len(addresses) == 2
    assert all(address.startswith("0100007F:") for address in addresses)


@pytest.mark.parametrize("taken_one", [0, 1])
def test_start_is_repeated_if_a_port_is_taken_in_the_meantime(taken_one: int, tmp_path: Path, log: Path) -> None:
    with socket.create_server((HOST, 0)) as holder:
        first_choice = list(free_ports())
        first_choice[taken_one] = holder.getsockname()[1]
        choices = iter([(first_choice[0], first_choice[1]), free_ports()])
        with RieProcess(["/bin/true"], {}, tmp_path, log, ports=lambda: next(choices)) as rie:
            assert rie.port not in first_choice

    assert "address already in use" in log.read_text()


def test_emulator_that_has_ended_is_reported(tmp_path: Path, log: Path) -> None:
    with EmulatedRuntime(stub(tmp_path, "return 1"), log) as runtime:
        runtime({})
        runtime._rie._process.kill()
        runtime._rie._process.wait(PATIENCE_S)
        with pytest.raises(UserError, match=r"the runtime interface emulator gave no answer: see .*function\.log"):
            runtime({})


HANGING_PARENT = """
import sys
from pathlib import Path
from infra.local.runtime.emulator import EmulatedRuntime
from infra.local.runtime.function import FunctionConfig
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
    with subprocess.Popen(  # noqa: S603 - our own arguments
        [sys.executable, "-c", HANGING_PARENT, str(function.package), str(log)], stderr=subprocess.DEVNULL
    ) as parent:
        with pipe.open() as held:
            assert held.readline() == "here\n"  # the function is running
            parent.send_signal(end)
            assert held.read() == ""  # the end of the pipe: the function's process is gone
        parent.wait(PATIENCE_S)
