"""Labelled rides within seconds: hours are joined as soon as their archive changes, and then monitored.

On AWS an hour is joined once, after its horizon, when the outcomes of its long rides have come too. Here it is joined
early as well, again and again; at its horizon it is joined as on AWS.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lambda_function.core.archive_lines import PREFIX
from lambda_function.core.records import OUTCOMES, PREDICTIONS, RIDES
from training.data.labelled import FOLDER as LABELLED
from training.errors import UserError
from training.experiments.advance import AdvanceOptions, advance_experiments
from training.monitoring.accuracy import merge_sums
from training.monitoring.hours import EARLY, Due, Hour, hours_between, pass_of, reach_hours
from training.monitoring.join.join import hours_due, join_hour, labelled_key
from training.monitoring.join.options import JoinOptions
from training.monitoring.join.skew import Load, stored_models
from training.monitoring.monitor.monitor import MonitorOptions, run_monitor
from training.monitoring.summary import HourSummary
from training.registry.bucket import Bucket, Listed
from training.room import writing

_SCHEDULE_S = 60.0
"""How often the hours are looked for that are due as on AWS, and how often the monitor runs at least."""

_KINDS = (RIDES, PREDICTIONS, OUTCOMES)


@dataclass(slots=True, kw_only=True)
class Labeller:
    """Joins and monitors a stack's archive.

    Attributes:
        bucket: The stack's bucket.
        join_options: As of the deployed join.
        monitor_options: As of the deployed monitor.
        bus: An EventBridge client.
        folder: Gets a copy of the labelled rides.
        clock: Returns the time, aware.
        monotonic: Returns seconds that never go back.
        summaries: Of the hours that were joined since the start.
        problems: Of the last run.
    """

    bucket: Bucket
    join_options: JoinOptions
    monitor_options: MonitorOptions
    bus: Any
    folder: Path
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    monotonic: Callable[[], float] = time.monotonic
    summaries: dict[Hour, HourSummary] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    _archived: dict[Hour, int] = field(default_factory=dict)  # a hash of an hour's objects as they were joined last
    _copied: dict[str, Listed] = field(default_factory=dict)
    _load: Load | None = None
    _next_schedule_s: float = 0.0

    def run(self) -> bool:
        """Join the hours that have changed or are due, and monitor them; return whether there were any.

        Raises:
            BucketError: S3 fails.
        """
        now = self.clock()
        is_scheduled = self.monotonic() >= self._next_schedule_s
        due = [*self._changed(now), *(hours_due(self.bucket, now, self.join_options) if is_scheduled else ())]
        problems: list[str] = []
        for one in due:
            problems += self._join(one)
        if is_scheduled:
            problems += self._copy_changed()
        if due or is_scheduled:
            problems += self._monitor(now)
            self._next_schedule_s = self.monotonic() + _SCHEDULE_S
            self.problems = tuple(problems)
        return bool(due)

    def _changed(self, now: datetime) -> list[Due]:
        """Return the hours before their horizon whose archive has changed since they were joined."""
        delay_minutes = self.join_options.outcome_delay_minutes
        hours = list(hours_between(Hour.of(now) + -(reach_hours(delay_minutes) + 1), now))
        keys = {(kind, hour): tuple(self._keys(kind, hour)) for kind in _KINDS for hour in hours}
        due = []
        for place, hour in enumerate(hours):
            if not keys[RIDES, hour] or pass_of(hour, now, delay_minutes) != EARLY:
                continue
            later = tuple(keys[kind, one] for kind in (PREDICTIONS, OUTCOMES) for one in hours[place:])
            archived = hash((keys[RIDES, hour], later))
            if self._archived.get(hour) != archived:
                self._archived[hour] = archived
                due.append(Due(hour, EARLY))
        return due

    def _keys(self, kind: str, hour: Hour) -> Iterator[str]:
        return self.bucket.keys(f"{PREFIX}/{kind}/{hour.partition}/")

    def _join(self, due: Due) -> list[str]:
        self._load = self._load or stored_models(self.bucket)
        try:
            summary = join_hour(self.bucket, due.hour, self.join_options, due.pass_number, self._load)
            self._copy(labelled_key(due.hour))
        except Exception as error:  # noqa: BLE001 - one hour must not stop the others, and a later run tries again
            self._archived.pop(due.hour, None)
            return [f"{due.hour} can't be joined: {error}"]
        self.summaries[due.hour] = summary
        return []

    def _copy(self, key: str) -> None:
        if stored := self.bucket.read(key):
            path = self.folder / key
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(stored.body)

    def _copy_changed(self) -> list[str]:
        """Copy what others have changed, too: a ride that was forgotten must not stay in the copy."""
        try:
            for listed in self.bucket.list_objects(f"{LABELLED}/"):
                if self._copied.get(listed.key) != listed:
                    self._copy(listed.key)
                    self._copied[listed.key] = listed
        except UserError as error:
            return [str(error)]
        return []

    def _monitor(self, now: datetime) -> list[str]:
        options = self.monitor_options
        run = run_monitor(self.bucket, options, self.bus, self.clock)
        of_experiments = AdvanceOptions(calibration_mode=options.mode, bus=self.bus, stack=options.stack)
        advanced = advance_experiments(self.bucket, run.joined, now, of_experiments)
        failed = [f"the monitor's step {step!r} failed: {error}" for step, error in run.failures]
        return failed + [f"experiment {one.name}: {one.problem}" for one in advanced if one.problem]

    def figures(self) -> str:
        """Return what is known of the rides that were joined since the start; "" if there are none."""
        summaries = list(self.summaries.values())
        if not (n_labelled := sum(one.n_labelled for one in summaries)):
            return ""
        rmse = merge_sums(sums for one in summaries for sums in one.by_version.values()).rmse_minutes
        audit = (sum(getattr(one, name) for one in summaries) for name in ("n_lost", "n_conflicting", "n_skewed"))
        error = "" if rmse is None else f", RMSE {rmse:.2f} min"
        return f"labelled {n_labelled:,}{error}, audit {'/'.join(map(str, audit))}"
