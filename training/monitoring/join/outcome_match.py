"""The outcomes of a cohort: those with a ride id of the cohort that arrived until the horizon.

Of the hours after the first horizon, only the late ones are read (`late.py`).

Ride ids may be used again, so an outcome belongs to the last ride event with its id that arrived before it. Events of
later hours count for that, and those of earlier hours do not: the cohort's own event is later than they are.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from lambda_function.aws.rejects import reject_key
from lambda_function.core.archive_lines import ArchivedRecord
from lambda_function.core.events import Reject, encode_reject
from lambda_function.core.outcomes import Outcome, decode_outcome, decode_outcomes, outcome_minutes, ride_key
from lambda_function.core.processor import RideBatch
from lambda_function.core.records import OUTCOMES, RIDES
from lambda_function.errors import RejectError
from training.monitoring.hours import Hour, horizon, hours_between
from training.monitoring.join.archive_reader import ArchiveReader, by_ride_key
from training.monitoring.join.cohort import MICROSECONDS_PER_S, in_batches, microseconds
from training.monitoring.join.division import WHOLE, Part
from training.monitoring.join.late import LateRecords
from training.monitoring.join.matched_rides import MatchedRides, OutcomeRow

_MAX_REJECTS = 10_000  # of one object


@dataclass(slots=True)
class OutcomeMatch:
    """Reads outcomes and matches them with rides.

    Attributes:
        rides: The cohort's rides.
        end: The horizon.
        outcome_delay_minutes: How late outcomes may be; so far back, ride events are looked for.
        late: The late outcomes of the hours after the first horizon.
        part: Which outcomes are read.
        duplicates: How often an outcome came again until the first horizon, by its id. Parts may share it.
        n_outcomes: Outcomes that arrived in the hour.
        n_unmatched: Of these, those without a ride event before them, as far as ride events are looked for.
        unmatched_keys: Their ride keys.
        n_unusable: Outcomes of the cohort that give no duration.
        rejects: Records that are no outcome and arrived in the hour, by id.
    """

    reader: ArchiveReader
    hour: Hour
    rides: MatchedRides
    end: datetime
    outcome_delay_minutes: int
    late: LateRecords
    part: Part = WHOLE
    duplicates: Counter[str] = field(default_factory=Counter)
    n_outcomes: int = 0
    n_unmatched: int = 0
    n_unusable: int = 0
    unmatched_keys: set[str] = field(default_factory=set)
    rejects: dict[str, Reject] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)
    _matched_keys: set[str] = field(default_factory=set)
    _last_s: float = 0.0
    _unknown: Counter[str] = field(default_factory=Counter)  # outcomes of the hour whose ride is not in the cohort

    def read(self) -> None:
        """Read the outcomes and what belongs to them, and match them.

        Raises:
            BucketError: S3 fails.
        """
        is_of_cohort = by_ride_key(self.rides.keys.__contains__)
        first_end = horizon(self.hour, self.outcome_delay_minutes)
        for hour in hours_between(self.hour, first_end):
            chosen = None if hour == self.hour else is_of_cohort
            for _, records in in_batches(self.reader.read(OUTCOMES, hour, chosen)):
                self.rides.add_outcomes(list(self._rows(records, is_of_hour=hour == self.hour)))
        later = hours_between(self.hour + (1 + self.late.reach_hours), self.end)
        for records in self.late.read(self.reader, OUTCOMES, later, is_of_cohort):
            self.rides.add_outcomes(list(self._rows(records, is_of_hour=False)))
        self._read_later_rides()
        self._measure()
        self._unknown.update(self.rides.unmatched())
        self._count_unmatched()

    def _rows(self, records: list[ArchivedRecord], *, is_of_hour: bool) -> Iterator[OutcomeRow]:
        """Return the outcomes of the cohort among records, each once."""
        for record in self._new(records):
            outcomes, rejects = outcomes_of(record)
            if is_of_hour:
                self.rejects.update((reject.event_id, reject) for reject in rejects)
            for outcome_id, outcome in outcomes:
                key = ride_key(outcome.ride_id)
                if not self.part.holds(key):
                    continue
                self.n_outcomes += is_of_hour
                if key in self.rides.keys:
                    self._matched_keys.add(key)
                    self._last_s = max(self._last_s, record.at_s)
                    yield _row(outcome_id, key, record.at_s, outcome, is_of_hour=is_of_hour)
                elif is_of_hour:
                    self._unknown[key] += 1

    def _new(self, records: list[ArchivedRecord]) -> Iterator[ArchivedRecord]:
        """Return the records until the horizon, each once."""
        end_s, first_end_s = self.end.timestamp(), horizon(self.hour, self.outcome_delay_minutes).timestamp()
        for record in records:
            if record.at_s >= end_s:
                continue
            if record.id in self._seen:
                self.duplicates[record.id] += record.at_s < first_end_s
                continue
            self._seen.add(record.id)
            yield record

    def _read_later_rides(self) -> None:
        """Read the ride events of later hours that used a ride id again, as far as outcomes came for it."""
        is_wanted = by_ride_key(self._matched_keys.__contains__)
        for hour in hours_between(self.hour + 1, Hour.of(self._last_s).end):
            for _, records in in_batches(self.reader.read(RIDES, hour, is_wanted)):
                batch = RideBatch.of([record.kinesis_record() for record in records])
                arrivals = [microseconds(record.envelope.arrival_time_s) for record in batch.records]
                keys = [ride_key(event.ride_id) for event in batch.events]
                self.rides.add_later(list(zip(keys, arrivals, strict=True)))

    def _measure(self) -> None:
        """Work out the minutes of outcomes that have a drop-off alone."""
        minutes: dict[str, float] = {}
        for one in self.rides.match():
            outcome = Outcome(one.outcome_id, dropoff_datetime=one.dropoff)
            try:
                minutes[one.outcome_id] = outcome_minutes(outcome, one.pickup, one.ride_at_us / MICROSECONDS_PER_S)
            except RejectError:
                self.n_unusable += 1
        self.rides.measure(minutes)

    def _count_unmatched(self) -> None:
        """Look for the ride events of the hour's other outcomes as long as outcomes may take, the last hour first."""
        unknown = self._unknown
        for back in range(1, self.late.reach_hours + 1):
            if not unknown:
                return
            for _, records in in_batches(self.reader.read(RIDES, self.hour + -back, by_ride_key(unknown.__contains__))):
                for event in RideBatch.of([record.kinesis_record() for record in records]).events:
                    unknown.pop(ride_key(event.ride_id), None)
        self.n_unmatched, self.unmatched_keys = unknown.total(), set(unknown)


