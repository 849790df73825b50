"""One run of the monitor: figures of newly joined hours, days, judgement, calibration, status, events.

Each step can be repeated, and what a run does not finish the next one does. A step that fails stops no other: what the
status said before about it stays. Two runs at once store the same figures; one of them stores the status, and the other
ends quietly.
"""

import math
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeVar

import msgspec

from lambda_function.core.bundle import sha256
from lambda_function.core.channel import ACTIVATION_DELAY_S
from lambda_function.errors import BundleError
from training.errors import UserError
from training.monitoring.calibration.calibrator import CalibratorOptions, calibrate_due
from training.monitoring.calibration.status import CalibrationMode, CalibrationStatus
from training.monitoring.hours import EARLY, Hour
from training.monitoring.join.skew import Load, stored_models
from training.monitoring.monitor.acknowledge import acknowledged_days
from training.monitoring.monitor.day_figures import DayFigures, day_figures
from training.monitoring.monitor.detectors import GROUPS, THRESHOLD
from training.monitoring.monitor.events import MAX_PENDING, EventBus, Moves, channel_moves, send_events, state_changes
from training.monitoring.monitor.figures import HourFigures, merge
from training.monitoring.monitor.judgement import Judgement, judge
from training.monitoring.monitor.monitored_days import LONGEST_WAIT, MonitoredDays, joined_hours
from training.monitoring.monitor.reference import Reference, load_reference
from training.monitoring.monitor.served_model import ServedModel, served_model
from training.monitoring.monitor.status import (
    DamagedStatusError,
    GroupStatus,
    Latest,
    MonitorStatus,
    StoredStatus,
    read_status,
    save_status,
)
from training.monitoring.new_york_days import day_of
from training.monitoring.summary import DamagedSummaryError, load_summary
from training.registry.bucket import Bucket
from training.registry.channels import Mover
from training.registry.signing import Signer

MOVER = "monitor"
"""The name under which calibrations move the channel."""

QUIET_HOURS = 24
"""After so many hours without a judged ride the status says so."""

_CALIBRATION_DAYS = timedelta(days=17)  # of joined hours that the calibrator wants to know of
_RESERVED_SHARE, _MAX_RESERVED_S = 0.3, 180.0  # of the time, for what follows the hours

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MonitorOptions:
    """What a run depends on besides the bucket.

    Attributes:
        channel: Whose model is monitored and calibrated.
        mode: How often it is calibrated.
        stack: The stack's name, for events.
        activation_delay_s: The time that functions may need to read the channel.
        signer: If the stack serves signed models only.
        shows_early: Whether the latest figures have hours that were joined before their horizon: they are made anew at
            each run. No day and no calibration rests on them.
    """

    channel: str = "stable"
    mode: CalibrationMode = CalibrationMode.DAILY
    stack: str = ""
    activation_delay_s: float = ACTIVATION_DELAY_S
    signer: Signer | None = None
    shows_early: bool = False


class Failure(NamedTuple):
    """A step that failed."""

    step: str
    error: Exception


@dataclass(frozen=True, slots=True)
class MonitorRun:
    """What a run did.

    Attributes:
        status: As it is stored now; None if another run stored its own first.
        hours: The figures that it added.
        n_days: The days that it added.
        n_left: Joined hours that it left to the next run, for want of time.
        n_sent: Events that EventBridge took.
        joined: The hours of some weeks that calibrations may learn from.
    """

    status: MonitorStatus | None
    hours: tuple[HourFigures, ...]
    n_days: int
    n_left: int
    n_sent: int
    failures: tuple[Failure, ...]
    joined: tuple[Hour, ...] = ()


def unlimited() -> float:
    """Return the seconds that are left to a run by hand."""
    return math.inf


def run_monitor(
    bucket: Bucket,
    options: MonitorOptions,
    bus: EventBus | None,
    clock: Callable[[], datetime],
    time_left_s: Callable[[], float] = unlimited,
    load: Load | None = None,
) -> MonitorRun:
    """Run the monitor once.

    Args:
        bucket: The stack's bucket.
        options: What is monitored, and how.
        bus: Takes the events; without one, none are made.
        clock: Returns the time, aware.
        time_left_s: Returns the seconds that are left.
        load: Loads the served model; without it, it is loaded from the bucket.

    Raises:
        BucketError: S3 does not give or take the status, or a later version of ridecast wrote it.
    """
    load = load or stored_models(bucket, options.signer)
    return _Run(bucket, options, bus, clock, clock().astimezone(UTC), time_left_s, load).run()


class _Reference(NamedTuple):
    """A model's reference; without one, why."""

    reference: Reference | None
    why_not: str = ""


