"""Ctrl-C and SIGTERM end the program at any moment without a traceback; a second signal ends it at once.

The exit code is a shell's: 130 after Ctrl-C, 143 after SIGTERM.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from infra.cli.ending import INTERRUPT, TERMINATE, end_at_once

_SIGNALS = (INTERRUPT, TERMINATE)  # a shell makes background jobs ignore SIGINT, so both are set
_STEP_S = 0.05

_received = 0


def exit_code() -> int:
    """Return the exit code after an interruption."""
    return 128 + (_received or INTERRUPT)


@contextmanager
def raising() -> Iterator[None]:
    """In the block, raise KeyboardInterrupt at the first signal, and end the process at the second.

    Its cause is an error that the signal has become on its way: DuckDB makes one of its own of it.
    """
    with _handled_by(_raise):
        try:
            yield
        except Exception as error:
            if _received:
                raise KeyboardInterrupt from error
            raise


class Stop:
    """A wish to stop at the next good moment, from the first signal on, within `stopping`."""

    def __init__(self) -> None:
        self._is_wanted = False

    def check(self) -> None:
        """Raise KeyboardInterrupt if the wish is there."""
        if self._is_wanted:
            raise KeyboardInterrupt

    def sleep(self, seconds: float) -> None:
        """Sleep, but not beyond the wish."""
        end_s = time.monotonic() + seconds
        while not self._is_wanted and (left_s := end_s - time.monotonic()) > 0:
            time.sleep(min(left_s, _STEP_S))

    def _want(self, number: int, _: FrameType | None) -> None:
        _note(number)
        self._is_wanted = True
        for one in _SIGNALS:
            signal.signal(one, _raise)


@contextmanager
def stopping() -> Iterator[Stop]:
    """In the block, remember the first signal, raise KeyboardInterrupt at the second, and end the process at the third.

    The block checks the yielded `Stop` between two steps that should not be torn.
    """
    stop = Stop()
    with _handled_by(stop._want):  # noqa: SLF001 - of this file
        yield stop


@contextmanager
def _handled_by(handler: "signal._HANDLER") -> Iterator[None]:
    global _received  # noqa: PLW0603 - signals belong to the process
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals in the main thread only
        return
    _received = 0
    before = [signal.signal(number, handler) for number in _SIGNALS]
    try:
        yield
    finally:
        for number, one in zip(_SIGNALS, before, strict=True):
            signal.signal(number, one)


def _note(number: int) -> None:
    global _received  # noqa: PLW0603 - signals belong to the process
    _received = _received or number


def _raise(number: int, frame: FrameType | None) -> None:
    if _is_in_finalizer(frame):  # Python ignores what is raised there, so the signal comes again a little later
        threading.Timer(_STEP_S, signal.pthread_kill, (threading.get_ident(), number)).start()
        return
    _note(number)
    end_at_once()
    raise KeyboardInterrupt


def _is_in_finalizer(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False
