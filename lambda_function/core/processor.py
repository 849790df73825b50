"""Predict one batch: records and a model in, predictions and rejects out. Pure.

The work is done by column, because a microsecond per ride matters; unusual rides take a slower path.
"""

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from lambda_function.core.bundle import ModelBundle
from lambda_function.core.channel import buckets_of
from lambda_function.core.events import (
    TOO_LARGE,
    Reject,
    Ride,
    RideEvent,
    decode_ride_event,
    encode_predictions,
    partition_keys,
    ride_columns,
)
from lambda_function.core.features import feature_matrix
from lambda_function.core.parts import MAX_BAD_PARTS, decode_parts, parts_of, too_many_bad
from lambda_function.core.pickup_time import arrival_minutes, pickup_minute, usual_pickup_minutes
from lambda_function.core.records import MAX_KEY_BYTES, MAX_RECORD_BYTES, Entry, KinesisRecord, build_reject
from lambda_function.errors import RejectError

_MAX_PREDICTION_BYTES = MAX_RECORD_BYTES - MAX_KEY_BYTES


@dataclass(frozen=True, slots=True)
class ProcessedBatch:
    """The result of a batch: each record is in `entries` or in `rejects`, in order, never in both.

    Each part of a record that holds several rides (a KPL aggregate, several JSON documents) is in one of the two, under
    its record's position in the batch. A reject of the record itself stands for all of its parts without a prediction.
    """

    entries: list[Entry]  # predictions to publish: partition key and data
    ids: list[str]  # the prediction id of each entry
    positions: list[int]  # the position of each entry's record, ascending
    rejects: list[tuple[int, Reject]]  # (position, reject) each, ascending
    n_without_pickup_time: int = 0  # rides that were predicted as of the arrival of their record

    def without(self, ids: Container[str]) -> Self:
        """Return the batch without the predictions and rejects that have one of these ids; itself if none has."""
        kept = [index for index, one in enumerate(self.ids) if one not in ids]
        rejects = [(position, reject) for position, reject in self.rejects if reject.event_id not in ids]
        if len(kept) == len(self.ids) and len(rejects) == len(self.rejects):
            return self
        return type(self)(
            [self.entries[index] for index in kept],
            [self.ids[index] for index in kept],
            [self.positions[index] for index in kept],
            rejects,
            self.n_without_pickup_time,
        )


class CandidateModel(NamedTuple):
    """The other arm's model of a split: it predicts the rides whose bucket is below `n_buckets`."""

    model: ModelBundle
    salt: str
    n_buckets: int


class ModelFrom(NamedTuple):
    """A model and the arrival time, in seconds since the epoch, from which it serves; in a split also the other one."""

    from_s: float
    model: ModelBundle
    candidate: CandidateModel | None = None

    @property
    def served_versions(self) -> tuple[str, ...]:
        """The served version of each model."""
        models = (self.model, self.candidate.model) if self.candidate else (self.model,)
        return tuple(model.served_version for model in models)

    @property
    def candidate_version(self) -> str | None:
        """The candidate's served version; None without a split."""
        return self.candidate.model.served_version if self.candidate else None


def process_by_arrival(records: Sequence[KinesisRecord], models: Sequence[ModelFrom]) -> ProcessedBatch:
    """Process each record with the model of its arrival time: `models` are newest first, the last serves all before.

    Nearly every batch has one model, and then this is `process`. In a split there are two calls of a model, one for
    each arm's rides.
    """
    if len(models) == 1:
        return _process_arms(records, models[0])
    places: list[list[int]] = [[] for _ in models]
    for position, record in enumerate(records):
        arrived_s = record.envelope.arrival_time_s
        rank = next((rank for rank, one in enumerate(models) if one.from_s <= arrived_s), -1)
        places[rank].append(position)
    parts = [
        (positions, _process_arms([records[position] for position in positions], one))
        for positions, one in zip(places, models, strict=True)
    ]
    return _merged(parts)


def _process_arms(records: Sequence[KinesisRecord], models: ModelFrom) -> ProcessedBatch:
    return RideBatch.of(records).predict(models.model, models.candidate)


