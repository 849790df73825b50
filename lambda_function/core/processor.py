"""Predict one batch: records and a model in, predictions and rejects out. Pure.

The work is done by column, because a microsecond per ride matters; unusual rides take a slower path.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from lambda_function.core.bundle import ModelBundle
from lambda_function.core.events import (
    TOO_LARGE,
    Reject,
    RideEvent,
    decode_ride_event,
    encode_predictions,
    partition_keys,
    ride_columns,
)
from lambda_function.core.features import feature_matrix
from lambda_function.core.kpl import is_aggregated, unpack
from lambda_function.core.pickup_time import pickup_minute, usual_pickup_minutes
from lambda_function.core.records import MAX_KEY_BYTES, MAX_RECORD_BYTES, Entry, KinesisRecord, build_reject, sub_record
from lambda_function.errors import RejectError

DURATION_DECIMALS = 2
"""Hundredths of a minute on the wire: in finer digits, processors differ in the last bits of a sum."""

_MAX_PREDICTION_BYTES = MAX_RECORD_BYTES - MAX_KEY_BYTES


@dataclass(frozen=True, slots=True)
class ProcessedBatch:
    """The result of a batch: each record is in `entries` or in `rejects`, in order, never in both.

    Each sub-record of an aggregate is in one of the two, under its record's position in the batch.
    """

    entries: list[Entry]  # predictions to publish: partition key and data
    ids: list[str]  # the prediction id of each entry
    positions: list[int]  # the position of each entry's record, ascending
    rejects: list[tuple[int, Reject]]  # (position, reject) each, ascending

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
        )


class ModelFrom(NamedTuple):
    """A model and the arrival time, in seconds since the epoch, from which it serves."""

    from_s: float
    model: ModelBundle


def process_by_arrival(records: Sequence[KinesisRecord], models: Sequence[ModelFrom]) -> ProcessedBatch:
    """Process each record with the model of its arrival time: `models` are newest first, the last serves all before.

    Nearly every batch has one model, and then this is `process`.
    """
    if len(models) == 1:
        return process(records, models[0].model)
    places: list[list[int]] = [[] for _ in models]
    for position, record in enumerate(records):
        arrived_s = record.envelope.arrival_time_s
        rank = next((rank for rank, one in enumerate(models) if one.from_s <= arrived_s), -1)
        places[rank].append(position)
    parts = [
        (positions, process([records[position] for position in positions], one.model))
        for positions, one in zip(places, models, strict=True)
    ]
    return _merged(parts)


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
    )


def process(records: Sequence[KinesisRecord], model: ModelBundle) -> ProcessedBatch:
    """Predict every valid ride in one call and reject the others. No content of a record makes it raise."""
    batch = _Batch()
    for position, record in enumerate(records):
        try:
            event = decode_ride_event(record.data())
        except RejectError as error:
            batch.add_aggregate_or_reject(position, record, error)
        else:
            batch.add(position, record, event)
    return batch.predict(model)


@dataclass(slots=True)
class _Batch:
    """The rides of a batch (n,) by column: the positions of their records, the records or sub-records, the events."""

    positions: list[int] = field(default_factory=list)
    records: list[KinesisRecord] = field(default_factory=list)
    events: list[RideEvent] = field(default_factory=list)
    rejects: list[tuple[int, Reject]] = field(default_factory=list)

    def add(self, position: int, record: KinesisRecord, event: RideEvent) -> None:
        """Add one ride."""
        self.positions.append(position)
        self.records.append(record)
        self.events.append(event)

    def add_aggregate_or_reject(self, position: int, record: KinesisRecord, error: RejectError) -> None:
        """Add the rides of an aggregate, which is never JSON; any other record is a reject.

        A sub-record that comes again by itself is not unpacked, as it was not when it came in its aggregate.
        """
        if record.sub_index is not None or not is_aggregated(record.envelope.data):
            self._reject(position, record, error)
            return
        try:
            unpacked = unpack(record.data())
        except RejectError as damage:
            self._reject(position, record, damage)
            return
        for index, (partition_key, data) in enumerate(unpacked):
            sub = sub_record(record, index, partition_key, data)
            try:
                event = decode_ride_event(data)
            except RejectError as bad:
                self._reject(position, sub, bad)
            else:
                self.add(position, sub, event)

    def predict(self, model: ModelBundle) -> ProcessedBatch:
        """Predict all rides added."""
        minutes = self._pickup_minutes()
        matrix = feature_matrix(ride_columns([event.ride for event in self.events], minutes))
        durations = np.round(model.predict(matrix), DURATION_DECIMALS)
        intervals = model.encoded_intervals(matrix, durations)
        ride_ids = [event.ride_id for event in self.events]
        ids = [record.event_id for record in self.records]
        encoded = encode_predictions(model.model_version, durations.tolist(), ride_ids, ids, intervals)
        if max(map(len, encoded), default=0) > _MAX_PREDICTION_BYTES:
            encoded = self._without_the_too_large(encoded)
            ids = [record.event_id for record in self.records]
        keys = partition_keys([event.ride_id for event in self.events])
        rejects = sorted(self.rejects, key=lambda one: (one[0], one[1].sub_record or 0))
        return ProcessedBatch(list(zip(keys, encoded, strict=True)), ids, self.positions, rejects)

    def _pickup_minutes(self) -> NDArray[np.int64]:
        """Return the pickup minutes (n,); reject the rides with an invalid pickup time."""
        usual = usual_pickup_minutes([event.ride.pickup_datetime for event in self.events])
        if usual is not None:
            return usual
        minutes: list[int] = []
        problems: dict[int, RejectError] = {}
        for row, (event, record) in enumerate(zip(self.events, self.records, strict=True)):
            try:
                minutes.append(pickup_minute(event.ride.pickup_datetime, record.envelope.arrival_time_s))
            except RejectError as error:
                problems[row] = error
        self._reject_rows(problems)
        return np.array(minutes, np.int64)

    def _without_the_too_large(self, encoded: list[bytes]) -> list[bytes]:
        """Reject the rides whose predictions (n,) exceed a record, and return the other predictions."""
        too_large = RejectError(TOO_LARGE, "the prediction would not fit a record - at `$.ride_id`")
        rows = [row for row, data in enumerate(encoded) if len(data) > _MAX_PREDICTION_BYTES]
        self._reject_rows(dict.fromkeys(rows, too_large))
        return [data for data in encoded if len(data) <= _MAX_PREDICTION_BYTES]

    def _reject_rows(self, problems: dict[int, RejectError]) -> None:
        for row, problem in problems.items():
            self._reject(self.positions[row], self.records[row], problem)
        kept = [row for row in range(len(self.events)) if row not in problems]
        self.positions = [self.positions[row] for row in kept]
        self.records = [self.records[row] for row in kept]
        self.events = [self.events[row] for row in kept]

    def _reject(self, position: int, record: KinesisRecord, error: RejectError) -> None:
        self.rejects.append((position, build_reject(record, error)))
