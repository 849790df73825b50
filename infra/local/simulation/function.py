"""A function in simulated time: its execution environments, and the handlers that run in them."""

import io
import math
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import cache
from typing import Any, TypeVar

from infra.local.runtime.in_process import FunctionError, FunctionTimeoutError, Handler, InProcessRuntime
from infra.local.simulation.clock import SimulatedClock
from lambda_function.aws.telemetry import FunctionTelemetry

T = TypeVar("T", bound=FunctionTelemetry)

_MEMORY_MB = 512


class SimulatedFunction:
    """A function whose invocations go to its execution environments in turn. A kill or a crash ends one of them.

    Args:
        name: Its name.
        cold_starts: For each environment, what builds its handler. It runs before the first invocation and after an
            end.
        clock: The simulation's.
        timeout_s: The function's timeout.
    """

    def __init__(
        self, name: str, cold_starts: Sequence[Callable[[], Handler]], clock: SimulatedClock, timeout_s: float
    ) -> None:
        self._name = name
        self._cold_starts = cold_starts
        self._clock = clock
        self._timeout_s = timeout_s
        self._environments: list[InProcessRuntime | None] = [None] * len(cold_starts)
        self._place = -1  # of the environment with the last invocation

    def __call__(self, event: dict[str, Any]) -> object:
        """Run one invocation, after a cold start if there is no environment.

        Raises:
            FunctionTimeoutError: It was killed at its deadline.
            FunctionExitError: Its process ended.
            Exception: Whatever the handler raised.
        """
        started_s = self._clock.now_s
        self._clock.deadline_s = started_s + self._timeout_s
        self._place = (self._place + 1) % len(self._environments)
        try:
            environment = self._environments[self._place] or self._cold_start()
            self._environments[self._place] = environment
            with redirect_stdout(_Nowhere()):
                return environment(event)
        except TimeoutError as error:
            self.end_environment()
            raise FunctionTimeoutError(self._name, self._clock.now_s - started_s, self._timeout_s) from error
        except FunctionError:
            self.end_environment()
            raise
        finally:
            self._clock.deadline_s = math.inf

    def end_environment(self) -> None:
        """End the environment of the last invocation: its next one is a cold start."""
        self._environments[self._place] = None

    def _cold_start(self) -> InProcessRuntime:
        handler = self._cold_starts[self._place]()
        return InProcessRuntime(handler, self._timeout_s, _MEMORY_MB, self._name, self._clock.monotonic)


class _Nowhere(io.TextIOBase):
    """A file that discards its input."""

    def write(self, text: str) -> int:
        return len(text)


@cache
def silent_telemetry(kind: type[T], name: str, log_level: str = "INFO") -> T:
    """Return the one telemetry of all functions with a name: a logger is never removed from memory."""
    with redirect_stdout(_Nowhere()):
        return kind(name, name, log_level)
