"""Advance experiments: score the hours that are joined, and append each day once all of its hours are.

An hour is scored once, when its join is done. Outcomes that the second pass of the join adds two days later are not
seen, so that a verdict never changes afterwards. What a run does not finish the next one does. Of two runs at once one
stores its work, and the other's was the same.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

import msgspec

from lambda_function.core.bundle import ModelBundle
from lambda_function.core.channel import Channel
from lambda_function.errors import PredictorError
from training.errors import BucketError, UserError
from training.experiments.announce import announce_answers, unannounced
from training.experiments.experiment import (
    Experiment,
    ExperimentDay,
    HourLosses,
    Loss,
    StoredExperiment,
    answers_of,
    experiment_names,
    read_stored_experiment,
    save_experiment,
)
from training.experiments.scoring import Replay, arm_losses_of, losses_of, share_of_hour
from training.experiments.verdict import Verdict
from training.monitoring.calibration.calibrator import REPLAY_DAYS, CalibratorOptions
from training.monitoring.calibration.status import CalibrationMode
from training.monitoring.hours import Hour
from training.monitoring.join.skew import stored_models
from training.monitoring.labelled_hour import DamagedLabelledError, LabelledHour, read_labelled_hour
from training.monitoring.monitor.events import EventBus
from training.monitoring.monitor.monitored_days import LONGEST_WAIT, is_join_done, joined_hours
from training.monitoring.new_york_days import day_end, day_of, first_hour, hours_of_day, is_final
from training.monitoring.summary import DamagedSummaryError, load_summary
from training.registry.bucket import Bucket
from training.registry.channel_history import read_channel
from training.registry.signing import Signer

_RESERVED_S = 10.0  # to store what was done
_TIMES_THE_LONGEST = 1.5
"""Another step is begun if this many times the longest one of this run is left."""

_ONE_DAY = timedelta(days=1)


def unlimited() -> float:
    """Return the seconds that are left to a run by hand."""
    return math.inf


@dataclass(frozen=True, slots=True)
class AdvanceOptions:
    """What a run depends on besides the bucket.

    Attributes:
        calibration_mode: How often the stack calibrates; None outside a stack.
        signer: If the stack serves signed models only.
        time_left_s: Returns the seconds that are left.
        bus: Takes an event for each new answer; without one, none are made.
        stack: The stack's name, for events.
    """

    calibration_mode: CalibrationMode | None = None
    signer: Signer | None = None
    time_left_s: Callable[[], float] = unlimited
    bus: EventBus | None = None
    stack: str = ""


DEFAULT_OPTIONS = AdvanceOptions()


@dataclass(frozen=True, slots=True)
class Advanced:
    """What a run did for an experiment that was running.

    Attributes:
        experiment: As it is stored now; None if its object can't be read.
        n_hours: The hours that were scored.
        days: The days that were appended.
        n_left: Joined hours that are left to the next run, for want of time or of calibrations.
        answers: The verdicts of this run that are answers, by candidate.
        n_sent: Events that EventBridge took.
        problem: What failed, if something did; the rest was done.
    """

    name: str
    experiment: Experiment | None = None
    n_hours: int = 0
    days: tuple[date, ...] = ()
    n_left: int = 0
    answers: dict[str, Verdict] = field(default_factory=dict)
    n_sent: int = 0
    problem: Exception | None = None


def advance_experiments(
    bucket: Bucket, joined: Sequence[Hour], now: datetime, options: AdvanceOptions = DEFAULT_OPTIONS
) -> tuple[Advanced, ...]:
    """Score what is joined for all running experiments, and return what was done for each. Safe to repeat.

    A damaged object is named and stops no other experiment.

    Args:
        bucket: The stack's bucket.
        joined: The hours that are joined, those of the last 17 days at least; in any order. Calibrations learn from
            them.
        now: Aware.
        options: Calibration, signing and time.

    Raises:
        BucketError: S3 does not list the experiments.
    """
    return _Run(bucket, joined, now, options).run()


@dataclass(slots=True)
class _Work:
    """A running experiment, and what this run did for it.

    Attributes:
        left: Joined hours that this run could not score.
    """

    name: str
    stored: StoredExperiment | None
    experiment: Experiment | None
    n_hours: int = 0
    days: list[date] = field(default_factory=list)
    left: set[Hour] = field(default_factory=set)
    n_sent: int = 0
    problem: Exception | None = None
    is_open: bool = True  # whether a candidate has no answer yet

    @property
    def is_running(self) -> bool:
        """Whether hours are scored for it in this run."""
        return self.is_open and self.problem is None

    @property
    def next_day(self) -> date:
        """The day to append next."""
        experiment = self.held
        return experiment.first_day + len(experiment.days) * _ONE_DAY

    @property
    def held(self) -> Experiment:
        """The experiment, which was read."""
        assert self.experiment is not None  # noqa: S101 - nobody asks about an experiment that was not read
        return self.experiment

    @property
    def _scored(self) -> set[str]:
        return {one.hour for one in self.held.so_far}

    def waits_for(self, hour: Hour) -> bool:
        """Return whether an hour counts and is not scored yet."""
        experiment = self.held
        end = experiment.first_day + experiment.rules.budget_days * _ONE_DAY
        return self.next_day <= day_of(hour) < end and str(hour) not in self._scored

    def add_hour(self, hour: Hour, losses: tuple[Loss, ...], share: float | None = None) -> None:
        """Add the losses of an hour."""
        so_far = sorted((*self.held.so_far, HourLosses(str(hour), losses, share)), key=lambda one: one.hour)
        self.experiment = msgspec.structs.replace(self.held, so_far=tuple(so_far))
        self.left.discard(hour)
        self.n_hours += 1

    def append_days(self, now: datetime) -> None:
        """Append the days that are complete, until there is an answer for every candidate or something has failed."""
        while self.is_running and self._is_complete(self.next_day, now):
            day, experiment = self.next_day, self.held
            names = set(map(str, hours_of_day(day)))
            of_day = [one for one in experiment.so_far if one.hour in names]
            rest = tuple(one for one in experiment.so_far if one.hour not in names)
            missing = tuple(sorted(names.difference(one.hour for one in of_day)))
            losses = _sum_losses([one.losses for one in of_day], len(experiment.versions))
            appended = (*experiment.days, ExperimentDay(day, losses, missing, _share_of(of_day)))
            self.experiment = msgspec.structs.replace(experiment, days=appended, so_far=rest)
            self.days.append(day)
            if not self.held.is_running:
                self.is_open = False
                self.left.clear()
                self.experiment = msgspec.structs.replace(self.held, so_far=())

    def _is_complete(self, day: date, now: datetime) -> bool:
        """Return whether a day has ended, and no hour of it can be had any more."""
        lacking = {hour for hour in hours_of_day(day) if self.waits_for(hour)}
        if day_end(day) > now or (lacking and not is_final(day, now)):
            return False
        return not lacking & self.left

    def take_back(self) -> None:
        """Forget what was done: it is not stored."""
        self.experiment = self.stored.experiment if self.stored else None
        self.n_hours, self.days = 0, []

    def done(self) -> Advanced:
        """Return what was done."""
        before = answers_of(self.stored.experiment) if self.stored else {}
        now = answers_of(self.experiment) if self.experiment else {}
        new = {candidate: verdict for candidate, verdict in now.items() if candidate not in before}
        days, n_left = tuple(self.days), len(self.left)
        return Advanced(self.name, self.experiment, self.n_hours, days, n_left, new, self.n_sent, self.problem)


def _share_of(hours: Iterable[HourLosses]) -> float | None:
    """Return the share of a split on a day; None if it was not the same in all hours that count."""
    shares = {one.share for one in hours if one.share is not None}
    return shares.pop() if len(shares) == 1 else None


def _sum_losses(hours: Sequence[tuple[Loss, ...]], n_versions: int) -> tuple[Loss, ...]:
    by_version = zip(*hours, strict=True) if hours else [()] * n_versions
    return tuple(
        Loss(sum(one.n_rides for one in losses), math.fsum(one.sum_squared_error for one in losses))
        for losses in by_version
    )


@dataclass(slots=True)
class _Time:
    """Says whether there is time for another step, given the longest one so far; asked before each."""

    left_s: Callable[[], float]
    _longest_s: float = 0.0
    _before_s: float = 0.0

    def has_time(self) -> bool:
        left_s = self.left_s()
        if not math.isinf(left_s):
            self._longest_s = max(self._longest_s, self._before_s - left_s)
            self._before_s = left_s
        return left_s - _RESERVED_S > _TIMES_THE_LONGEST * self._longest_s


@dataclass(slots=True)
class _Run:
    """One run over all experiments."""

    bucket: Bucket
    joined: Sequence[Hour]
    now: datetime
    options: AdvanceOptions
    _replays: dict[tuple[str, CalibrationMode], Replay] = field(default_factory=dict)
    _channels: dict[str, Channel | None] = field(default_factory=dict)

    def run(self) -> tuple[Advanced, ...]:
        works = [one for one in self.bucket.each(self._read, experiment_names(self.bucket)) if one]
        try:
            self._score([work for work in works if work.is_running])
        except BucketError as error:
            for work in works:
                work.problem = work.problem or error
        for work in works:
            self._save(work)
            self._announce(work)
        return tuple(work.done() for work in works)

    def _read(self, name: str) -> _Work | None:
        """Return an experiment that is running, has an answer to announce, or can't be read."""
        try:
            stored = read_stored_experiment(self.bucket, name)
        except BucketError as error:
            return _Work(name, None, None, problem=error)
        if stored is None:
            return None
        is_open = stored.experiment.is_running
        is_due = is_open or (self.options.bus is not None and unannounced(stored.experiment))
        return _Work(name, stored, stored.experiment, is_open=is_open) if is_due else None

    def _save(self, work: _Work) -> None:
        """Store what was done; if somebody else has stored the experiment, the next run goes on from that."""
        if work.stored is None or work.experiment is None or work.experiment == work.stored.experiment:
            return
        try:
            is_saved = save_experiment(self.bucket, work.experiment, work.stored.etag)
        except BucketError as error:
            work.problem, is_saved = error, None
        if not is_saved:
            work.take_back()

    def _announce(self, work: _Work) -> None:
        """Send an event for each answer that is stored and was not announced."""
        if self.options.bus is None or work.experiment is None:
            return
        try:
            work.n_sent = announce_answers(self.bucket, work.experiment, self.options.bus, self.options.stack, self.now)
        except UserError as error:
            work.problem = work.problem or error

    def _score(self, works: Sequence[_Work]) -> None:
        """Score the joined hours that running experiments wait for, oldest first, and append their days."""
        if not works:
            return
        first = first_hour(min(work.next_day for work in works))
        joined = joined_hours(self.bucket, first + -24 * (REPLAY_DAYS + 1))
        for work in works:
            work.left = {hour for hour in joined if work.waits_for(hour)}
        waited = sorted({hour for work in works for hour in work.left})
        if waited:
            self._prepare(works, joined, waited[0])
        time = _Time(self.options.time_left_s)
        for hour in waited:
            if not time.has_time():
                break
            self._score_hour(hour, [work for work in works if work.is_running and hour in work.left])
            for work in works:
                work.append_days(self.now)
        for work in works:
            work.append_days(self.now)

    def _prepare(self, works: Iterable[_Work], joined: Iterable[Hour], first: Hour) -> None:
        """Do the ticks of each version's calibration that are due, before hours from the first one on are scored.

        If experiments have waited for long, the ticks need hours that are over for longer than `self.joined` goes back.
        """
        old = Hour.of(self.now - LONGEST_WAIT)
        learned = frozenset((*self.joined, *(hour for hour in joined if hour < old)))
        time = _Time(self.options.time_left_s)
        options = CalibratorOptions(signer=self.options.signer, has_time=time.has_time)
        load = stored_models(self.bucket, self.options.signer)
        for work in works:
            for key in self._keys(work) if work.held.mode == "shadow" else ():
                if key not in self._replays:
                    self._replays[key] = Replay(self.bucket, *key, learned, self.now, first, load, options)
                try:
                    self._replays[key].learn()
                except (PredictorError, UserError) as error:
                    work.problem = error

    def _keys(self, work: _Work) -> list[tuple[str, CalibrationMode]]:
        """Return the versions of an experiment, and how often they are calibrated.

        Hourly states of the champion would move a channel that is calibrated daily.
        """
        experiment = work.held
        is_daily = CalibrationMode.DAILY in {self.options.calibration_mode, experiment.calibration_mode}
        mode = CalibrationMode.DAILY if is_daily else experiment.calibration_mode
        mode = mode if experiment.calibration_mode != CalibrationMode.OFF else CalibrationMode.OFF
        return [(version, mode) for version in experiment.versions]

    def _score_hour(self, hour: Hour, works: Sequence[_Work]) -> None:
        """Score an hour for experiments that wait for it. One that can't be read is missing once its day is final."""
        labelled = None
        with suppress(DamagedLabelledError, DamagedSummaryError):
            labelled = self._labelled(hour) if works else None
        if labelled is not None:
            self._add_losses(labelled, works)
        else:
            for work in works:
                work.left.discard(hour)

    def _add_losses(self, labelled: LabelledHour, works: Sequence[_Work]) -> None:
        """Add the losses of an hour to experiments: of shadows by scoring each version once."""
        for work in works:
            if work.held.mode == "split":
                self._add_arms(labelled, work)
        hour = labelled.hour
        shadows = [work for work in works if work.held.mode == "shadow"]
        models = {work.name: self._models(work, hour) for work in shadows}
        each = {model.served_version: model for some in models.values() for model in some}
        losses = dict(zip(each, losses_of(labelled, tuple(each.values())), strict=True))
        for work in shadows:
            if models[work.name]:
                work.add_hour(hour, tuple(losses[model.served_version] for model in models[work.name]))

    def _add_arms(self, labelled: LabelledHour, work: _Work) -> None:
        """Add the losses of the arms of a split; none of an hour that was not split as a whole."""
        experiment = work.held
        try:
            state = self._channel(experiment.channel)
        except BucketError as error:
            work.problem = error
            return
        share = share_of_hour(state, experiment.salt, labelled.hour) if state else None
        nothing = (Loss(0, 0.0),) * len(experiment.versions)
        losses = arm_losses_of(labelled, experiment) if share is not None else nothing
        work.add_hour(labelled.hour, losses, share)

    def _channel(self, name: str) -> Channel | None:
        if name not in self._channels:
            self._channels[name] = read_channel(self.bucket, name).state
        return self._channels[name]

    def _models(self, work: _Work, hour: Hour) -> list[ModelBundle]:
        """Return the models of an experiment as they score an hour; none if that can't be done now."""
        found: list[ModelBundle] = []
        for key in self._keys(work):
            try:
                model = self._replays[key].model_at(hour)
            except (PredictorError, UserError) as error:
                work.problem = error
                return []
            if model is None:
                return []
            found.append(model)
        return found

    def _labelled(self, hour: Hour) -> LabelledHour | None:
        """Return the labelled rides of an hour; None if its join is not done."""
        summary = load_summary(self.bucket, hour)
        if summary is None or not is_join_done(hour, summary, self.now):
            return None
        return read_labelled_hour(self.bucket, hour)
