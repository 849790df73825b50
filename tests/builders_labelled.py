"""Builders of labelled rides in the form that the join writes: rows, Parquet files, and a bucket of them."""

import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infra.local.s3 import MemoryS3
from training.data.labelled import COLUMNS, FILE, FOLDER, LABELLED
from training.data.rides import Rides
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
