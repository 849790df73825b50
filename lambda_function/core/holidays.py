"""Days with unusual traffic in New York: public holidays, and the days between Christmas and New Year.

A pure function of the date, computed from the rules of the calendar for FIRST_YEAR to LAST_YEAR. Without it, a holiday
on one Monday in four distorts what a model learns about Mondays.
"""

import numpy as np
from numpy.typing import NDArray

FIRST_YEAR, LAST_YEAR = 1970, 2100
"""Outside these years every day is a working day."""

WORKING_DAY, HOLIDAY, BETWEEN_THE_YEARS = 0, 1, 2

_FIRST_JUNETEENTH = 2021  # a federal holiday since Public Law 117-17
_MONDAY, _THURSDAY, _SUNDAY = 0, 3, 6
_EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday; Monday is 0
_DAYS_A_WEEK = 7

Days = NDArray[np.int64]


def special_days(day: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Return the kind of each day (n,), given days since 1970-01-01.

    Returns:
        uint8 (n,): HOLIDAY on the federal holidays, and on the Monday after one that falls on a Sunday (the rule of the
        Federal Reserve); BETWEEN_THE_YEARS on other days from 24 December to 3 January; else WORKING_DAY, which may be
        a Saturday or Sunday.

    >>> new_year = (np.datetime64("2023-01-01") - np.datetime64("1970-01-01")).astype(int)
    >>> special_days(np.arange(new_year, new_year + 4)).tolist()
    [1, 1, 2, 0]
    """
    return _TABLE.take(np.asarray(day, np.int64) + 1, mode="clip")


def _days(years: Days, month: int, day: int) -> Days:
    """Return the days since 1970-01-01 of a date in each year."""
    months = (years - 1970) * 12 + month - 1
    return months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) + day - 1


def _weekday(day: Days) -> Days:
    return (day + _EPOCH_WEEKDAY) % _DAYS_A_WEEK


def _nth(years: Days, month: int, weekday: int, n: int) -> Days:
    """Return a month's n-th Monday (or other weekday) in each year; n counts from 1."""
    first = _days(years, month, 1)
    return first + (weekday - _weekday(first)) % _DAYS_A_WEEK + (n - 1) * _DAYS_A_WEEK


def _holidays(years: Days) -> Days:
    """Return the federal holidays (5 U.S.C. 6103) of the years, and the Mondays that replace Sundays."""
    fixed = np.concatenate(
        [
            _days(years, 1, 1),  # New Year's Day
            _days(years[years >= _FIRST_JUNETEENTH], 6, 19),
            _days(years, 7, 4),  # Independence Day
            _days(years, 11, 11),  # Veterans Day
            _days(years, 12, 25),  # Christmas Day
        ]
    )
    return np.concatenate(
        [
            fixed,
            fixed[_weekday(fixed) == _SUNDAY] + 1,
            _nth(years, 1, _MONDAY, 3),  # Martin Luther King's birthday
            _nth(years, 2, _MONDAY, 3),  # Washington's birthday
            _nth(years, 6, _MONDAY, 1) - _DAYS_A_WEEK,  # Memorial Day, the last Monday of May
            _nth(years, 9, _MONDAY, 1),  # Labor Day
            _nth(years, 10, _MONDAY, 2),  # Columbus Day
            _nth(years, 11, _THURSDAY, 4),  # Thanksgiving
        ]
    )


def _table() -> NDArray[np.uint8]:
    """Return the kind of each day from 1969-12-31 on; the first and the last entry stand for all days beyond them."""
    years = np.arange(FIRST_YEAR, LAST_YEAR + 1)
    table = np.full(int(_days(years[-1:] + 1, 1, 1)[0]) + 2, WORKING_DAY, np.uint8)
    for month, dates in ((1, range(1, 4)), (12, range(24, 32))):
        for date in dates:
            table[_days(years, month, date) + 1] = BETWEEN_THE_YEARS
    table[_holidays(years) + 1] = HOLIDAY
    return table


_TABLE = _table()
