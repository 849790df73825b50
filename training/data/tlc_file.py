"""A TLC file's rows as they are, by batch: the few columns that training needs, whatever schema the month has."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from training.data.months import Service
from training.errors import DataFileError

_TIME_PREFIX: dict[Service, str] = {"green": "lpep", "yellow": "tpep"}
_NUMBER_COLUMNS = ("PULocationID", "DOLocationID", "trip_distance")
BATCH_ROWS = 1 << 16
"""About 3 MB of the five columns: as fast as whole row groups, which may hold a month."""
_NO_TIME, _NO_NUMBER = np.datetime64("NaT", "us"), np.float64("nan")


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows as published, uncleaned and unsorted, one entry a row.

    Attributes:
        pickup: datetime64[us] (n,), New York wall-clock time, NaT where it is null.
        dropoff: As pickup.
        pickup_zone: float64 (n,), NaN where it is null.
        dropoff_zone: As pickup_zone.
        trip_distance: float64 (n,), miles, NaN where it is null.
    """

    pickup: NDArray[np.datetime64]
    dropoff: NDArray[np.datetime64]
    pickup_zone: NDArray[np.float64]
    dropoff_zone: NDArray[np.float64]
    trip_distance: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.pickup)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> "Rows":
        """The rows that a mask or indices choose."""
        return Rows(
            self.pickup[rows],
            self.dropoff[rows],
            self.pickup_zone[rows],
            self.dropoff_zone[rows],
            self.trip_distance[rows],
        )

    def duration_minutes(self) -> NDArray[np.float64]:
        """float64 (n,): from pickup to dropoff, NaN where a time is missing."""
        minutes: NDArray[np.float64] = (self.dropoff - self.pickup) / np.timedelta64(1, "m")
        return minutes


def read_batches(file: BinaryIO, path: Path, service: Service) -> Iterator[Rows]:
    """Takes the five columns out of a file, a batch of rows at a time, in the file's order.

    Args:
        file: The file, open for reading and seeking.
        path: Where it comes from, for errors.
        service: Whose file: green and yellow name their times differently.

    Raises:
        DataFileError: It is not Parquet, is cut short, or lacks a column or has it in a type that makes no sense.
    """
    times = tuple(f"{_TIME_PREFIX[service]}_{which}_datetime" for which in ("pickup", "dropoff"))
    names = [*times, *_NUMBER_COLUMNS]
    try:
        parquet = pq.ParquetFile(file)
        for name in names:
            _check_column(parquet.schema_arrow, name, path, is_time=name in times)
        for batch in parquet.iter_batches(BATCH_ROWS, columns=names):
            yield _to_rows(batch, times)
    except (pa.ArrowException, OSError) as error:
        raise DataFileError(path, "is not Parquet, or is cut short") from error


def concat_rows(parts: Sequence[Rows]) -> Rows:
    """Joins rows, one part after the other; no part gives no rows."""
    return Rows(
        _join([part.pickup for part in parts], _NO_TIME),
        _join([part.dropoff for part in parts], _NO_TIME),
        _join([part.pickup_zone for part in parts], _NO_NUMBER),
        _join([part.dropoff_zone for part in parts], _NO_NUMBER),
        _join([part.trip_distance for part in parts], _NO_NUMBER),
    )


def _join(arrays: list[NDArray[Any]], missing: np.generic) -> NDArray[Any]:
    return np.concatenate([np.empty(0, missing.dtype), *arrays])


def _to_rows(batch: pa.RecordBatch, times: tuple[str, ...]) -> Rows:
    pickup, dropoff = (_to_numpy(batch[name], pa.timestamp("us"), _NO_TIME) for name in times)
    return Rows(pickup, dropoff, *(_to_numpy(batch[name], pa.float64(), _NO_NUMBER) for name in _NUMBER_COLUMNS))


def _check_column(schema: pa.Schema, name: str, path: Path, *, is_time: bool) -> None:
    remedy = "use the trip record file of that service as TLC publishes it"
    if schema.get_field_index(name) < 0:
        raise DataFileError(path, f"has no column {name}", remedy)
    kind = schema.field(name).type
    fits = pa.types.is_timestamp(kind) and kind.tz is None if is_time else _is_number(kind)
    if not fits:
        wanted = "times without a zone" if is_time else "numbers"
        raise DataFileError(path, f"holds {kind} in column {name} instead of {wanted}", remedy)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind))


def _to_numpy(column: pa.Array, kind: pa.DataType, missing: np.generic) -> NDArray[Any]:
    """A column as an array of the 8-byte kind, with `missing` for its nulls.

    Read from Arrow's buffers, because Arrow's own to_numpy imports pandas: a second at every start. Nanoseconds are
    cut to microseconds; TLC's times are whole seconds.
    """
    array = column.cast(kind, safe=False)
    values = np.frombuffer(array.buffers()[1], missing.dtype)[array.offset : array.offset + len(array)]
    if array.null_count:
        is_null = np.frombuffer(array.is_null().cast(pa.uint8()).buffers()[1], np.uint8)[: len(array)]
        values = np.where(is_null, missing, values)
    return values
