"""Read the five columns that training needs from a TLC file, batch by batch.

They may have any schema that TLC has used, and the types and names that warehouses give them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lambda_function.core.spelling import number_in_text
from training.data.elapsed import elapsed_minutes
from training.data.months import Service
from training.errors import UserError

Timestamps = Literal["local", "utc"]
"""What the times of a column with a time zone are: New York's wall-clock times, or true points in time."""

BATCH_ROWS = 1 << 16
"""About 3 MB of the five columns: as fast as whole row groups, which may contain a month."""

MAGIC = b"PAR1"
"""The first bytes of Parquet."""

_TIME_PREFIX: dict[Service, str] = {"green": "lpep", "yellow": "tpep"}
_NUMBER_COLUMNS = ("PULocationID", "DOLocationID", "trip_distance")
_NO_TIME, _NO_NUMBER = np.datetime64("NaT", "us"), np.float64("nan")
_WALL_CLOCK, _NEW_YORK = pa.timestamp("us"), pa.timestamp("us", "America/New_York")
_AS_PUBLISHED = "use the trip record file of that service as TLC publishes it"
_N_NAMED, _N_SHOWN_BYTES = 8, 40
_EXCEL_MARK = "\ufeff"  # the first character of CSV that Excel writes as UTF-8


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows as published, not cleaned and not sorted."""

    pickup: NDArray[np.datetime64]  # datetime64[us] (n,), New York wall-clock time; NaT for a null
    duration_minutes: NDArray[np.float64]  # float64 (n,), true minutes to the drop-off; NaN where a time is missing
    pickup_zone: NDArray[np.float64]  # float64 (n,); NaN for a null, and for a text that is no number
    dropoff_zone: NDArray[np.float64]  # as pickup_zone
    trip_distance: NDArray[np.float64]  # as pickup_zone, miles

    def __len__(self) -> int:
        return len(self.pickup)

    def columns(self) -> tuple[NDArray[Any], ...]:
        """Return the five columns, in the order of the attributes."""
        return self.pickup, self.duration_minutes, self.pickup_zone, self.dropoff_zone, self.trip_distance

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> "Rows":
        """Return the rows of a mask or of indices."""
        return Rows(*(column[rows] for column in self.columns()))


@dataclass(frozen=True, slots=True)
class TlcFile:
    """An open file whose columns are checked: each is there once, in a type that can be read."""

    parquet: pq.ParquetFile
    names: tuple[str, ...]  # the file's names of pickup, drop-off, both zones and distance
    timestamps: Timestamps | None  # how its times are read; None if they have no time zone

    def batches(self) -> Iterator[Rows]:
        """Yield the rows in the file's order, a batch at a time; raise ArrowException or OSError if it is damaged."""
        for batch in self.parquet.iter_batches(BATCH_ROWS, columns=list(self.names)):
            pickup, dropoff, *numbers = (batch[name] for name in self.names)
            yield Rows(*self._times(pickup, dropoff), *map(_numbers, numbers))

    def _times(self, pickup: pa.Array, dropoff: pa.Array) -> tuple[NDArray[np.datetime64], NDArray[np.float64]]:
        """Return pickups by New York's clock, and the minutes to the drop-offs."""
        if self.timestamps == "utc":
            begin, end = (to_numpy(column, _WALL_CLOCK, _NO_TIME) for column in (pickup, dropoff))
            local = pc.local_timestamp(pickup.cast(_NEW_YORK, safe=False))
            return to_numpy(local, _WALL_CLOCK, _NO_TIME), (end - begin) / np.timedelta64(1, "m")
        if self.timestamps == "local":
            pickup, dropoff = pc.local_timestamp(pickup), pc.local_timestamp(dropoff)
        begin, end = (to_numpy(column, _WALL_CLOCK, _NO_TIME) for column in (pickup, dropoff))
        return begin, elapsed_minutes(begin, end)


def open_tlc_file(file: BinaryIO, path: Path, service: Service, timestamps: Timestamps | None = None) -> TlcFile:
    """Open a file of a service's rides; `path` is for errors, and `timestamps` for times with a time zone.

    Raises:
        UserError: A column is missing, is there twice, or has an unusable type; or times have a zone, and nobody has
            said what they are.
        ArrowException, OSError: The file is not Parquet, or is cut short.
    """
    parquet = pq.ParquetFile(file)
    schema = parquet.schema_arrow
    times = [f"{_TIME_PREFIX[service]}_{which}_datetime" for which in ("pickup", "dropoff")]
    names = tuple(_find_column(schema, name, path, service) for name in (*times, *_NUMBER_COLUMNS))
    zones = {_time_zone(schema, name, path) for name in names[:2]}
    for name in names[2:]:
        _check_number(schema, name, path)
    if zones == {None}:
        return TlcFile(parquet, names, None)
    if timestamps is None:
        zone = next(filter(None, zones))
        raise UserError(
            f"{path} has times with the zone {zone}, and does not tell whether they are true points in time or"
            " New York's wall-clock times with a wrong label",
            "give --timestamps local or --timestamps utc, or set TLC_TIMESTAMPS to one of them",
        )
    if None in zones:
        raise UserError(f"{path} has a time zone for the pickup or the drop-off, but not for both", _AS_PUBLISHED)
    return TlcFile(parquet, names, timestamps)


