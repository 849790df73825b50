"""The checkpoints of the loop as Lambda keeps them: one durable operation for each step, wait and question."""

import json
import math
from collections.abc import Callable
from typing import Any

from aws_durable_execution_sdk_python import DurableContext
from aws_durable_execution_sdk_python.config import Duration, StepConfig, WaitForCallbackConfig
from aws_durable_execution_sdk_python.exceptions import (
    CallbackExternalError,
    CallbackTimeoutError,
    DurableOperationError,
)
from aws_durable_execution_sdk_python.retries import RetryDecision

from training.workflows.loop.checkpoints import AskFailedError, NoAnswerError, StepFailedError, retry_delay_s


class DurableCheckpoints:
    """Runs the loop's steps, waits and questions as operations of a durable execution.

    A failed attempt waits for the next one without running: Lambda invokes the function again.
    """

    def __init__(self, context: DurableContext) -> None:
        self._context = context

    def step(self, name: str, do: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Run a step, or return what it returned before."""
        try:
            result: dict[str, Any] = self._context.step(lambda _: do(), name=name, config=StepConfig(_retry))
        except DurableOperationError as error:
            raise _step_failed(name, error) from error
        return result

    def wait(self, name: str, seconds: float) -> None:
        """Wait, without running."""
        self._context.wait(_duration(seconds), name=name)

    def ask(self, name: str, send: Callable[[str], None], timeout_s: float) -> dict[str, Any]:
        """Ask by a callback, and wait for its answer without running."""
        config = WaitForCallbackConfig(timeout=_duration(timeout_s), retry_strategy=_retry)
        try:
            answer = self._context.wait_for_callback(lambda callback_id, _: send(callback_id), name=name, config=config)
        except CallbackTimeoutError as error:
            raise NoAnswerError(name, timeout_s) from error
        except CallbackExternalError as error:
            # The SDK keeps the data of the other side's error, and not its type.
            raise AskFailedError(error.data or error.error_type, error.message or "") from error
        except DurableOperationError as error:
            raise _step_failed(name, error) from error
        return _answer(answer)


def _retry(error: Exception, n_attempts: int) -> RetryDecision:
    del error
    delay_s = retry_delay_s(n_attempts)
    return RetryDecision.no_retry() if delay_s is None else RetryDecision.retry(_duration(delay_s))


def _duration(seconds: float) -> Duration:
    """Return a duration; a durable operation counts whole seconds, at least one."""
    return Duration.from_seconds(max(1, math.ceil(seconds)))


def _step_failed(name: str, error: DurableOperationError) -> StepFailedError:
    return StepFailedError(name, error.error_type, error.message or "")


def _answer(payload: object) -> dict[str, Any]:
    """Return an answer as JSON; one that is not an object is a failure of who answered."""
    try:
        answer = json.loads(payload) if isinstance(payload, str | bytes) else payload
    except (ValueError, RecursionError) as error:
        raise AskFailedError("ValueError", f"the answer is not JSON ({error})") from error
    if not isinstance(answer, dict):
        raise AskFailedError("ValueError", "the answer is not a JSON object")
    return answer