def _merged(parts: Sequence[tuple[list[int], ProcessedBatch]]) -> ProcessedBatch:
    """Merge the parts of a batch, each with the positions (n,) of its records in the batch."""
    predictions = [
        (positions[position], entry, one_id)
        for positions, part in parts
        for position, entry, one_id in zip(part.positions, part.entries, part.ids, strict=True)
    ]
    predictions.sort(key=itemgetter(0))  # stable: the sub-records of a record stay in order
    rejects = [(positions[position], reject) for positions, part in parts for position, reject in part.rejects]
    return ProcessedBatch(
        entries=[entry for _, entry, _ in predictions],
        ids=[one_id for _, _, one_id in predictions],
        positions=[position for position, _, _ in predictions],
        rejects=sorted(rejects, key=itemgetter(0)),
        n_without_pickup_time=sum(part.n_without_pickup_time for _, part in parts),
    )


def process(records: Sequence[KinesisRecord], model: ModelBundle) -> ProcessedBatch:
    """Predict every valid ride in one call and reject the others. No content of a record makes it raise."""
    return RideBatch.of(records).predict(model)


@dataclass(slots=True)
class RideBatch:
    """The rides of a batch (n,) by column, before a model predicts them. Several models may predict one batch.

    Attributes:
        positions: The position of each ride's record in the batch, ascending.
        records: The record or sub-record of each ride.
        events: The decoded ride events.
        rejects: (position, reject) of each record or part that no model can predict.
        pickup_minutes: int64 (n,), as `pickup_minute`.
        n_without_pickup_time: Rides that are predicted as of the arrival of their record.
    """

    positions: list[int] = field(default_factory=list)
    records: list[KinesisRecord] = field(default_factory=list)
    events: list[RideEvent] = field(default_factory=list)
    rejects: list[tuple[int, Reject]] = field(default_factory=list)
    pickup_minutes: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    n_without_pickup_time: int = 0
    # Records that have parts, and how many, by position.
    _divided: dict[int, tuple[KinesisRecord, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Sequence[KinesisRecord]) -> Self:
        """Decode the rides of a batch and reject what is none. No content of a record makes it raise."""
        batch = cls()
        for position, record in enumerate(records):
            try:
                event = decode_ride_event(record.data())
            except RejectError as error:
                batch.add_parts_or_reject(position, record, error)
            else:
                batch.add(position, record, event)
        batch._read_pickup_minutes()
        return batch

    def take(self, rows: Sequence[int]) -> Self:
        """Return some of the rides, in the order of `rows`, without rejects."""
        return replace(
            self,
            positions=[self.positions[row] for row in rows],
            records=[self.records[row] for row in rows],
            events=[self.events[row] for row in rows],
            rejects=[],
            pickup_minutes=self.pickup_minutes[list(rows)],
        )

    def add(self, position: int, record: KinesisRecord, event: RideEvent) -> None:
        """Add one ride."""
        self.positions.append(position)
        self.records.append(record)
        self.events.append(event)

    def add_parts_or_reject(self, position: int, record: KinesisRecord, error: RejectError) -> None:
        """Add the rides of a record that holds several; any other record is a reject."""
        try:
            parts = parts_of(record)
        except RejectError as damage:
            self._reject(position, record, damage)
            return
        if parts:
            self._add_parts(position, record, parts)
        else:
            self._reject(position, record, error)

    def _add_parts(self, position: int, record: KinesisRecord, parts: Sequence[Entry]) -> None:
        """Add the rides among the parts of a record; the bad parts become rejects of their own, or one for many."""
        self._divided[position] = record, len(parts)
        rides, rejects = decode_parts(record, parts, decode_ride_event)
        for part, event in rides:
            self.add(position, part, event)
        self.rejects += [(position, reject) for reject in rejects]
        if any(reject.sub_record is None for reject in rejects):  # the record is rejected already
            del self._divided[position]

    def _reject_divided(self, position: int, index: int | None, error: RejectError) -> None:
        """Reject a record because of its parts, unless it is rejected already: the first bad one has this index."""
        record, n_parts = self._divided.pop(position, (None, 0))
        if record:
            self._reject(position, record, too_many_bad(n_parts, index, error))

    def predict(self, model: ModelBundle, candidate: CandidateModel | None = None) -> ProcessedBatch:
        """Predict all rides, the candidate's by its model; the batch stays as it is."""
        ride_ids = [event.ride_id for event in self.events]
        ids = [record.event_id for record in self.records]
        rides = [event.ride for event in self.events]
        if candidate is None:
            encoded = _encoded(model, rides, self.pickup_minutes, ride_ids, ids)
        else:
            encoded = _encoded_by_arm(model, candidate, rides, self.pickup_minutes, ride_ids, ids)
        if max(map(len, encoded), default=0) > _MAX_PREDICTION_BYTES:
            return self._without_the_too_large(encoded).predict(model, candidate)
        entries = list(zip(partition_keys(ride_ids), encoded, strict=True))
        rejects = sorted(self.rejects, key=lambda one: (one[0], one[1].sub_record or 0))
        return ProcessedBatch(entries, ids, self.positions, rejects, self.n_without_pickup_time)

    def _read_pickup_minutes(self) -> None:
        """Set the pickup minutes; reject the rides with an invalid pickup time."""
        texts = [event.ride.pickup_datetime for event in self.events]
        usual = usual_pickup_minutes(texts)
        if usual is not None:
            self.pickup_minutes = usual
            return
        self.n_without_pickup_time = texts.count(None)
        arrival_times_s = [record.envelope.arrival_time_s for record in self.records]
        if self.n_without_pickup_time == len(texts):
            self.pickup_minutes = arrival_minutes(arrival_times_s)
            return
        minutes = [0] * len(texts)
        problems: dict[int, RejectError] = {}
        for row, (text, arrival_time_s) in enumerate(zip(texts, arrival_times_s, strict=True)):
            try:
                minutes[row] = pickup_minute(text, arrival_time_s)
            except RejectError as error:
                problems[row] = error
        self.pickup_minutes = np.array(minutes, np.int64)
        self.reject_rows(problems)

    def _without_the_too_large(self, encoded: list[bytes]) -> Self:
        """Return the batch with the rides rejected whose predictions (n,) exceed a record."""
        too_large = RejectError(TOO_LARGE, "the prediction would not fit a record - at `$.ride_id`")
        rows = [row for row, data in enumerate(encoded) if len(data) > _MAX_PREDICTION_BYTES]
        batch = replace(self, rejects=[*self.rejects], _divided={**self._divided})
        batch.reject_rows(dict.fromkeys(rows, too_large))
        return batch

    def reject_rows(self, problems: dict[int, RejectError]) -> None:
        """Reject rides by row."""
        n_bad = Counter(self.positions[row] for row in problems)
        for row, problem in problems.items():
            position, record = self.positions[row], self.records[row]
            if n_bad[position] > MAX_BAD_PARTS:
                self._reject_divided(position, record.sub_index, problem)
            else:
                self._reject(position, record, problem)
        kept = [row for row in range(len(self.events)) if row not in problems]
        self.positions = [self.positions[row] for row in kept]
        self.records = [self.records[row] for row in kept]
        self.events = [self.events[row] for row in kept]
        self.pickup_minutes = self.pickup_minutes[kept]

    def _reject(self, position: int, record: KinesisRecord, error: RejectError) -> None:
        self.rejects.append((position, build_reject(record, error)))


def _encoded(
    model: ModelBundle,
    rides: Sequence[Ride],
    pickup_minutes: NDArray[np.int64],
    ride_ids: Sequence[str | int],
    ids: Sequence[str],
) -> list[bytes]:
    """Return the encoded predictions (n,) of rides by one model."""
    columns = ride_columns(rides, pickup_minutes)
    matrix = feature_matrix(columns)
    durations = model.served_minutes(columns, matrix)
    intervals = model.encoded_intervals(matrix, durations)
    return encode_predictions(model.served_version, durations.tolist(), ride_ids, ids, intervals)


def _encoded_by_arm(
    champion: ModelBundle,
    candidate: CandidateModel,
    rides: Sequence[Ride],
    pickup_minutes: NDArray[np.int64],
    ride_ids: Sequence[str | int],
    ids: Sequence[str],
) -> list[bytes]:
    """Return the encoded predictions (n,) of rides, each by the model of its bucket."""
    is_candidates = [bucket < candidate.n_buckets for bucket in buckets_of(candidate.salt, ride_ids)]
    encoded = [b""] * len(ids)
    for model, arm in ((champion, False), (candidate.model, True)):
        rows = [row for row, one in enumerate(is_candidates) if one is arm]
        if rows:
            some_ids, some_names = [ride_ids[row] for row in rows], [ids[row] for row in rows]
            part = _encoded(model, [rides[row] for row in rows], pickup_minutes[rows], some_ids, some_names)
            for row, data in zip(rows, part, strict=True):
                encoded[row] = data
    return encoded
