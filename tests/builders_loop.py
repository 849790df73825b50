"""A small world for the loop: two models in a bucket, workers that answer, virtual time, and days of experiments."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec

from lambda_function.core.channel import channel_key, decode_channel
from tests.builders import small_bundle
from tests.builders_channels import gate, new_bucket
from tests.builders_status import monitor_status
from training.experiments.experiment import (
    Experiment,
    ExperimentDay,
    Loss,
    change_experiment,
    experiments,
    read_experiment,
)
from training.monitoring.hours import Hour
from training.monitoring.monitor.status import STATUS_KEY, encode_status
from training.monitoring.new_york_days import day_end
from training.monitoring.summary import HourSummary, encode_summary, summary_key
from training.registry.bucket import Bucket
from training.registry.channel_history import HistoryEntry, read_history
from training.registry.channels import Mover, move_channel, store_bundle
from training.workflows.loop.flow import run_loop
from training.workflows.loop.lease import read_lease
from training.workflows.loop.local import LocalExecution
from training.workflows.loop.options import LoopEvent, LoopOptions, LoopParts, LoopStart, mover_name
from training.workflows.loop.requests import Collected, CollectRequest, Trained, TrainRequest
from training.workflows.loop.state import RunRecord, read_run

START = datetime(2026, 11, 29, 20, tzinfo=UTC)
JOIN_DELAY = timedelta(hours=5)  # after the end of a day until its last hour is joined

CHAMPION_LOSS = 1600.0  # a day, of a hundred rides


@dataclass
class Clock:
    """A clock that passes when it is told to."""

    now: datetime = START

    def __call__(self) -> datetime:
        """Return the time."""
        return self.now


@dataclass
class FakeWorkers:
    """Workers that answer at once, or as `on_collect` and `on_train` say."""

    requests: list[CollectRequest | TrainRequest] = field(default_factory=list)
    on_collect: Callable[[CollectRequest], object] = lambda request: None
    on_train: Callable[[TrainRequest], object] = lambda request: None

    def collect(self, request: CollectRequest) -> None:
        """Note a request."""
        self.requests.append(request)
        self.on_collect(request)

    def train(self, request: TrainRequest) -> None:
        """Note a request."""
        self.requests.append(request)
        self.on_train(request)


def versions() -> tuple[str, str]:
    """The champion's version and that of the candidate which training gives."""
    return small_bundle(1).model_version, small_bundle(2).model_version


def loop_bucket() -> Bucket:
    """A bucket with a champion in `stable`, a stored candidate that passed the gate, labelled rides and monitoring."""
    bucket = new_bucket()
    for seed in (1, 2, 3):
        store_bundle(bucket, small_bundle(seed))
    champion = small_bundle(1)
    early = Mover("ada", lambda: START - timedelta(days=300))
    move_channel(bucket, "stable", champion.model_version, champion.manifest_sha256, mover=early)
    gate(bucket, 2, against=1)
    add_monitoring(bucket, champion.model_version, START)
    return bucket


def add_monitoring(bucket: Bucket, champion: str, now: datetime) -> None:
    """Add what join and monitor write: two weeks of summaries with a hundred labelled rides an hour, and a status."""
    objects = bucket.s3.objects
    for n_hours in range(1, 24 * 15):
        hour = Hour.of(now - JOIN_DELAY) + -n_hours
        summary = HourSummary(hour=str(hour), pass_number=1, horizon_minutes=180, n_labelled=100)
        objects[summary_key(hour)] = encode_summary(summary)
    objects[STATUS_KEY] = encode_status(monitor_status(model_version=champion))


