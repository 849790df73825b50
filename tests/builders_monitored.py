"""Builders of a monitored stack: a bucket with a served model, labelled hours and stored days, and an event bus."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

from tests.builders import SMALL_PARAMETERS, small_interval, small_rides, training_facts
from tests.builders_days import reference_of, steady_days
from tests.builders_labelled import labelled_hour, store_hour
from tests.fakes import BUCKET, FakeS3
from training.data.rides import Rides
from training.model.bundle import REFERENCE, ExportedBundle
from training.model.export import export_bundle
from training.model.fit import fit_forest
from training.monitoring.calibration.status import CalibrationMode
from training.monitoring.hours import Hour
from training.monitoring.monitor.day_figures import DayFigures, day_key, encode_day
from training.monitoring.monitor.days import Days
from training.monitoring.monitor.figures import Figures, RawAndServed
from training.monitoring.monitor.monitor import MonitorOptions, MonitorRun, run_monitor
from training.monitoring.monitor.reference import encode_reference
from training.monitoring.monitor.status import MonitorStatus, load_status
from training.monitoring.new_york_days import hours_of_day
from training.monitoring.summary import HourSummary, Sums, encode_summary, summary_key
from training.registry.bucket import Bucket
from training.registry.channels import Mover, move_channel, store_bundle

DAY = date(2026, 8, 3)
"""A Monday."""

REFERENCE_DAYS = steady_days(366, first=np.datetime64("2025-08-01"))
BEFORE = datetime(2026, 7, 1, tzinfo=UTC)


@cache
def fitted_forest(seed: int = 1) -> HistGradientBoostingRegressor:
    """Return a small forest; another seed gives another model."""
    return fit_forest(small_rides(), {**SMALL_PARAMETERS, "max_features": 0.5, "random_state": seed})


@cache
def reference_bytes() -> bytes:
    """Return a reference of a steady year."""
    return encode_reference(reference_of(REFERENCE_DAYS))


@cache
def monitored_bundle(seed: int = 1, reference: bytes | None = None) -> ExportedBundle:
    """Return a small bundle with intervals, and with a reference."""
    files = {} if reference is None else {REFERENCE: reference}
    facts = training_facts({**SMALL_PARAMETERS, "max_features": 0.5, "random_state": seed})
    return export_bundle(fitted_forest(seed), small_rides(), facts, small_interval(), files)


@dataclass
class FakeBus:
    """An event bus that takes events, unless a script says otherwise.

    Attributes:
        requests: The entries of each request.
        taken: Event ids and details of the entries that were taken, in order.
        script: The outcomes of the next requests: an exception, or the places of entries that are refused.
    """

    script: list[Exception | Sequence[int]] = field(default_factory=list)
    requests: list[Sequence[Mapping[str, Any]]] = field(default_factory=list)
    taken: list[dict[str, Any]] = field(default_factory=list)

    def put_events(self, *, Entries: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:  # noqa: N803
        """Take events."""
        self.requests.append(Entries)
        outcome = self.script.pop(0) if self.script else ()
        if isinstance(outcome, Exception):
            raise outcome
        answers: list[dict[str, str]] = []
        for place, entry in enumerate(Entries):
            if place in outcome:
                answers.append({"ErrorCode": "ThrottlingException", "ErrorMessage": "Rate exceeded"})
                continue
            detail = json.loads(entry["Detail"])
            self.taken.append({"DetailType": entry["DetailType"], "Source": entry["Source"], **detail})
            answers.append({"EventId": str(len(self.taken))})
        return {"FailedEntryCount": len(outcome), "Entries": answers}

    def ids(self) -> list[str]:
        """Return the ids of the events that were taken."""
        return [one["event_id"] for one in self.taken]


@dataclass
class MonitoredStack:
    """A bucket whose channel serves a model since 2026-07-01, and the monitor over it.

    Attributes:
        bundle: The model.
        now: Of the next run.
    """

    bundle: ExportedBundle = field(default_factory=lambda: monitored_bundle(1, reference_bytes()))
    now: datetime = datetime(2026, 8, 4, 12, tzinfo=UTC)
    s3: FakeS3 = field(default_factory=FakeS3)
    bus: FakeBus = field(default_factory=FakeBus)
    options: MonitorOptions = field(default_factory=lambda: MonitorOptions(stack="ridecast", mode=CalibrationMode.OFF))

    def __post_init__(self) -> None:
        self.bucket = Bucket(self.s3, BUCKET, n_threads=1)
        self.serve(self.bundle, BEFORE)

    @property
    def version(self) -> str:
        """The first model's version."""
        return self.bundle.model_version

    @property
    def status(self) -> MonitorStatus:
        """The stored status."""
        status = load_status(self.bucket)
        assert status is not None
        return status

    def serve(self, bundle: ExportedBundle, at: datetime, channel: str = "stable", by: str = "ada") -> None:
        """Let a channel serve a model from a time on; the first one serves all before, too."""
        store_bundle(self.bucket, bundle)
        move_channel(
            self.bucket, channel, bundle.model_version, bundle.manifest_sha256, "promote", Mover(by, lambda: at), 0.0
        )

    def store_hour(
        self, hour: Hour, rides: Rides | None = None, *, summary: Mapping[str, Any] | None = None, **columns: Any
    ) -> None:
        """Store a joined hour of rides that the model served; by default three."""
        served = small_rides().head(3) if rides is None else rides
        store_hour(self.bucket, labelled_hour(hour, self.bundle.model, served, **columns), **(summary or {}))

    def store_day(self, day: date = DAY, n_hours: int | None = None) -> tuple[Hour, ...]:
        """Store the joined hours of a day, or the first ones; return all hours of the day."""
        hours = hours_of_day(day)
        for place, hour in enumerate(hours[:n_hours]):
            self.store_hour(hour, small_rides().take(slice(3 * place, 3 * place + 3)))
        return hours

    def store_days(self, days: Days, bundle: ExportedBundle | None = None) -> None:
        """Store the figures of days as an earlier run did, each with one joined hour; the next run is after them."""
        model_version = (bundle or self.bundle).model_version
        for row in range(len(days)):
            made = figures_of_day(days, row, model_version)
            self.bucket.write_once(day_key(model_version, made.day), encode_day(made))
            for hour in hours_of_day(made.day)[:1]:
                empty = HourSummary(hour=str(hour), pass_number=1, horizon_minutes=180)
                self.bucket.write_once(summary_key(hour), encode_summary(empty))
        last: date = days.day[-1].astype(object)
        self.now = hours_of_day(last + timedelta(days=1))[12].start

    def run(self, **options: Any) -> MonitorRun:
        """Run the monitor; the next run is 15 minutes later."""
        run = run_monitor(self.bucket, self.options, self.bus, lambda: self.now, **options)
        self.now += timedelta(minutes=15)
        return run

    def good_run(self, **options: Any) -> MonitorRun:
        """Run the monitor, of which no step fails."""
        run = self.run(**options)
        assert run.failures == ()
        return run

    def states(self) -> dict[str, str]:
        """Return the states of the groups, by name."""
        return {one.group: one.state for one in self.status.groups}


def figures_of_day(days: Days, row: int, model_version: str) -> DayFigures:
    """Return the figures of a day, of which the detectors read the same."""
    n, total, square = (int(days.n[row]), float(days.sum_error[row]), float(days.sum_squared_error[row]))
    sums = Sums(
        n=n,
        sum_error=total,
        sum_squared_error=square,
        n_with_interval=int(days.n_with_interval[row]),
        n_within_interval=int(np.nan_to_num(days.n_within[row])),
        sum_fourth_power=float(days.var_squared_error[row] + (square / n) ** 2) * n,
    )
    counts = {name: tuple(table[row].astype(int).tolist()) for name, table in days.counts.items()}
    figures = Figures(n_judged=n, counts=counts, errors=RawAndServed(sums, sums))
    return DayFigures(day=days.day[row].astype(object), model_version=model_version, figures=figures)
