"""The in-process runtime: a function's context and environment, failures, and where its output goes."""

import json
import os
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.local.runtime.in_process import (
    FunctionError,
    FunctionExitError,
    FunctionTimeoutError,
    Handler,
    InProcessRuntime,
    load_handler,
)
from infra.operate.lambda_event import MAX_PAYLOAD_BYTES
from tests.fakes import FakeClock

PATH = "a_function.entry.lambda_handler"


def make_runtime(handler: Handler, clock: FakeClock | None = None, timeout_s: float = 60) -> InProcessRuntime:
    return InProcessRuntime(handler, timeout_s, 512, "predict-rides", clock or FakeClock())


MakeFunction = Callable[[str], Path]


@pytest.fixture
def make_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeFunction:
    """Writes a function's module that can be imported by PATH, and returns the path of its log."""

    def make(body: str) -> Path:
        package = tmp_path / "a_function"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "entry.py").write_text(f"import logging, os, sys\n{body}\n")
        monkeypatch.syspath_prepend(tmp_path)
        for name in ("a_function", "a_function.entry"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        return tmp_path / "function.log"

    return make


def test_function_gets_the_event_itself_and_its_response_comes_back() -> None:
    event: dict[str, Any] = {"Records": []}
    seen = []

    def handler(given: dict[str, Any], context: Any) -> object:
        seen.append(given)
        return {"batchItemFailures": ()}

    assert make_runtime(handler)(event) == {"batchItemFailures": []}
    assert seen[0] is event


def test_context_has_lambdas_facts() -> None:
    contexts: list[Any] = []
    runtime = make_runtime(lambda event, context: contexts.append(context))

    runtime({})
    runtime({})

    first, second = contexts
    assert first.function_name == "predict-rides"
    assert first.function_version == "$LATEST"
    assert first.memory_limit_in_mb == "512"
    assert first.invoked_function_arn.endswith(":function:predict-rides")
    assert first.aws_request_id != second.aws_request_id


def test_remaining_time_runs_down_to_zero() -> None:
    clock = FakeClock()
    left_ms = []

    def handler(event: dict[str, Any], context: Any) -> None:
        for seconds in (0.0, 1.5, 100.0):
            clock.advance(seconds)
            left_ms.append(context.get_remaining_time_in_millis())

    with pytest.raises(FunctionTimeoutError):
        make_runtime(handler, clock)({})

    assert left_ms == [60_000, 58_500, 0]


def test_function_that_took_longer_than_its_timeout_has_failed() -> None:
    clock = FakeClock()

    with pytest.raises(FunctionTimeoutError, match=r"predict-rides took 61\.000 s, its timeout is 60 s"):
        make_runtime(lambda event, context: clock.advance(61), clock)({})


@pytest.mark.parametrize("response", [{1, 2}, b"bytes", {"deep": object()}])
def test_response_that_is_not_json_is_a_failure(response: object) -> None:
    with pytest.raises(FunctionError, match="is not JSON"):
        make_runtime(lambda event, context: response)({})


def test_response_may_have_six_megabytes_and_not_one_byte_more() -> None:
    def handler(event: dict[str, Any], context: Any) -> object:
        return "é" * (MAX_PAYLOAD_BYTES // 2 - 1) + event["more"]  # two bytes a letter, and the quotes

    runtime = make_runtime(handler)

    runtime({"more": ""})
    with pytest.raises(FunctionError, match=f"has {MAX_PAYLOAD_BYTES + 1} bytes"):
        runtime({"more": "x"})


def test_function_that_ends_its_process_fails_only_its_invocation() -> None:
    with pytest.raises(FunctionExitError, match="exit code 3"):
        make_runtime(lambda event, context: sys.exit(3))({})


def test_function_has_its_environment_which_is_restored_after(
    make_function: MakeFunction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RIDECAST_OLD", "before")
    log = make_function(
        "AT_IMPORT = os.environ['RIDECAST_OLD']\n"
        "def lambda_handler(event, context): return [AT_IMPORT, os.environ['RIDECAST_NEW']]",
    )

    with load_handler(PATH, {"RIDECAST_OLD": "during", "RIDECAST_NEW": "new"}, log) as handler:
        assert handler({}, None) == ["during", "new"]

    assert os.environ["RIDECAST_OLD"] == "before"
    assert "RIDECAST_NEW" not in os.environ


def test_functions_that_are_loaded_together_read_their_own_settings(
    make_function: MakeFunction, tmp_path: Path
) -> None:
    log = make_function("def lambda_handler(event, context): return os.environ.get('RIDECAST_NEW')")
    shutil.copytree(tmp_path / "a_function", tmp_path / "another_function")

    with (
        load_handler(PATH, {"RIDECAST_NEW": "a"}, log) as a_function,
        load_handler("another_function.entry.lambda_handler", {"RIDECAST_NEW": "another"}, log) as another_function,
    ):
        assert (a_function({}, None), another_function({}, None)) == ("a", "another")


def test_function_does_not_see_the_users_aws_settings_and_proxies(
    make_function: MakeFunction, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = {"AWS_PROFILE": "mine", "AWS_ENDPOINT_URL_S3": "http://mine", "HTTP_PROXY": "http://p", "no_proxy": "x"}
    for name, value in users.items():
        monkeypatch.setenv(name, value)
    body = f"def lambda_handler(event, context): return [os.environ.get(name) for name in {['AWS_REGION', *users]}]"
    log = make_function(body)

    with load_handler(PATH, {"AWS_REGION": "here"}, log) as handler:
        assert handler({}, None) == ["here", None, None, None, None]

    assert users.items() <= os.environ.items()


def test_environment_and_output_are_restored_if_the_cold_start_fails(make_function: MakeFunction) -> None:
    log = make_function("raise KeyError('no setting')")
    stdout = sys.stdout

    with pytest.raises(KeyError, match="no setting"), load_handler(PATH, {"RIDECAST_NEW": "new"}, log):
        pass

    assert "RIDECAST_NEW" not in os.environ
    assert sys.stdout is stdout


def test_each_load_is_a_cold_start(make_function: MakeFunction) -> None:
    log = make_function("count = []\ndef lambda_handler(event, context): count.append(1); return len(count)")

    counts = []
    for _ in range(2):
        with load_handler(PATH, {}, log) as handler:
            counts += [handler({}, None), handler({}, None)]

    assert counts == [1, 2, 1, 2]


def test_cold_start_of_a_package_imports_its_modules_again(make_function: MakeFunction, tmp_path: Path) -> None:
    log = make_function("AT_IMPORT = os.environ['RIDECAST_NEW']")
    entry = "from a_function.entry import AT_IMPORT\ndef lambda_handler(event, context): return AT_IMPORT\n"
    (tmp_path / "a_function" / "__init__.py").write_text(entry)

    values = []
    for value in ("first", "second"):
        with load_handler("a_function.lambda_handler", {"RIDECAST_NEW": value}, log) as handler:
            values.append(handler({}, None))

    assert values == ["first", "second"]


def test_only_the_functions_output_goes_to_its_log(
    make_function: MakeFunction, capsys: pytest.CaptureFixture[str]
) -> None:
    log = make_function("print('import')\ndef lambda_handler(event, context): print(event['say'])")

    with load_handler(PATH, {}, log) as handler:
        print("before")  # noqa: T201 - the subject of the test
        handler({"say": "invoked"}, None)
        print("after")  # noqa: T201
        written_at_once = log.read_text()

    assert written_at_once == "import\ninvoked\n"
    assert capsys.readouterr().out == "before\nafter\n"


def test_logger_created_at_import_writes_to_the_log_during_invocations(
    make_function: MakeFunction, capsys: pytest.CaptureFixture[str]
) -> None:
    log = make_function(
        "stream = logging.StreamHandler(sys.stdout)\n"
        "record = logging.makeLogRecord({'msg': 'one batch'})\n"
        "def lambda_handler(event, context): stream.emit(record)",
    )

    with load_handler(PATH, {}, log) as handler:
        handler({}, None)

    assert log.read_text() == "one batch\n"
    assert capsys.readouterr().out == ""


def test_other_threads_keep_the_terminal_while_the_function_runs(
    make_function: MakeFunction, capsys: pytest.CaptureFixture[str]
) -> None:
    log = make_function("def lambda_handler(event, context): print('inside'); event['call']()")

    def print_elsewhere() -> None:
        thread = threading.Thread(target=print, args=["progress"])
        thread.start()
        thread.join()

    with load_handler(PATH, {}, log) as handler:
        handler({"call": print_elsewhere}, None)

    assert log.read_text() == "inside\n"
    assert capsys.readouterr().out == "progress\n"


def test_event_of_records_is_unchanged_by_a_trip_through_json() -> None:
    # The reason why the runtime may omit that trip.
    event = {"Records": [{"kinesis": {"data": "eA==", "approximateArrivalTimestamp": 1545084650.987}}]}

    assert json.loads(json.dumps(event)) == event
