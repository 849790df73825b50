"""Read the five columns that training needs from a TLC file, batch by batch, in any schema that TLC has used."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from training.data.months import Service
from training.errors import UserError

DOWNLOAD_AGAIN = "delete it, and it is downloaded from TLC again"

BATCH_ROWS = 1 << 16
"""About 3 MB of the five columns: as fast as whole row groups, which may contain a month."""

_TIME_PREFIX: dict[Service, str] = {"green": "lpep", "yellow": "tpep"}
_NUMBER_COLUMNS = ("PULocationID", "DOLocationID", "trip_distance")
_NO_TIME, _NO_NUMBER = np.datetime64("NaT", "us"), np.float64("nan")


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows as published, not cleaned and not sorted."""

    pickup: NDArray[np.datetime64]  # datetime64[us] (n,), New York wall-clock time; NaT for a null
    dropoff: NDArray[np.datetime64]  # as pickup
    pickup_zone: NDArray[np.float64]  # float64 (n,); NaN for a null
    dropoff_zone: NDArray[np.float64]  # as pickup_zone
    trip_distance: NDArray[np.float64]  # float64 (n,), miles; NaN for a null

    def __len__(self) -> int:
        return len(self.pickup)

    def columns(self) -> tuple[NDArray[Any], ...]:
        """Return the five columns, in the order of the attributes."""
        return self.pickup, self.dropoff, self.pickup_zone, self.dropoff_zone, self.trip_distance

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> "Rows":
        """Return the rows of a mask or of indices."""
        return Rows(*(column[rows] for column in self.columns()))

    def duration_minutes(self) -> NDArray[np.float64]:
        """Return the minutes from pickup to dropoff, float64 (n,), NaN where a time is missing."""
        minutes: NDArray[np.float64] = (self.dropoff - self.pickup) / np.timedelta64(1, "m")
        return minutes


def read_batches(file: BinaryIO, path: Path, service: Service) -> Iterator[Rows]:
    """Yield a file's rows in the file's order, a batch at a time; `path` is for errors.

    Raises:
        UserError: The file is not Parquet, is cut short, or lacks a column or has it in an unusable type.
    """
    times = tuple(f"{_TIME_PREFIX[service]}_{which}_datetime" for which in ("pickup", "dropoff"))
    names = [*times, *_NUMBER_COLUMNS]
    try:
        parquet = pq.ParquetFile(file)
        for name in names:
            _check_column(parquet.schema_arrow, name, path, is_time=name in times)
        for batch in parquet.iter_batches(BATCH_ROWS, columns=names):
            time_columns = (to_numpy(batch[name], pa.timestamp("us"), _NO_TIME) for name in times)
            yield Rows(*time_columns, *(to_numpy(batch[name], pa.float64(), _NO_NUMBER) for name in _NUMBER_COLUMNS))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is not Parquet, or is cut short", DOWNLOAD_AGAIN) from error


def concat_rows(parts: Sequence[Rows]) -> Rows:
    """Join rows, one part after the other; no part gives no rows."""
    times, numbers = np.empty(0, _NO_TIME.dtype), np.empty(0)
    none = Rows(times, times, numbers, numbers, numbers)
    return Rows(*map(np.concatenate, zip(*(rows.columns() for rows in (none, *parts)), strict=True)))


def _check_column(schema: pa.Schema, name: str, path: Path, *, is_time: bool) -> None:
    hint = "use the trip record file of that service as TLC publishes it"
    if schema.get_field_index(name) < 0:
        raise UserError(f"{path} has no column {name}", hint)
    types, kind = pa.types, schema.field(name).type
    if is_time:
        fits, wanted = types.is_timestamp(kind) and kind.tz is None, "times without a zone"
    else:
        fits, wanted = types.is_integer(kind) or types.is_floating(kind) or types.is_null(kind), "numbers"
    if not fits:
        raise UserError(f"{path} has {kind} in column {name} instead of {wanted}", hint)


def to_numpy(column: pa.Array, kind: pa.DataType, missing: np.generic) -> NDArray[Any]:
    """Return a column as an array of the 8-byte kind, with `missing` for its nulls.

    Reads Arrow's buffers, because Arrow's own to_numpy imports pandas, which takes a second at every start.
    Nanoseconds are cut to microseconds; TLC's times are whole seconds.
    """
    array = column.cast(kind, safe=False)
    values = np.frombuffer(array.buffers()[1], missing.dtype)[array.offset : array.offset + len(array)]
    if array.null_count:
        is_null = np.frombuffer(array.is_null().cast(pa.uint8()).buffers()[1], np.uint8)[: len(array)]
        values = np.where(is_null, missing, values)
    return values