@dataclass(slots=True)
class _Run:
    bucket: Bucket
    options: MonitorOptions
    bus: EventBus | None
    clock: Callable[[], datetime]
    now: datetime
    time_left_s: Callable[[], float]
    load: Load
    failures: list[Failure] = field(default_factory=list)
    hours: list[HourFigures] = field(default_factory=list)
    joined: tuple[Hour, ...] = ()
    n_days: int = 0
    n_left: int = 0

    def run(self) -> MonitorRun:
        previous, etag = self._read_status()
        status = self._status(previous)
        stored_etag = save_status(self.bucket, status, etag)
        if stored_etag is None:
            return self._done(None)
        if self.bus is None or not status.pending:
            return self._done(status)
        sent = send_events(self.bus, status.pending)
        if sent.problem:
            problem = f"EventBridge did not take {len(sent.pending)} events ({sent.problem})"
            self.failures.append(Failure("events", UserError(problem, "they are sent again at the next run")))
        if sent.pending == status.pending:
            return self._done(status)
        left = msgspec.structs.replace(status, pending=sent.pending, run_id=_random())
        self._step("sent events", None, lambda: save_status(self.bucket, left, stored_etag))  # else: sent once more
        return self._done(left, len(status.pending) - len(sent.pending))

    def _done(self, status: MonitorStatus | None, n_sent: int = 0) -> MonitorRun:
        failures = tuple(self.failures)
        return MonitorRun(status, tuple(self.hours), self.n_days, self.n_left, n_sent, failures, self.joined)

    def _step(self, name: str, otherwise: T, do: Callable[[], T]) -> T:
        """Return what a step returns; `otherwise` if it fails."""
        try:
            return do()
        except Exception as error:  # noqa: BLE001 - one step must not stop the others; all are reported at the end
            self.failures.append(Failure(name, error))
            return otherwise

    def _read_status(self) -> StoredStatus:
        try:
            return read_status(self.bucket)
        except DamagedStatusError as error:
            self.failures.append(Failure("status", error))
            return StoredStatus(None, error.etag)

    # -- the status

    def _status(self, previous: MonitorStatus | None) -> MonitorStatus:
        last = previous or MonitorStatus(written_at="", channel=self.options.channel)
        status = self._step("model", last, lambda: self._of_channel(last))
        calibration = self._step("calibration", last.calibration, self._calibrate)
        status = msgspec.structs.replace(
            status,
            written_at=self.now.isoformat(timespec="microseconds"),
            channel=self.options.channel,
            calibration=calibration,
            run_id=_random(),
        )
        return self._with_events(previous, status)

    def _of_channel(self, last: MonitorStatus) -> MonitorStatus:
        """Return the status of the model that the channel serves, given the last status."""
        served = served_model(self.bucket, self.options.channel, self.now)
        if served is None:
            text = f"The channel {self.options.channel} holds no model: release one with `ridecast models release`."
            none = MonitorStatus(written_at="", channel=self.options.channel, missing=(text,), groups=_unjudged(text))
            return msgspec.structs.replace(none, announced=last.announced, pending=last.pending)
        is_same = last.model_version == served.model_version
        kept = last if is_same else _of_new_model(last, served)
        status = self._step("figures", kept, lambda: self._of_model(kept, served))
        return msgspec.structs.replace(status, served_version=served.served_version)

    def _of_model(self, last: MonitorStatus, served: ServedModel) -> MonitorStatus:
        """Add figures and days of a model, and judge it; `last` is its last status."""
        reference = self._reference(served.model_version)  # before any figures are made: they are in its bins
        days = MonitoredDays.of(self.bucket, served, self.now, shows_early=self.options.shows_early)
        n_before = len(days.days)
        self._step("figures", None, lambda: self._add_hours(days, served, reference))
        self.failures += [Failure("figures", error) for error in days.problems.values()]
        self.n_left = days.n_left
        self._step("days", None, lambda: days.add_days(self.time_left_s, self._reserved_s() / 2))
        self.n_days = len(days.days) - n_before
        latest = self._step("figures", None, days.latest)
        if latest is None:
            return last
        status = self._step("figures", last, lambda: self._with_latest(last, days, latest))
        return self._step("judgement", status, lambda: self._with_judgement(status, days, reference, latest))

    def _reserved_s(self) -> float:
        """Return the seconds that are needed for what follows the hours."""
        return min(_RESERVED_SHARE * self.time_left_s(), _MAX_RESERVED_S)

    def _reference(self, model_version: str) -> _Reference:
        try:
            return _Reference(load_reference(self.bucket, model_version))
        except BundleError as error:
            return _Reference(None, f"the model's reference days can't be read: {error}")

    def _add_hours(self, days: MonitoredDays, served: ServedModel, reference: _Reference) -> None:
        edges = reference.reference.edges if reference.reference else {}
        added = days.add_hours(lambda: self.load(served.model_version), edges, self.time_left_s, self._reserved_s())
        self.hours += added

    def _with_latest(self, last: MonitorStatus, days: MonitoredDays, latest: Sequence[HourFigures]) -> MonitorStatus:
        """Add the hours after the last day, and which hour was the last with judged rides."""
        return msgspec.structs.replace(
            last,
            last_day=days.days[-1] if days.days else None,
            n_days=len(days.days),
            latest=_latest(latest) if latest else None,
            last_judged=days.last_judged(latest, last.last_judged),
        )

    def _with_judgement(
        self, status: MonitorStatus, days: MonitoredDays, reference: _Reference, latest: Sequence[HourFigures]
    ) -> MonitorStatus:
        """Judge the days, unless nothing has changed since they were judged last."""
        assert status.model_version is not None  # noqa: S101 - it is a model's status
        acknowledged = acknowledged_days(self.bucket, status.model_version, status.last_day)
        quiet = self._quiet(status)
        so_far = None if days.days or not latest else _so_far(status.model_version, latest)
        hours = [(one.hour, one.labelled_sha256) for one in latest] if so_far else []
        facts = (status.model_version, days.days, hours, sorted(acknowledged.items()), reference.why_not, quiet)
        inputs = sha256(msgspec.json.encode(facts))
        if inputs == status.inputs:
            return status
        judgement = judge(days.load(), reference.reference, acknowledged, reference.why_not, so_far)
        return _judged(status, judgement, quiet, inputs)

    def _quiet(self, status: MonitorStatus) -> tuple[str, ...]:
        """Say for how long no ride was judged, if that is long."""
        if status.last_judged is None:
            return ("No ride was judged yet: none that is joined has an outcome of 1 to 60 minutes and a pickup time.",)
        if self.now - Hour.parse(status.last_judged).end < timedelta(hours=QUIET_HOURS):
            return ()
        text = (
            f"No ride that arrived after the hour {status.last_judged} was judged: no outcome of 1 to 60 minutes has"
            " come, or rides and outcomes have other ids, or the join does not run."
        )
        return (text,)

    def _calibrate(self) -> CalibrationStatus:
        options, now, reserved_s = self.options, self.now, self._reserved_s()
        self.joined = tuple(self._joined_for_good())
        return calibrate_due(
            self.bucket,
            options.channel,
            options.mode,
            self.joined,
            Mover(MOVER, self.clock),
            now,
            CalibratorOptions(options.activation_delay_s, options.signer, lambda: self.time_left_s() > reserved_s),
        )

    def _joined_for_good(self) -> list[Hour]:
        """List the joined hours of some weeks, without those that were joined by hand before their horizon.

        Of hours that are over for long this is not looked up: the schedule has joined them again.
        """
        hours = joined_hours(self.bucket, Hour.of(self.now - _CALIBRATION_DAYS))
        new = Hour.of(self.now - LONGEST_WAIT)
        are_done = self.bucket.each(self._is_joined_for_good, [hour for hour in hours if hour >= new])
        return [hour for hour in hours if hour < new or next(are_done)]

    def _is_joined_for_good(self, hour: Hour) -> bool:
        try:
            summary = load_summary(self.bucket, hour)
        except DamagedSummaryError:
            return False
        return summary is None or summary.pass_number != EARLY

    # -- events

    def _with_events(self, previous: MonitorStatus | None, status: MonitorStatus) -> MonitorStatus:
        if self.bus is None:
            return msgspec.structs.replace(status, pending=())
        stack, announced = self.options.stack, status.announced
        none = Moves((), announced, ())
        last_run = datetime.fromisoformat(previous.written_at) if previous else None
        moves = self._step("channel moves", none, lambda: channel_moves(self.bucket, announced, stack, last_run))
        self.failures += [Failure("channel moves", UserError(problem)) for problem in moves.problems]
        pending = (*status.pending, *state_changes(previous, status, stack), *moves.events)
        return msgspec.structs.replace(status, announced=moves.announced, pending=pending[-MAX_PENDING:])


