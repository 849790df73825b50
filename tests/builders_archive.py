"""Archived hours: records stored as the archive function stores them, one by one or as a whole stream of rides."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import msgspec
import numpy as np

from infra.local.s3 import MemoryS3
from lambda_function.aws.archive_store import compress
from lambda_function.core.archive_lines import archive_key, digest_of, encode_lines, partition
from lambda_function.core.bundle import ModelBundle
from lambda_function.core.processor import process
from lambda_function.core.records import OUTCOMES, PREDICTIONS, RIDES, Envelope, KinesisRecord
from tests.builders import SHARD_ID, interval_bundle, ride_bytes
from training.data.months import Month
from training.data.rides import Rides
from training.data.synthetic import synthetic_rides
from training.monitoring.hours import Hour
from training.registry.bucket import Bucket
from training.registry.folder_s3 import S3StandIn

HOUR = Hour.parse("2026-08-01T09")
FIRST_NUMBER = 49_645_678_901_234_567_890_123_456_789_012_345_678_901_234_567_890_000_000
N_SHARDS = 4
_N_PER_OBJECT, _N_AT_ONCE = 9_400, 94_000
_encode = msgspec.json.Encoder().encode


def archived_record(data: bytes, at_s: float, number: int, *, key: str = "1", shard: str = SHARD_ID) -> KinesisRecord:
    """A record of a stream that arrived at a time in seconds since the epoch; its number is its place on the stream."""
    sequence_number = str(FIRST_NUMBER + number)
    return KinesisRecord(f"{shard}:{sequence_number}", Envelope(key, sequence_number, at_s, data))


def archive(s3: S3StandIn, kind: str, records: Iterable[KinesisRecord], n_per_object: int = 5_000) -> None:
    """Store records as the archive function does: an object for each batch of a shard and hour, in order."""
    ordered = sorted(records, key=_place)
    for (shard, hour), group in groupby(
        ordered, key=lambda one: (one.shard_id, partition(one.envelope.arrival_time_s))
    ):
        batch = list(group)
        for start in range(0, len(batch), n_per_object):
            part = batch[start : start + n_per_object]
            lines = encode_lines(part)
            key = archive_key(kind, hour, shard, part[0].envelope.sequence_number, digest_of(lines))
            s3.put_object(Bucket="b", Key=key, Body=compress(lines))


def _place(record: KinesisRecord) -> tuple[str, str, int]:
    envelope = record.envelope
    return record.shard_id, partition(envelope.arrival_time_s), int(envelope.sequence_number)


def predictions_of(rides: Sequence[KinesisRecord], model: ModelBundle, delay_s: float = 0.5) -> list[KinesisRecord]:
    """The records that the predicting function publishes for rides, which arrive a little later."""
    batch = process(rides, model)
    return [
        archived_record(data, rides[position].envelope.arrival_time_s + delay_s, place, key=key)
        for place, (position, (key, data)) in enumerate(zip(batch.positions, batch.entries, strict=True))
    ]


@dataclass
class ArchivedStreams:
    """Records of the three streams, added one by one; `minute` counts from the start of HOUR and may be negative."""

    model: ModelBundle = field(default_factory=lambda: interval_bundle().model)
    rides: list[KinesisRecord] = field(default_factory=list)
    predictions: list[KinesisRecord] = field(default_factory=list)
    outcomes: list[KinesisRecord] = field(default_factory=list)

    def ride(
        self, ride_id: object = 256, minute: float = 0.0, *, is_predicted: bool = True, data: bytes | None = None,
        **ride: object,
    ) -> str:  # fmt: skip
        """Add a ride event, or other data, and its prediction; return its id."""
        record = archived_record(data or ride_bytes(ride_id, **ride), at_s(minute), len(self.rides))
        self.rides.append(record)
        if is_predicted:
            for one in predictions_of([record], self.model):
                self.add_prediction(one.envelope.data, minute + 0.01)
        return record.event_id

    def add_prediction(self, data: bytes, minute: float) -> str:
        """Add a record to the stream of predictions; return its id."""
        self.predictions.append(archived_record(data, at_s(minute), len(self.predictions)))
        return self.predictions[-1].event_id

    def outcome(
        self, ride_id: object = 256, minute: float = 20.0, duration: object = 17.4, *, data: bytes | None = None,
        **fields: object,
    ) -> str:  # fmt: skip
        """Add an outcome with a duration, or with these fields alone, or other data; return its id."""
        message: dict[str, Any] = {"ride_id": ride_id, "outcome": fields or {"ride_duration": duration}}
        self.outcomes.append(archived_record(data or _encode(message), at_s(minute), len(self.outcomes)))
        return self.outcomes[-1].event_id

    def store(self, n_per_object: int = 5_000) -> Bucket:
        """Store all records in a bucket in memory."""
        s3 = MemoryS3()
        archive(s3, RIDES, self.rides, n_per_object)
        archive(s3, PREDICTIONS, self.predictions, n_per_object)
        archive(s3, OUTCOMES, self.outcomes, n_per_object)
        return Bucket(s3, "b", n_threads=1)


def at_s(minute: float) -> float:
    """The time of a minute of HOUR, in seconds since the epoch, in whole milliseconds as Kinesis has it."""
    return round(HOUR.start_s + 60 * minute, 3)


def archive_steady_stream(
    s3: S3StandIn, model: ModelBundle, n_rides: int, n_hours: int = 1, *, share: float = 0.97, seed: int = 1
) -> None:
    """Store hours of a steady stream from HOUR on: each has so many rides, evenly spread over four shards.

    Each ride has its own id, and a share of the rides has an outcome, which arrives when the ride ends.
    """
    outcomes: dict[str, list[KinesisRecord]] = {f"shardId-{shard:012d}": [] for shard in range(N_SHARDS)}
    for n_hour in range(n_hours):
        order = np.random.default_rng(seed + n_hour).permutation(n_rides)
        rides = synthetic_rides(Month(2021, 1), n_rides, seed + n_hour).take(order)
        datas = _ride_datas(rides, n_hour * n_rides)
        has_outcome = np.random.default_rng(seed).random(n_rides) < share
        for number_of_shard, (shard, sent) in enumerate(outcomes.items()):
            places = range(number_of_shard, n_rides, N_SHARDS)
            for start in range(0, len(places), _N_AT_ONCE):
                some = places[start : start + _N_AT_ONCE]
                records = [
                    archived_record(
                        datas[place], at_s(60 * (n_hour + place / n_rides)), n_hour * n_rides + place,
                        key=str(n_hour * n_rides + place), shard=shard,
                    )
                    for place in some
                ]  # fmt: skip
                archive(s3, RIDES, records, _N_PER_OBJECT)
                predictions = predictions_of(records, model)
                archive(s3, PREDICTIONS, [_on(one, shard, some[0]) for one in predictions], _N_PER_OBJECT)
                sent += [
                    _outcome_of(record, float(rides.duration_minutes[place]))
                    for record, place in zip(records, some, strict=True)
                    if has_outcome[place]
                ]
            if n_hour == n_hours - 1:
                archive(s3, OUTCOMES, sent, _N_PER_OBJECT)
                sent.clear()


def _ride_datas(rides: Rides, first_id: int) -> list[bytes]:
    columns = rides.columns
    return [
        _encode({
            "ride": {"PULocationID": pickup_zone, "DOLocationID": dropoff_zone, "trip_distance": miles,
                     "pickup_datetime": pickup},
            "ride_id": ride_id,
        })
        for ride_id, (pickup_zone, dropoff_zone, miles, pickup) in enumerate(zip(
            columns.pickup_zone.tolist(), columns.dropoff_zone.tolist(), columns.trip_distance_miles.tolist(),
            np.datetime_as_string(rides.pickup_time).tolist(), strict=True,
        ), first_id)
    ]  # fmt: skip


def _outcome_of(ride: KinesisRecord, minutes: float) -> KinesisRecord:
    envelope = ride.envelope
    data = _encode({"ride_id": int(envelope.partition_key), "outcome": {"ride_duration": minutes}})
    number = int(envelope.sequence_number) - FIRST_NUMBER
    arrival_s = round(envelope.arrival_time_s + 60 * minutes, 3)
    return archived_record(data, arrival_s, number, key=envelope.partition_key, shard=ride.shard_id)


def _on(record: KinesisRecord, shard: str, first: int) -> KinesisRecord:
    """A record on another shard, behind a place."""
    envelope = record.envelope
    number = first + int(envelope.sequence_number) - FIRST_NUMBER
    return archived_record(envelope.data, envelope.arrival_time_s, number, key=envelope.partition_key, shard=shard)
