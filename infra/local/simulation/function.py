"""The real function in memory. A cold start builds its environment; a kill or a crash ends it."""

import io
import math
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from typing import Any

from infra.local.runtime.in_process import FunctionError, FunctionTimeoutError
from infra.local.simulation.clock import SimulatedClock
from infra.local.simulation.faults import FaultyKinesis, FaultyS3
from lambda_function.aws.model_store import ModelStore
from lambda_function.aws.publisher import Publisher
from lambda_function.aws.settings import Settings
from lambda_function.aws.telemetry import MILLISECONDS_PER_S, Telemetry
from lambda_function.handler import StreamHandler

_NAME = "simulated-function"


class _Nowhere(io.TextIOBase):
    """A file that discards its input."""

    def write(self, text: str) -> int:
        return len(text)


@dataclass(frozen=True, slots=True)
class _Context:
    clock: SimulatedClock

    def get_remaining_time_in_millis(self) -> int:
        return int(max(0.0, self.clock.deadline_s - self.clock.now_s) * MILLISECONDS_PER_S)


class SimulatedFunction:
    """Runs the handler on events, in one environment at a time, in simulated time.

    Args:
        s3: Models and rejects.
        kinesis: The output stream.
        clock: The clock; each invocation sets its deadline.
        settings: The function's settings.
        timeout_s: The function's timeout.
    """

    def __init__(
        self, s3: FaultyS3, kinesis: FaultyKinesis, clock: SimulatedClock, settings: Settings, timeout_s: float
    ) -> None:
        self._s3 = s3
        self._kinesis = kinesis
        self._clock = clock
        self._settings = settings
        self._timeout_s = timeout_s
        self._environment: StreamHandler | None = None

    def __call__(self, event: dict[str, Any]) -> object:
        """Run one invocation.

        Raises:
            FunctionTimeoutError: It was killed at its deadline.
            FunctionExitError: Its process ended.
            PredictorError: The handler raised it.
        """
        started_s = self._clock.now_s
        self._clock.deadline_s = started_s + self._timeout_s
        try:
            handler = self._environment or self._cold_start()
            self._environment = handler
            with redirect_stdout(_Nowhere()):
                return handler(event, _Context(self._clock))
        except TimeoutError as error:
            self.end_environment()
            raise FunctionTimeoutError(_NAME, self._clock.now_s - started_s, self._timeout_s) from error
        except FunctionError:
            self.end_environment()
            raise
        finally:
            self._clock.deadline_s = math.inf

    def end_environment(self) -> None:
        """End the environment: the next invocation is a cold start."""
        self._environment = None

    def _cold_start(self) -> StreamHandler:
        settings, clock = self._settings, self._clock
        return StreamHandler(
            settings=settings,
            s3=self._s3,
            models=ModelStore(
                self._s3, settings.bucket, settings.model_channel, settings.model_refresh_s, clock.monotonic
            ),
            publisher=Publisher(
                self._kinesis, settings.output_stream, clock.sleep, jitter=lambda _, longest_s: longest_s
            ),
            telemetry=_telemetry(),
            clock=clock.wall,
        )


@cache
def _telemetry() -> Telemetry:
    """Return one telemetry for all functions: a logger is never removed from memory."""
    with redirect_stdout(_Nowhere()):
        return Telemetry(_NAME, _NAME, "INFO")
