"""Rides from the rows of a pandas DataFrame: each row becomes a ride event, which the stream's own decoder reads.

So a row is read, or refused, exactly as its event would be. This module imports pandas at the first call.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from lambda_function.core.events import INVALID_FIELD, Ride, decode_ride_event, ride_columns
from lambda_function.core.features import RideColumns
from lambda_function.core.pickup_time import pickup_minute, usual_pickup_minutes
from lambda_function.errors import RejectError
from training.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

ZONE_COLUMNS = ("PULocationID", "DOLocationID")
DISTANCE_COLUMN = "trip_distance"
PICKUP_COLUMNS = ("pickup_datetime", "lpep_pickup_datetime", "tpep_pickup_datetime")
"""The pickup's name in ride events, and TLC's for green and yellow rides. A row has the first that is not missing."""

_FLATTENED = "ride."  # as pandas.json_normalize names the fields of ride events
_AT_RIDE = " - at `$.ride."
_MAX_NAMED = 20  # columns in a message
_MAX_VALUE_CHARACTERS = 80


class RowProblem(NamedTuple):
    """Why a row cannot be predicted."""

    column: str
    value: object
    detail: str


@dataclass(frozen=True, slots=True)
class FrameRides:
    """The rides of a frame's rows: those that can be predicted, and the problems of the others.

    Attributes:
        columns: The rides that can be predicted (n,).
        rows: The position of each one's row (n,), ascending.
        problems: By the position of the row.
    """

    columns: RideColumns
    rows: NDArray[np.intp]
    problems: dict[int, RowProblem]


class RideFields(NamedTuple):
    """The names of the columns in a frame that hold the fields of a ride."""

    pickup_zone: str
    dropoff_zone: str
    distance: str
    pickups: tuple[str, ...]  # in the order of PICKUP_COLUMNS, at least one

    @property
    def names(self) -> list[str]:
        """All of the names."""
        return [self.pickup_zone, self.dropoff_zone, self.distance, *self.pickups]


class _RideRow(msgspec.Struct):
    """The fields of a row, as a producer would write them."""

    PULocationID: Any
    DOLocationID: Any
    trip_distance: Any
    pickup_datetime: Any


class _EventRow(msgspec.Struct):
    ride: _RideRow
    ride_id: int = 0


_encode = msgspec.json.Encoder(enc_hook=str, decimal_format="number").encode
_UNWRITABLE = (OverflowError, UnicodeEncodeError, RecursionError, TypeError, ValueError)


def find_fields(frame: "pd.DataFrame") -> RideFields:
    """Return the columns of a frame that hold a ride's fields; other columns may be there too.

    Raises:
        UserError: A column is missing, or two have the same name.
    """
    found = {name: _named(frame, name) for name in (*ZONE_COLUMNS, DISTANCE_COLUMN, *PICKUP_COLUMNS)}
    pickups = tuple(column for name in PICKUP_COLUMNS if (column := found[name]))
    pickup_zone, dropoff_zone, distance = (found[name] for name in (*ZONE_COLUMNS, DISTANCE_COLUMN))
    if pickup_zone is None or dropoff_zone is None or distance is None or not pickups:
        raise _wrong_columns(frame)
    fields = RideFields(pickup_zone, dropoff_zone, distance, pickups)
    for name in fields.names:
        if list(frame.columns).count(name) > 1:
            raise UserError(f"the frame has several columns {name}", "keep one of them")
    return fields


def read_rides(frame: "pd.DataFrame", fields: RideFields) -> FrameRides:
    """Read the rides of a frame's rows.

    A missing distance is a ride without one, as the event's distance 0 is. A row without a pickup time is a problem:
    a frame has no arrival time that could stand for it.
    """
    values = [_values(frame[name]) for name in (fields.pickup_zone, fields.dropoff_zone, fields.distance)]
    pickups = _first_present([_pickup_texts(frame[name]) for name in fields.pickups])
    rides: list[Ride] = []
    rows: list[int] = []
    problems: dict[int, RowProblem] = {}
    for row, (pickup_zone, dropoff_zone, miles, pickup) in enumerate(zip(*values, pickups, strict=True)):
        event = _EventRow(_RideRow(pickup_zone, dropoff_zone, 0.0 if miles is None else miles, pickup))
        try:
            rides.append(_decode(event))
            rows.append(row)
        except RejectError as error:
            problems[row] = _problem(error, fields, event.ride)
    columns, kept = _columns(rides, rows, fields, problems)
    return FrameRides(columns, np.array(kept, np.intp), problems)


def rows_error(frame: "pd.DataFrame", problems: dict[int, RowProblem]) -> UserError:
    """Return the error of rows that cannot be predicted; it names the first one and its column."""
    first = min(problems)
    problem = problems[first]
    try:
        value = repr(problem.value)[:_MAX_VALUE_CHARACTERS]
    except ValueError:  # Python writes no number of more than 4,300 digits
        value = "a number of thousands of digits"
    return UserError(
        f"{len(problems):,} of {len(frame):,} rows cannot be predicted; the first is row {frame.index[first]!s},"
        f" whose {problem.column} is {value}: {problem.detail}",
        'correct or drop such rows, or give errors="coerce" to get NaN for them',
    )


def _named(frame: "pd.DataFrame", name: str) -> str | None:
    """Return a field's column, in another case if that is the only one; None if there is none."""
    names = (name, _FLATTENED + name)
    exact = next((column for column in names if column in frame.columns), None)
    lower = {one.lower() for one in names}
    others = [column for column in frame.columns if str(column).lower() in lower]
    return exact or (str(others[0]) if len(others) == 1 else None)


