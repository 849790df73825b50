"""The hours and days of a served model: which have figures, and the figures of those that have none yet.

The first day is the first one that the model served from its beginning, by arrival. Hours before it, on the day on
which the model took over, have figures for display. Days are stored in order, oldest first, and without a gap: the
evidence of a day rests on all days before it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from operator import attrgetter
from typing import Self

from lambda_function.core.bundle import ModelBundle
from training.errors import BucketError
from training.monitoring.hours import FIRST, SECOND, SECOND_PASS_AGE, Hour, hour_of_key
from training.monitoring.labelled_hour import DamagedLabelledError, read_labelled_hour
from training.monitoring.monitor.day_figures import DayFigures, day_figures, day_key, encode_day, load_days, stored_days
from training.monitoring.monitor.figures import (
    Edges,
    HourFigures,
    encode_figures,
    figures_key,
    hour_figures,
    hours_with_figures,
    load_figures,
)
from training.monitoring.monitor.served_model import ServedModel
from training.monitoring.new_york_days import day_end, day_of, first_hour, first_whole_day, hours_of_day, is_final
from training.monitoring.summary import FOLDER, DamagedSummaryError, HourSummary, load_summary, summary_key
from training.registry.bucket import Bucket

MAX_PROBLEMS = 3
"""After so many hours that S3 fails on, the run leaves the others to the next one."""

LONGEST_WAIT = timedelta(hours=27)
"""Of an hour for its join: its rides, the longest OutcomeDelayMinutes, a run. Older hours are joined for good."""

_TIMES_THE_LONGEST = 1.5
"""Another hour is begun if this many times the longest one of this run is left."""

_QUIET_DAYS = 31
"""Days in which the last judged ride is looked for."""

_ONE_DAY = timedelta(days=1)


def joined_hours(bucket: Bucket, first: Hour) -> list[Hour]:
    """List the hours from one on that are joined, ascending.

    Raises:
        BucketError: S3 fails.
    """
    listed = bucket.list_objects(FOLDER, start_after=summary_key(first + -1))
    return [hour for one in listed if (hour := hour_of_key(one.key))]


def first_joined_hour(bucket: Bucket) -> Hour | None:
    """Return the first hour that is joined; None if none is."""
    return next(filter(None, map(hour_of_key, bucket.keys(FOLDER))), None)


def is_join_done(hour: Hour, summary: HourSummary, now: datetime) -> bool:
    """Return whether the join of an hour is done: its horizon has passed, and all its rides are predicted.

    Rides that wait for their prediction are waited for until two days after the hour.
    """
    if summary.pass_number < FIRST:
        return False
    return summary.n_waiting == 0 or summary.pass_number == SECOND or now >= hour.end + SECOND_PASS_AGE


@dataclass(slots=True)
class MonitoredDays:
    """The hours and days of a served model.

    Attributes:
        now: Aware.
        shows_early: Whether to make figures of hours that were joined before their horizon. They are not stored.
        days: The days with figures, ascending, without a gap.
        next_day: The day to store next.
        joined: The joined hours that are in no stored day, ascending.
        figured: Those with figures.
        early: Figures of hours that were joined before their horizon.
        damaged: Why others can't have any.
        problems: Failures of S3, by hour: the next run tries again.
        n_left: Hours that the time did not suffice for.
    """

    bucket: Bucket
    model: ServedModel
    now: datetime
    shows_early: bool
    days: list[date]
    next_day: date
    joined: Sequence[Hour]
    figured: set[Hour]
    early: list[HourFigures] = field(default_factory=list)
    damaged: dict[Hour, str] = field(default_factory=dict)
    problems: dict[Hour, BucketError] = field(default_factory=dict)
    n_left: int = 0

    @classmethod
    def of(cls, bucket: Bucket, model: ServedModel, now: datetime, *, shows_early: bool = False) -> Self:
        """Read which hours and days of a model have figures.

        Raises:
            BucketError: S3 fails.
        """
        earliest = first_joined_hour(bucket)
        begins = max(model.since, earliest.start) if earliest else now
        days = _days_in_a_row(bucket, model, first_whole_day(begins))
        next_day = days[-1] + _ONE_DAY if days else first_whole_day(begins)
        first = first_hour(next_day) if days else _first_whole_hour(begins)
        figured = {hour for key in hours_with_figures(bucket, model.model_version, first) if (hour := hour_of_key(key))}
        joined = joined_hours(bucket, first) if earliest else []
        return cls(bucket, model, now, shows_early, days, next_day, joined, figured)

    # -- hours

    def add_hours(
        self, load: Callable[[], ModelBundle], edges: Edges, time_left_s: Callable[[], float], reserved_s: float = 0.0
    ) -> list[HourFigures]:
        """Store figures of joined hours that have none, oldest first, and return them.

        Args:
            load: Loads the model; called if there is an hour to do.
            edges: The bins of its reference.
            time_left_s: Returns the seconds that are left.
            reserved_s: Of these, the seconds that are needed for what follows.

        Raises:
            BundleError, NoSuchVersionError: The model can't be loaded.
        """
        waiting = [hour for hour in self.joined if hour not in self.figured]
        added: list[HourFigures] = []
        model: ModelBundle | None = None
        longest_s = 0.0
        for place, hour in enumerate(waiting):
            left_s = time_left_s()
            is_out_of_time = left_s - reserved_s < _TIMES_THE_LONGEST * longest_s
            if is_out_of_time or len(self.problems) >= MAX_PROBLEMS:
                self.n_left = len(waiting) - place
                break
            try:
                summary = load_summary(self.bucket, hour)
                if summary and self._has_figures(hour, summary):
                    model = model or load()
                    added += self._add_hour(hour, summary, model, edges)
                elif summary and self.now >= hour.end + SECOND_PASS_AGE:
                    self.damaged[hour] = f"{hour} was joined before its horizon only: join it again"
            except DamagedSummaryError as error:
                self.damaged[hour] = str(error)
            except BucketError as error:
                self.problems[hour] = error
            longest_s = max(longest_s, left_s - time_left_s())
        return added

    def _has_figures(self, hour: Hour, summary: HourSummary) -> bool:
        return is_join_done(hour, summary, self.now) or (self.shows_early and summary.pass_number < FIRST)

    def _add_hour(self, hour: Hour, summary: HourSummary, model: ModelBundle, edges: Edges) -> Iterable[HourFigures]:
        """Store the figures of an hour, and return them; none if its labelled rides can't be read."""
        try:
            labelled = read_labelled_hour(self.bucket, hour)
        except DamagedLabelledError as error:
            self.damaged[hour] = str(error)
            return ()
        if labelled is None:
            self.damaged[hour] = f"{hour} has a summary and no labelled rides: join the hour again"
            return ()
        version = self.model.model_version
        made = HourFigures(
            hour=str(hour),
            model_version=version,
            labelled_sha256=labelled.sha256,
            figures=hour_figures(labelled, summary, model, edges),
        )
        if summary.pass_number < FIRST:  # more outcomes will come
            self.early.append(made)
            return (made,)
        self.bucket.write_once(figures_key(version, hour), encode_figures(made))
        self.figured.add(hour)
        return (made,)

    # -- days

    def add_days(self, time_left_s: Callable[[], float], reserved_s: float = 0.0) -> None:
        """Store the days that are complete, oldest first.

        Raises:
            BucketError: S3 fails, or an hour's figures are damaged.
        """
        while self._is_complete(self.next_day) and time_left_s() > reserved_s:
            day, version = self.next_day, self.model.model_version
            hours = hours_of_day(day)
            parts = self._load(hour for hour in hours if hour in self.figured)
            made = day_figures(day, version, parts, [hour for hour in hours if hour not in self.figured])
            self.bucket.write_once(day_key(version, day), encode_day(made))
            self.days.append(day)
            self.next_day += _ONE_DAY

    def _is_complete(self, day: date) -> bool:
        """Return whether a day has ended, and no hour of it can be had any more."""
        lacking = [hour for hour in hours_of_day(day) if hour not in self.figured]
        if day_end(day) > self.now or (lacking and not is_final(day, self.now)):
            return False
        joined = set(self.joined)
        return all(hour in self.damaged or hour not in joined for hour in lacking)

    def load(self) -> list[DayFigures]:
        """Return the figures of all days."""
        return load_days(self.bucket, self.model.model_version, self.days)

    def latest(self) -> list[HourFigures]:
        """Return the figures of the hours after the last day, or since the model took over, ascending."""
        last = self.days[-1] if self.days else None
        stored = self._load(hour for hour in sorted(self.figured) if last is None or day_of(hour) > last)
        return sorted((*stored, *self.early), key=attrgetter("hour"))

    def last_judged(self, latest: Iterable[HourFigures], known: str | None) -> str | None:
        """Return the last hour that has a judged ride; None if there is none.

        Args:
            latest: What `latest` returns.
            known: The last one that is known from an earlier run.
        """
        judged = [one.hour for one in latest if one.figures.n_judged]
        for day in reversed(self.days[-_QUIET_DAYS:]):
            if judged or (known and day_of(Hour.parse(known)) > day):
                break
            (stored,) = load_days(self.bucket, self.model.model_version, [day])
            judged = [one.hour for one in stored.hours if one.errors.raw.n]
        return max(filter(None, (*judged, known)), default=None)

    def _load(self, hours: Iterable[Hour]) -> list[HourFigures]:
        found = self.bucket.each(lambda hour: load_figures(self.bucket, self.model.model_version, hour), hours)
        return [one for one in found if one]


def _days_in_a_row(bucket: Bucket, model: ServedModel, first: date) -> list[date]:
    """Return the stored days of a model since it took over, without a gap.

    If the channel knows of no model before it, days before `first` belong to it too: old segments and summaries may
    have been removed since they were stored.
    """
    stored = set(stored_days(bucket, model.model_version))
    while first - _ONE_DAY in stored and (model.is_first or first - _ONE_DAY >= first_whole_day(model.since)):
        first -= _ONE_DAY
    days = []
    while first in stored:
        days.append(first)
        first += _ONE_DAY
    return days


def _first_whole_hour(time: datetime) -> Hour:
    """Return the first hour that begins at a time or after it."""
    hour = Hour.of(time)
    return hour if hour.start >= time else hour + 1
