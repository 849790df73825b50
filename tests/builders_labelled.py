"""Builders of labelled rides in the form that the join writes: rows, Parquet files, and a bucket of them."""

import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infra.local.s3 import MemoryS3
from lambda_function.core.bundle import ModelBundle
from lambda_function.core.features import RideColumns, feature_matrix
from training.data.labelled import COLUMNS, FILE, FOLDER, LABELLED, NO_OUTCOME
from training.data.rides import Rides
from training.monitoring.hours import FIRST, Hour
from training.monitoring.join.join import labelled_key
from training.monitoring.labelled_hour import LabelledHour
from training.monitoring.summary import HourSummary, encode_summary, summary_key
from training.registry.bucket import Bucket

ARROW_TYPES = {
    "VARCHAR": pa.string(),
    "TIMESTAMP": pa.timestamp("us"),
    "SMALLINT": pa.int16(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
}
SCHEMA = pa.schema([(column.name, ARROW_TYPES[column.duckdb]) for column in COLUMNS])
PICKUP_TIME = datetime(2021, 1, 5, 8, 15)  # noqa: DTZ001 - New York's wall clock

Row = dict[str, Any]


def labelled_row(**changes: object) -> Row:
    """Return a labelled ride that arrived a second after its pickup (New York's winter offset), with these changes."""
    pickup_time: Any = changes.get("pickup_time", PICKUP_TIME)
    row = {
        "event_id": "shardId-000000000000:1",
        "ride_id": "256",
        "arrival_time": pickup_time + timedelta(hours=5, seconds=1),
        "pickup_zone": 130,
        "dropoff_zone": 205,
        "trip_distance_miles": 3.66,
        "pickup_time": pickup_time,
        "has_pickup_time": True,
        "model_version": "green-2021-01-3f2a9c1d0b7e",
        "predicted_minutes": 18.25,
        "duration_minutes": 17.4,
        "outcome_id": "shardId-000000000000:2",
        "status": LABELLED,
        **dict.fromkeys(("contradicting", "conflicting", "skewed"), False),
    }
    return {**row, **changes}


def rows_of(rides: Rides, ids: Iterable[object] | None = None) -> list[Row]:
    """Return labelled rides that came of these rides; without a distance, it is 0. Ids are by default the numbers."""
    columns = rides.columns
    miles = np.where(columns.trip_distance_miles > 0, columns.trip_distance_miles, 0.0)
    values = (columns.pickup_zone, columns.dropoff_zone, miles, rides.pickup_time, rides.duration_minutes)
    names = ("pickup_zone", "dropoff_zone", "trip_distance_miles", "pickup_time", "duration_minutes")
    return [
        labelled_row(ride_id=str(ride_id), **dict(zip(names, row, strict=True)))
        for ride_id, row in zip(
            range(len(rides)) if ids is None else ids, zip(*(one.tolist() for one in values), strict=True), strict=True
        )
    ]


def parquet_of(rows: Sequence[Row], schema: pa.Schema = SCHEMA) -> bytes:
    """Return a file with these rows."""
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema), file)
    return file.getvalue()


def hour_key(arrival_time: datetime) -> str:
    """Return the key of the hour of an arrival."""
    return f"{FOLDER}/dt={arrival_time:%Y-%m-%d}/hh={arrival_time:%H}/{FILE}"


def hourly_files(rows: Iterable[Row]) -> dict[str, bytes]:
    """Return files with these rows by the hour of their arrival."""
    hours: dict[str, list[Row]] = {}
    for row in rows:
        hours.setdefault(hour_key(row["arrival_time"]), []).append(row)
    return {key: parquet_of(each) for key, each in hours.items()}


def labelled_bucket(files: Mapping[str, bytes]) -> Bucket:
    """Return a bucket in memory with these files."""
    return Bucket(MemoryS3(dict(files)), "labelled-rides", n_threads=1)


def labelled_hour(hour: Hour, model: ModelBundle, rides: Rides, **changes: Any) -> LabelledHour:
    """Return labelled rides of an hour, all of which a model predicted without calibration, with other columns (n,).

    The outcome of each arrived when its ride ended.
    """
    n = len(rides)
    columns = RideColumns(*(getattr(rides.columns, name).astype(kind) for name, kind in _SERVED.items()))
    matrix = feature_matrix(columns)
    minutes = np.round(model.predict(matrix), 2)
    low, high = model.interval_bounds(matrix, minutes) or (np.full(n, np.nan), np.full(n, np.nan))
    values: dict[str, Any] = {
        "rides": columns,
        "duration_minutes": rides.duration_minutes,
        "has_pickup_time": np.ones(n, np.bool_),
        "predicted_minutes": minutes,
        "low_minutes": low,
        "high_minutes": high,
        "version": np.zeros(n, np.int64),
        "versions": (model.model_version,),
        "outcome_delay_s": 60.0 * rides.duration_minutes,
    }
    return LabelledHour(hour, **{**values, **changes})


_SERVED = {
    "pickup_zone": np.int64,
    "dropoff_zone": np.int64,
    "trip_distance_miles": np.float64,
    "pickup_minute": np.int64,
}


def labelled_rows_of(hour: LabelledHour) -> list[Row]:
    """Return the rows of a file of labelled rides that are read as this hour, one a millisecond from its start."""
    start = hour.hour.start.replace(tzinfo=None)
    rows: list[Row] = []
    for place in range(len(hour)):
        arrival = start + timedelta(milliseconds=place)
        duration = float(hour.duration_minutes[place])
        is_labelled = not np.isnan(duration)
        pickup_minute = int(hour.rides.pickup_minute[place])
        rows.append(
            labelled_row(
                event_id=f"shardId-000000000000:{place:08d}",
                ride_id=str(place),
                arrival_time=arrival,
                pickup_zone=int(hour.rides.pickup_zone[place]),
                dropoff_zone=int(hour.rides.dropoff_zone[place]),
                trip_distance_miles=float(hour.rides.trip_distance_miles[place]),
                pickup_time=datetime(1970, 1, 1) + timedelta(minutes=pickup_minute),  # noqa: DTZ001 - New York's clock
                has_pickup_time=bool(hour.has_pickup_time[place]),
                model_version=hour.versions[int(hour.version[place])],
                predicted_minutes=float(hour.predicted_minutes[place]),
                low_minutes=_or_none(hour.low_minutes[place]),
                high_minutes=_or_none(hour.high_minutes[place]),
                duration_minutes=_or_none(hour.duration_minutes[place]),
                outcome_time=arrival + timedelta(seconds=float(hour.outcome_delay_s[place])) if is_labelled else None,
                status=LABELLED if is_labelled else NO_OUTCOME,
            )
        )
    return rows


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def store_hour(bucket: Bucket, hour: LabelledHour, **summary: Any) -> None:
    """Store an hour's labelled rides and the summary of its first join, with other fields."""
    bucket.write(labelled_key(hour.hour), parquet_of(labelled_rows_of(hour)))
    n_labelled = int(hour.has_outcome.sum())
    facts = {"pass_number": FIRST, "horizon_minutes": 180, "n_ride_events": len(hour), "n_labelled": n_labelled}
    facts["n_without_outcome"] = len(hour) - n_labelled
    bucket.write(summary_key(hour.hour), encode_summary(HourSummary(hour=str(hour.hour), **{**facts, **summary})))