@dataclass
class World:
    """A run of the loop with all around it.

    Attributes:
        gain_percent: By how much the candidate's loss is lower than the champion's on each day; after the promotion,
            `late_gain_percent`.
        answers: What the workers answer at once; None for silence.
        on_day: Called after each virtual day.
    """

    bucket: Bucket = field(default_factory=loop_bucket)
    options: LoopOptions = field(default_factory=LoopOptions)
    start: LoopStart = field(default_factory=lambda: LoopStart(run_id="r1", trigger="schedule", reason="monthly"))
    gain_percent: float = 10.0
    late_gain_percent: float = 10.0
    clock: Clock = field(default_factory=Clock)
    workers: FakeWorkers = field(default_factory=FakeWorkers)
    events: list[LoopEvent] = field(default_factory=list)
    on_day: Callable[["World"], None] = lambda world: None
    execution: LocalExecution = field(init=False)

    def __post_init__(self) -> None:
        self.execution = LocalExecution(None, self.clock)
        self.workers.on_collect = lambda request: self.answer(request.callback_id, collected(request))
        self.workers.on_train = lambda request: self.answer(request.callback_id, trained())

    def parts(self, bucket: Bucket | None = None) -> LoopParts:
        """The loop's parts, with this bucket or another way to it."""
        return LoopParts(
            bucket=bucket or self.bucket,
            options=self.options,
            workers=self.workers,
            tell=self.events.append,
            clock=self.clock,
            mover_of=lambda run_id: Mover(mover_name(run_id), self.clock),
        )

    def answer(self, callback_id: str, result: Any) -> None:
        """Answer a question."""
        self.execution.answer(callback_id, msgspec.to_builtins(result))

    def resume(self, bucket: Bucket | None = None) -> dict[str, Any] | None:
        """Run until the run waits; return its result if it ends."""
        parts = self.parts(bucket)
        return self.execution.resume(lambda checkpoints: run_loop(checkpoints, parts, self.start))

    def run(self) -> dict[str, Any]:
        """Run to the end in virtual time."""
        while (result := self.resume()) is None:
            self.pass_time()
        return result

    def pass_time(self) -> None:
        """Let the time pass until the run goes on, and add the days of experiments that are over."""
        due = self.execution.next_due()
        assert due is not None
        self.clock.now = max(due, self.clock.now)
        self.add_days()
        self.on_day(self)

    def add_days(self) -> None:
        """Add the finished days to the experiments, as the monitor does."""
        for one in experiments(self.bucket):
            change_experiment(self.bucket, one.name, self._with_days)

    def _with_days(self, one: Experiment) -> Experiment:
        day = one.first_day + timedelta(days=len(one.days))
        while one.is_running and day_end(day) + JOIN_DELAY <= self.clock():
            losses = self.losses(one, day)
            one = msgspec.structs.replace(one, days=(*one.days, ExperimentDay(day, losses)))
            day += timedelta(days=1)
        return one

    def losses(self, one: Experiment, day: date) -> tuple[Loss, ...]:
        """The losses of a day of an experiment, the champion's first."""
        gain = -self.late_gain_percent if one.name.endswith("-watch") else self.gain_percent
        wave = 1 + 0.01 * (day.toordinal() % 3)
        return Loss(100, CHAMPION_LOSS), Loss(100, CHAMPION_LOSS * (1 - gain * wave / 100))

    @property
    def record(self) -> RunRecord:
        """The run's record."""
        found = read_run(self.bucket, self.start.run_id)
        assert found
        return found

    @property
    def reason(self) -> str:
        """Why the run has ended, as it is recorded."""
        assert self.record.end
        return self.record.end.text

    @property
    def lease_holder(self) -> str | None:
        """The run that holds the lease."""
        lease = read_lease(self.bucket, self.clock())
        return lease.run_id if lease else None

    def has_stopped(self, experiment: str) -> bool:
        """Whether an experiment is there and is stopped."""
        found = read_experiment(self.bucket, experiment)
        return found is not None and found.stopped is not None

    @property
    def serving(self) -> str:
        """The version in `stable`."""
        return decode_channel(self.bucket.s3.objects[channel_key("stable")]).model_version

    def moves(self, channel: str = "stable") -> list[HistoryEntry]:
        """The moves that the run has made."""
        return [one for one in read_history(self.bucket, channel) if one.moved_by == mover_name(self.start.run_id)]


def collected(request: CollectRequest) -> Collected:
    """The collector's answer."""
    return Collected(key=request.key, sha256="ab" * 32, n_rides=30_000, first=request.first, last=request.last)


def trained(seed: int = 2, **changes: Any) -> Trained:
    """The trainer's answer."""
    bundle = small_bundle(seed)
    found = Trained(
        model_version=bundle.model_version,
        manifest_sha256=bundle.manifest_sha256,
        passed=True,
        reason="better on all rides",
        n_rides=30_000,
    )
    return msgspec.structs.replace(found, **changes)
