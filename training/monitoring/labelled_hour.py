"""Read the labelled rides of an hour by column, as monitoring and calibration need them; without pyarrow."""

import tempfile
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Final

import duckdb
import numpy as np
from numpy.typing import NDArray

from lambda_function.core.bundle import sha256
from lambda_function.core.features import LAST_ZONE, RideColumns
from training.data.labelled import FILE, FOLDER, LABELLED
from training.data.rides import MAX_DURATION_MINUTES, MIN_DURATION_MINUTES
from training.errors import BucketError
from training.monitoring.hours import Hour
from training.registry.bucket import Bucket

# A file is in the order of arrival and id, and DuckDB keeps the order of a file. A plain query is planned in a fraction
# of the time: what else there is to compute is done in numpy.
_RIDES: Final = f"""
select pickup_zone, dropoff_zone, trip_distance_miles, pickup_time, duration_minutes, has_pickup_time,
  predicted_minutes, low_minutes, high_minutes, model_version, outcome_time, arrival_time,
  status = '{LABELLED}' as is_labelled
from read_parquet(?) where predicted_minutes is not null and model_version is not null
"""  # noqa: S608 - our own name

_N_KEPT, _MAX_KEPT_BYTES = 64, 100_000
"""Hours of which the rides are kept in memory, and the largest file: monitoring, calibration and experiments read the
same hours one after the other. All of them take 20 MB at most."""

_MICROSECONDS_PER_S = 1e6

_MAX_MINUTES = 1e6
"""More is no ride: predictions and outcomes that the join takes are far below."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class LabelledHour:
    """The rides of one hour of arrival that have a prediction, by column (n,), in order of arrival and event id.

    Attributes:
        rides: The input of the features; they have the bits that they had when the ride was served.
        duration_minutes: The outcome; NaN without one.
        has_pickup_time: Whether the ride event has a pickup time of its own.
        predicted_minutes: As served: after calibration, if there was one.
        low_minutes: The interval as served; NaN without one. So is `high_minutes`.
        version: Index in `versions`.
        versions: The served versions, sorted: ``<model version>`` or ``<model version>+<as_of>``.
        outcome_delay_s: From the arrival of the ride event to that of the outcome; NaN without an outcome.
        sha256: Of the file; "" if the rides come from elsewhere.
    """

    hour: Hour
    rides: RideColumns
    duration_minutes: NDArray[np.float64]
    has_pickup_time: NDArray[np.bool_]
    predicted_minutes: NDArray[np.float64]
    low_minutes: NDArray[np.float64]
    high_minutes: NDArray[np.float64]
    version: NDArray[np.int64]
    versions: tuple[str, ...]
    outcome_delay_s: NDArray[np.float64]
    sha256: str = ""

    def __len__(self) -> int:
        return len(self.duration_minutes)

    @property
    def has_outcome(self) -> NDArray[np.bool_]:
        """Whether each ride has an outcome (n,)."""
        return ~np.isnan(self.duration_minutes)

    @property
    def is_judged(self) -> NDArray[np.bool_]:
        """Whether each ride is judged (n,), as training would keep it: an outcome of 1 to 60 minutes, a pickup time."""
        duration = self.duration_minutes
        judged: NDArray[np.bool_] = (duration >= MIN_DURATION_MINUTES) & (duration <= MAX_DURATION_MINUTES)
        return judged & self.has_pickup_time


class DamagedLabelledError(BucketError):
    """A file that does not hold labelled rides."""

    def __init__(self, bucket: str, key: str) -> None:
        super().__init__(bucket, key, "holds no labelled rides, or is cut short: join the hour again")


def read_labelled_hour(bucket: Bucket, hour: Hour) -> LabelledHour | None:
    """Read the labelled rides of an hour; None if the hour has no file, because it is not joined.

    Raises:
        DamagedLabelledError: The file can't be read.
        BucketError: S3 fails.
    """
    key = f"{FOLDER}/{hour.partition}/{FILE}"
    stored = bucket.read(key)
    if stored is None:
        return None
    try:
        return decode_labelled_hour(stored.body, hour)
    except (duckdb.Error, ValueError) as error:
        raise DamagedLabelledError(bucket.name, key) from error


def decode_labelled_hour(parquet: bytes, hour: Hour) -> LabelledHour:
    """Return the labelled rides of a Parquet file in the join's form; nobody may write to them.

    Raises:
        duckdb.Error: It is no such file.
        ValueError: It holds values that no join writes.
    """
    return _decode_kept(parquet, hour) if len(parquet) <= _MAX_KEPT_BYTES else _decode(parquet, hour)


@lru_cache(_N_KEPT)
def _decode_kept(parquet: bytes, hour: Hour) -> LabelledHour:
    return _decode(parquet, hour)


def _decode(parquet: bytes, hour: Hour) -> LabelledHour:
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file, _database().cursor() as connection:
        file.write(parquet)
        file.flush()
        found = connection.execute(_RIDES, [file.name]).fetchnumpy()
    rides = RideColumns(
        _filled(found["pickup_zone"]).astype(np.int64),
        _filled(found["dropoff_zone"]).astype(np.int64),
        _filled(found["trip_distance_miles"]),
        # as the predicting function computes them: whole minutes of the wall clock, rounded down
        _filled(found["pickup_time"]).astype("datetime64[m]").astype(np.int64),
    )
    predicted, low, high = (_or_nan(found[f"{name}_minutes"]) for name in ("predicted", "low", "high"))
    duration = np.where(_filled(found["is_labelled"]), _or_nan(found["duration_minutes"]), np.nan)
    _check(rides, predicted, duration, low, high)
    delay_us = (found["outcome_time"] - _filled(found["arrival_time"])).astype(np.float64)
    version, versions = _numbered(_filled(found["model_version"]))
    columns = (duration, _filled(found["has_pickup_time"]), predicted, low, high, version)
    made = LabelledHour(hour, rides, *columns, versions, _or_nan(delay_us) / _MICROSECONDS_PER_S, sha256(parquet))
    for column in (*(getattr(rides, name) for name in RideColumns.__slots__), *columns, made.outcome_delay_s):
        column.flags.writeable = False
    return made


def _numbered(names: NDArray[np.object_]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the number of each name (n,) among all names, and these, sorted."""
    versions = tuple(sorted(set(names.tolist())))
    number = {name: place for place, name in enumerate(versions)}
    return np.array([number[name] for name in names], np.int64), versions


