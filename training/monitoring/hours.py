"""Hours of arrival in UTC: the unit of the archive and of the join, and which hours are due for a join."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import NamedTuple, Self

from lambda_function.core.pickup_time import NEW_YORK
from training.errors import UserError

LONGEST_RIDE_MINUTES = 60
"""The longest ride that is judged: outcomes of a cohort's rides arrive so long after the end of its hour, or later."""

SECOND_PASS_AGE = timedelta(hours=48)
"""After the end of an hour: its second pass takes up the outcomes that arrived until then."""

TIME_FOR_SECOND_PASSES = timedelta(hours=24)
"""Once its second pass is due, an hour is looked at for so long; `ridecast outcomes join` joins older ones."""

EARLY, FIRST, SECOND = 0, 1, 2
"""The passes over an hour: before its horizon, by hand; after the horizon; two days after the hour."""

_FORM = "%Y-%m-%dT%H"
_ONE_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True, order=True)
class Hour:
    """An hour, by its start: aware, in UTC, on the hour.

    >>> Hour.parse("2026-08-01T23") + 1
    Hour(start=datetime.datetime(2026, 8, 2, 0, 0, tzinfo=datetime.timezone.utc))
    >>> str(Hour.parse("2026-08-01T09")), Hour.parse("2026-08-01T09").partition
    ('2026-08-01T09', 'dt=2026-08-01/hh=09')
    """

    start: datetime

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the hour that is written as ``2026-08-01T09``.

        Raises:
            UserError: The text has another form.
        """
        try:
            return cls(datetime.strptime(text, _FORM).replace(tzinfo=UTC))
        except ValueError as error:
            raise UserError(f"{text!r} is no hour", "write it as 2026-08-01T09, in UTC") from error

    @classmethod
    def of(cls, moment: datetime | float) -> Self:
        """Return the hour that holds an aware time, or a time in seconds since the epoch."""
        at = datetime.fromtimestamp(moment, UTC) if isinstance(moment, int | float) else moment.astimezone(UTC)
        return cls(at.replace(minute=0, second=0, microsecond=0))

    def __str__(self) -> str:
        return self.start.strftime(_FORM)

    def __add__(self, n_hours: int) -> "Hour":
        return Hour(self.start + n_hours * _ONE_HOUR)

    @property
    def end(self) -> datetime:
        """The start of the next hour."""
        return self.start + _ONE_HOUR

    @property
    def start_s(self) -> float:
        """The start in seconds since the epoch."""
        return self.start.timestamp()

    @property
    def partition(self) -> str:
        """The hour's folder in the archive and of labelled rides, as in ``dt=2026-08-01/hh=09``."""
        at = self.start
        return f"dt={at.year:04d}-{at.month:02d}-{at.day:02d}/hh={at.hour:02d}"  # strftime takes ten times as long


def next_midnight(hour: Hour) -> Hour:
    """Return the hour in UTC that begins with New York's next midnight after the start of an hour.

    >>> str(next_midnight(Hour.parse("2026-11-29T04"))), str(next_midnight(Hour.parse("2026-11-29T05")))
    ('2026-11-29T05', '2026-11-30T05')
    """
    next_day = hour.start.astimezone(NEW_YORK).date() + timedelta(days=1)
    return Hour.of(datetime.combine(next_day, time(), NEW_YORK))


def hours_between(first: Hour, end: datetime) -> Iterator[Hour]:
    """Return the hours from the first on that begin before `end`."""
    while first.start < end:
        yield first
        first += 1


def hour_of_key(key: str) -> Hour | None:
    """Return the hour in an object's key, or None if it has none.

    >>> str(hour_of_key("archive/rides/dt=2026-08-01/hh=09/shardId-000000000000-4959-ab.ndjson.gz"))
    '2026-08-01T09'
    """
    _, _, behind = key.partition("dt=")
    day, _, rest = behind.partition("/hh=")
    try:
        return Hour.parse(f"{day}T{rest[:2]}")
    except UserError:
        return None


