"""Special days: known calendars, years without rules of their own, and days beyond the table."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_function.core.holidays import BETWEEN_THE_YEARS, FIRST_YEAR, HOLIDAY, LAST_YEAR, WORKING_DAY, special_days


def kind_of(date: str) -> int:
    return int(special_days(np.array([date], "datetime64[D]").astype(np.int64))[0])


def dates_of(year: int, kind: int) -> list[str]:
    """Return the year's days of a kind, as month and day."""
    days = np.arange(f"{year}-01-01", f"{year + 1}-01-01", dtype="datetime64[D]")
    return [str(day)[5:] for day in days[special_days(days.astype(np.int64)) == kind]]


# The lists of the Federal Reserve's banks for these years, with Christmas of 2022 and others on the Sunday as well.
CALENDARS = {
    2019: "01-01 01-21 02-18 05-27 07-04 09-02 10-14 11-11 11-28 12-25",
    2021: "01-01 01-18 02-15 05-31 06-19 07-04 07-05 09-06 10-11 11-11 11-25 12-25",
    2022: "01-01 01-17 02-21 05-30 06-19 06-20 07-04 09-05 10-10 11-11 11-24 12-25 12-26",
    2023: "01-01 01-02 01-16 02-20 05-29 06-19 07-04 09-04 10-09 11-11 11-23 12-25",
    2024: "01-01 01-15 02-19 05-27 06-19 07-04 09-02 10-14 11-11 11-28 12-25",
}


@pytest.mark.parametrize("year", CALENDARS)
def test_holidays_are_those_of_the_calendar(year: int) -> None:
    assert dates_of(year, HOLIDAY) == CALENDARS[year].split()


def test_days_between_the_years_are_those_about_new_year_that_are_no_holidays() -> None:
    about_new_year = ["01-02", "01-03", "12-24", *(f"12-{date}" for date in range(26, 32))]
    assert dates_of(2021, BETWEEN_THE_YEARS) == about_new_year
    assert kind_of("2023-01-02") == HOLIDAY  # the Monday after a Sunday
    assert (kind_of("2023-01-03"), kind_of("2023-01-04")) == (BETWEEN_THE_YEARS, WORKING_DAY)


@pytest.mark.parametrize("date", ["0001-01-01", "1969-12-31", "1969-12-25", "2101-01-01", "9999-12-25"])
def test_days_beyond_the_table_are_not_special(date: str) -> None:
    assert kind_of(date) == WORKING_DAY


def test_table_begins_and_ends_at_its_stated_bounds() -> None:
    assert kind_of(f"{FIRST_YEAR}-01-01") == HOLIDAY
    assert kind_of(f"{LAST_YEAR}-12-25") == HOLIDAY
    assert kind_of(f"{LAST_YEAR}-12-31") == BETWEEN_THE_YEARS


@given(st.integers(FIRST_YEAR, LAST_YEAR))
def test_every_year_has_ten_to_fourteen_holidays(year: int) -> None:
    assert 10 <= len(dates_of(year, HOLIDAY)) <= 14
    assert len(dates_of(year, BETWEEN_THE_YEARS)) in {8, 9}


def test_days_of_any_whole_number_are_taken() -> None:
    assert special_days(np.array([0, 1], np.int32)).tolist() == [HOLIDAY, BETWEEN_THE_YEARS]
    assert special_days(np.empty(0, np.int64)).shape == (0,)
