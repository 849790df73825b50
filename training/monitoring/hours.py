"""Hours of arrival in UTC: the unit of the archive and of the join, and which hours are due for a join."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Self

from training.errors import UserError

LONGEST_RIDE_MINUTES = 60
"""The longest ride that is judged: outcomes of a cohort's rides arrive so long after the end of its hour, or later."""

SECOND_PASS_AGE = timedelta(hours=48)
"""After the end of an hour: its second pass takes up the outcomes that arrived until then."""

LOOK_BACK = timedelta(hours=72)
"""Hours that began earlier are not due by themselves; `ridecast outcomes join` joins them."""

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
    def of(cls, time: datetime | float) -> Self:
        """Return the hour that holds an aware time, or a time in seconds since the epoch."""
        at = datetime.fromtimestamp(time, UTC) if isinstance(time, int | float) else time.astimezone(UTC)
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
        return self.start.strftime("dt=%Y-%m-%d/hh=%H")


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
    return hour.end + timedelta(minutes=LONGEST_RIDE_MINUTES + outcome_delay_minutes)


def pass_of(hour: Hour, now: datetime, outcome_delay_minutes: int) -> int:
    """Return the pass that an hour is in: EARLY before its horizon.

    >>> hour = Hour.parse("2026-08-01T09")
    >>> [pass_of(hour, hour.end + timedelta(hours=age), outcome_delay_minutes=120) for age in (2, 3, 48)]
    [0, 1, 2]
    """
    if horizon(hour, outcome_delay_minutes, SECOND) <= now:
        return SECOND
    return FIRST if horizon(hour, outcome_delay_minutes) <= now else EARLY


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
    """Return the hours to join, oldest first.

    An hour is due once its horizon has passed, again at each run while rides of it wait for their prediction, and once
    more two days after it.

    Args:
        first: The first hour of the archive; None if the archive is empty.
        joined: The hours that have a summary.
        now: Aware.
        outcome_delay_minutes: How long after its ride an outcome may arrive and still count in the first pass.
    """
    if first is None:
        return []
    start = max(first, Hour.of(now - LOOK_BACK))
    due = (
        Due(hour, _pass_due(hour, joined.get(hour), now, outcome_delay_minutes)) for hour in hours_between(start, now)
    )
    return [one for one in due if one.pass_number]


def _pass_due(hour: Hour, state: Joined | None, now: datetime, outcome_delay_minutes: int) -> int:
    """Return the pass that is due for an hour; EARLY if none is."""
    done = state.pass_number if state else EARLY
    if done < SECOND and horizon(hour, outcome_delay_minutes, SECOND) <= now:
        return SECOND
    is_open = done < FIRST or (done == FIRST and state is not None and state.n_waiting > 0)
    return FIRST if is_open and horizon(hour, outcome_delay_minutes) <= now else EARLY
