"""The in-process runtime: a function's handler run as Lambda would run it: context, deadline, environment, log."""

import importlib
import json
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

from training.errors import UserError

MAX_RESPONSE_BYTES = 6 * 1024 * 1024

Handler = Callable[[dict[str, Any], Any], object]
"""The function's entry point: event and context in, response out."""

Runtime = Callable[[dict[str, Any]], object]
"""Runs a function on an event: returns its response, raises if it failed."""


class FunctionError(UserError):
    """The invocation failed outside of the function's own code; Lambda would bring the batch again."""


class FunctionTimeoutError(FunctionError):
    """The function took longer than it may: Lambda would have killed it, and never seen its response."""

    def __init__(self, function_name: str, duration_s: float, timeout_s: float) -> None:
        self.function_name = function_name
        self.duration_s = duration_s
        self.timeout_s = timeout_s
        super().__init__(f"{function_name} took {duration_s:.3f} s, its timeout is {timeout_s:g} s")


class FunctionResponseError(FunctionError):
    """The function returned what Lambda can't pass on."""

    def __init__(self, function_name: str, problem: str) -> None:
        self.function_name = function_name
        self.problem = problem
        super().__init__(f"the response of {function_name} {problem}")


class FunctionExitError(FunctionError):
    """The function ended its process instead of returning."""

    def __init__(self, function_name: str, code: object) -> None:
        self.function_name = function_name
        self.code = code
        super().__init__(f"{function_name} ended its process with exit code {code}")


@dataclass(frozen=True, slots=True)
class LambdaContext:
    """What Lambda tells a function about its invocation, under Lambda's names."""

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
        """Milliseconds until the function would be killed, 0 at least."""
        return max(0, int((self.deadline_s - self.clock()) * 1000))


@dataclass(slots=True)
class RuntimeStats:
    """What a runtime has run so far: invocations, failed ones among them, and the seconds that they took."""

    n_invocations: int = 0
    duration_s: float = 0.0
    max_duration_s: float = 0.0


class InProcessRuntime:
    """Runs a handler in this process, an event at a time: `runtime(event)` returns the response or raises.

    It can't stop a function at its timeout; one that ran longer has failed all the same, whatever it returned.

    Args:
        handler: The function's entry point.
        timeout_s: How long an invocation may take.
        memory_mb: Told to the function; not enforced.
        function_name: Told to the function.
        clock: Seconds, monotonic.

    Attributes:
        stats: What it has run so far.
    """

    def __init__(
        self,
        handler: Handler,
        timeout_s: float,
        memory_mb: int,
        function_name: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stats = RuntimeStats()
        self._handler = handler
        self._timeout_s = timeout_s
        self._memory_mb = memory_mb
        self._function_name = function_name
        self._clock = clock

    def __call__(self, event: dict[str, Any]) -> object:
        """Invokes the function.

        The event is handed over as it is: a round trip through JSON costs some 4 µs a record and changes nothing in
        an event of strings and floats. The response is small, and does make the trip: so a tuple arrives as a list.

        Raises:
            FunctionError: It took too long, ended the process, or returned what isn't JSON or is over 6 MiB.
            Exception: Whatever the handler raised.
        """
        start_s = self._clock()
        try:
            response = self._handler(event, self._context(start_s))
        except SystemExit as error:
            raise FunctionExitError(self._function_name, error.code) from error
        finally:
            duration_s = self._clock() - start_s
            self.stats.n_invocations += 1
            self.stats.duration_s += duration_s
            self.stats.max_duration_s = max(self.stats.max_duration_s, duration_s)
        if duration_s > self._timeout_s:
            raise FunctionTimeoutError(self._function_name, duration_s, self._timeout_s)
        return self._as_lambda_passes_it_on(response)

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

    def _as_lambda_passes_it_on(self, response: object) -> object:
        try:
            body = json.dumps(response, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise FunctionResponseError(self._function_name, f"is not JSON: {error}") from error
        n_bytes = len(body.encode("utf-8", "surrogatepass"))
        if n_bytes > MAX_RESPONSE_BYTES:
            raise FunctionResponseError(self._function_name, f"has {n_bytes} bytes, over {MAX_RESPONSE_BYTES}")
        passed_on: object = json.loads(body)
        return passed_on


@contextmanager
def load_handler(path: str, environment: Mapping[str, str], log_path: Path) -> Iterator[Handler]:
    """Gives a function a cold start in this process, and its own environment and log while the context is open.

    What it prints during the import and its invocations is appended to the log; what other threads print is not.
    A live display of rich's needs `redirect_stdout=False`: its own redirection would come in between.

    Args:
        path: Module and name of the entry point, as in a template: ``lambda_function.handler.lambda_handler``.
        environment: The function's environment variables, on top of this process's own; the user's AWS settings
            and proxies are put away, as the function would not have them in Lambda either.
        log_path: The log.
    """
    module_name, _, handler_name = path.rpartition(".")
    with _environment(environment), log_path.open("a", encoding="utf-8") as log, _switched_stdout() as stdout:

        def logged(event: dict[str, Any], context: object) -> object:
            with stdout.to(log):
                return handler(event, context)

        with stdout.to(log):
            # Imported anew: clients and settings of an earlier load belong to its environment.
            sys.modules.pop(module_name, None)
            handler: Handler = getattr(importlib.import_module(module_name), handler_name)
        yield logged


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
    """A standard output that goes, thread by thread, where it was switched to, else where it went before.

    `redirect_stdout` would take the terminal from all threads, from a live display too. And a logger keeps for ever
    the stream that it was made with: it is given this one, which looks up its target at each call.
    """

    def __init__(self) -> None:
        self.before: TextIO | None = None
        self._thread = threading.local()

    @contextmanager
    def to(self, target: TextIO) -> Iterator[None]:
        """Switches this thread's output to a file, and flushes it at the end."""
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
