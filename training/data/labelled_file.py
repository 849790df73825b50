"""Read the columns that training needs from a Parquet file of labelled rides."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from training.data.labelled import COLUMNS, LABELLED
from training.data.labelled_rides import LabelledRows
from training.data.months import Month
from training.data.tlc_file import to_numpy
from training.errors import UserError

_ARROW_TYPES = {
    "VARCHAR": pa.string(),
    "TIMESTAMP": pa.timestamp("us"),
    "SMALLINT": pa.int16(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
}
_NEEDED = (
    *("pickup_time", "ride_id", "pickup_zone", "dropoff_zone", "trip_distance_miles", "duration_minutes"),
    *("has_pickup_time", "status"),
)
_TYPES = {column.name: _ARROW_TYPES[column.duckdb] for column in COLUMNS if column.name in _NEEDED}

_ORDER = (
    *("pickup_time", "id_length", "ride_id", "pickup_zone", "dropoff_zone", "trip_distance_miles"),
    *("duration_minutes", "has_pickup_time", "is_labelled"),
)
"""By pickup and ride id. The shorter id is first, so that whole numbers are in the order of their values. Rides that
are equal in all of this are alike: so the order depends neither on the arrival nor on the files."""


class PickupSpan(NamedTuple):
    """The first and the last pickup of a file, datetime64[us]; NaT twice if it has no ride."""

    first: np.datetime64
    last: np.datetime64

    def meets(self, first: Month, last: Month) -> bool:
        """Return whether a pickup may lie between the beginning of a month and the end of another."""
        return bool(self.first < last.end and self.last >= first.start)


def read_labelled(data: bytes, name: str) -> pa.Table:
    """Return a file's rows with the columns that training needs; `name` is for errors.

    Raises:
        UserError: The file is not Parquet, is cut short, or lacks a column or has another type in it.
    """
    hint = "join that hour again, or leave the file out"
    try:
        parquet = pq.ParquetFile(pa.BufferReader(data))
        for column, wanted in _TYPES.items():
            place = parquet.schema_arrow.get_field_index(column)
            if place < 0:
                raise UserError(f"{name} has no column {column}", hint)
            if (found := parquet.schema_arrow.field(place).type) != wanted:
                raise UserError(f"{name} has {found} in column {column} instead of {wanted}", hint)
        table = parquet.read(columns=list(_NEEDED))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{name} is not Parquet, or is cut short", hint) from error
    is_labelled = pc.equal(table["status"], LABELLED)
    table = table.append_column("is_labelled", is_labelled).drop_columns(["status"])
    return table.append_column("id_length", pc.binary_length(table["ride_id"]))


def pickup_span(table: pa.Table) -> PickupSpan:
    """Return the first and the last pickup of a table."""
    if not table.num_rows:
        return PickupSpan(np.datetime64("NaT", "us"), np.datetime64("NaT", "us"))
    ends = pc.min_max(table["pickup_time"].cast(pa.int64())).as_py()
    return PickupSpan(np.datetime64(ends["min"], "us"), np.datetime64(ends["max"], "us"))


def rows_between(tables: Iterable[pa.Table], first: Month, last: Month) -> LabelledRows:
    """Return the rows with a pickup from the beginning of a month to the end of another, in their order.

    The tables, at least one, may have any order.
    """
    begin, end = (
        pa.scalar(int(at.astype("M8[us]").astype(np.int64)), pa.timestamp("us")) for at in (first.start, last.end)
    )
    kept = [
        table.filter(pc.and_(pc.greater_equal(table["pickup_time"], begin), pc.less(table["pickup_time"], end)))
        for table in tables
    ]
    table = pa.concat_tables(kept)
    table = table.take(pc.sort_indices(table, [(name, "ascending") for name in _ORDER]))

    def numbers(name: str, kind: pa.DataType, missing: np.generic) -> np.ndarray:
        return to_numpy(table[name].combine_chunks(), kind, missing)

    return LabelledRows(
        numbers("pickup_time", pa.timestamp("us"), np.datetime64("NaT", "us")).astype("M8[s]"),
        numbers("pickup_zone", pa.int16(), np.int16(0)),
        numbers("dropoff_zone", pa.int16(), np.int16(0)),
        numbers("trip_distance_miles", pa.float64(), np.float64(0.0)),
        numbers("duration_minutes", pa.float64(), np.float64("nan")),
        numbers("has_pickup_time", pa.uint8(), np.uint8(0)).astype(np.bool_),
        numbers("is_labelled", pa.uint8(), np.uint8(0)).astype(np.bool_),
    )
