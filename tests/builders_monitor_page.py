"""A bucket whose model has been watched for some weeks, and the facts of its monitoring page."""

from functools import cache
from typing import Any

import numpy as np

from infra.local.s3 import MemoryS3
from tests.builders import SMALL_PARAMETERS, small_interval, small_rides, training_facts
from tests.builders_days import FIRST_DAY, reference_of, steady_days, without_intervals
from tests.builders_status import group_status, monitor_status
from training.model.bundle import REFERENCE, ExportedBundle
from training.model.export import export_bundle
from training.model.fit import fit_forest
from training.monitoring.monitor.day_figures import DayFigures, HourErrors, day_key, encode_day
from training.monitoring.monitor.days import Days
from training.monitoring.monitor.figures import Figures, RawAndServed
from training.monitoring.monitor.reference import encode_reference
from training.monitoring.monitor.status import STATUS_KEY, MonitorStatus, encode_status
from training.monitoring.summary import Sums
from training.registry.bucket import Bucket
from training.registry.channels import move_channel, store_bundle

N_REFERENCE_DAYS, N_QUIET_DAYS, N_CHANGED_DAYS = 200, 30, 20
FIRST_SERVED_DAY = FIRST_DAY + np.timedelta64(N_REFERENCE_DAYS, "D")


@cache
def watched_bundle(*, has_reference: bool = True, has_intervals: bool = True) -> ExportedBundle:
    """Return the small bundle with a reference of steady days."""
    days = steady_days(N_REFERENCE_DAYS)
    reference = reference_of(days if has_intervals else without_intervals(days))
    files = {REFERENCE: encode_reference(reference)} if has_reference else {}
    fitted = fit_forest(small_rides(), SMALL_PARAMETERS)
    return export_bundle(fitted, small_rides(), training_facts(), small_interval() if has_intervals else None, files)


def served_day(number: int) -> np.datetime64:
    """Return a day by its number, from 0, among those that are served."""
    return FIRST_SERVED_DAY + np.timedelta64(number, "D")


def served_days(n_quiet: int = N_QUIET_DAYS, n_changed: int = N_CHANGED_DAYS) -> Days:
    """Return days after those of the reference: quiet ones, and then some of other rides and errors."""
    quiet = steady_days(n_quiet, first=FIRST_SERVED_DAY, seed=1)
    changed = steady_days(n_changed, first=served_day(n_quiet), seed=2, shift=1.0, bias_minutes=1.5)
    return Days.concat(quiet, changed)


def day_figures_of(days: Days, **changes: Any) -> list[DayFigures]:
    """Return the figures of days, with other values of some figures. Served predictions have half the raw error."""
    return [_figures(days.take(slice(row, row + 1)), changes) for row in range(len(days))]


def _figures(day: Days, changes: dict[str, Any]) -> DayFigures:
    n = int(day.n[0])
    errors = RawAndServed(_sums(day, 1.0), _sums(day, 0.5))
    figures: dict[str, Any] = {
        "n_by_status": {"labelled": n, "no outcome": n // 10, "rejected": 7},
        "n_rejected_by_reason": {"not_json": 4, "no_zone": 3},
        "n_predicted": n + n // 10,
        "n_without_pickup_time": n // 100,
        "n_with_outcome": n,
        "n_judged": n,
        "n_by_band": (n // 2, n // 4, n // 8, n // 16, n // 32, n // 32),
        "n_with_outcome_by_band": (n // 3, n // 5, n // 9, n // 20, n // 40, n // 64),
        "n_by_lateness": (n - 9, 0, 0, 0, 3, 2, 2, 1, 1, 0),
        "counts": {name: tuple(map(int, table[0])) for name, table in day.counts.items()},
        "errors": errors,
        "by_slice": {"hour": {"08": errors, "17": errors}, "airport": {"JFK": errors}},
    }
    date = day.day[0].item()
    return DayFigures(
        day=date,
        model_version=watched_bundle().model_version,
        hours=(HourErrors(f"{date}T12", errors),),
        figures=Figures(**figures | changes),
    )


def _sums(day: Days, scale: float) -> Sums:
    n = int(day.n[0])
    has_intervals = not np.isnan(day.n_within[0])
    return Sums(
        n=n,
        sum_error=float(day.sum_error[0]) * scale,
        sum_squared_error=float(day.sum_squared_error[0]) * scale**2,
        sum_absolute_error=2.5 * n * scale,
        n_with_interval=n if has_intervals else 0,
        n_within_interval=int(day.n_within[0]) if has_intervals else 0,
        sum_width_minutes=9.0 * n if has_intervals else 0.0,
        sum_fourth_power=1200.0 * n,
    )


def watched_bucket(
    days: list[DayFigures] | None = None, bundle: ExportedBundle | None = None, **changes: Any
) -> tuple[Bucket, MonitorStatus]:
    """Return a bucket with a model on the channel `stable`, its days and its status, with changes of the status."""
    bucket, bundle = Bucket(MemoryS3(), "bucket"), bundle or watched_bundle()
    days = day_figures_of(served_days()) if days is None else days
    store_bundle(bucket, bundle)
    move_channel(bucket, "stable", bundle.model_version, bundle.manifest_sha256)
    for one in days:
        bucket.write(day_key(bundle.model_version, one.day), encode_day(one))
    version = bundle.model_version
    known: dict[str, Any] = {
        "model_version": version,
        "served_version": version,
        "last_day": days[-1].day if days else None,
        "n_days": len(days),
        "groups": group_status("data", "alarm", "straight_line_miles has changed") if days else (),
        "written_at": "2026-11-29T05:00:00+00:00",
    }
    status = monitor_status(**known | changes)
    bucket.write(STATUS_KEY, encode_status(status))
    return bucket, status
