"""The demo's second half: send outcomes, archive all streams, join the archive, and measure the labelled rides."""

import math
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from infra.local.aws import LocalAws
from infra.local.event_source.config import MappingConfig
from infra.local.event_source.mapping import EventSourceMapping, settle
from infra.local.runtime.in_process import Runtime
from infra.operate.joining import archived_hours
from infra.operate.outcomes import outcome_entries
from infra.operate.streams import publish
from lambda_function.aws.publisher import Publisher
from training.data.labelled import FOLDER, LABELLED
from training.data.rides import Rides
from training.errors import UserError
from training.monitoring.hours import FIRST, Hour
from training.monitoring.join.join import join_hour
from training.monitoring.join.options import JoinOptions
from training.monitoring.monitor.day_figures import day_figures
from training.monitoring.monitor.events import EventBus
from training.monitoring.monitor.figures import HourFigures
from training.monitoring.monitor.judgement import judge
from training.monitoring.monitor.monitor import MonitorOptions, run_monitor
from training.monitoring.monitor.reference import load_reference
from training.monitoring.monitor.status import MonitorStatus, QuantityStatus
from training.monitoring.new_york_days import day_of
from training.monitoring.summary import FOLDER as SUMMARIES
from training.monitoring.summary import HourSummary
from training.registry.bucket import Bucket

LOG_NAME = "archiver.log"
"""The archive function's log file in the demo's folder."""

_COLUMNS = ["ride_id", "predicted_minutes", "low_minutes", "high_minutes", "duration_minutes"]


class Display(Protocol):
    """Receives the progress of a demo."""

    def step(self, text: str) -> None:
        """Show that a step begins."""

    def warn(self, text: str) -> None:
        """Show a warning."""

    def progress(self, n_done: int, n_total: int, figures: str = "") -> None:
        """Show how much of the step is done, and other figures of it; called many times a second."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Errors over labelled rides; each is None if there is no ride that it can be taken of."""

    n_rides: int
    rmse_minutes: float | None
    mae_minutes: float | None
    coverage: float | None  # share of the rides with an interval whose duration lies in it
    baseline_rmse_minutes: float | None


def send_outcomes(kinesis: Any, stream: str, rides: Rides, display: Display) -> int:
    """Send the outcome of every ride, and return how many there are."""
    entries = outcome_entries(rides)
    for n_sent in publish(Publisher(kinesis, stream), entries):
        display.progress(n_sent, len(entries))
    return len(entries)


def archive(
    aws: LocalAws,
    configs: Iterable[MappingConfig],
    invoke: Runtime,
    stall_s: float,
    on_done: Callable[[int], object] = lambda _: None,
) -> str:
    """Run the archive function on all that its streams hold.

    Args:
        aws: The local AWS.
        configs: The archive function's mappings.
        invoke: Runs the archive function.
        stall_s: Seconds without progress after which the rest is left.
        on_done: Called often with the number of records archived so far.

    Returns:
        A problem; "" if all is archived.
    """
    kinesis, s3 = aws.client("kinesis"), aws.client("s3")
    mappings = [
        EventSourceMapping(replace(config, batching_window_s=0.0), kinesis, invoke, s3=s3)  # nothing more will come
        for config in configs
    ]
    if settle(mappings, stall_s, on_done):
        return ""
    errors = [mapping.stats.last_error for mapping in mappings if mapping.stats.last_error]
    return f"nothing was archived for {stall_s:g} s; last error: {(errors or ['none'])[0]}"


def join(bucket: Bucket, options: JoinOptions) -> list[HourSummary]:
    """Join every hour in which rides arrived. All outcomes have been sent, so no horizon is waited for."""
    return [join_hour(bucket, hour, options, FIRST) for hour in archived_hours(bucket)]


def monitor(bucket: Bucket, options: MonitorOptions, bus: EventBus) -> MonitorStatus:
    """Run the monitor on the joined hours, and return its status with the values of the day so far.

    The day is not over, so nothing is judged: the quantities are shown beside those of training, without evidence.

    Raises:
        UserError: A step failed.
    """
    run = run_monitor(bucket, options, bus, lambda: datetime.now(UTC))
    if run.failures:
        step, error = run.failures[0]
        raise UserError(f"the monitor's step {step!r} failed: {error}") from error
    if run.status is None:
        raise UserError("another run of the monitor has stored its status first", "run this again")
    return msgspec.structs.replace(run.status, quantities=_so_far(bucket, run.status, run.hours))


def _so_far(bucket: Bucket, status: MonitorStatus, hours: Sequence[HourFigures]) -> tuple[QuantityStatus, ...]:
    """Return the quantities of some hours as if they were a day, beside those of the model's reference."""
    if not hours or status.model_version is None:
        return status.quantities
    day = day_figures(day_of(Hour.parse(hours[0].hour)), status.model_version, hours)
    shown = judge([day], load_reference(bucket, status.model_version), {}).quantities
    return tuple(msgspec.structs.replace(one, evidence=0.0, state="unknown") for one in shown)


def copy_labelled(bucket: Bucket, folder: Path) -> Path:
    """Copy labelled rides and summaries to a folder, in place of earlier ones; return the folder of the rides."""
    for prefix in (f"{FOLDER}/", SUMMARIES):
        shutil.rmtree(folder / prefix, ignore_errors=True)
        for stored in bucket.read_all(bucket.keys(prefix)):
            path = folder / stored.key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(stored.body)
    return folder / FOLDER


def accuracy(folder: Path, baseline_minutes: NDArray[np.float64]) -> Accuracy:
    """Measure labelled rides.

    Args:
        folder: Labelled rides, each with an outcome of 1 to 60 minutes.
        baseline_minutes: (n,), the baseline's prediction of ride i, whose `ride_id` is i.
    """
    tables = [pq.read_table(path, columns=_COLUMNS, filters=[("status", "=", LABELLED)]) for path in _files(folder)]
    columns = [np.concatenate([np.asarray(table[name]) for table in tables] or [np.empty(0)]) for name in _COLUMNS]
    predicted, low, high, actual = (column.astype(np.float64) for column in columns[1:])
    has_interval = ~np.isnan(low)
    return Accuracy(
        n_rides=len(actual),
        rmse_minutes=_mean((predicted - actual) ** 2, math.sqrt),
        mae_minutes=_mean(np.abs(predicted - actual)),
        coverage=_mean(((low <= actual) & (actual <= high))[has_interval]),
        baseline_rmse_minutes=_mean((baseline_minutes[columns[0].astype(np.intp)] - actual) ** 2, math.sqrt),
    )


def _files(folder: Path) -> Sequence[Path]:
    return sorted(folder.glob("dt=*/hh=*/*.parquet"))


def _mean(values: NDArray[Any], then: Callable[[float], float] = float) -> float | None:
    return round(then(values.mean()), 4) if len(values) else None
