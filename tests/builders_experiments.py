"""Builders of experiments: a bucket with a champion, candidates, and joined days of labelled rides."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from lambda_function.core.features import feature_matrix
from tests.builders import small_rides
from tests.builders_labelled import labelled_hour, store_hour
from tests.builders_monitored import BEFORE, monitored_bundle
from tests.fakes import BUCKET, FakeS3
from training.data.rides import Rides
from training.experiments.advance import Advanced, AdvanceOptions, advance_experiments
from training.experiments.experiment import Experiment, ExperimentDay, Loss, read_experiment
from training.experiments.start import ExperimentOptions, start_experiment
from training.experiments.verdict import Rules
from training.model.bundle import ExportedBundle
from training.monitoring.calibration.status import CalibrationMode
from training.monitoring.hours import Hour, hour_of_key
from training.monitoring.labelled_hour import LabelledHour
from training.monitoring.new_york_days import hours_of_day
from training.monitoring.summary import FOLDER
from training.registry.bucket import Bucket
from training.registry.channel_history import read_channel
from training.registry.channels import Mover, move_channel, store_bundle
from training.registry.versions import put_artifact, verdict_name

FIRST_DAY = date(2026, 8, 3)
"""A Monday, the first day of the experiments here."""

NAME = "trial"


@dataclass
class ExperimentStack:
    """A bucket whose channel serves a champion, with a candidate beside it.

    Attributes:
        now: Of the next run.
    """

    champion: ExportedBundle = field(default_factory=lambda: monitored_bundle(1))
    candidates: tuple[ExportedBundle, ...] = field(default_factory=lambda: (monitored_bundle(2),))
    now: datetime = datetime(2026, 8, 3, tzinfo=UTC)
    s3: FakeS3 = field(default_factory=FakeS3)
    options: AdvanceOptions = field(default_factory=AdvanceOptions)

    def __post_init__(self) -> None:
        self.bucket = Bucket(self.s3, BUCKET, n_threads=1)
        for bundle in (self.champion, *self.candidates):
            store_bundle(self.bucket, bundle)
        version, digest = self.champion.model_version, self.champion.manifest_sha256
        move_channel(self.bucket, "stable", version, digest, "promote", Mover("ada", lambda: BEFORE), 0.0)

    @property
    def mover(self) -> Mover:
        """Ada, at the stack's time."""
        return Mover("ada", lambda: self.now)

    def start(self, name: str = NAME, **options: Any) -> Experiment:
        """Start an experiment with the candidates, uncalibrated."""
        versions = tuple(bundle.model_version for bundle in self.candidates)
        given = {"candidates": versions, "calibration_mode": CalibrationMode.OFF, **options}
        return start_experiment(self.bucket, ExperimentOptions(name=name, **given), self.mover)

    def start_split(self, share: float = 0.3, name: str = NAME) -> Experiment:
        """Start a split, or let its share grow; the candidate has passed the gate."""
        candidate = self.candidates[0].model_version
        report = {
            "model_version": candidate,
            "against": self.champion.model_version,
            "channel": "stable",
            "passed": True,
        }
        put_artifact(self.bucket, candidate, verdict_name("stable"), msgspec.json.encode(report))
        return self.start(name, mode="split", share=share)

    def serve_day(self, day: date, n_hours: int | None = None, n_rides: int = 20) -> None:
        """Store the joined hours of a day as the channel serves them: ids are whole numbers in a row over all days."""
        state = read_channel(self.bucket, "stable").state
        assert state
        models = {one.model_version: one.model for one in (self.champion, *self.candidates)}
        for place, hour in enumerate(hours_of_day(day)[:n_hours]):
            rides = small_rides().take(slice(n_rides * place, n_rides * (place + 1)))
            first_id = 1_000_000 * day.day + 1000 * place
            versions = tuple(sorted(models))
            segment = state.segment_at(hour.start_s)
            chosen = [segment.arm_of(first_id + number).model_version for number in range(n_rides)]
            made = labelled_hour(hour, self.champion.model, rides)
            matrix = feature_matrix(made.rides)
            minutes = {version: model.served_minutes(made.rides, matrix) for version, model in models.items()}
            predicted = np.array([minutes[version][number] for number, version in enumerate(chosen)])
            version = np.array([versions.index(one) for one in chosen], np.int64)
            served = replace(made, predicted_minutes=predicted, version=version, versions=versions)
            store_hour(self.bucket, served)

    def read(self, name: str = NAME) -> Experiment:
        """Return an experiment as it is stored."""
        found = read_experiment(self.bucket, name)
        assert found
        return found

    def store_hour(
        self, hour: Hour, rides: Rides | None = None, *, summary: Mapping[str, Any] | None = None, **columns: Any
    ) -> LabelledHour:
        """Store a joined hour of rides that the champion served; by default three."""
        made = labelled_hour(hour, self.champion.model, small_rides().head(3) if rides is None else rides, **columns)
        store_hour(self.bucket, made, **(summary or {}))
        return made

    def store_day(
        self, day: date, n_hours: int | None = None, n_rides: int = 3, scale: float = 1.0
    ) -> list[LabelledHour]:
        """Store the joined hours of a day, or the first ones; outcomes are multiplied by `scale`."""
        found: list[LabelledHour] = []
        for place, hour in enumerate(hours_of_day(day)[:n_hours]):
            begin = (n_rides * (place + 24 * day.day)) % (len(small_rides()) - n_rides)
            rides = small_rides().take(slice(begin, begin + n_rides))
            found.append(self.store_hour(hour, rides, duration_minutes=(rides.duration_minutes * scale).clip(1, 60)))
        return found

    def store_days(self, n_days: int, first: date = FIRST_DAY, **options: Any) -> None:
        """Store the joined hours of days in a row."""
        for number in range(n_days):
            self.store_day(first + timedelta(days=number), **options)

    def run(self, **options: Any) -> tuple[Advanced, ...]:
        """Advance the experiments; the next run is 15 minutes later."""
        given = {name: getattr(self.options, name) for name in AdvanceOptions.__slots__} | options
        joined = [hour for key in self.s3.objects if key.startswith(FOLDER) and (hour := hour_of_key(key))]
        done = advance_experiments(self.bucket, joined, self.now, AdvanceOptions(**given))
        self.now += timedelta(minutes=15)
        return done

    def after(self, day: date, hours: float = 4) -> None:
        """Let the next run be so many hours after the end of a day."""
        self.now = hours_of_day(day)[-1].end + timedelta(hours=hours)

    def good_run(self, **options: Any) -> tuple[Advanced, ...]:
        """Advance the experiments without any problem."""
        done = self.run(**options)
        assert [one.problem for one in done] == [None] * len(done)
        return done


