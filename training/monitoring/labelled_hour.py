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

_FACTS: Final = """
select coalesce(list_sort(list(distinct model_version)
    filter (predicted_minutes is not null and model_version is not null)), []), coalesce(histogram(status), map([], []))
from read_parquet(?)
"""

# A file is in the order of arrival and id, and DuckDB keeps the order of a file. Minutes of a pickup are those that the
# predicting function computes: whole minutes of the wall clock, rounded down.
_RIDES: Final = f"""
select pickup_zone::bigint as pickup_zone, dropoff_zone::bigint as dropoff_zone, trip_distance_miles,
  floor(epoch(pickup_time) / 60)::bigint as pickup_minute,
  case when status = '{LABELLED}' then coalesce(duration_minutes, 'nan'::double) else 'nan'::double end as duration,
  has_pickup_time, predicted_minutes,
  coalesce(low_minutes, 'nan'::double) as low, coalesce(high_minutes, 'nan'::double) as high,
  (list_position(?::varchar[], model_version) - 1)::bigint as version,
  coalesce((epoch_us(outcome_time) - epoch_us(arrival_time)) / 1e6, 'nan'::double) as outcome_delay_s
from read_parquet(?) where predicted_minutes is not null and model_version is not null
"""  # noqa: S608 - our own name

_N_KEPT, _MAX_KEPT_BYTES = 64, 100_000
"""Hours of which the rides are kept in memory, and the largest file: monitoring, calibration and experiments read the
same hours one after the other. All of them take 20 MB at most."""

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
        n_by_status: The number of ride events by status, those without a prediction too.
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
    n_by_status: dict[str, int]
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
        versions, n_by_status = connection.execute(_FACTS, [file.name]).fetchall()[0]
        found = connection.execute(_RIDES, [versions, file.name]).fetchnumpy()
    columns = {name: _filled(column) for name, column in found.items()}
    rides = RideColumns(*(columns.pop(name) for name in RideColumns.__slots__))
    duration, has_pickup, predicted, low, high, version, delay_s = columns.values()
    _check(rides, predicted, duration, low, high)
    return LabelledHour(
        hour, rides, duration, has_pickup, predicted, low, high, version, tuple(versions), delay_s,
        dict(sorted(n_by_status.items())),
        sha256(parquet),
    )  # fmt: skip


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


def _filled(column: Any) -> NDArray[Any]:
    """Return a column as a plain array: DuckDB may mask it, although the query leaves no null in it."""
    plain = np.ascontiguousarray(column.data if isinstance(column, np.ma.MaskedArray) else column)
    plain.flags.writeable = False
    return plain
