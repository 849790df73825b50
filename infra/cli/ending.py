"""End the process at a signal, without a traceback. It is imported first, and imports nothing that takes time."""

# Not `signal`: that takes 10 ms to import, in which Ctrl-C would print a traceback.
import _signal  # type: ignore[import-not-found]
import os

INTERRUPT, TERMINATE = 2, 15
"""SIGINT and SIGTERM, as numbers."""

_SAID = b"ridecast: interrupted\n"


def end_at_once() -> None:
    """From now on, end the process at the first signal: there is nothing to tidy up before and after a command."""
    for number in (INTERRUPT, TERMINATE):
        _signal.signal(number, _end)


def _end(number: int, _: object) -> None:
    os.write(2, _SAID)
    os._exit(128 + number)
