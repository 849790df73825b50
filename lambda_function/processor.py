"""One batch, decided: records and a model in, predictions and rejects out. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from lambda_function.errors import RejectError
from lambda_function.events import (
    TOO_LARGE,
    Reject,
    Ride,
    decode_ride_event,
    encode_predictions,
    encoded_size,
    partition_key,
    pickup_minute,
    ride_columns,
)
from lambda_function.features import feature_matrix
from lambda_function.kpl import SubRecord, is_aggregated, unpack
from lambda_function.model import ModelBundle
from lambda_function.records import KinesisRecord
from lambda_function.rejects import build_reject

MAX_RECORD_BYTES = 1_048_576
"""What a stream takes as one record, data and partition key together."""

DURATION_DECIMALS = 2
"""Hundredths of a minute on the wire: below them, processors differ in the last bits of a sum."""

_AROUND_RIDE_ID_BYTES = 512  # of a prediction, its partition key included: 300 at most


class OutputEntry(msgspec.Struct, frozen=True, gc=False):
    """A prediction on its way out. `position` is its record's place in the batch."""

    position: int
    partition_key: str
    data: bytes


@dataclass(frozen=True, slots=True)
class ProcessedBatch:
    """Where each record of a batch goes: in `predictions` or in `rejects`, each in order, none in both.

    An aggregate's sub-records go each their own way, under their record's position. `rejects` holds (position, reject).
    """

    predictions: list[OutputEntry]
    rejects: list[tuple[int, Reject]]


def process(records: Sequence[KinesisRecord], model: ModelBundle) -> ProcessedBatch:
    """Predicts every ride that can be, in one go, and rejects the others. Raises nothing for what records hold."""
    rides = _Rides()
    rejects: list[tuple[int, Reject]] = []
    for position, record in enumerate(records):
        try:
            data = record.data()
            if not is_aggregated(data):
                rides.add(position, record, data, record.event_id)
                continue
            sub_records = unpack(data)
        except RejectError as error:
            rejects.append((position, build_reject(record, error)))
        else:
            rejects += [(position, reject) for reject in rides.add_all(position, record, sub_records)]
    return ProcessedBatch(rides.predict(model), rejects)


@dataclass(slots=True)
class _Rides:
    """The rides of a batch by column: record's position, ride, its id, its pickup minute, the id of its prediction."""

    positions: list[int] = field(default_factory=list)
    rides: list[Ride] = field(default_factory=list)
    ride_ids: list[str | int] = field(default_factory=list)
    minutes: list[int] = field(default_factory=list)
    prediction_ids: list[str] = field(default_factory=list)

    def add(self, position: int, record: KinesisRecord, data: bytes, prediction_id: str) -> None:
        """Adds the ride that a record's data hold.

        Raises:
            RejectError: They hold none; nothing is added.
        """
        event = decode_ride_event(data)
        minute = pickup_minute(event.ride, record.envelope.arrival_time_s)
        # A ride id is never longer in a prediction than it was in its event.
        if len(data) > MAX_RECORD_BYTES - _AROUND_RIDE_ID_BYTES:
            _check_size(event.ride_id)
        self.positions.append(position)
        self.rides.append(event.ride)
        self.ride_ids.append(event.ride_id)
        self.minutes.append(minute)
        self.prediction_ids.append(prediction_id)

    def add_all(self, position: int, record: KinesisRecord, sub_records: Sequence[SubRecord]) -> list[Reject]:
        """Adds the rides of an aggregate; returns the rejects among its sub-records."""
        rejects = []
        for index, sub_record in enumerate(sub_records):
            try:
                self.add(position, record, sub_record[1], f"{record.event_id}:{index}")
            except RejectError as error:
                rejects.append(build_reject(record, error, index, sub_record))
        return rejects

    def predict(self, model: ModelBundle) -> list[OutputEntry]:
        """Returns the predictions (n,) of all rides added (n,)."""
        matrix = feature_matrix(ride_columns(self.rides, self.minutes))
        durations: list[float] = np.round(model.predict(matrix), DURATION_DECIMALS).tolist()
        encoded = encode_predictions(model.model_version, durations, self.ride_ids, self.prediction_ids)
        return list(map(OutputEntry, self.positions, map(partition_key, self.ride_ids), encoded))


def _check_size(ride_id: str | int) -> None:
    if encoded_size(ride_id) > MAX_RECORD_BYTES - _AROUND_RIDE_ID_BYTES:
        raise RejectError(TOO_LARGE, "the prediction would not fit a record - at `$.ride_id`")
