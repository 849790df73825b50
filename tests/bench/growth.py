"""Growth of time and memory: in proportion to the size of a batch, and not with the number of batches."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.figures import BUDGET_LINE, COMPARATOR_LINE, MB, Figure, svg_axes
from tests.bench.growth_probe import N_RIDES_A_BATCH
from tests.bench.handler import BUDGET_US
from tests.bench.subjects import Subject, bucket_objects

GROWTH_BUDGET_MB = 5.0
_US_PER_MS = 1_000

_FUNCTION_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "1048576"}  # as in template.yaml


@dataclass(frozen=True, slots=True)
class Growth:
    """Measured in a process that contains only the function."""

    ms_by_batch_size: dict[int, float]  # CPU of one batch, warm
    peak_mb_by_batch_size: dict[int, float]  # Highest resident memory of the process after batches of at most this size
    mb_by_batch: list[float]  # Resident memory after each of many batches of one size


def measure_growth(subject: Subject) -> Growth:
    """Run `growth_probe` on the subject."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "records.ndjson").write_text("\n".join(map(json.dumps, subject.event["Records"])))
        for key, data in bucket_objects(subject.bundle).items():
            path = folder / "objects" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        command = [sys.executable, "-m", "tests.bench.growth_probe", name]
        environment = {**os.environ, **_FUNCTION_ENVIRONMENT}
        answer = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)  # noqa: S603 - our own module
    found = json.loads(answer.stdout.splitlines()[-1])
    return Growth(_by_size(found["ms_by_batch_size"]), _by_size(found["peak_mb_by_batch_size"]), found["mb_by_batch"])


def growth_figures(growth: Growth) -> list[Figure]:
    """Return what the largest batch adds to the smallest one's peak, and what many batches add to a few."""
    peaks_mb = list(growth.peak_mb_by_batch_size.values())
    later = growth.mb_by_batch[len(growth.mb_by_batch) // 10 :]
    return [
        Figure(
            f"memory: a batch of {max(growth.peak_mb_by_batch_size):,} over one of 1", peaks_mb[-1] - peaks_mb[0], MB
        ),
        Figure(f"memory: growth over {len(later)} batches", max(0.0, later[-1] - later[0]), MB, GROWTH_BUDGET_MB),
    ]


def plot_growth(growth: Growth, plain_us: float, path: Path) -> None:
    """Draw time and memory against the size of a batch, and memory against the number of batches, as SVG.

    Args:
        growth: What was measured.
        plain_us: CPU of a ride in a plain batched handler with the same model, scikit-learn's.
        path: The file.
    """
    sizes = list(growth.ms_by_batch_size)
    with svg_axes(path, 3, 12) as (time_axes, peak_axes, batches_axes):
        _line(time_axes, growth.ms_by_batch_size, "CPU, ms")
        for us, name, style in (
            (BUDGET_US, "budget", BUDGET_LINE),
            (plain_us, "scikit-learn, batched", COMPARATOR_LINE),
        ):
            label = f"{name}: {us:.0f} µs a ride"
            time_axes.plot(sizes, [us * size / _US_PER_MS for size in sizes], label=label, **style)
        _line(peak_axes, growth.peak_mb_by_batch_size, "peak memory, MB")
        batches_axes.plot(range(1, len(growth.mb_by_batch) + 1), growth.mb_by_batch, label="the function")
        most_mb = growth.mb_by_batch[len(growth.mb_by_batch) // 10] + GROWTH_BUDGET_MB
        batches_axes.axhline(most_mb, label=f"budget: {GROWTH_BUDGET_MB:g} MB more", **BUDGET_LINE)
        batches_axes.set(xlabel=f"batches of {N_RIDES_A_BATCH:,} rides", ylabel="memory, MB")
        titles = ("CPU of a batch", "Peak memory of the process", "Memory after many batches")
        for axes, title in zip((time_axes, peak_axes, batches_axes), titles, strict=True):
            axes.set(title=title, ylim=(0, None))
            axes.legend(fontsize="small", loc="lower right" if axes is not time_axes else "upper left")


def _by_size(values: dict[str, float]) -> dict[int, float]:
    return {int(size): value for size, value in values.items()}


def _line(axes: Any, values: dict[int, float], y_label: str) -> None:
    axes.plot(list(values), list(values.values()), marker="o", label="the function")
    axes.set(xlabel="rides in the batch", ylabel=y_label, xlim=(0, None))
