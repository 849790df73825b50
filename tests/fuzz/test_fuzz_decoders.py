"""Hostile inputs at every decoder: no crash, no hang, no growth. `python -m tests.fuzz` does the same for longer."""

import os
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from tests.fuzz.run import fuzz, make_input
from tests.fuzz.targets import TARGETS, Target

pytestmark = pytest.mark.slow

N_INPUTS = 2_000
SEED = 20_261_121


@pytest.mark.filterwarnings("ignore::SyntaxWarning")  # Python's, of what stands in a hostile array's header
@pytest.mark.parametrize("name", TARGETS)
def test_hostile_inputs_neither_crash_nor_hang_nor_stay(name: str) -> None:
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):  # kept, the function's log would be growth
        report = fuzz(TARGETS[name], N_INPUTS, SEED)
    assert report.findings == []
    assert report.n_inputs == N_INPUTS


@pytest.mark.parametrize("name", TARGETS)
def test_inputs_of_a_run_can_be_made_again_by_their_number(name: str) -> None:
    inputs = [make_input(TARGETS[name], SEED, number) for number in range(50)]
    assert inputs == [make_input(TARGETS[name], SEED, number) for number in range(50)]
    assert len({repr(data) for data in inputs}) > 40


def test_decoder_that_crashes_hangs_or_keeps_is_found() -> None:
    """The watch itself: each fault that it is to find, planted."""
    kept: list[object] = []

    def crash(data: bytes) -> None:
        if data == b"7":
            raise KeyError("seven")

    def spin(data: bytes) -> None:
        if data == b"7":
            sum(range(1_000_000))

    def keep(_: bytes) -> None:
        kept.extend(object() for _ in range(10))

    for run, problem in ((crash, "KeyError"), (spin, " ms"), (keep, "growth of")):
        planted = Target("planted", lambda random: b"%d" % random.randrange(10), run, limit_ms=5.0)
        findings = fuzz(planted, 2_000, SEED, max_findings=1).findings
        assert len(findings) == 1
        assert problem in findings[0].problem
