"""CPU time a ride and peak memory; time is a median of interleaved repeats, so other load hardly affects ratios."""

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

REPEATS = 9
_US_PER_S = 1e6

Case = tuple[Callable[[], object], int]
"""The call to time, and how many rides it handles."""


def cpu_us_per_ride(
    cases: Mapping[str, Case], repeats: int = REPEATS, clock: Callable[[], float] = time.process_time
) -> dict[str, float]:
    """Time the cases in turn, `repeats` times each, after one call of each that is not timed.

    Returns:
        Microseconds of process CPU time a ride, the median, by case.
    """
    for run, _ in cases.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, (run, _) in cases.items():
            started_s = clock()
            run()
            seconds[name].append(clock() - started_s)
    return {name: statistics.median(seconds[name]) / n_rides * _US_PER_S for name, (_, n_rides) in cases.items()}


def extra_cpu_us_per_ride(
    plain: Callable[[], object],
    extended: Callable[[], object],
    n_rides: int,
    repeats: int = REPEATS,
    clock: Callable[[], float] = time.process_time,
) -> float:
    """Time two ways to handle the same rides in turn, and return by how much the second one is slower.

    The result is the median of the differences between neighbours, because other load affects both.
    """
    plain()
    extended()
    extra_s = []
    for _ in range(repeats):
        started_s = clock()
        plain()
        between_s = clock()
        extended()
        extra_s.append(clock() - between_s - (between_s - started_s))
    return statistics.median(extra_s) / n_rides * _US_PER_S


def peak_bytes() -> int:
    """Return this process's peak resident memory."""
    status = Path("/proc/self/status").read_text()  # getrusage returns the parent's peak if that was higher
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024