def squared_error(hours: Sequence[LabelledHour], minutes_of: Callable[[LabelledHour], NDArray[np.float64]]) -> float:
    """Return the sum of squared errors of predictions on the rides that count."""
    total = 0.0
    for hour in hours:
        duration = hour.duration_minutes
        counts = (duration >= 1) & (duration <= 60)
        total += float(((minutes_of(hour) - duration)[counts] ** 2).sum())
    return total


def experiment_of(gains: Sequence[float], **changes: Any) -> Experiment:
    """Return an experiment whose candidate's squared errors were lower by these percentages, a day each."""
    days = tuple(
        ExperimentDay(FIRST_DAY + timedelta(days=number), (Loss(400, 6400.0), Loss(400, 64.0 * (100 - gain))))
        for number, gain in enumerate(gains)
    )
    facts: dict[str, Any] = {
        "name": NAME,
        "mode": "shadow",
        "channel": "stable",
        "champion": "green-2026-06-0123456789ab",
        "candidates": ("green-2026-07-abcdef123456",),
        "calibration_mode": CalibrationMode.DAILY,
        "rules": Rules(),
        "started_at": "2026-08-02T12:00:00+00:00",
        "started_by": "ada",
        "first_day": FIRST_DAY,
        "days": days,
    }
    return Experiment(**{**facts, **changes})


def decided_experiment() -> Experiment:
    """Return an experiment whose candidate is better."""
    return experiment_of([8.0, 9, 7, 8, 10, 6, 8, 9])
