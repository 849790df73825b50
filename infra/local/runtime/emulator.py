"""The function in AWS's own runtime: its package under the runtime interface emulator and client, without Docker.

As in Lambda: the runtime client, init at the first invocation, the timeout, a new process after a crash or a timeout,
the response's size limit, and an import path with only the package and boto3.
Other than in Lambda: memory is not enforced (see `peak_rss_bytes`), one environment serves all shards, and the
processor is this machine's. An event goes over HTTP as JSON: some 20 ms for one of 6 MB.
"""

import importlib.util
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Self

import msgspec

from infra.local.ports import HOST
from infra.local.runtime.function import FunctionConfig
from infra.local.runtime.in_process import FunctionError, FunctionExitError, FunctionTimeoutError
from infra.local.runtime.rie import RieProcess
from training.errors import UserError

IN_THE_RUNTIME = ("boto3", "botocore", "s3transfer", "jmespath", "urllib3", "dateutil", "six")
"""boto3 and its dependencies, which Lambda's runtime provides."""

RUNTIME_CLIENT = ("awslambdaric", "simplejson", "snapshot_restore_py", "runtime_client")
"""AWS's program that runs a handler, and its dependencies."""

_INVOKE = "/2015-03-31/functions/function/invocations"
_INIT_AND_SPARE_S = 120.0  # for init and the answer, beyond the timeout: Lambda's init has 10 s
_INIT = re.compile(r"INIT REPORT\(durationMs: ([\d.]+)\)")
_DONE = re.compile(r"INVOKE RTDONE\(status: \w+, .*duration: ([\d.]+)ms\)")
_EXITED = re.compile(r"Process runtime-\d+ exited: (?:exit status (\d+)|(.+))")


@dataclass(frozen=True, slots=True)
class InvocationReport:
    """The emulator's report of one invocation."""

    init_ms: float | None  # time that starting the runtime and importing the function took; None for a warm start
    duration_ms: float | None  # time that the function took; None if it did not answer


class EmulatedRuntime:
    """Runs a package under the emulator, inside its `with` block: `runtime(event)` returns the response or raises.

    It is one execution environment: it processes one event at a time, from any thread.

    Attributes:
        last: The last invocation's report.
    """

    def __init__(self, function: FunctionConfig, log_path: Path) -> None:
        self.last = InvocationReport(None, None)
        self._function = function
        self._log_path = log_path
        self._lock = threading.Lock()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            runtime = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="runtime-")))
            link_modules(runtime, (*IN_THE_RUNTIME, *RUNTIME_CLIENT))
            # -S: no site-packages, -P: no imports from the working directory, -B: no bytecode in the package, which is
            # read-only in Lambda.
            command = [sys.executable, "-S", "-P", "-B", "-m", "awslambdaric", self._function.handler]
            environment = runtime_environment(self._function, runtime)
            self._rie = stack.enter_context(RieProcess(command, environment, self._function.package, self._log_path))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __call__(self, event: Mapping[str, Any]) -> object:
        """Invoke the function.

        Raises:
            FunctionError: It raised, or its response is over the limit or not JSON.
            FunctionTimeoutError: It was killed at its timeout.
            FunctionExitError: Its process ended.
            UserError: The emulator itself has ended.
        """
        body = msgspec.json.encode(event)
        with self._lock:
            log_end = self._log_path.stat().st_size
            start_s = time.monotonic()
            status, answer = self._post(body)
            duration_s = time.monotonic() - start_s
            log = self._log_after(log_end)
        self.last = _report(log)
        return self._response(status, answer, log, duration_s)

    def peak_rss_bytes(self) -> int:
        """Return the peak memory of the function's present process, 0 before the first invocation."""
        return self._rie.peak_rss_bytes()

    def _post(self, body: bytes) -> tuple[int, bytes]:
        connection = HTTPConnection(HOST, self._rie.port, timeout=self._function.timeout_s + _INIT_AND_SPARE_S)
        try:
            connection.request("POST", _INVOKE, body)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, HTTPException) as error:
            raise UserError("the runtime interface emulator gave no answer", f"see {self._log_path}") from error
        finally:
            connection.close()

    def _log_after(self, offset: int) -> str:
        with self._log_path.open("rb") as log:
            log.seek(offset)
            return log.read().decode(errors="replace")

    def _response(self, status: int, answer: bytes, log: str, duration_s: float) -> object:
        name = self._function.name
        if answer.startswith(b"Task timed out after"):
            raise FunctionTimeoutError(name, duration_s, self._function.timeout_s)
        try:
            response: Any = msgspec.json.decode(answer or b"{}")
        except msgspec.DecodeError as error:
            raise FunctionError(f"the response of {name} is not JSON: {error}") from error
        if status != 200 or _is_error(response):  # noqa: PLR2004 - HTTP's OK
            raise self._error(response, log)
        return response

    def _error(self, answer: Mapping[str, Any], log: str) -> FunctionError:
        name, kind, message = self._function.name, answer.get("errorType", ""), answer.get("errorMessage", "")
        match kind:
            case "Function.ResponseSizeTooLarge":
                return FunctionError(f"the response of {name} is too large: {message}")
            case "Runtime.MarshalError":
                return FunctionError(f"the response of {name} is not JSON: {message}")
            case "" | "Runtime.ExitError":
                exited = _EXITED.search(log)
                return FunctionExitError(name, exited and (int(exited[1]) if exited[1] else exited[2]))
        return FunctionError(f"{name} raised {kind}: {message}")


def _report(log: str) -> InvocationReport:
    inits, dones = _INIT.findall(log), _DONE.findall(log)
    # The runtime retries a failed init at once; the first one took the time.
    return InvocationReport(
        init_ms=max(map(float, inits)) if inits else None, duration_ms=float(dones[-1]) if dones else None
    )


def _is_error(response: object) -> bool:
    """Return whether this is the runtime client's report of an exception: the emulator omits its header."""
    return isinstance(response, dict) and response.keys() == {"errorMessage", "errorType", "requestId", "stackTrace"}


def runtime_environment(function: FunctionConfig, runtime: Path) -> dict[str, str]:
    """Return a function's environment as in Lambda; the folder `runtime` has links to the runtime's modules."""
    paths = [function.package, runtime, *function.site_packages]
    return {
        **function.environment,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info.major}.{sys.version_info.minor}",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(function.timeout_s),
        "LAMBDA_TASK_ROOT": str(function.package),
        "PATH": os.defpath,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "TZ": ":UTC",
    }


def link_modules(folder: Path, names: Sequence[str]) -> None:
    """Link installed modules into a folder, so that no other installed module is importable from there.

    Raises:
        UserError: A module is not installed.
    """
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise UserError(f"the runtime interface emulator needs {name}, which is not installed", "run `make setup`")
        origin = Path(spec.origin)
        source = origin.parent if spec.submodule_search_locations else origin
        (folder / source.name).symlink_to(source)
