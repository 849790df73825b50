"""Stop work before Lambda kills the function: a function that is killed can't say why."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from lambda_function.aws.invocation import Context
from lambda_function.aws.telemetry import MILLISECONDS_PER_S
from training.errors import UserError

MARGIN_S = 30.0
"""Left to send the callback, also if requests hang: see `work.py`."""


class OutOfTimeError(UserError):
    """The function's time was not enough."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"the work was not done after {seconds:.0f} s, shortly before the function's time is over",
            "take fewer days (TrainingDays), or do it on another machine with `ridecast train --labelled`",
        )


@contextmanager
def deadline(context: Context, margin_s: float = MARGIN_S) -> Iterator[None]:
    """Raise OutOfTimeError in the block when only the margin of the invocation's time is left.

    Python calls a signal's handler in the main thread, between two instructions: compiled code must return first, which
    takes less than a second in a fit. In another thread nothing is raised.
    """
    seconds = context.get_remaining_time_in_millis() / MILLISECONDS_PER_S - margin_s
    if seconds <= 0:
        raise OutOfTimeError(0.0)
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise OutOfTimeError(seconds)

    handler_before = signal.signal(signal.SIGALRM, stop)
    seconds_before, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, seconds_before)
        signal.signal(signal.SIGALRM, handler_before)
