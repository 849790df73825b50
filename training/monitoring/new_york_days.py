"""Days of New York: what is monitored, calibrated and compared by day, by the arrival of ride events.

A day is 23, 24 or 25 whole hours of UTC. A producer's clock moves no ride to another day.
"""

from datetime import UTC, date, datetime, time, timedelta

from lambda_function.core.bundle import Manifest
from lambda_function.core.pickup_time import NEW_YORK
from training.data.months import Month
from training.monitoring.hours import SECOND_PASS_AGE, Hour, hours_between

_ONE_DAY = timedelta(days=1)


def day_of(hour: Hour) -> date:
    """Return the day of New York that an hour belongs to.

    >>> day_of(Hour.parse("2026-08-01T03")), day_of(Hour.parse("2026-08-01T04"))
    (datetime.date(2026, 7, 31), datetime.date(2026, 8, 1))
    """
    return hour.start.astimezone(NEW_YORK).date()


def first_hour(day: date) -> Hour:
    """Return the first hour of a day.

    >>> str(first_hour(date(2026, 8, 1)))
    '2026-08-01T04'
    """
    return Hour.of(datetime.combine(day, time(), NEW_YORK))


def day_end(day: date) -> datetime:
    """Return the end of a day, in UTC."""
    return first_hour(day + _ONE_DAY).start.astimezone(UTC)


def hours_of_day(day: date) -> tuple[Hour, ...]:
    """Return the hours of a day: 24, or 23 and 25 when the clocks change.

    >>> [len(hours_of_day(date(2026, *day))) for day in ((3, 8), (8, 1), (11, 1))]
    [23, 24, 25]
    """
    return tuple(hours_between(first_hour(day), day_end(day)))


def is_final(day: date, now: datetime) -> bool:
    """Return whether a day's missing hours are no longer waited for."""
    return now >= day_end(day) + SECOND_PASS_AGE


def first_whole_day(begins: datetime) -> date:
    """Return the first day that begins at a time or after it.

    >>> first_whole_day(datetime(2026, 8, 1, 4, tzinfo=UTC)), first_whole_day(datetime(2026, 8, 1, 4, 1, tzinfo=UTC))
    (datetime.date(2026, 8, 1), datetime.date(2026, 8, 2))
    """
    day = begins.astimezone(NEW_YORK).date()
    return day if first_hour(day).start >= begins else day + _ONE_DAY


def training_end(manifest: Manifest) -> Hour:
    """Return the hour in UTC with which the day after a model's training rides begins in New York."""
    last = manifest.train_months[-1].rpartition("..")[2]
    day = Month.parse(last).last_date if last.count("-") == 1 else date.fromisoformat(last)
    return Hour.of(datetime.combine(day + timedelta(days=1), time(), NEW_YORK))
