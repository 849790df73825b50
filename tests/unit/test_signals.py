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
