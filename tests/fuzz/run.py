"""A run over one target: so many inputs, each with an end in time, none of them leaving anything behind."""

import gc
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType

from tests.fuzz.targets import Input, Target

HANG_S = 10.0
"""After so long an input is given up: a loop without an end."""

MAX_GROWTH_BLOCKS, MAX_GROWTH_MB = 5_000, 64.0
"""Python's objects, and all memory, that a run may hold more at its end than after its first fifth: caches fill."""

_N_TRIES = 3  # a slow input is only one that is slow each time: other processes take turns on this machine
_MB = 1 << 20
_STATM = Path("/proc/self/statm")


@dataclass(frozen=True, slots=True)
class Finding:
    """An input that did what none may: reproduce it by its target, seed and number."""

    target: str
    seed: int
    number: int
    problem: str
    data: Input

    def __str__(self) -> str:
        shown = repr(self.data)
        return f"{self.target}, seed {self.seed}, input {self.number}: {self.problem}; {shown[:300]}"


@dataclass(slots=True)
class FuzzReport:
    """How a run went.

    Attributes:
        slowest_ms: CPU of the slowest input.
        growth_blocks: Python objects more than after the warm-up.
        growth_mb: Resident memory likewise.
    """

    target: str
    n_inputs: int = 0
    seconds: float = 0.0
    slowest_ms: float = 0.0
    growth_blocks: int = 0
    growth_mb: float = 0.0
    findings: list[Finding] = field(default_factory=list)


class HangError(Exception):
    """An input did not come to an end."""


def make_input(target: Target, seed: int, number: int) -> Input:
    """Makes one input of a run: by itself, so that a finding can be looked at again."""
    return target.make(Random(f"{target.name}:{seed}:{number}"))  # noqa: S311 - it is to be repeatable


def fuzz(target: Target, n_inputs: int, seed: int, max_findings: int = 5) -> FuzzReport:
    """Runs a target on inputs, until there are enough findings."""
    report = FuzzReport(target.name)
    started_s = time.monotonic()
    before = _held()
    with _an_end_in_time():
        for number in range(n_inputs):
            if number == n_inputs // 5:
                before = _held()
            data = make_input(target, seed, number)
            problem, cpu_ms = _try(target, data)
            report.slowest_ms = max(report.slowest_ms, cpu_ms)
            report.n_inputs += 1
            if problem:
                report.findings.append(Finding(target.name, seed, number, problem, data))
                if len(report.findings) >= max_findings:
                    break
    after = _held()
    report.growth_blocks, report.growth_mb = after[0] - before[0], after[1] - before[1]
    report.seconds = time.monotonic() - started_s
    if report.growth_blocks > MAX_GROWTH_BLOCKS or report.growth_mb > MAX_GROWTH_MB:
        growth = f"growth of {report.growth_blocks:,} objects and {report.growth_mb:.0f} MB"
        report.findings.append(Finding(target.name, seed, report.n_inputs, growth, b""))
    return report


def _try(target: Target, data: Input) -> tuple[str, float]:
    """Returns what was wrong with an input, "" for nothing, and its CPU in ms."""
    fastest_ms = float("inf")
    for _ in range(_N_TRIES):
        try:
            cpu_ms = _run_once(target, data)
        except Exception as error:  # noqa: BLE001 - whatever comes is the finding
            return f"{type(error).__name__}: {str(error)[:200]}", 0.0
        fastest_ms = min(fastest_ms, cpu_ms)
        if fastest_ms <= target.limit_ms:
            return "", fastest_ms
    return f"{fastest_ms:.0f} ms", fastest_ms


def _run_once(target: Target, data: Input) -> float:
    signal.setitimer(signal.ITIMER_REAL, HANG_S)
    started_s = time.thread_time()
    try:
        target.run(data)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return (time.thread_time() - started_s) * 1000


@contextmanager
def _an_end_in_time() -> Iterator[None]:
    def give_up(_signal: int, _frame: FrameType | None) -> None:
        raise HangError(f"no end after {HANG_S:g} s")

    before = signal.signal(signal.SIGALRM, give_up)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)


def _held() -> tuple[int, float]:
    """Returns Python's objects and resident memory in MB; where the system does not tell that, its peak."""
    gc.collect()
    if _STATM.exists():
        resident = int(_STATM.read_text().split()[1]) * resource.getpagesize()
    else:
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return sys.getallocatedblocks(), resident / _MB
