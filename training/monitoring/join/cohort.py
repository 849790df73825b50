"""The cohort of an hour: its ride events, each with its prediction, audited."""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field

import numpy as np

from lambda_function.core.archive_lines import ArchivedRecord
from lambda_function.core.events import ride_columns
from lambda_function.core.outcomes import ride_key
from lambda_function.core.pickup_time import pickup_seconds
from lambda_function.core.processor import RideBatch
from lambda_function.core.records import PREDICTIONS, RIDES
from training.data.labelled import LOST, REJECTED, WAITING
from training.monitoring.hours import SECOND, Hour, horizon, hours_between
from training.monitoring.join.archive_reader import ArchiveReader, Filter, ObjectRecords, by_prediction_id
from training.monitoring.join.audit import account_for
from training.monitoring.join.division import WHOLE, Part
from training.monitoring.join.failures import first_numbers, is_before
from training.monitoring.join.late import MAX_LINES, LateRecords
from training.monitoring.join.matched_rides import MatchedRides, RideRows, texts
from training.monitoring.join.options import JoinOptions
from training.monitoring.join.predictions import NO_ROW, ArchivedPrediction, Predictions, reached
from training.monitoring.join.skew import SkewCheck, sample_share
from training.registry.channel_history import withdrawn_versions

MICROSECONDS_PER_S = 1_000_000
_N_RECORDS = 10_000  # decoded at once, so that small objects cost little
_NO_VERSION = -1
_NO_PREDICTION = ArchivedPrediction("", 0, math.nan, math.nan, math.nan, 0.0)


def microseconds(time_s: float) -> int:
    """Return a time in seconds as whole microseconds."""
    return round(time_s * MICROSECONDS_PER_S)


def in_batches(objects: Iterable[ObjectRecords]) -> Iterator[tuple[list[str], list[ArchivedRecord]]]:
    """Return the records of several small objects at once, with the objects' keys."""
    keys: list[str] = []
    records: list[ArchivedRecord] = []
    for one in objects:
        keys.append(one.key)
        records += one.records
        if len(records) >= _N_RECORDS:
            yield keys, records
            keys, records = [], []
    if keys:
        yield keys, records


