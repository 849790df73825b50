"""One batch, decided: records and a model in, predictions and rejects out. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lambda_function.errors import RejectError
from lambda_function.events import (
    TOO_LARGE,
    Reject,
    RideEvent,
    decode_ride_event,
    encode_prediction,
    partition_key,
    pickup_minute,
    ride_columns,
)
from lambda_function.features import feature_matrix
from lambda_function.model import ModelBundle
from lambda_function.records import KinesisRecord
from lambda_function.rejects import build_reject

MAX_RECORD_BYTES = 1_048_576
"""What a stream takes as one record, data and partition key together."""

DURATION_DECIMALS = 2
"""Hundredths of a minute on the wire: below them, processors differ in the last bits of a sum."""


@dataclass(frozen=True, slots=True)
class OutputEntry:
    """A prediction on its way out. `position` is its record's place in the batch."""

    position: int
    partition_key: str
    data: bytes


@dataclass(frozen=True, slots=True)
class ProcessedBatch:
    """Where each record of a batch goes: in `predictions` or in `rejects`, each in order, none in both.

    `rejects` holds (position, reject).
    """

    predictions: list[OutputEntry]
    rejects: list[tuple[int, Reject]]


def process(records: Sequence[KinesisRecord], model: ModelBundle) -> ProcessedBatch:
    """Predicts every record that can be, in one go, and rejects the others. Raises nothing for what records hold."""
    positions: list[int] = []
    events: list[RideEvent] = []
    minutes: list[int] = []
    rejects: list[tuple[int, Reject]] = []
    for position, record in enumerate(records):
        try:
            event = decode_ride_event(record.data())
            minutes.append(pickup_minute(event.ride, record.arrival_time_s))
        except RejectError as error:
            rejects.append((position, build_reject(record, error)))
        else:
            events.append(event)
            positions.append(position)
    matrix = feature_matrix(ride_columns([event.ride for event in events], minutes))
    durations: list[float] = np.round(model.predict(matrix), DURATION_DECIMALS).tolist()
    predictions: list[OutputEntry] = []
    for position, event, duration in zip(positions, events, durations, strict=True):
        record = records[position]
        data = encode_prediction(model.model_version, duration, event.ride_id, record.event_id)
        key = partition_key(event.ride_id)
        if len(data) + len(key) * 4 > MAX_RECORD_BYTES:
            too_large = RejectError(TOO_LARGE, "the prediction would not fit a record - at `$.ride_id`")
            rejects.append((position, build_reject(record, too_large)))
        else:
            predictions.append(OutputEntry(position, key, data))
    return ProcessedBatch(predictions, sorted(rejects, key=lambda reject: reject[0]))
