"""What a run of the loop needs of the machine that runs it: recorded steps, waits, and questions with an answer.

A run is a function that is called again from its beginning whenever it goes on. Steps that are done return what they
returned before. So what is not in a step must depend on results of steps alone.
"""

from collections.abc import Callable
from typing import Any, Protocol

RETRY_DELAYS_S = (10.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0)
"""The waits before a failing step is tried again: in all nearly four hours, so that S3 may be away for some."""


class StepFailedError(Exception):
    """A step failed at every attempt.

    Attributes:
        step: Its name.
        kind: The name of the last error's class.
        message: The last error's text.
    """

    def __init__(self, step: str, kind: str, message: str) -> None:
        self.step, self.kind, self.message = step, kind, message
        super().__init__(f"step {step} failed at every attempt, at last with {kind}: {message}")


class NoAnswerError(Exception):
    """Nobody answered a question in time."""

    def __init__(self, question: str, timeout_s: float) -> None:
        self.question, self.timeout_s = question, timeout_s
        super().__init__(f"{question} had no answer within {timeout_s:.0f} s")


class AskFailedError(Exception):
    """The other side answered that it failed.

    Attributes:
        kind: The name of its error's class.
        message: Its error's text.
    """

    def __init__(self, kind: str, message: str) -> None:
        self.kind, self.message = kind, message
        super().__init__(f"{kind}: {message}")


class Checkpoints(Protocol):
    """Runs steps, waits and questions, and records their results. Each name is used once in a run."""

    def step(self, name: str, do: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Call a function at least once, record its result and return it; later runs return the record.

        If it raises, it is called again after the next of `RETRY_DELAYS_S`.

        Raises:
            StepFailedError: It raised at every attempt.
        """

    def wait(self, name: str, seconds: float) -> None:
        """Go on after a time. Nothing runs until then."""

    def ask(self, name: str, send: Callable[[str], None], timeout_s: float) -> dict[str, Any]:
        """Call `send` with a new callback id, and return the answer that comes by it.

        `send` is retried as a step is. The time runs from the first call on.

        Raises:
            NoAnswerError: There is no answer after the timeout.
            AskFailedError: The other side failed.
            StepFailedError: `send` raised at every attempt.
        """


def retry_delay_s(n_attempts: int) -> float | None:
    """Return the wait after a number of failed attempts, at least 1; None if there is no further attempt.

    >>> retry_delay_s(1), retry_delay_s(7), retry_delay_s(8)
    (10.0, 7200.0, None)
    """
    return RETRY_DELAYS_S[n_attempts - 1] if n_attempts <= len(RETRY_DELAYS_S) else None
