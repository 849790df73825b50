"""The function in AWS's own runtime: its package under the runtime interface emulator and client, without Docker.

What it shares with Lambda: the runtime client, init at the first invocation, the timeout, the process that is made
anew after a crash or a timeout, the limit of the response, a path with the package and boto3 on it and nothing else.
What it does not: memory is neither enforced nor measured (see `peak_rss_bytes`), one environment serves all shards,
and the processor is this machine's. An event goes over HTTP as JSON: some 20 ms for one of 6 MB.
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
from types import TracebackType
from typing import Any, Self

import msgspec

from infra.errors import EmulatorError
from infra.local.runtime.in_process import (
    FunctionError,
    FunctionExitError,
    FunctionResponseError,
    FunctionTimeoutError,
    RuntimeStats,
)
from infra.local.runtime.rie import HOST, RieProcess

IN_THE_RUNTIME = ("boto3", "botocore", "s3transfer", "jmespath", "urllib3", "dateutil", "six")
"""boto3 and what it needs: what Lambda's runtime has besides the package."""

RUNTIME_CLIENT = ("awslambdaric", "simplejson", "snapshot_restore_py", "runtime_client")
"""AWS's own program around a handler, and what it needs."""

_INVOKE = "/2015-03-31/functions/function/invocations"
_INIT_AND_SPARE_S = 30.0  # what an answer may take beyond the timeout: Lambda's init has 10 s
_INIT = re.compile(r"INIT REPORT\(durationMs: ([\d.]+)\)")
_DONE = re.compile(r"INVOKE RTDONE\(status: \w+, .*duration: ([\d.]+)ms\)")
_EXITED = re.compile(r"Process runtime-\d+ exited: (?:exit status (\d+)|(.+))")


class FunctionRaisedError(FunctionError):
    """The function raised, at import or in the invocation.

    Attributes:
        error_type: The exception's class, without its module.
        error_message: Its text.
        stack_trace: As the runtime renders it, a frame an entry.
    """

    def __init__(self, function_name: str, error_type: str, error_message: str, stack_trace: Sequence[str]) -> None:
        self.function_name = function_name
        self.error_type = error_type
        self.error_message = error_message
        self.stack_trace = stack_trace
        super().__init__(f"{function_name} raised {error_type}: {error_message}")


@dataclass(frozen=True, slots=True)
class InvocationReport:
    """What the emulator reports of one invocation.

    Attributes:
        init_ms: How long the runtime and the function's imports took before it; None if they were there already.
        duration_ms: How long the function took; None if it never answered.
    """

    init_ms: float | None
    duration_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionConfig:
    """What Lambda knows of a function.

    Attributes:
        package: The folder that would be zipped.
        handler: Module and name, as in a template.
        environment: Its variables, and AWS settings for its clients.
        timeout_s: Whole seconds, as in Lambda.
        memory_mb: Told to the function; not enforced.
        site_packages: Folders that are importable besides; what a package would hold if it were built.
    """

    package: Path
    handler: str
    environment: Mapping[str, str]
    timeout_s: int
    memory_mb: int = 512
    name: str = "predictor"
    site_packages: Sequence[Path] = ()


