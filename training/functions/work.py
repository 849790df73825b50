"""The frame of the functions that work for the loop: do the work of a request, and answer by its callback."""

import resource
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import msgspec
from aws_lambda_powertools.metrics import MetricUnit

from lambda_function.aws.clients import make_lambda_client, make_s3_client
from lambda_function.aws.invocation import Context
from lambda_function.aws.telemetry import FunctionTelemetry, Stopwatch
from training.errors import UserError
from training.functions.callbacks import Callbacks, LambdaCallbacks
from training.functions.deadline import deadline

_READ_TIMEOUT_S, _ATTEMPTS = 20, 5
"""Of requests to S3: nobody waits for these functions, and a request that fails must not cost minutes of work."""

_CALLBACK_READ_TIMEOUT_S, _CALLBACK_ATTEMPTS = 5, 4
"""Of callbacks: four that hang take 24 s, and the pauses between them at most 3 s. `deadline.MARGIN_S` leaves 30."""

_KILOBYTES_PER_MB = 1000


def make_clients() -> tuple[Any, Callbacks]:
    """Make an S3 client and the callbacks, from the environment. This sends no request."""
    callbacks = LambdaCallbacks(make_lambda_client(_CALLBACK_READ_TIMEOUT_S, _CALLBACK_ATTEMPTS))
    return make_s3_client(_READ_TIMEOUT_S, _ATTEMPTS), callbacks


class Request(Protocol):
    """What every request has."""

    run_id: str
    callback_id: str


Req = TypeVar("Req", bound=Any)


class WorkTelemetry(FunctionTelemetry):
    """Logs and metrics of a function that works for the loop."""

    DONE: ClassVar[str]
    """The metric that counts finished work."""

    def step(self, name: str) -> None:
        """Log the beginning of a step."""
        self.logger.info("step", extra={"step": name, "peak_mb": _peak_mb()})

    def done(self, run_id: str, answer: msgspec.Struct, work_ms: float, *, was_awaited: bool) -> None:
        """Log and count finished work."""
        facts = {"run_id": run_id, "answer": msgspec.to_builtins(answer), "was_awaited": was_awaited}
        self.logger.info("done", extra={**facts, "work_ms": round(work_ms), "peak_mb": _peak_mb()})
        self._count(self.DONE)

    def refused(self, run_id: str, error: Exception, work_ms: float) -> None:
        """Log and count work that ended with an error; one that a person can act on needs no traceback."""
        log = self.logger.warning if isinstance(error, UserError) else self.logger.exception
        facts = {"run_id": run_id, "error": type(error).__name__, "reason": str(error)}
        log("not done", extra={**facts, "work_ms": round(work_ms), "peak_mb": _peak_mb()})
        self._count(self.FAILED)

    def _count(self, name: str) -> None:
        metrics = self._metrics()
        metrics.add_metric(name, MetricUnit.Count, 1)
        metrics.flush_metrics()


class CollectTelemetry(WorkTelemetry):
    """Logs and metrics of the collector."""

    FAILED = "FailedCollections"
    DONE = "Collections"


class TrainTelemetry(WorkTelemetry):
    """Logs and metrics of the trainer."""

    FAILED = "FailedTrainings"
    DONE = "Trainings"


@dataclass(frozen=True, slots=True)
class Worker(Generic[Req]):
    """A function that works for the loop, with its parts.

    Attributes:
        request_type: What the event is decoded to.
        do: Does the work of a request; done again, it returns the same answer.
    """

    request_type: type[Req]
    do: Callable[[Req], msgspec.Struct]
    callbacks: Callbacks
    telemetry: WorkTelemetry
    stopwatch: Callable[[], Stopwatch] = Stopwatch

    def __call__(self, event: dict[str, Any], context: Context) -> dict[str, Any]:
        """Do the work of an event and answer; without a callback id, the answer is returned only.

        An error of the work is an answer, too: the run decides what follows. It is not raised, because Lambda would
        repeat the invocation.

        Raises:
            CallbackError: The answer was not sent. Lambda repeats the invocation.
            ValidationError: The event is no request.
        """
        try:
            request = msgspec.convert(event, self.request_type)
            return self._answer(request, context)
        except Exception as error:
            self.telemetry.failed(error)
            raise

    def _answer(self, request: Req, context: Context) -> dict[str, Any]:
        stopwatch = self.stopwatch()
        try:
            with deadline(context):
                answer = self.do(request)
        except Exception as error:  # noqa: BLE001 - whatever it is, the run must not wait for an answer in vain
            self.telemetry.refused(request.run_id, error, stopwatch.ms())
            if request.callback_id:
                self.callbacks.fail(request.callback_id, error)
            return {"error": type(error).__name__, "reason": str(error)}
        was_awaited = bool(request.callback_id) and self.callbacks.succeed(request.callback_id, answer)
        self.telemetry.done(request.run_id, answer, stopwatch.ms(), was_awaited=was_awaited)
        answered: dict[str, Any] = msgspec.to_builtins(answer)
        return answered


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // _KILOBYTES_PER_MB
