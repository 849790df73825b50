"""The start of a ride in New York: from its event, or from the arrival of its record."""

from collections.abc import Sequence
from datetime import date, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from lambda_function.core.events import INVALID_FIELD, WIRE_NAMES
from lambda_function.core.features import MINUTES_PER_DAY
from lambda_function.errors import RejectError

NEW_YORK = ZoneInfo("America/New_York")
_AT_PICKUP = f" - at `$.ride.{WIRE_NAMES['pickup_datetime']}`"
_EPOCH_MINUTE = datetime(1970, 1, 1).toordinal() * MINUTES_PER_DAY  # noqa: DTZ001 - a wall-clock date

_LONGEST_DATE = 10  # 2021-01-05

# The usual form: 2021-01-05T08:15:00.
_USUAL_LENGTH = 19
_LOWEST_CODES = np.frombuffer(b"0000-00-00T00:00:00", np.uint8).astype(np.uint32)
_CODES_ABOVE = np.where(ord("0") == _LOWEST_CODES, 9, 0).astype(np.uint32)  # any digit, or exactly this character
_YEAR_1 = np.datetime64("0001-01-01T00:00:00", "s")


def pickup_minute(pickup_datetime: str | None, arrival_time_s: float) -> int:
    """Return a pickup in New York wall-clock minutes since 1970-01-01T00:00.

    Args:
        pickup_datetime: ISO 8601. Without an offset it is New York time. In the hour that a clock change skips or
            repeats, it is taken as written.
        arrival_time_s: When the record arrived, in seconds since the epoch, UTC: used if there is no pickup time.

    Raises:
        RejectError: The time is not ISO 8601, or a date alone, or outside the years that Python can represent.

    >>> pickup_minute("2021-01-05T08:15:00", 0.0) == pickup_minute("2021-01-05T13:15:00Z", 0.0) == 26830575
    True
    """
    return pickup_second(pickup_datetime, arrival_time_s) // 60


def pickup_second(pickup_datetime: str | None, arrival_time_s: float) -> int:
    """Return a pickup in New York wall-clock seconds since 1970-01-01T00:00:00; otherwise as `pickup_minute`.

    >>> pickup_second("2021-01-05T08:15:42.9", 0.0) == pickup_second("2021-01-05T13:15:42Z", 0.0) == 26830575 * 60 + 42
    True
    """
    if pickup_datetime is None:
        return int(arrival_time_s) + _new_york_offset_minutes(arrival_time_s // 3600 * 3600) * 60
    if is_date(pickup_datetime):
        raise RejectError(INVALID_FIELD, f"Expected a time after the date{_AT_PICKUP}")
    try:
        pickup = datetime.fromisoformat(pickup_datetime)
        if pickup.tzinfo is not None:
            pickup = pickup.astimezone(NEW_YORK)
    except ValueError as error:
        raise RejectError(INVALID_FIELD, f"Expected ISO 8601{_AT_PICKUP}") from error
    except OverflowError as error:
        raise RejectError(INVALID_FIELD, f"Date out of range{_AT_PICKUP}") from error
    minute = pickup.toordinal() * MINUTES_PER_DAY + pickup.hour * 60 + pickup.minute - _EPOCH_MINUTE
    return minute * 60 + pickup.second


def pickup_seconds(pickup_datetimes: Sequence[str | None], arrival_times_s: Sequence[float]) -> NDArray[np.int64]:
    """Return `pickup_second` of many rides (n,), and raise what it raises."""
    usual = _usual_times(pickup_datetimes)
    if usual is not None:
        return usual.astype(np.int64)
    return np.fromiter(map(pickup_second, pickup_datetimes, arrival_times_s), np.int64, len(pickup_datetimes))


def usual_pickup_minutes(pickup_datetimes: Sequence[str | None]) -> NDArray[np.int64] | None:
    """Return `pickup_minute` of many times at once if all have the form ``2021-01-05T08:15:00``; else None.

    It takes a third of the time and returns None whenever the result might differ.
    """
    times = _usual_times(pickup_datetimes)
    return None if times is None else times.astype("datetime64[m]").astype(np.int64)


def _usual_times(pickup_datetimes: Sequence[str | None]) -> NDArray[np.datetime64] | None:
    """Return times (n,) of the usual form; None if one has another form or may be invalid."""
    if not pickup_datetimes or any(text is None or len(text) != _USUAL_LENGTH for text in pickup_datetimes):
        return None
    codes = np.array(pickup_datetimes, f"U{_USUAL_LENGTH}").view(np.uint32).reshape(-1, _USUAL_LENGTH)
    if ((codes - _LOWEST_CODES) > _CODES_ABOVE).any():
        return None
    try:
        times = np.array(pickup_datetimes, "datetime64[s]")
    except ValueError:
        return None
    return times if times.min() >= _YEAR_1 else None


def arrival_minutes(arrival_times_s: Sequence[float]) -> NDArray[np.int64]:
    """Return `pickup_minute` of rides without a pickup time (n,), in a tenth of the time.

    >>> arrival_minutes([1609852500.5, 1625487300.0]).tolist() == [26830575, pickup_minute(None, 1625487300.0)]
    True
    """
    times_s = np.array(arrival_times_s, np.float64)
    hours_s, positions = np.unique(times_s // 3600 * 3600, return_inverse=True)
    offsets = np.array([_new_york_offset_minutes(hour_s) for hour_s in hours_s.tolist()], np.int64)
    return (times_s // 60).astype(np.int64) + offsets[positions]


def is_date(text: str) -> bool:
    """Return whether a text is a date alone: Python would take it as midnight."""
    if len(text) > _LONGEST_DATE:
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=64)
def _new_york_offset_minutes(hour_s: float) -> int:
    """Return New York's offset from UTC in the hour that starts at `hour_s`: it changes on whole hours only."""
    offset = datetime.fromtimestamp(hour_s, NEW_YORK).utcoffset()
    assert offset is not None  # noqa: S101 - an aware datetime has one
    return round(offset.total_seconds() / 60)
