"""`make bench`: run the benches, print a table, write build/bench.json.

Exits with 1 if a ratio or a size is not within its budget. A time that is not is only red: on a busy shared machine all
times may double, and the ratios stay.
"""

import sys
from pathlib import Path

from threadpoolctl import threadpool_limits

from infra.cli.output import live_display
from tests.bench.archive import bench_archive
from tests.bench.deployed import bench_api, bench_cold_start
from tests.bench.figures import Figure, show_figures, write_figures
from tests.bench.growth import growth_figures, measure_growth, plot_growth
from tests.bench.handler import (
    PLAIN_HANDLER,
    bench_arrival,
    bench_calibration,
    bench_engine,
    bench_handler,
    bench_intervals,
    bench_parts,
    bench_split,
)
from tests.bench.join_growth import bench_join
from tests.bench.subjects import build_subject

RESULT = Path("build/bench.json")
PLOT = Path("docs/bench/growth.svg")
BENCHES = {
    "timing the engine beside scikit-learn": bench_engine,
    "timing the handler beside what it replaces": bench_handler,
    "timing the handler's parts": bench_parts,
    "timing the handler with intervals beside itself without": bench_intervals,
    "timing the choice of the model by arrival": bench_arrival,
    "timing what a calibration adds": bench_calibration,
    "timing what a split adds": bench_split,
    "timing the archive beside a plain one": bench_archive,
}


def main() -> int:
    """Run all benches on one thread and report."""
    with live_display() as display, threadpool_limits(1):
        display.step("fitting our model and the course's two, of full size, on made-up rides")
        subject = build_subject()
        figures: list[Figure] = []
        for step, bench in BENCHES.items():
            display.step(step)
            figures += bench(subject)
        display.step("measuring memory in a process of its own")
        growth = measure_growth(subject)
        figures += growth_figures(growth)
        plain_us = next(figure.value for figure in figures if figure.name == PLAIN_HANDLER)
        plot_growth(growth, plain_us, PLOT)
        display.step("joining an archived hour in a process of its own")
        figures += bench_join()
        display.step("starting the built package cold in AWS's runtime")
        figures += bench_cold_start(subject.bundle, subject.fitted, subject.event)
        display.step("predicting over HTTP, beside scikit-learn, in AWS's runtime")
        figures += bench_api(subject.bundle, subject.fitted)
    write_figures(figures, RESULT)
    show_figures(figures)
    return 0 if all(figure.is_within_budget for figure in figures if figure.is_binding) else 1


if __name__ == "__main__":
    sys.exit(main())
