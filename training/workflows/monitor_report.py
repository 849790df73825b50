"""Write the monitoring page of a bucket: read days, reference, alarms and channel, and draw them."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np

from lambda_function.core.channel import Segment
from lambda_function.errors import BundleError
from training.data.labelled import REJECTED
from training.monitoring.monitor.acknowledge import acknowledged_days
from training.monitoring.monitor.day_figures import DayFigures, is_testable, load_days, stored_days, to_days
from training.monitoring.monitor.day_values import error_values, usual_range
from training.monitoring.monitor.days import Days
from training.monitoring.monitor.detectors import Evidence, watch
from training.monitoring.monitor.figures import BAND_EDGES_MINUTES, LATENESS_EDGES_MINUTES, Figures, merge
from training.monitoring.monitor.reference import Reference, load_reference
from training.monitoring.monitor.status import MonitorStatus
from training.monitoring.summary import Sums
from training.registry.bucket import Bucket
from training.registry.channel_history import read_channel
from training.report.monitor_facts import (
    LATE_MINUTES,
    N_HOURLY_DAYS,
    N_RECENT_DAYS,
    Band,
    BandRow,
    DaySeries,
    ErrorColumns,
    Floats,
    HourSeries,
    MonitorFacts,
    Move,
    Shape,
    SliceRow,
)
from training.report.monitor_page import build_monitor_page
from training.room import check_room, writing
from training.workflows.progress import Progress

MAX_SHOWN_DAYS = 366
"""Older days count as evidence, and are not drawn."""

_DAYS_A_WEEK = 7
_DAYS_AT_ONCE = 40


class CountedProgress(Progress, Protocol):
    """Receive progress messages, and how much of a step is done."""

    def progress(self, n_done: int, n_total: int) -> None:
        """Report how much of the present step is done."""


def run_monitor_report(bucket: Bucket, status: MonitorStatus, output: Path, progress: CountedProgress) -> None:
    """Write the page of a bucket's status.

    Raises:
        BucketError: S3 fails, or an object is damaged.
    """
    check_room(output.parent)
    progress.step("reading the days")
    facts = gather_monitor_facts(bucket, status, progress.progress)
    progress.step("drawing the page")
    with writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(build_monitor_page(facts))


def gather_monitor_facts(
    bucket: Bucket, status: MonitorStatus, count: Callable[[int, int], None] = lambda _, __: None
) -> MonitorFacts:
    """Gather what the page shows of a status, the days of its model, and their reference.

    Calls `count` with the days that are read and their number.

    Raises:
        BucketError: S3 fails, or an object is damaged.
    """
    days, reference = _days(bucket, status, count), _reference(bucket, status.model_version)
    served = to_days([one for one in days if is_testable(one, reference.edges)], reference.edges) if reference else None
    shown, recent = days[-MAX_SHOWN_DAYS:], merge(one.figures for one in days[-N_RECENT_DAYS:])
    evidence = None
    if reference and served is not None and len(served) and status.model_version:
        acknowledged = acknowledged_days(bucket, status.model_version, status.last_day)
        evidence = watch(reference.days, served, acknowledged)
    return MonitorFacts(
        status=status,
        series=day_series(shown),
        hours=_hour_series(days[-N_HOURLY_DAYS:]),
        bands=_bands(reference.days) if reference else {},
        shapes=tuple(_shapes(reference, served)) if reference and served is not None else (),
        evidence=_since(evidence, shown[0].day) if evidence else None,
        slices=tuple(_slices(recent)),
        outcomes=tuple(_outcomes(recent)),
        moves=_moves(bucket, status.channel),
    )


def day_series(days: Sequence[DayFigures]) -> DaySeries:
    """Return days by column, in their order."""
    figures = [one.figures for one in days]
    reasons = sorted({reason for one in figures for reason in one.n_rejected_by_reason})
    late = LATENESS_EDGES_MINUTES.index(LATE_MINUTES) + 1
    n_outcomes = _column(sum(one.n_by_lateness) for one in figures)
    n_predicted = _column(one.n_predicted for one in figures)
    return DaySeries(
        day=np.array([one.day for one in days], "datetime64[D]"),
        n_rides=_column(sum(one.n_by_status.values()) for one in figures),
        n_judged=_column(one.n_judged for one in figures),
        raw=_errors([one.errors.raw for one in figures]),
        served=_errors([one.errors.served for one in figures]),
        outcome_share=_ratio(_column(one.n_with_outcome for one in figures), n_predicted),
        late_share=_ratio(_column(sum(one.n_by_lateness[late:]) for one in figures), n_outcomes),
        without_pickup_share=_ratio(_column(one.n_without_pickup_time for one in figures), n_predicted),
        n_rejected={name: _column(one.n_rejected_by_reason.get(name, 0) for one in figures) for name in reasons}
        or {"all": _column(one.n_by_status.get(REJECTED, 0) for one in figures)},
        n_missing_hours=_column(len(one.missing_hours) for one in days),
    )


def _hour_series(days: Sequence[DayFigures]) -> HourSeries:
    hours = [one for day in days for one in day.hours if one.errors.raw.n]
    raw, served = (_errors([getattr(one.errors, name) for one in hours]) for name in ("raw", "served"))
    n_judged = _column(one.errors.raw.n for one in hours)
    start = np.array([one.hour for one in hours], "datetime64[h]")
    return HourSeries(start, n_judged, raw.rmse_minutes, served.rmse_minutes)


def _days(bucket: Bucket, status: MonitorStatus, count: Callable[[int, int], None]) -> list[DayFigures]:
    """Return the days that the status is about: the same model may have served earlier, too."""
    if status.model_version is None or status.last_day is None:
        return []
    stored = stored_days(bucket, status.model_version, status.last_day - timedelta(days=status.n_days - 1))
    wanted, found = [day for day in stored if day <= status.last_day], list[DayFigures]()
    for start in range(0, len(wanted), _DAYS_AT_ONCE):
        found += load_days(bucket, status.model_version, wanted[start : start + _DAYS_AT_ONCE])
        count(len(found), len(wanted))
    return found


def _reference(bucket: Bucket, model_version: str | None) -> Reference | None:
    """Return the model's reference; None if there is none that can be read. The status says what is missing."""
    try:
        return load_reference(bucket, model_version) if model_version else None
    except BundleError:
        return None


