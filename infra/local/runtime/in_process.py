"""The in-process runtime: runs a handler as Lambda does, with its context, deadline, environment and log."""

import importlib
import json
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

from infra.local.runtime.function import FunctionConfig
from infra.operate.lambda_event import MAX_PAYLOAD_BYTES
from training.errors import UserError

Handler = Callable[[dict[str, Any], Any], object]
"""A function's entry point: takes event and context, returns the response."""

Runtime = Callable[[dict[str, Any]], object]
"""Runs a function on an event: returns its response, raises if it failed."""


class FunctionError(UserError):
    """A failed invocation; Lambda would retry the batch."""


class FunctionTimeoutError(FunctionError):
    """The function exceeded its timeout: Lambda would have killed it before it answered."""

    def __init__(self, function_name: str, duration_s: float, timeout_s: float) -> None:
        super().__init__(f"{function_name} took {duration_s:.3f} s, its timeout is {timeout_s:g} s")


class FunctionExitError(FunctionError):
    """The function ended its process instead of returning."""

    def __init__(self, function_name: str, code: object) -> None:
        super().__init__(f"{function_name} ended its process with exit code {code}")


@dataclass(frozen=True, slots=True)
class LambdaContext:
    """Lambda's context object: facts about the function and the invocation, under Lambda's names."""

    function_name: str
    function_version: str
    invoked_function_arn: str
    memory_limit_in_mb: str  # Lambda gives it as a string
    aws_request_id: str
    log_group_name: str
    log_stream_name: str
    deadline_s: float
    clock: Callable[[], float]

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until the timeout, at least 0."""
        return max(0, int((self.deadline_s - self.clock()) * 1000))


class InProcessRuntime:
    """Runs a handler in this process, one event at a time: `runtime(event)` returns the response or raises.

    It cannot stop a function at its timeout, but an invocation that took longer fails, whatever it returned.
    The memory size is passed to the function and not enforced. `clock` returns monotonic seconds.
    """

    def __init__(
        self,
        handler: Handler,
        timeout_s: float,
        memory_mb: int,
        function_name: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._handler = handler
        self._timeout_s = timeout_s
        self._memory_mb = memory_mb
        self._function_name = function_name
        self._clock = clock

    def __call__(self, event: dict[str, Any]) -> object:
        """Invoke the function.

        The event is passed without a round trip through JSON, which costs some 4 µs a record and changes nothing in an
        event of strings and floats. The response makes the round trip: so a tuple arrives as a list.

        Raises:
            FunctionError: It took too long, ended the process, or returned what is not JSON or is over 6 MiB.
            Exception: Whatever the handler raised.
        """
        start_s = self._clock()
        try:
            response = self._handler(event, self._context(start_s))
        except SystemExit as error:
            raise FunctionExitError(self._function_name, error.code) from error
        duration_s = self._clock() - start_s
        if duration_s > self._timeout_s:
            raise FunctionTimeoutError(self._function_name, duration_s, self._timeout_s)
        return self._json_response(response)

    def _context(self, start_s: float) -> LambdaContext:
        name = self._function_name
        return LambdaContext(
            function_name=name,
            function_version="$LATEST",
            invoked_function_arn=f"arn:aws:lambda:us-east-1:123456789012:function:{name}",
            memory_limit_in_mb=str(self._memory_mb),
            aws_request_id=str(uuid.uuid4()),
            log_group_name=f"/aws/lambda/{name}",
            log_stream_name="local",
            deadline_s=start_s + self._timeout_s,
            clock=self._clock,
        )

    def _json_response(self, response: object) -> object:
        try:
            body = json.dumps(response, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise FunctionError(f"the response of {self._function_name} is not JSON: {error}") from error
        n_bytes = len(body.encode("utf-8", "surrogatepass"))
        if n_bytes > MAX_PAYLOAD_BYTES:
            raise FunctionError(f"the response of {self._function_name} has {n_bytes} bytes, over {MAX_PAYLOAD_BYTES}")
        decoded: object = json.loads(body)
        return decoded


@contextmanager
def running_in_process(function: FunctionConfig, log_path: Path) -> Iterator[InProcessRuntime]:
    """Run a function's source in this process inside the `with` block; see `load_handler` about its log."""
    with load_handler(function.handler, function.environment, log_path) as handler:
        yield InProcessRuntime(handler, function.timeout_s, function.memory_mb, function.name)


@contextmanager
def load_handler(path: str, environment: Mapping[str, str], log_path: Path) -> Iterator[Handler]:
    """Import a handler with a cold start in this process, with its own environment and log inside the `with` block.

    Functions with different environments may be loaded at the same time: each has its own until its first invocation
    has succeeded, which reads its settings. Two of these must not run at the same time.
    Its output during the import and its invocations is appended to the log; the output of other threads is not.
    A live display of rich needs `redirect_stdout=False`: its own redirection would interfere.

    Args:
        path: Module and name of the entry point, as in a template: ``lambda_function.handler.lambda_handler``.
        environment: The function's environment variables, in addition to this process's own; the user's AWS settings
            and proxies are removed, as Lambda has none.
        log_path: The log.
    """
    module_name, _, handler_name = path.rpartition(".")
    with _environment(environment), log_path.open("a", encoding="utf-8") as log, _switched_stdout() as stdout:
        is_cold = True

        def logged(event: dict[str, Any], context: object) -> object:
            nonlocal is_cold
            with stdout.to(log), _own_environment(environment) if is_cold else nullcontext():
                response = handler(event, context)
            is_cold = False
            return response

        with stdout.to(log):
            # Import again: clients and settings of an earlier import belong to another environment.
            for name in [n for n in sys.modules if n == module_name or n.startswith(f"{module_name}.")]:
                del sys.modules[name]
            handler: Handler = getattr(importlib.import_module(module_name), handler_name)
        yield logged


def _own_environment(variables: Mapping[str, str]) -> AbstractContextManager[None]:
    """Set a function's environment again if another function has changed it."""
    is_own = all(os.environ.get(name) == value for name, value in variables.items())
    return nullcontext() if is_own else _environment(variables)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    users = [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]
    before = {name: os.environ.get(name) for name in (*users, *variables)}
    for name in users:
        del os.environ[name]
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class _SwitchedStdout:
    """A standard output whose target can be set for each thread; without a target it writes where stdout went before.

    `redirect_stdout` would redirect all threads, and a live display with them. Loggers keep the stream that they were
    created with, so they get this object, which finds its target at each call.
    """

    def __init__(self) -> None:
        self.before: TextIO | None = None
        self._thread = threading.local()

    @contextmanager
    def to(self, target: TextIO) -> Iterator[None]:
        """Send this thread's output to a file, and flush it at the end."""
        previous = getattr(self._thread, "target", None)
        self._thread.target = target
        try:
            yield
        finally:
            self._thread.target = previous
            target.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(getattr(self._thread, "target", None) or self.before or sys.__stdout__, name)


_stdout = _SwitchedStdout()


@contextmanager
def _switched_stdout() -> Iterator[_SwitchedStdout]:
    before, outer = sys.stdout, _stdout.before
    if before is not cast("TextIO", _stdout):
        _stdout.before = before
    sys.stdout = cast("TextIO", _stdout)
    try:
        yield _stdout
    finally:
        sys.stdout, _stdout.before = before, outer