class EmulatedRuntime:
    """Runs a package under the emulator: `runtime(event)` returns the response or raises; use it in a `with` block.

    Events are taken one at a time, from any thread: this is one execution environment.

    Attributes:
        stats: What it has run so far, with the way over HTTP and the init.
        last: The last invocation's report.
        init_ms: The last init's time; 0 before the first invocation.
    """

    def __init__(self, function: FunctionConfig, log_path: Path) -> None:
        self.stats = RuntimeStats()
        self.last = InvocationReport(None, None)
        self.init_ms = 0.0
        self._function = function
        self._log_path = log_path
        self._lock = threading.Lock()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            runtime = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="runtime-")))
            link_modules(runtime, (*IN_THE_RUNTIME, *RUNTIME_CLIENT))
            # -S: no site-packages, -P: nothing out of the working directory but the package, -B: no bytecode left in
            # the package, which is read-only in Lambda.
            command = [sys.executable, "-S", "-P", "-B", "-m", "awslambdaric", self._function.handler]
            environment = runtime_environment(self._function, runtime)
            self._rie = stack.enter_context(RieProcess(command, environment, self._function.package, self._log_path))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def __call__(self, event: Mapping[str, Any]) -> object:
        """Invokes the function.

        Raises:
            FunctionRaisedError: It raised.
            FunctionTimeoutError: It was killed at its timeout.
            FunctionExitError: Its process ended.
            FunctionResponseError: Its response is over the limit, or not JSON.
            EmulatorError: The emulator itself has ended.
        """
        body = msgspec.json.encode(event)
        with self._lock:
            log_end = self._log_path.stat().st_size
            start_s = time.monotonic()
            status, answer = self._post(body)
            duration_s = time.monotonic() - start_s
            self._count(duration_s)
            log = self._log_after(log_end)
        self._note(log)
        return self._response(status, answer, log, duration_s)

    def peak_rss_bytes(self) -> int:
        """Returns the most memory that the function's process of now has had, 0 before the first invocation."""
        return self._rie.peak_rss_bytes()

    def _post(self, body: bytes) -> tuple[int, bytes]:
        connection = HTTPConnection(HOST, self._rie.port, timeout=self._function.timeout_s + _INIT_AND_SPARE_S)
        try:
            connection.request("POST", _INVOKE, body)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, HTTPException) as error:
            raise EmulatorError("gave no answer", self._log_path) from error
        finally:
            connection.close()

    def _count(self, duration_s: float) -> None:
        self.stats.n_invocations += 1
        self.stats.duration_s += duration_s
        self.stats.max_duration_s = max(self.stats.max_duration_s, duration_s)

    def _log_after(self, offset: int) -> str:
        with self._log_path.open("rb") as log:
            log.seek(offset)
            return log.read().decode(errors="replace")

    def _note(self, log: str) -> None:
        inits, dones = _INIT.findall(log), _DONE.findall(log)
        # An init that failed is tried a second time at once: the first one took the time.
        self.last = InvocationReport(
            init_ms=max(map(float, inits)) if inits else None, duration_ms=float(dones[-1]) if dones else None
        )
        self.init_ms = self.last.init_ms or self.init_ms

    def _response(self, status: int, answer: bytes, log: str, duration_s: float) -> object:
        name = self._function.name
        if answer.startswith(b"Task timed out after"):
            raise FunctionTimeoutError(name, duration_s, self._function.timeout_s)
        try:
            response: Any = msgspec.json.decode(answer or b"{}")
        except msgspec.DecodeError as error:
            raise FunctionResponseError(name, f"is not JSON: {error}") from error
        if status != 200 or _tells_an_error(response):  # noqa: PLR2004 - HTTP's OK
            raise self._error(response, log)
        return response

    def _error(self, answer: Mapping[str, Any], log: str) -> FunctionError:
        name, kind, message = self._function.name, answer.get("errorType", ""), answer.get("errorMessage", "")
        if kind == "Function.ResponseSizeTooLarge":
            return FunctionResponseError(name, f"is too large: {message}")
        if kind == "Runtime.MarshalError":
            return FunctionResponseError(name, f"is not JSON: {message}")
        if kind in {"", "Runtime.ExitError"}:
            exited = _EXITED.search(log)
            return FunctionExitError(name, exited and (int(exited[1]) if exited[1] else exited[2]))
        return FunctionRaisedError(name, kind, message, answer.get("stackTrace", []))


def _tells_an_error(response: object) -> bool:
    """Whether this is how the runtime client tells an exception: the emulator leaves out the header that says so."""
    return isinstance(response, dict) and response.keys() == {"errorMessage", "errorType", "requestId", "stackTrace"}


def runtime_environment(function: FunctionConfig, runtime: Path) -> dict[str, str]:
    """Returns the environment that Lambda gives a function, whose runtime's modules are linked into a folder."""
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
    """Makes installed modules importable from a folder, and nothing of what is installed beside them.

    Raises:
        EmulatorError: One of them is not installed.
    """
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise EmulatorError(f"needs {name}, which is not installed: run `make setup`", None)
        origin = Path(spec.origin)
        source = origin.parent if spec.submodule_search_locations else origin
        (folder / source.name).symlink_to(source)