def _wrong_columns(frame: "pd.DataFrame") -> UserError:
    names = [str(column) for column in frame.columns]
    found = ", ".join(names[:_MAX_NAMED]) + (f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else "")
    hint = "rename the columns"
    if "ride" in frame.columns:
        hint = "turn ride events into columns with pandas.json_normalize"
    return UserError(
        f"a frame of rides has the columns {', '.join((*ZONE_COLUMNS, DISTANCE_COLUMN))} and one of"
        f" {', '.join(PICKUP_COLUMNS)}; this one has {found or 'no columns'}",
        hint,
    )


def _values(column: "pd.Series") -> list[Any]:
    """Return a column's values (n,) as JSON can hold them, None where one is missing."""
    import pandas as pd  # noqa: PLC0415 - only who predicts a frame needs it

    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)
    values: list[Any] = column.tolist()
    for row in np.flatnonzero(column.isna().to_numpy(bool)):
        values[row] = None
    return values


def _pickup_texts(column: "pd.Series") -> list[Any]:
    """Return a column's times (n,) as ISO 8601, with an offset if they have a zone; other values stay as they are."""
    import pandas as pd  # noqa: PLC0415 - as above

    if not pd.api.types.is_datetime64_any_dtype(column.dtype) or column.dtype.type is date:  # Arrow's dates, too
        return [value.isoformat() if isinstance(value, date) else value for value in _values(column)]
    zone = ""
    if column.dt.tz is not None:
        column, zone = column.dt.tz_convert("UTC").dt.tz_localize(None), "+00:00"
    is_missing = column.isna().to_numpy(bool)
    texts: list[Any] = np.datetime_as_string(column.to_numpy("datetime64[us]"), unit="s").tolist()
    return [None if missing else text + zone for text, missing in zip(texts, is_missing, strict=True)]


def _first_present(columns: Sequence[list[Any]]) -> list[Any]:
    """Return of each row the first value that is not missing; None if all are."""
    if len(columns) == 1:
        return columns[0]
    return [next((value for value in values if value is not None), None) for values in zip(*columns, strict=True)]


def _decode(event: _EventRow) -> Ride:
    """Decode a row as the function decodes its event.

    Raises:
        RejectError: It cannot be predicted.
    """
    try:
        data = _encode(event)
    except _UNWRITABLE as error:
        raise RejectError(INVALID_FIELD, f"a value cannot be written as JSON ({error})") from error
    ride = decode_ride_event(data).ride
    if ride.pickup_datetime is None:
        raise RejectError(INVALID_FIELD, f"Expected a pickup time{_AT_RIDE}pickup_datetime`")
    return ride


def _columns(
    rides: list[Ride], rows: list[int], fields: RideFields, problems: dict[int, RowProblem]
) -> tuple[RideColumns, list[int]]:
    """Return the rides (n,) by column and their rows; those with an invalid pickup time become problems."""
    usual = usual_pickup_minutes([ride.pickup_datetime for ride in rides])
    if usual is not None:
        return ride_columns(rides, usual), rows
    good: list[Ride] = []
    kept: list[int] = []
    minutes: list[int] = []
    for row, ride in zip(rows, rides, strict=True):
        try:
            minutes.append(pickup_minute(ride.pickup_datetime, 0.0))
        except RejectError as error:
            event = _RideRow(ride.pickup_zone, ride.dropoff_zone, ride.trip_distance, ride.pickup_datetime)
            problems[row] = _problem(error, fields, event)
        else:
            good.append(ride)
            kept.append(row)
    return ride_columns(good, np.array(minutes, np.int64)), kept


def _problem(error: RejectError, fields: RideFields, row: _RideRow) -> RowProblem:
    """Return a reject as a problem of the frame's column; the first pickup column stands for all."""
    detail, _, name = error.detail.partition(_AT_RIDE)
    names = {
        "PULocationID": fields.pickup_zone,
        "DOLocationID": fields.dropoff_zone,
        "trip_distance": fields.distance,
        "pickup_datetime": fields.pickups[0],
    }
    field = name.rstrip("`")
    if field not in names:  # a value that has no form in JSON
        return RowProblem("ride", msgspec.structs.astuple(row), detail)
    return RowProblem(names[field], getattr(row, field), detail)
