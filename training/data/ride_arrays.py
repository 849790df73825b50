"""Labelled rides as an .npz of plain arrays: the collector writes it, and training reads it without pyarrow.

The same rides give the same bytes. The file has no ride ids, and 30 bytes a ride.
"""

import io
from dataclasses import dataclass, fields
from datetime import date
from zipfile import BadZipFile

import numpy as np

from training.data.labelled_rides import LabelledRows
from training.errors import UserError

_SPAN = "span"  # the array with the first and the last day
_TYPES = {
    "pickup_time": "datetime64[s]",
    "pickup_zone": "int16",
    "dropoff_zone": "int16",
    "trip_distance_miles": "float64",
    "duration_minutes": "float64",
    "has_pickup_time": "bool",
    "is_labelled": "bool",
}


@dataclass(frozen=True, slots=True, eq=False)
class RideArrays:
    """The labelled rides of a span of days, which are days of the pickup in New York, both ends included."""

    first: date
    last: date
    rows: LabelledRows


class RideArraysError(UserError):
    """Bytes that are not rides as the collector writes them."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"the collected rides cannot be read: {problem}", "collect them again under another key")


def encode_ride_arrays(arrays: RideArrays) -> bytes:
    """Return the bytes of an .npz, uncompressed: how a compressor packs depends on its release."""
    packed = io.BytesIO()
    names = (field.name for field in fields(LabelledRows))
    span = np.array([arrays.first, arrays.last], "datetime64[D]")
    columns = dict(zip(names, _columns(arrays.rows), strict=True))
    np.savez(packed, allow_pickle=False, **{_SPAN: span}, **columns)  # without times: the same arrays, the same bytes
    return packed.getvalue()


def decode_ride_arrays(data: bytes) -> RideArrays:
    """Return the rides that `encode_ride_arrays` wrote.

    Raises:
        RideArraysError: The bytes are something else.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            first, last = archive[_SPAN].tolist()
            rows = LabelledRows(**{name: archive[name] for name in _TYPES})
    except (BadZipFile, EOFError, KeyError, OSError, TypeError, ValueError) as error:
        raise RideArraysError(str(error)) from error
    if not (isinstance(first, date) and isinstance(last, date)):
        raise RideArraysError(f"{first!r} and {last!r} are no days")
    for (name, wanted), column in zip(_TYPES.items(), _columns(rows), strict=True):
        if column.dtype != np.dtype(wanted) or column.shape != rows.pickup_time.shape or column.ndim != 1:
            raise RideArraysError(f"{name} has the type {column.dtype} and the shape {column.shape}")
    return RideArrays(first, last, rows)


def _columns(rows: LabelledRows) -> list[np.ndarray]:
    return [getattr(rows, field.name) for field in fields(rows)]
