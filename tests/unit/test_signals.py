"""A signal interrupts the command at whatever moment it comes."""

import subprocess
import sys

import pytest

IN_A_FINALIZER = """
import signal, sys, time
from infra.cli import signals

class Dying:
    def __del__(self):
        signal.raise_signal(int(sys.argv[1]))
        for _ in range(1000):
            pass

try:
    with signals.raising():
        Dying()
        time.sleep(30)
except KeyboardInterrupt:
    sys.exit(signals.exit_code())
"""


@pytest.mark.parametrize(("number", "code"), [(2, 130), (15, 143)])
def test_signal_while_an_object_is_finalized_is_not_lost(number: int, code: int) -> None:
    ended = subprocess.run(  # noqa: S603 - our own Python
        [sys.executable, "-c", IN_A_FINALIZER, str(number)], capture_output=True, text=True, timeout=20, check=False
    )
    assert (ended.returncode, ended.stderr) == (code, "")


AS_AN_ERROR = """
import signal, sys
from infra.cli import app

@app.app.command("wait")
def wait(number: int) -> None:
    try:
        signal.raise_signal(number)
    except KeyboardInterrupt:
        raise ValueError("Query interrupted") from None

app.main()
"""


@pytest.mark.parametrize(("number", "code"), [(2, 130), (15, 143)])
def test_signal_that_a_library_makes_an_error_of_is_an_interruption(number: int, code: int) -> None:
    words = [sys.executable, "-c", AS_AN_ERROR, "wait", str(number)]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - our own Python
    assert (ended.returncode, ended.stderr) == (code, "\nridecast: interrupted: Query interrupted\n")