def horizon(hour: Hour, outcome_delay_minutes: int, pass_number: int = FIRST) -> datetime:
    """Return the time until which outcomes of an hour's rides are waited for.

    >>> horizon(Hour.parse("2026-08-01T09"), outcome_delay_minutes=120).isoformat()
    '2026-08-01T13:00:00+00:00'
    """
    if pass_number == SECOND:
        return hour.end + SECOND_PASS_AGE
    return hour.end + _wait(outcome_delay_minutes)


def reach_hours(outcome_delay_minutes: int) -> int:
    """Return how many hours after its own the first pass of an hour reads, at least in part.

    >>> reach_hours(120), reach_hours(0), reach_hours(1)
    (3, 1, 2)
    """
    return -(-_wait(outcome_delay_minutes) // _ONE_HOUR)


def pass_of(hour: Hour, now: datetime, outcome_delay_minutes: int) -> int:
    """Return the pass that an hour is in: EARLY before its horizon.

    The second pass begins when all hours that it reads have passed their own horizons, and so are joined.

    >>> hour = Hour.parse("2026-08-01T09")
    >>> [pass_of(hour, hour.end + timedelta(hours=age), outcome_delay_minutes=120) for age in (2, 3, 50, 51)]
    [0, 1, 1, 2]
    """
    if horizon(hour, outcome_delay_minutes, SECOND) + _wait(outcome_delay_minutes) <= now:
        return SECOND
    return FIRST if horizon(hour, outcome_delay_minutes) <= now else EARLY


def look_back(now: datetime, outcome_delay_minutes: int) -> Hour:
    """Return the first hour that may be due: earlier ones are not due by themselves.

    >>> str(look_back(datetime(2026, 8, 5, 0, tzinfo=UTC), outcome_delay_minutes=120))
    '2026-08-01T20'
    """
    return Hour.of(now - _ONE_HOUR - SECOND_PASS_AGE - _wait(outcome_delay_minutes) - TIME_FOR_SECOND_PASSES)


def _wait(outcome_delay_minutes: int) -> timedelta:
    """Return the time from the end of an hour to its horizon."""
    return timedelta(minutes=LONGEST_RIDE_MINUTES + outcome_delay_minutes)


class Joined(NamedTuple):
    """The state of an hour that was joined."""

    pass_number: int
    n_waiting: int  # rides that the predicting function had not reached


class Due(NamedTuple):
    """An hour to join, and the pass."""

    hour: Hour
    pass_number: int


def due_hours(
    first: Hour | None, joined: Mapping[Hour, Joined], now: datetime, outcome_delay_minutes: int
) -> list[Due]:
    """Return the hours to join: first passes, then second passes, both from the newest hour on.

    An hour is due once its horizon has passed, again at each run while rides of it wait for their prediction, and once
    more two days after it. The newest is first, because an hour that a run cannot join in its time or memory must not
    keep those after it from being joined; and a second pass reads less once the hours after it are joined.

    Args:
        first: The first hour of the archive; None if the archive is empty.
        joined: The hours that have a summary.
        now: Aware.
        outcome_delay_minutes: How long after its ride an outcome may arrive and still count in the first pass.
    """
    if first is None:
        return []
    hours = list(hours_between(max(first, look_back(now, outcome_delay_minutes)), now))[::-1]
    due = {hour: _pass_due(joined.get(hour), pass_of(hour, now, outcome_delay_minutes)) for hour in hours}
    return [Due(hour, one_pass) for one_pass in (FIRST, SECOND) for hour in hours if due[hour] == one_pass]


def _pass_due(state: Joined | None, pass_number: int) -> int:
    """Return the pass that is due for an hour which is in a pass now; EARLY if none is."""
    done = state.pass_number if state else EARLY
    is_again = pass_number == done == FIRST and state is not None and state.n_waiting > 0
    return pass_number if pass_number > done or is_again else EARLY
