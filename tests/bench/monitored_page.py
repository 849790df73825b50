"""The monitoring page of a model on real months, with live calibration.

    python -m tests.bench.monitored_page --service yellow --train 2018-01..2020-02 --served 2020-03..2020-06
        [--folder build/monitored]

A model is trained as `ridecast train` does. The later months are served by it: each ride arrives at its pickup,
outcomes arrive when rides end, and calibration ticks daily. Stores what the monitor would store in a bucket in the
folder, and writes the page. `ridecast monitor status --bucket file:build/monitored/bucket` shows the same as a table.
"""

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np

from infra.cli.output import live_display
from tests.bench.monitored_months import MonitoredModel, load, train_monitored
from tests.kits.live_rides import LiveRides, Served, serve
from training.monitoring.calibration.status import CalibrationMode, CalibrationStatus
from training.monitoring.calibration.tick import encode_state
from training.monitoring.hours import FIRST, Hour
from training.monitoring.labelled_hour import LabelledHour
from training.monitoring.monitor.day_figures import DayFigures, day_figures, day_key, encode_day
from training.monitoring.monitor.figures import HourFigures, hour_figures
from training.monitoring.monitor.judgement import judge
from training.monitoring.monitor.status import STATUS_KEY, MonitorStatus, encode_status
from training.monitoring.new_york_days import day_of, hours_of_day
from training.monitoring.summary import HourSummary
from training.registry.bucket import Bucket
from training.registry.channels import Mover, calibrate_channel, move_channel, store_bundle
from training.registry.folder_s3 import FolderS3
from training.workflows.monitor_report import run_monitor_report

CHANNEL = "stable"
_HORIZON_MINUTES = 180
_TICK_AFTER = timedelta(
    minutes=_HORIZON_MINUTES + 15
)  # the horizon of the tick's last hour, and the monitor's next run


def labelled_hours(live: LiveRides, served: Served, version: str) -> dict[Hour, LabelledHour]:
    """Return the hours of rides that all have an outcome, with what was served."""
    hours = live.hours(live.duration_minutes)
    starts = np.flatnonzero(np.diff(live.arrival_s // 3600, prepend=-1)).tolist()
    rows = [slice(start, end) for start, end in zip(starts, [*starts[1:], len(live)], strict=True)]
    return {
        hour: replace(
            hours[hour],
            predicted_minutes=served.minutes[row],
            low_minutes=served.low[row],
            high_minutes=served.high[row],
            versions=(version,),
        )
        for hour, row in zip(hours, rows, strict=True)
    }


def whole_days(model: MonitoredModel, hours: dict[Hour, LabelledHour]) -> Iterator[DayFigures]:
    """Yield the figures of the days from the first hour's to the last one's."""
    version, day, last = model.bundle.model_version, day_of(min(hours)), day_of(max(hours))
    while day <= last:
        figures = [_figures(model, hours[hour]) for hour in hours_of_day(day) if hour in hours]
        yield day_figures(day, version, figures)
        day += timedelta(days=1)


def _figures(model: MonitoredModel, hour: LabelledHour) -> HourFigures:
    n_rides = len(hour)
    summary = HourSummary(
        hour=str(hour.hour),
        pass_number=FIRST,
        horizon_minutes=_HORIZON_MINUTES,
        n_ride_events=n_rides,
        n_labelled=n_rides,
    )
    figures = hour_figures(hour, summary, model.bundle.model, model.reference.edges)
    return HourFigures(hour=str(hour.hour), model_version=model.bundle.model_version, figures=figures)


def mover_at(time: datetime) -> Mover:
    """Return a mover that moves at a time."""
    return Mover("bench", lambda: time)


def move(bucket: Bucket, model: MonitoredModel, served: Served, first: date) -> str:
    """Let the channel serve the model, and every calibration that was not frozen; return the version at the end."""
    bundle = model.bundle
    store_bundle(bucket, bundle)
    began = mover_at(hours_of_day(first)[0].start - timedelta(days=1))
    move_channel(bucket, CHANNEL, bundle.model_version, bundle.manifest_sha256, "promote", began, 0.0)
    version = bundle.model_version
    for one in served.ticks:
        if one.frozen is None and one.state.has_new_weights:
            mover = mover_at(Hour.parse(one.state.as_of).start + _TICK_AFTER)
            moved = calibrate_channel(bucket, CHANNEL, encode_state(one.state), mover=mover)
            version = moved.now.served_version
    return version


def status_of(bucket: Bucket, model: MonitoredModel, served: Served, days: Sequence[DayFigures]) -> MonitorStatus:
    """Judge the days, and return the status as the monitor would write it."""
    judged, last = judge(days, model.reference, {}), served.ticks[-1]
    return MonitorStatus(
        written_at=datetime.now(UTC).isoformat(timespec="seconds"),
        channel=CHANNEL,
        model_version=model.bundle.model_version,
        served_version=move(bucket, model, served, days[0].day),
        last_day=days[-1].day,
        n_days=len(days),
        groups=judged.groups,
        quantities=judged.quantities,
        recent=judged.recent,
        missing=judged.missing,
        calibration=CalibrationStatus(
            mode=CalibrationMode.DAILY,
            state="frozen" if last.frozen else "active",
            as_of=last.state.as_of,
            n_used=last.state.n_used,
            n_dropped=last.state.n_dropped,
            n_due=last.state.n_due,
            text=f"The last tick used {last.state.n_used:,} of {last.state.n_due:,} rides.",
        ),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, serve, store, and write the page."""
    parser = argparse.ArgumentParser(description="The monitoring page of a model on real months.")
    parser.add_argument("--service", choices=["green", "yellow"], default="yellow", help="taxi service")
    parser.add_argument("--train", default="2018-01..2020-02", help="months to train on")
    parser.add_argument("--served", default="2020-03..2020-06", help="later months")
    parser.add_argument("--folder", type=Path, default=Path("build/monitored"), help="where bucket and page go")
    options = parser.parse_args(arguments)
    shutil.rmtree(options.folder / "bucket", ignore_errors=True)
    bucket = Bucket(FolderS3(options.folder / "bucket"), f"file:{options.folder / 'bucket'}")
    with live_display() as display:
        model = train_monitored(options.service, load(options.service, options.train), display.step)
        display.step("serving")
        live = LiveRides.of(load(options.service, options.served))
        served = serve(model.bundle.model, live, live.duration_minutes)
        display.step("measuring hours and days")
        hours = labelled_hours(live, served, model.bundle.model_version)
        days = list(whole_days(model, hours))
        for one in days:
            bucket.write_once(day_key(one.model_version, one.day), encode_day(one))
        status = status_of(bucket, model, served, days)
        bucket.write(STATUS_KEY, encode_status(status))
        page = options.folder / "monitor.html"
        run_monitor_report(bucket, status, page, display)
    sys.stdout.write(f"{page}\nridecast monitor status --bucket {bucket.name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