def _check(rides: RideColumns, predicted: Floats, *other_minutes: Floats) -> None:
    """Check values: a damaged file may decode, and sums of its numbers would be infinite and could never be read.

    Raises:
        ValueError: A zone is none, or minutes are absurd or missing where there must be some.
    """
    has_zones = all(((zones >= 0) & (zones <= LAST_ZONE)).all() for zones in (rides.pickup_zone, rides.dropoff_zone))
    is_sane = [np.isnan(minutes) | (np.abs(minutes) <= _MAX_MINUTES) for minutes in (predicted, *other_minutes)]
    if not has_zones or np.isnan(predicted).any() or not all(sane.all() for sane in is_sane):
        raise ValueError("labelled rides hold values that no join writes")


@cache
def _database() -> duckdb.DuckDBPyConnection:
    """Open an empty database, once a process: that takes longer than to read a small hour. Each reader has a cursor."""
    return duckdb.connect(config={"threads": 1})


def _filled(column: NDArray[Any]) -> NDArray[Any]:
    """Return a column without nulls as a plain array: DuckDB may mask it, although no value is null.

    Raises:
        ValueError: A value is null.
    """
    if np.ma.is_masked(column):
        raise ValueError("labelled rides lack values that each join writes")
    return np.ascontiguousarray(np.ma.getdata(column))


def _or_nan(column: NDArray[np.float64]) -> Floats:
    """Return a column as a plain array, with NaN in place of null."""
    filled: Floats = np.ma.filled(column, np.nan)
    return filled
