"""The records behind the counts of an audit: what came in, what was predicted, and what the version predicts now."""

import tempfile
from base64 import b64decode
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from operator import itemgetter
from typing import Literal, NamedTuple

import duckdb

from lambda_function.core.events import decode_prediction
from lambda_function.core.processor import RideBatch
from lambda_function.core.records import PREDICTIONS, RIDES
from lambda_function.errors import BundleError
from training.data.labelled import LOST
from training.errors import NoSuchVersionError
from training.monitoring.hours import SECOND_PASS_AGE, Hour, hours_between
from training.monitoring.join.archive_reader import ArchiveReader, by_prediction_id
from training.monitoring.join.audit import account_for
from training.monitoring.join.failures import place_of
from training.monitoring.join.join import labelled_key
from training.monitoring.join.predictions import id_of_prediction
from training.monitoring.join.skew import Load, stored_models
from training.monitoring.summary import load_summary
from training.registry.bucket import Bucket

Kind = Literal["lost", "conflicting", "skew"]

_CHOSEN = {"lost": f"status = '{LOST}'", "conflicting": "conflicting", "skew": "skewed"}
_COUNTS = {"lost": "n_lost", "conflicting": "n_conflicting", "skew": "n_skewed"}


@dataclass(frozen=True, slots=True)
class Finding:
    """A record that an audit has counted.

    Attributes:
        hour: When it arrived.
        event_id: The id of the record or part.
        ride_id: The ride's id as text; None if the record is no ride by this code.
        model_version: The version of the ride's prediction; None without one.
        data: The record's bytes; None if the archive does not hold it any more.
        archived: The different predictions that the archive holds, in order of arrival.
        expected: What the version predicts now; None without prediction, or if the version cannot be loaded.
    """

    hour: Hour
    event_id: str
    ride_id: str | None
    model_version: str | None
    data: bytes | None
    archived: tuple[bytes, ...] = ()
    expected: bytes | None = None


class _Row(NamedTuple):
    """A ride of the labelled rides."""

    ride_id: str | None
    model_version: str | None


def audit_records(
    bucket: Bucket, hours: Iterable[Hour], kind: Kind, stream: str = "ride-events", load: Load | None = None
) -> Iterator[Finding]:
    """Find the records that the audits of joined hours have counted, by hour, shard and sequence number.

    Args:
        bucket: The archive, the labelled rides and the summaries.
        hours: Hours that are not joined are left out.
        kind: What they were counted as.
        stream: The name of the ride events' stream.
        load: Loads the versions that served; without it, they are loaded from the bucket.

    Raises:
        BucketError: S3 fails, or a summary is damaged.
    """
    models = cache(load or stored_models(bucket))
    for hour in hours:
        summary = load_summary(bucket, hour)
        n_counted = getattr(summary, _COUNTS[kind]) if summary else 0
        if summary and n_counted:
            end = hour.end + timedelta(minutes=summary.horizon_minutes)
            yield from _Hour(ArchiveReader(bucket), hour, end, kind, models).run(n_counted, stream)


@dataclass(slots=True)
class _Hour:
    """The search in one hour."""

    reader: ArchiveReader
    hour: Hour
    end: datetime  # until when predictions were read, or longer if a ride had none
    kind: Kind
    load: Load
    rows: dict[str, _Row] = field(default_factory=dict)
    predictions: dict[str, list[bytes]] = field(default_factory=dict)

    def run(self, n_counted: int, stream: str) -> Iterator[Finding]:
        """Find the records."""
        self.rows = _labelled_rows(self.reader.bucket, self.hour, _CHOSEN[self.kind])
        ids = set(self.rows)
        if len(ids) < n_counted:  # the others are no rides by this code
            ids |= self._no_rides(stream)
        if self.kind != "lost":
            self.predictions = self._read_predictions(ids)
            ids = {one for one in ids if one in self.rows or one in self.predictions}
        places = set(map(place_of, ids))
        for one in self.reader.read(RIDES, self.hour):
            records = [record.kinesis_record() for record in one.records if place_of(record.id) in places]
            yield from self._findings(RideBatch.of(records), ids)
        yield from (self._finding(event_id, None) for event_id in sorted(ids))

    def _no_rides(self, stream: str) -> set[str]:
        """Return the ids of records and parts that are no rides by this code; only the lost ones if these are asked."""
        ids = {
            reject.event_id
            for one in self.reader.read(RIDES, self.hour)
            for _, reject in RideBatch.of([record.kinesis_record() for record in one.records]).rejects
        }
        if self.kind != "lost":
            return ids
        statuses = account_for(self.reader.bucket, stream, self.hour, ids, {}, may_wait=False).statuses
        return {event_id for event_id, status in statuses.items() if status == LOST}

    def _read_predictions(self, ids: Collection[str]) -> dict[str, list[bytes]]:
        """Return the different predictions with these ids, in order of arrival.

        Some of an hour that was joined again after an outage came after its horizon.
        """
        found: list[tuple[float, str, str, bytes]] = []
        left = set(self.rows)
        for hour in hours_between(self.hour, self.hour.end + SECOND_PASS_AGE):
            if hour.start >= self.end and not left:
                break
            for one in self.reader.read(PREDICTIONS, hour, by_prediction_id(ids.__contains__)):
                for record in one.records:
                    prediction_id = id_of_prediction(record.data)
                    if prediction_id in ids:
                        found.append((record.at_s, record.id, prediction_id, record.data))
                        left.discard(prediction_id)
        predictions: dict[str, list[bytes]] = {}
        for _, _, prediction_id, data in sorted(found):
            known = predictions.setdefault(prediction_id, [])
            if data not in known:
                known.append(data)
        return predictions

    def _findings(self, batch: RideBatch, ids: set[str]) -> list[Finding]:
        """Find the records of a batch, and take their ids out: another object may hold them once more."""
        found: list[tuple[int, Finding]] = []
        for row, (position, record) in enumerate(zip(batch.positions, batch.records, strict=True)):
            if record.event_id in ids:
                ids.remove(record.event_id)
                found.append((position, self._finding(record.event_id, record.envelope.data, batch.take([row]))))
        for position, reject in batch.rejects:
            if reject.event_id in ids:
                ids.remove(reject.event_id)
                found.append((position, self._finding(reject.event_id, b64decode(reject.data))))
        return [finding for _, finding in sorted(found, key=itemgetter(0))]

    def _finding(self, event_id: str, data: bytes | None, ride: RideBatch | None = None) -> Finding:
        ride_id, version = self.rows.get(event_id, _Row(None, None))
        archived = tuple(self.predictions.get(event_id, ()))
        if version is None and archived:
            version = decode_prediction(archived[0]).version
        expected = self._expected(version, ride) if version and ride and archived else None
        return Finding(self.hour, event_id, ride_id, version, data, archived, expected)

    def _expected(self, model_version: str, ride: RideBatch) -> bytes | None:
        try:
            entries = ride.predict(self.load(model_version)).entries
        except (BundleError, NoSuchVersionError):
            return None
        return entries[0][1] if entries else None


def _labelled_rows(bucket: Bucket, hour: Hour, condition: str) -> dict[str, _Row]:
    """Return the labelled rides of an hour that meet a condition in SQL, by id."""
    stored = bucket.read(labelled_key(hour))
    if stored is None:
        return {}
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file, duckdb.connect() as connection:
        file.write(stored.body)
        file.flush()
        columns = "event_id, ride_id, model_version"
        found = connection.execute(f"select {columns} from read_parquet(?) where {condition}", [file.name]).fetchall()  # noqa: S608 - our own conditions
    return {event_id: _Row(*row) for event_id, *row in found}