def _column(values: Iterator[float]) -> Floats:
    return np.fromiter(values, np.float64)


def _ratio(part: Floats, whole: Floats) -> Floats:
    shares: Floats = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return shares


def _errors(sums: Sequence[Sums]) -> ErrorColumns:
    n = _column(one.n for one in sums)
    within, n_with_interval = (
        _column(getattr(one, f"n_{name}_interval") for one in sums) for name in ("within", "with")
    )
    return ErrorColumns(
        np.sqrt(_ratio(_column(one.sum_squared_error for one in sums), n)),
        _ratio(_column(one.sum_error for one in sums), n),
        _ratio(within, n_with_interval),
    )


def _bands(reference: Days) -> dict[str, Band]:
    values = {name: error_values(name, reference) for name in ("bias", "mse", "coverage")}
    values["rmse"] = np.sqrt(values.pop("mse"))
    return {
        name: Band(low, float(np.nanmean(column)), high)
        for name, column in values.items()
        if not np.isnan(column).all()
        for low, high in [usual_range(column)]
    }


def _shapes(reference: Reference, served: Days) -> Iterator[Shape]:
    """Compare the last day with rides, and the last week's days of its kind, with the reference days of that kind."""
    served = served.take(served.n > 0)
    if not len(served):
        return
    alike = reference.days.take(reference.days.kind == served.kind[-1])
    usual = alike if len(alike) else reference.days
    is_recent = served.day > served.day[-1] - np.timedelta64(_DAYS_A_WEEK, "D")
    week = served.take(is_recent & (served.kind == served.kind[-1]))
    for name, edges in reference.edges.items():
        means = (_shares(days.counts[name]).mean(axis=0) for days in (usual, week, served.take(slice(-1, None))))
        yield Shape(name, edges, *means)


def _shares(counts: Floats) -> Floats:
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)


def _since(evidence: Evidence, first: date) -> Evidence:
    """Leave out the days before the first one that is drawn."""
    rows = evidence.days >= np.datetime64(first, "D")
    return Evidence(
        days=evidence.days[rows],
        names=evidence.names,
        groups=evidence.groups,
        p=evidence.p[rows],
        path=evidence.path[rows],
        data=evidence.data[rows],
        performance=evidence.performance[rows],
        alarms=tuple(alarm for alarm in evidence.alarms if alarm.day >= first),
        joined=evidence.joined[rows],
        is_on=evidence.is_on,
        current=evidence.current,
    )


def _slices(figures: Figures) -> Iterator[SliceRow]:
    for by, slices in figures.by_slice.items():
        for name, errors in slices.items():
            one, raw = errors.served, errors.raw
            yield SliceRow(by, name, one.n, _rmse(one), _rmse(raw), one.sum_error / one.n, one.coverage)


def _rmse(sums: Sums) -> float:
    return float(np.sqrt(sums.sum_squared_error / sums.n))


def _outcomes(figures: Figures) -> Iterator[BandRow]:
    edges = [f"{edge:.0f}" for edge in BAND_EDGES_MINUTES]
    names = (f"under {edges[0]}", *(f"{low} to {high}" for low, high in pairwise(edges)), f"{edges[-1]} or more")
    for row in zip(names, figures.n_by_band, figures.n_with_outcome_by_band, strict=False):
        yield BandRow(*row)


def _moves(bucket: Bucket, channel: str) -> tuple[Move, ...]:
    """Return the beginnings of the channel's segments, oldest first."""
    state = read_channel(bucket, channel).state
    segments = state.segments[::-1] if state else ()
    older = (None, *segments)
    return tuple(
        Move(
            datetime.fromtimestamp(one.effective_from_s, UTC),
            one.text,
            is_calibration=before is not None and one.as_of is not None and _models(before) == _models(one),
        )
        for before, one in zip(older, segments, strict=False)
    )


def _models(segment: Segment) -> tuple[tuple[str, tuple[int, int]], ...]:
    """Return a segment's model versions and their buckets."""
    return tuple((arm.model_version, arm.buckets) for arm in segment.arms)