def _random() -> str:
    return uuid.uuid4().hex[:12]


def _unjudged(text: str) -> tuple[GroupStatus, ...]:
    return tuple(GroupStatus(group=group, state="unknown", threshold=THRESHOLD, text=text) for group in GROUPS)


def _of_new_model(last: MonitorStatus, served: ServedModel) -> MonitorStatus:
    """Return the status of a model that none of whose days was judged: what is of the channel stays."""
    return MonitorStatus(
        written_at=last.written_at,
        channel=last.channel,
        model_version=served.model_version,
        groups=_unjudged("Not judged: the model has just taken over."),
        calibration=last.calibration,
        last_judged=last.last_judged,
        announced=last.announced,
        pending=last.pending,
    )


def _judged(status: MonitorStatus, judgement: Judgement, quiet: tuple[str, ...], inputs: str) -> MonitorStatus:
    return msgspec.structs.replace(
        status,
        groups=judgement.groups,
        quantities=judgement.quantities,
        recent=judgement.recent,
        missing=(*judgement.missing, *quiet),
        inputs=inputs,
    )


def _so_far(model_version: str, hours: Sequence[HourFigures]) -> DayFigures:
    """Return the figures of hours as if they were of the last one's day."""
    return day_figures(day_of(Hour.parse(hours[-1].hour)), model_version, hours)


def _latest(hours: Sequence[HourFigures]) -> Latest:
    total = merge(one.figures for one in hours)
    raw, served = total.errors.raw, total.errors.served
    return Latest(
        first=hours[0].hour,
        last=hours[-1].hour,
        n_hours=len(hours),
        n_rides=total.n_predicted,
        n_judged=total.n_judged,
        rmse_raw=raw.rmse_minutes,
        rmse_served=served.rmse_minutes,
        bias_served=served.bias_minutes,
        coverage_served=served.coverage,
    )