def outcomes_of(record: ArchivedRecord) -> tuple[list[tuple[str, Outcome]], Sequence[Reject]]:
    """Return the outcomes of a record with their ids, and its rejects."""
    try:
        return [(record.id, decode_outcome(record.data))], ()
    except RejectError:  # it may hold several
        outcomes, rejects = decode_outcomes(record.kinesis_record())
    return [(part.event_id, outcome) for part, outcome in outcomes], rejects


def _row(outcome_id: str, key: str, at_s: float, outcome: Outcome, *, is_of_hour: bool) -> OutcomeRow:
    minutes, dropoff = outcome.ride_duration, None
    if minutes is None and outcome.pickup_datetime is not None:
        minutes = outcome_minutes(outcome, None, 0.0)
    elif minutes is None:
        minutes, dropoff = math.nan, outcome.dropoff_datetime
    return OutcomeRow(outcome_id, key, microseconds(at_s), minutes, is_of_hour, dropoff)


def reject_objects(stream: str, rejects: dict[str, Reject]) -> Iterator[tuple[str, bytes]]:
    """Return rejects as objects: keys and bodies. The same rejects give the same, whatever objects held them."""
    shards: dict[str, list[Reject]] = {}
    for reject in sorted(rejects.values(), key=_place):
        shards.setdefault(reject.shard_id, []).append(reject)
    for one_shard in shards.values():
        for start in range(0, len(one_shard), _MAX_REJECTS):
            part = one_shard[start : start + _MAX_REJECTS]
            body = b"".join(encode_reject(reject) + b"\n" for reject in part)
            yield reject_key(stream, part[0], body), body


def _place(reject: Reject) -> tuple[str, int, int]:
    return reject.shard_id, int(reject.sequence_number), -1 if reject.sub_record is None else reject.sub_record