@dataclass(slots=True)
class Cohort:
    """The ride events of an hour, or a part of them.

    Attributes:
        versions: The number of each version that predicted, by name; common to all parts.
        bad: The status of each record or part that is no ride event by this code, by id; common to all parts.
        reasons: Why records and parts were rejected, by id; common to all parts.
        late: The late predictions of the hours after the first horizon.
        part: Which rides are read.
        n_rides: Ride events that this code decodes.
        n_duplicates: Ride events, and predictions until the first horizon, that came more than once with the same id.
        late_predictions: Ids of predictions that arrived in the hour, of ride events that came long before it.
        n_differing: Ids with predictions that differ.
        conflicting: Rows of rides with conflicting predictions.
    """

    reader: ArchiveReader
    hour: Hour
    options: JoinOptions
    pass_number: int
    rides: MatchedRides
    skew: SkewCheck
    versions: dict[str, int]
    bad: dict[str, str]
    reasons: dict[str, str]
    late: LateRecords
    part: Part = WHOLE
    n_rides: int = 0
    n_duplicates: int = 0
    n_differing: int = 0
    conflicting: set[int] = field(default_factory=set)
    late_predictions: set[str] = field(default_factory=set)
    predictions: Predictions = field(default_factory=Predictions)
    _earlier_bad: frozenset[str] = frozenset()  # noted by parts before this one
    _missing: dict[str, int] = field(default_factory=dict)  # rows of rides without prediction by id; NO_ROW for no ride
    _objects: list[tuple[int, list[str]]] = field(default_factory=list)  # each batch's first row, and objects

    def read(self) -> None:
        """Read the hour and what belongs to it, and add the rides.

        Raises:
            BucketError: S3 fails.
        """
        self._earlier_bad = frozenset(self.bad)
        is_earlier = self._is_earlier()
        for one in self.reader.read(PREDICTIONS, self.hour):
            self.predictions.add(one.records, is_earlier)
        n_predictions = len(self.predictions.by_id) * self.part.n  # of all parts, which are alike
        self.skew.share = sample_share(n_predictions, self.options.max_recomputed)
        for keys, records in in_batches(self.reader.read(RIDES, self.hour)):
            self._objects.append((self.n_rides, keys))
            self._add(records)
        self._read_later_predictions()
        self._read_earlier_predictions()
        self._replace()
        self._account()
        by_id = self.predictions.by_id
        skewed = {by_id[event_id].row for event_id in self.skew.skewed if event_id in by_id} - {NO_ROW}
        self.rides.set_flags(self.conflicting, skewed)

    def _add(self, records: Sequence[ArchivedRecord]) -> None:
        """Add the ride events among records."""
        batch = RideBatch.of([record.kinesis_record() for record in records])
        rejects = batch.rejects
        mine: Sequence[int] = range(len(batch.records))
        if self.part.n > 1:
            mine = [row for row in mine if self.part.holds(ride_key(batch.events[row].ride_id))]
        new = [row for row in mine if self._number(batch.records[row].event_id)]
        self.n_duplicates += len(mine) - len(new)
        if len(new) < len(batch.records):
            batch = batch.take(new)
        batch.rejects = [one for one in rejects if self._note_bad(one[1].event_id)]
        self.skew.check(batch, self.predictions.by_id)
        if batch.records:
            self.rides.add_rides(self._rows(batch))

    def _number(self, event_id: str) -> bool:
        """Number a ride; return False if it came before."""
        row = self.n_rides
        prediction = self.predictions.by_id.get(event_id)
        if prediction is None:
            if self._missing.setdefault(event_id, row) != row:
                return False
        elif prediction.row == NO_ROW:
            prediction.row = row
        else:
            return False
        self.n_rides += 1
        return True

    def _note_bad(self, event_id: str) -> bool:
        """Note a record or part that is no ride event; return whether it is new. Parts may share it."""
        if event_id in self._missing or (event_id in self.bad and event_id not in self._earlier_bad):
            self.n_duplicates += 1
            return False
        is_served = event_id in self.predictions.by_id
        if is_served:
            self.bad[event_id] = REJECTED
        elif event_id not in self._earlier_bad:
            self._missing[event_id] = NO_ROW
        return is_served or event_id in self._missing

    def _rows(self, batch: RideBatch) -> RideRows:
        """Return the rows of rides that were numbered last."""
        ids = [record.event_id for record in batch.records]
        rides = [event.ride for event in batch.events]
        arrivals_s = [record.envelope.arrival_time_s for record in batch.records]
        pickups = [ride.pickup_datetime for ride in rides]
        columns = ride_columns(rides, batch.pickup_minutes)
        predictions = [self.predictions.by_id.get(event_id, _NO_PREDICTION) for event_id in ids]
        return RideRows(
            id=texts(ids),
            key=texts([ride_key(event.ride_id) for event in batch.events]),
            at_us=np.array([microseconds(arrival_s) for arrival_s in arrivals_s], np.int64),
            pickup_zone=columns.pickup_zone,
            dropoff_zone=columns.dropoff_zone,
            trip_distance_miles=columns.trip_distance_miles,
            pickup_s=pickup_seconds(pickups, arrivals_s),
            pickup=texts(pickups),
            version=np.array([self._version(one.model_version) for one in predictions], np.int64),
            minutes=np.array([one.minutes for one in predictions], np.float64),
            low_minutes=np.array([one.low_minutes for one in predictions], np.float64),
            high_minutes=np.array([one.high_minutes for one in predictions], np.float64),
        )

    def _version(self, name: str) -> int:
        return self.versions.setdefault(name, len(self.versions)) if name else _NO_VERSION

    def _read_later_predictions(self) -> None:
        """Read the predictions of later hours for the cohort: beyond the first horizon only for rides that have none.

        So an hour that is joined again after an outage has the predictions that came when the function was back.
        """
        first = horizon(self.hour, self.options.outcome_delay_minutes)
        for hour in hours_between(self.hour + 1, first):
            left = self._left()
            wanted = by_prediction_id(self._is_of(left) if left else self.predictions.by_id.__contains__)
            for one in self.reader.read(PREDICTIONS, hour, wanted):
                self.predictions.add(record for record in one.records if record.at_s < first.timestamp())
        self.n_duplicates += self.predictions.n_repeated
        left = self._left() if self.pass_number == SECOND else self._left_rides()
        if not left:
            return
        begin = self.hour + (1 + self.late.reach_hours)
        if first < begin.start:  # the first pass reads a part of the hour before
            for one in self.reader.read(PREDICTIONS, begin + -1, self._filter(left)):
                self._add_left((record for record in one.records if record.at_s >= first.timestamp()), left)
        hours = hours_between(begin, horizon(self.hour, self.options.outcome_delay_minutes, SECOND))
        for records in self.late.read(self.reader, PREDICTIONS, hours, self._filter(left)):
            self._add_left(records, left)

    def _is_earlier(self) -> Callable[[str], bool]:
        """Return whether a prediction is of a ride that came before the hour; it notes the late ones.

        When the function is back after an outage, an hour has the predictions of many: they need not be remembered.
        """
        bucket, hours = self.reader.bucket, [self.hour + -back for back in range(self.late.reach_hours)]
        firsts, firsts_in_full = first_numbers(bucket, hours[:1]), first_numbers(bucket, hours)

        def is_earlier(prediction_id: str) -> bool:
            if not is_before(prediction_id, firsts):
                return False
            if len(self.late_predictions) <= MAX_LINES and is_before(prediction_id, firsts_in_full):
                self.late_predictions.add(prediction_id)
            return True

        return is_earlier

    def _read_earlier_predictions(self) -> None:
        """Read those of the hour before if a ride has none: the streams' clocks may differ at the hour's start."""
        if left := self._left_rides():
            for one in self.reader.read(PREDICTIONS, self.hour + -1, self._filter(left)):
                self._add_left(one.records, left)

    def _left(self) -> set[str]:
        """Return the ids of records and rides that have no prediction yet."""
        return self._missing.keys() - self.predictions.by_id.keys()

    def _left_rides(self) -> set[str]:
        return {event_id for event_id in self._left() if self._missing[event_id] != NO_ROW}

    def _filter(self, left: Set[str]) -> Filter:
        """Return a filter for the predictions of these ids and of their records."""
        records = set(map(_record_id, left))
        return by_prediction_id(lambda prediction_id: _record_id(prediction_id) in records)

    def _add_left(self, records: Iterable[ArchivedRecord], left: Set[str]) -> None:
        """Add predictions of ids that are left: whether others have come again must not depend on these."""
        by_id = self.predictions.by_id
        self.predictions.add(records, lambda prediction_id: prediction_id in by_id and prediction_id not in left)

    def _is_of(self, missing: Set[str]) -> Callable[[str], bool]:
        """Return whether a prediction is of the cohort; that of a part is of its record, whatever divided it."""
        ids = self.predictions.by_id
        records = {_record_id(event_id) for event_id in missing}
        return lambda prediction_id: prediction_id in ids or _record_id(prediction_id) in records

    def _replace(self) -> None:
        """Give the predictions that came late, or that were chosen among several, to their rides, and compare them."""
        by_id = self.predictions.by_id
        chosen = self._choices()
        self.skew.take_back({event_id: by_id[event_id] for event_id in chosen if event_id not in self._missing})
        for event_id in self._missing.keys() & by_id.keys():
            row = by_id[event_id].row = self._missing.pop(event_id)
            if row == NO_ROW:
                self._note_served_bad(event_id)
            else:
                chosen.setdefault(event_id, by_id[event_id])
        self.rides.replace_predictions([
            (row, self._version(one.model_version), one.minutes, one.low_minutes, one.high_minutes)
            for event_id, one in chosen.items()
            if (row := by_id[event_id].row) != NO_ROW
        ])  # fmt: skip
        self._compare_again(chosen)

    def _note_served_bad(self, event_id: str) -> None:
        """Note a record that was predicted, but is no ride event by this code."""
        self.bad[event_id] = REJECTED
        self.skew.skewed.add(event_id)
        self.skew.n_recomputed += 1

    def _choices(self) -> dict[str, ArchivedPrediction]:
        """Return the prediction that stands for each ride with predictions that differ, and note the conflicts."""
        if not self.predictions.has_others:
            return {}
        withdrawn = withdrawn_versions(
            self.reader.bucket, self.options.channel, self.hour.start_s, self.hour.end.timestamp()
        )
        choices = self.predictions.choices(withdrawn)
        self.n_differing = len(choices)
        by_id = self.predictions.by_id
        rows: dict[str, int] = {event_id: self._missing.get(event_id, by_id[event_id].row) for event_id in choices}
        self.conflicting.update(rows[event_id] for event_id, one in choices.items() if one.is_conflicting)
        self.conflicting.discard(NO_ROW)
        return {event_id: one.prediction for event_id, one in choices.items() if rows[event_id] != NO_ROW}

    def _compare_again(self, chosen: dict[str, ArchivedPrediction]) -> None:
        """Compare the predictions that the first comparison did not have."""
        records = {_record_id(event_id) for event_id in chosen}
        rows = {self.predictions.by_id[event_id].row for event_id in chosen}
        left = dict(chosen)  # a record may be in several objects
        for keys in self._objects_of(rows):
            again = {
                record.id: record.kinesis_record()
                for one in self.reader.read_keys(keys)
                for record in one.records
                if record.id in chosen or record.id in records
            }
            batch = RideBatch.of(list(again.values()))
            self.skew.check(batch, left)
            for record in batch.records:
                left.pop(record.event_id, None)

    def _objects_of(self, rows: Iterable[int]) -> list[list[str]]:
        """Return the objects that hold rides by row, as they were read together."""
        firsts = [first for first, _ in self._objects]
        places = sorted({bisect_right(firsts, row) - 1 for row in rows if row != NO_ROW})
        return [self._objects[place][1] for place in places]

    def _account(self) -> None:
        """Find out what became of the records without prediction."""
        if not self._missing:
            return
        shards = {event_id.partition(":")[0] for event_id in self._missing}
        statuses = self._account_for(reached(self.predictions.by_id, shards, {}))
        if WAITING in statuses.values():
            numbers, have_come = self._reached(shards)
            statuses = self._account_for(numbers)
            # Predictions that were archived while the cohort was read: the next run finds them.
            statuses |= {event_id: WAITING for event_id in have_come if statuses.get(event_id) == LOST}
        self.bad.update((event_id, status) for event_id, status in statuses.items() if self._missing[event_id] < 0)
        rows = {self._missing[event_id]: status for event_id, status in statuses.items()}
        rows.pop(NO_ROW, None)
        self.rides.set_statuses(rows)

    def _account_for(self, numbers: dict[str, int]) -> dict[str, str]:
        records = set(map(_record_id, self._missing))
        by_id = self.predictions.by_id.items()
        others = [one_id for one_id, one in by_id if one.row == NO_ROW and _record_id(one_id) in records]
        stream, may_wait = self.options.ride_stream, self.pass_number != SECOND
        account = account_for(self.reader.bucket, stream, self.hour, self._missing, numbers, others, may_wait=may_wait)
        self.reasons |= account.reasons
        return account.statuses

    def _reached(self, shards: set[str]) -> tuple[dict[str, int], set[str]]:
        """Return the greatest numbers that have a prediction of the cohort, or any until the first horizon.

        It reads all predictions again. The second result are ids of records without a prediction that have one now.
        """
        ids: list[str] = []
        have_come: set[str] = set()

        def note(prediction_id: str) -> bool:
            ids.append(prediction_id)
            have_come.update({prediction_id, _record_id(prediction_id)} & self._missing.keys())
            return False

        numbers = reached(self.predictions.by_id, shards, {})
        for hour in hours_between(self.hour, horizon(self.hour, self.options.outcome_delay_minutes)):
            for _ in self.reader.whole.read(PREDICTIONS, hour, by_prediction_id(note)):
                numbers = reached(ids, shards, numbers)
                ids.clear()
        return numbers, have_come


def _record_id(event_id: str) -> str:
    """Return the id of the record that a record or part belongs to.

    >>> _record_id("shardId-0:49:3"), _record_id("shardId-0:49")
    ('shardId-0:49', 'shardId-0:49')
    """
    shard_id, _, place = event_id.partition(":")
    return f"{shard_id}:{place.partition(':')[0]}"
