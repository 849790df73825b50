"""The join: an hour's ride events with their predictions and outcomes, as labelled rides and a summary.

The cohort is the ride events that arrived in the hour. Their outcomes are waited for until the horizon: judged earlier,
short rides would be over-represented.

The labelled rides depend on the archived records alone: not on the objects that hold them, their order, the number of
threads or the machine. The summary is stored last, and marks the hour as joined.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import duckdb

from lambda_function.core.archive_lines import PREFIX
from lambda_function.core.events import Reject
from lambda_function.core.outcomes import ride_key
from lambda_function.core.records import OUTCOMES, PREDICTIONS, RIDES
from training.data.labelled import FAILED, FILE, FOLDER, LABELLED, LOST, NO_OUTCOME, REJECTED, WAITING
from training.errors import BucketError, UserError
from training.monitoring.accuracy import merge_sums, outcome_share_by_third, rmse_bounds_minutes, sums_by_version
from training.monitoring.hours import (
    EARLY,
    FIRST,
    SECOND,
    Due,
    Hour,
    Joined,
    due_hours,
    horizon,
    hour_of_key,
    hours_between,
    look_back,
    reach_hours,
)
from training.monitoring.join.archive_reader import ArchiveReader, by_prediction_id, by_ride_key
from training.monitoring.join.cohort import Cohort
from training.monitoring.join.division import DividedArchive, Part, n_parts
from training.monitoring.join.late import LateRecords
from training.monitoring.join.matched_rides import MatchedRides
from training.monitoring.join.options import JoinOptions
from training.monitoring.join.outcome_match import OutcomeMatch, outcomes_of, reject_objects
from training.monitoring.join.predictions import id_of_prediction
from training.monitoring.join.ride_table import RideTable
from training.monitoring.join.second_pass import Inputs, unchanged
from training.monitoring.join.skew import Load, SkewCheck, stored_models
from training.monitoring.summary import DamagedObject, HourSummary, encode_summary, load_summary, summary_key
from training.registry.bucket import Bucket

_MINUTE = timedelta(minutes=1)


def labelled_key(hour: Hour) -> str:
    """Return the key of an hour's labelled rides.

    >>> labelled_key(Hour.parse("2026-08-01T09"))
    'labelled/dt=2026-08-01/hh=09/rides.parquet'
    """
    return f"{FOLDER}/{hour.partition}/{FILE}"


def join_hour(
    bucket: Bucket, hour: Hour, options: JoinOptions, pass_number: int = FIRST, load: Load | None = None
) -> HourSummary:
    """Join an hour, store its labelled rides, bad outcomes and late records, then its summary, and return the summary.

    A second pass that changes no labelled ride stores the summary alone. Running it again stores the same bytes if the
    archive holds the same records. If it holds fewer ride events than are labelled, because objects have expired, were
    deleted or are damaged, the labelled rides stay.

    Args:
        bucket: The archive, the models and the result.
        hour: The hour of arrival.
        options: What the join depends on besides.
        pass_number: FIRST; SECOND takes up the outcomes of two days; EARLY joins before the horizon what is there.
        load: Loads the versions that served, for the audit; without it, they are loaded from the bucket.

    Raises:
        BucketError: S3 fails.
        UserError: The archive holds fewer ride events than the labelled rides.
    """
    late = LateRecords(bucket, reach_hours(options.outcome_delay_minutes))
    inputs = Inputs.of(bucket, hour, options, late.reach_hours)
    summary = None
    if pass_number == SECOND:
        summary = unchanged(bucket, hour, options, inputs, late, labelled_key(hour))
    if summary is None:
        summary = _join(bucket, _Plan(hour, options, pass_number, inputs, late), load or stored_models(bucket))
    bucket.write(summary_key(hour), encode_summary(summary))
    return summary


class _Plan(NamedTuple):
    """What is joined, and how."""

    hour: Hour
    options: JoinOptions
    pass_number: int
    inputs: Inputs
    late: LateRecords


def _join(bucket: Bucket, plan: _Plan, load: Load) -> HourSummary:
    """Join an hour and store all but its summary."""
    reader, hour, options = ArchiveReader(bucket), plan.hour, plan.options
    n = n_parts(reader, hour, options.bytes_per_part)
    with (
        TemporaryDirectory(prefix="join-") if n > 1 else nullcontext("") as folder,
        RideTable(options.threads, options.memory_mb) as table,
    ):
        before = _stored_before(bucket, hour, table)
        join = _Join(reader, plan, table, SkewCheck(load))
        divided = DividedArchive(reader, Path(folder), n)
        for part, part_reader in divided.parts():
            join.add(part, part_reader)
        parquet, summary = table.write(list(join.versions)), join.summary()
        _check_none_goes(hour, before.n_rides, table.n_rides, reader.problems)
    for key, body in reject_objects(options.outcome_stream, join.rejects):
        bucket.write_once(key, body)
    if bucket.replace(labelled_key(hour), parquet, before.etag) is None:
        raise BucketError(bucket.name, labelled_key(hour), "was written by somebody else: join the hour again")
    if plan.pass_number != EARLY:
        join.store_late()
    return summary


class _Before(NamedTuple):
    """Labelled rides that are stored already."""

    etag: str | None
    n_rides: int


def _stored_before(bucket: Bucket, hour: Hour, table: RideTable) -> _Before:
    """Return what is stored before the join: if it changes meanwhile, as when a ride is forgotten, it stays."""
    stored = bucket.read(labelled_key(hour))
    return _Before(stored.etag, table.n_rides_of(stored.body)) if stored else _Before(None, 0)


def _check_none_goes(hour: Hour, n_before: int, n: int, damaged: Iterable[str]) -> None:
    """Raise UserError if a join would leave fewer labelled rides than there were."""
    if n < n_before:
        keys = ", ".join(sorted(damaged))
        raise UserError(
            f"the archive holds {n:,} ride events of {hour}, and {n_before:,} are labelled: these stay",
            f"restore {keys or 'its objects'}, or delete {labelled_key(hour)} to join what is left",
        )


def hours_due(bucket: Bucket, now: datetime, options: JoinOptions) -> list[Due]:
    """Return the hours that a scheduled run joins, in order; `now` is aware.

    Raises:
        BucketError: S3 fails.
    """
    hours = map(hour_of_key, bucket.keys(f"{PREFIX}/{RIDES}/"))
    first = next(filter(None, hours), None)  # a console that makes a folder stores a key without an hour
    joined = dict(_joined(bucket, look_back(now, options.outcome_delay_minutes), now))
    return due_hours(first, joined, now, options.outcome_delay_minutes)


def _joined(bucket: Bucket, first: Hour, now: datetime) -> Iterator[tuple[Hour, Joined]]:
    hours = list(hours_between(first, now))
    for hour, summary in zip(hours, bucket.each(lambda one: load_summary(bucket, one), hours), strict=True):
        if summary:
            yield hour, Joined(summary.pass_number, summary.n_waiting)


@dataclass(slots=True)
class _Join:
    """The sums of a join over its parts."""

    reader: ArchiveReader
    plan: _Plan
    table: RideTable
    skew: SkewCheck
    versions: dict[str, int] = field(default_factory=dict)
    rejects: dict[str, Reject] = field(default_factory=dict)
    bad: dict[str, str] = field(default_factory=dict)  # status of records and parts that are no ride event, by id
    reasons: dict[str, str] = field(default_factory=dict)  # why records and parts were rejected, by id
    sums: Counter[str] = field(default_factory=Counter)  # numbers of the summary, by name
    outcome_duplicates: Counter[str] = field(default_factory=Counter)  # by id: the most that a part has seen
    late_keys: set[str] = field(default_factory=set)  # ride keys of late outcomes
    late_predictions: set[str] = field(default_factory=set)  # their ids

    @property
    def end(self) -> datetime:
        """The horizon."""
        return horizon(self.plan.hour, self.plan.options.outcome_delay_minutes, self.plan.pass_number)

    def add(self, part: Part, reader: ArchiveReader) -> None:
        """Join a part."""
        hour, options, pass_number, _, late = self.plan
        for kind in (PREDICTIONS, OUTCOMES):
            late.key(kind, hour)  # of the objects before they are read
        rides = MatchedRides()
        cohort = Cohort(
            reader, hour, options, pass_number, rides, self.skew, self.versions, self.bad, self.reasons, late, part
        )
        cohort.read()
        cohort.predictions.by_id.clear()  # the memory is needed
        delay_minutes = options.outcome_delay_minutes
        outcomes = OutcomeMatch(reader, hour, rides, self.end, delay_minutes, late, part)
        outcomes.read()
        self.late_keys |= outcomes.unmatched_keys
        self.late_predictions |= cohort.late_predictions
        self.table.add(rides.labelled())
        self.rejects |= outcomes.rejects
        self.outcome_duplicates |= outcomes.duplicates
        self.sums.update(
            n_conflicting=len(cohort.conflicting),
            n_differing=cohort.n_differing,
            n_duplicates=cohort.n_duplicates,
            n_outcomes=outcomes.n_outcomes,
            n_outcomes_unmatched=outcomes.n_unmatched,
            n_outcomes_unusable=outcomes.n_unusable,
        )

    def store_late(self) -> None:
        """Store the late records of the hour."""
        hour, late = self.plan.hour, self.plan.late
        keys, ids = self.late_keys, self.late_predictions
        late.store(
            self.reader, OUTCOMES, hour, by_ride_key(keys.__contains__) if keys else None,
            lambda record: any(ride_key(outcome.ride_id) in keys for _, outcome in outcomes_of(record)[0]),
        )  # fmt: skip
        late.store(
            self.reader, PREDICTIONS, hour, by_prediction_id(ids.__contains__) if ids else None,
            lambda record: id_of_prediction(record.data) in ids,
        )  # fmt: skip

    def summary(self) -> HourSummary:
        """Return the summary of all parts."""
        hour, inputs = self.plan.hour, self.plan.inputs
        first_end = horizon(hour, self.plan.options.outcome_delay_minutes)
        damaged = {key: why for key, why in self.reader.problems.items() if _is_before(key, first_end)}
        n_by_status = self.table.n_by_status + Counter(self.bad.values())
        predicted = self.table.predicted(list(self.versions))
        by_version = sums_by_version(predicted)
        return HourSummary(
            hour=str(hour),
            pass_number=self.plan.pass_number,
            horizon_minutes=(self.end - hour.end) // _MINUTE,
            n_ride_events=n_by_status.total(),
            n_labelled=n_by_status[LABELLED],
            n_without_outcome=n_by_status[NO_OUTCOME],
            n_rejected=n_by_status[REJECTED],
            n_rejected_by_reason=dict(sorted(Counter(self.reasons.values()).items())),
            n_failed=n_by_status[FAILED],
            n_waiting=n_by_status[WAITING],
            n_lost=n_by_status[LOST],
            n_outcomes_rejected=len(self.rejects),
            n_skewed=len(self.skew.skewed),
            n_recomputed=self.skew.n_recomputed,
            n_unrecomputed=self.skew.n_unrecomputed,
            unloadable_versions=self.skew.problems,
            n_contradicting=self.table.n_contradicting,
            n_out_of_range=n_by_status[LABELLED] - sum(sums.n for sums in by_version.values()),
            by_version=by_version,
            outcome_share_by_third=outcome_share_by_third(predicted),
            rmse_minutes=merge_sums(by_version.values()).rmse_minutes,
            rmse_bounds_minutes=rmse_bounds_minutes(predicted),
            damaged_objects=tuple(DamagedObject(key, why) for key, why in sorted(damaged.items())),
            n_objects=inputs.n_objects,
            n_bytes=inputs.n_bytes,
            inputs=inputs.digest,
            duckdb=duckdb.__version__,
            **(self.sums + Counter(n_duplicates=self.outcome_duplicates.total())),
        )


def _is_before(key: str, end: datetime) -> bool:
    """Return whether the hour of an archive object begins before a time."""
    hour = hour_of_key(key)
    return hour is None or hour.start < end
