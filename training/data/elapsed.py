"""The true minutes between two wall-clock times in New York, also across changes of its clock."""

from datetime import date, datetime, timedelta
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lambda_function.core.outcomes import elapsed_minutes as elapsed_minutes_of_one
from lambda_function.core.pickup_time import NEW_YORK

_HOURS_OF_CHANGE = np.timedelta64(4, "h")
"""The clock changes at 2 o'clock; a ride of an hour that meets it begins or ends in the first four hours of the day."""

_YEARS = np.datetime64("1970"), np.datetime64("2100")
"""Times outside are mistakes of a meter, and no ride of a month."""


def elapsed_minutes(begin: NDArray[np.datetime64], end: NDArray[np.datetime64]) -> NDArray[np.float64]:
    """Return the true minutes from times to others, datetime64[us] (n,) each in New York's time: float64 (n,).

    NaN where a time is missing. Beside a change of the clock, the rule for outcomes holds: of two readings, the one
    that gives 1 to 60 minutes is right (`lambda_function.core.outcomes`).

    >>> times = np.array(["2021-11-07T01:50", "2021-11-07T01:10", "2021-11-07T12:00"], "M8[us]")
    >>> elapsed_minutes(times[[0, 2]], times[[1, 2]]).tolist()
    [20.0, 0.0]
    """
    minutes: NDArray[np.float64] = (end - begin) / np.timedelta64(1, "m")
    is_usual = _is_of_our_time(begin) & _is_of_our_time(end)
    beside = np.flatnonzero(is_usual & (_is_beside_change(begin, is_usual) | _is_beside_change(end, is_usual)))
    texts = (np.datetime_as_string(times[beside]).tolist() for times in (begin, end))
    minutes[beside] = [elapsed_minutes_of_one(one, other) for one, other in zip(*texts, strict=True)]
    return minutes


def _is_of_our_time(times: NDArray[np.datetime64]) -> NDArray[np.bool_]:
    is_known: NDArray[np.bool_] = (times >= _YEARS[0]) & (times < _YEARS[1])
    return is_known


def _is_beside_change(times: NDArray[np.datetime64], is_usual: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which of the usual times lie in the hours of a day in which New York's clock changes."""
    days = times.astype("M8[D]")
    is_early = is_usual & (times - days < _HOURS_OF_CHANGE)
    found, positions = np.unique(days[is_early], return_inverse=True)
    beside = np.zeros(len(times), np.bool_)
    beside[is_early] = np.array([_has_change(day) for day in found.tolist()], np.bool_)[positions]
    return beside


@lru_cache(maxsize=4096)
def _has_change(day: date) -> bool:
    """Return whether New York's clock changes on a day."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=NEW_YORK)
    return midnight.utcoffset() != (midnight + timedelta(days=1)).utcoffset()
