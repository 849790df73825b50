"""A bucket whose channel serves a small model, and days of labelled rides in it."""

from collections.abc import Callable
from datetime import datetime
from functools import cache

import numpy as np
from numpy.typing import NDArray

from infra.local.s3 import MemoryS3
from lambda_function.core.features import RideColumns, feature_matrix
from tests.builders import interval_bundle
from tests.builders_labelled import Row, labelled_row, parquet_of
from training.data.months import Month
from training.data.synthetic import synthetic_rides
from training.model.bundle import ExportedBundle
from training.monitoring.hours import Hour
from training.monitoring.join.join import labelled_key
from training.registry.bucket import Bucket
from training.registry.channels import Mover, move_channel, store_bundle

FIRST_DAY = Hour.parse("2021-02-01T05")
"""The midnight in New York behind the small model's training month."""

MODEL = "green-2021-01"
N_RIDES = 40
Change = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Makes outcomes of the forest's minutes, both (n,); NaN is no outcome."""


def shorter(minutes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return outcomes of a city in which rides take three quarters of their time."""
    return (minutes * 0.75).clip(1, 60)


def in_seconds(minutes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return outcomes in the wrong unit."""
    return minutes * 60


def none_arrives(minutes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return no outcomes."""
    return np.full_like(minutes, np.nan)


def mover_at(now: datetime, name: str = "monitor") -> Mover:
    """Return a mover whose clock stands still."""
    return Mover(name, lambda: now)


def serving_bucket(bundle: ExportedBundle | None = None, at: Hour = FIRST_DAY) -> Bucket:
    """Return a bucket in memory whose channel `stable` serves a model: the small one with intervals."""
    bucket = Bucket(MemoryS3({}), "bucket", n_threads=1)
    serve_model(bucket, bundle or interval_bundle(), at)
    return bucket


def serve_model(bucket: Bucket, bundle: ExportedBundle, at: Hour = FIRST_DAY) -> None:
    """Store a model and let the channel `stable` serve it."""
    store_bundle(bucket, bundle)
    move_channel(bucket, "stable", bundle.model_version, bundle.manifest_sha256, mover=mover_at(at.start, "ada"))


def put_hour(bucket: Bucket, hour: Hour, change: Change = shorter, n_rides: int = N_RIDES) -> None:
    """Store an hour of labelled rides."""
    bucket.write(labelled_key(hour), hour_file(hour, change, n_rides))


def put_days(bucket: Bucket, first: Hour, n_days: int, change: Change = shorter) -> list[Hour]:
    """Store an hour of labelled rides at noon of each day, and return all hours of these days: they are joined."""
    for day in range(n_days):
        put_hour(bucket, first + (24 * day + 12), change)
    return [first + number for number in range(24 * n_days)]


@cache
def hour_file(hour: Hour, change: Change, n_rides: int) -> bytes:
    """Return the file of an hour of labelled rides; the outcomes are made from the small model's predictions."""
    rides = synthetic_rides(Month(2021, 2), n_rides, seed=hour.start.day)
    columns = rides.columns
    wide = RideColumns(
        columns.pickup_zone.astype(np.int64),
        columns.dropoff_zone.astype(np.int64),
        columns.trip_distance_miles,
        columns.pickup_minute.astype(np.int64),
    )
    minutes = interval_bundle().model.served_minutes(wide, feature_matrix(wide))
    outcomes = change(minutes)
    return parquet_of([_row(hour, number, wide, minutes, outcomes) for number in range(n_rides)])


def _row(
    hour: Hour, number: int, rides: RideColumns, minutes: NDArray[np.float64], outcomes: NDArray[np.float64]
) -> Row:
    has_outcome = not np.isnan(outcomes[number])
    pickup = np.datetime64(int(rides.pickup_minute[number]), "m").astype(datetime)
    return labelled_row(
        event_id=f"shardId-000000000000:{number:06d}",
        ride_id=str(number),
        arrival_time=hour.start.replace(tzinfo=None, second=number),
        pickup_zone=int(rides.pickup_zone[number]),
        dropoff_zone=int(rides.dropoff_zone[number]),
        trip_distance_miles=float(np.nan_to_num(rides.trip_distance_miles[number])),
        pickup_time=pickup,
        predicted_minutes=float(minutes[number]),
        duration_minutes=float(outcomes[number]) if has_outcome else None,
        status="labelled" if has_outcome else "no_outcome",
    )