def parse_timestamps(text: str | None) -> Timestamps | None:
    """Return what times with a zone are, from a text; None for none.

    Raises:
        UserError: The text is neither.
    """
    for known in get_args(Timestamps):
        if text == known:
            return known  # type: ignore[no-any-return]
    if text:
        raise UserError(f"{text!r} is no way to read times with a zone", "choose local or utc")
    return None


def describe_beginning(head: bytes) -> str:
    """Say what a file that is not Parquet looks like, from its first bytes.

    >>> describe_beginning(b"VendorID,lpep_pickup_datetime,lpep_dropoff_datetime,PULocationID")
    "it looks like CSV and begins with 'VendorID,lpep_pickup_datetime,lpep_dropo'"
    """
    if not head:
        return "it is empty"
    if head.startswith(MAGIC):
        return "it begins as Parquet, and is cut short or damaged"
    if head.startswith(b"\x1f\x8b"):
        return "it is compressed with gzip"
    text = head.decode("utf-8", "replace").splitlines()[0].removeprefix(_EXCEL_MARK)[:_N_SHOWN_BYTES]
    if not text.replace("\t", " ").isprintable():
        return "it is some other binary file"
    form = "a web page" if text.lstrip().startswith("<") else "CSV" if "," in text or "\t" in text else "text"
    return f"it looks like {form} and begins with {text!r}"


def concat_rows(parts: Sequence[Rows]) -> Rows:
    """Join rows, one part after the other; no part gives no rows."""
    numbers = np.empty(0)
    none = Rows(np.empty(0, _NO_TIME.dtype), numbers, numbers, numbers, numbers)
    return Rows(*map(np.concatenate, zip(*(rows.columns() for rows in (none, *parts)), strict=True)))


def _find_column(schema: pa.Schema, name: str, path: Path, service: Service) -> str:
    """Return the file's name of a column: TLC's, or the only one that differs in case alone."""
    if name in schema.names:
        if schema.names.count(name) > 1:
            raise UserError(f"{path} has two columns {name}", _AS_PUBLISHED)
        return name
    alike = [found for found in schema.names if found.lower() == name.lower()]
    if len(alike) > 1:
        raise UserError(f"{path} has the columns {' and '.join(alike)}: each may be {name}", "keep one of them")
    if alike:
        return str(alike[0])
    lower = [found.lower() for found in schema.names]
    for other, prefix in _TIME_PREFIX.items():
        if other != service and f"{prefix}_pickup_datetime" in lower:
            raise UserError(f"{path} has {other} rides, not {service} ones", f"give --service {other}, or another file")
    shown = ", ".join(schema.names[:_N_NAMED]) + (", ..." if len(schema.names) > _N_NAMED else "")
    raise UserError(f"{path} has the columns {shown}, but it has no column {name}", _AS_PUBLISHED)


def _time_zone(schema: pa.Schema, name: str, path: Path) -> str | None:
    kind: Any = schema.field(name).type
    if not pa.types.is_timestamp(kind):
        raise UserError(f"{path} has {kind} in column {name} instead of times without a zone", _AS_PUBLISHED)
    return None if kind.tz is None else str(kind.tz)


def _check_number(schema: pa.Schema, name: str, path: Path) -> None:
    kind = schema.field(name).type
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (_is_number(value) or _is_spelt(value) or pa.types.is_null(value)):
        raise UserError(f"{path} has {kind} in column {name} instead of numbers", _AS_PUBLISHED)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_spelt(kind: pa.DataType) -> bool:
    """Return whether values are numbers by their digits alone: decimals and texts."""
    types = pa.types
    is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    return bool(is_text or types.is_decimal(kind))


def _numbers(column: pa.Array) -> NDArray[np.float64]:
    """Return a column as float64 (n,); NaN for a null, and for a text that is no number as serving reads it."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not _is_spelt(column.type):
        return to_numpy(column, pa.float64(), _NO_NUMBER)
    spelt = column.cast(pa.string()).dictionary_encode()  # digits, because Arrow rounds decimals to another float
    numbers = np.array([_number(text) for text in spelt.dictionary.to_pylist()] + [np.nan], np.float64)
    positions: NDArray[np.int64] = to_numpy(spelt.indices, pa.int64(), np.int64(-1))
    values: NDArray[np.float64] = numbers[positions]
    return values


def _number(text: str) -> float:
    """Return the number of a text, with a sign if it has one: TLC has negative distances."""
    number = number_in_text(text.removeprefix("-"))
    if number is None:
        return float("nan")
    return -number if text.startswith("-") else number


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
