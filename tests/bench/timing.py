"""CPU time per ride: medians of interleaved repeats, so that a busy machine blurs the ratios little."""

import statistics
import time
from collections.abc import Callable, Mapping

REPEATS = 9
_US_PER_S = 1e6

Case = tuple[Callable[[], object], int]
"""What to time, and how many rides one call handles."""


def cpu_us_per_ride(
    cases: Mapping[str, Case], repeats: int = REPEATS, clock: Callable[[], float] = time.process_time
) -> dict[str, float]:
    """Times each case in turn, `repeats` times round, after a first call that nobody times.

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
    """Times two ways to handle the same rides in turns, and returns by how much the second one is slower.

    It is the median of the differences between neighbours: what slows the machine down for a while slows down both.
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
