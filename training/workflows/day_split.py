"""Split a span of days for an unattended training: days to train on, to validate on, and for the gate."""

from datetime import date, timedelta
from typing import NamedTuple

from training.data.months import Month, parse_days
from training.errors import UserError

VALIDATE_DAYS = 7
"""A week has each weekday once. Validation only measures, and each of its days is one less to learn from."""

GATE_DAYS = 14
"""By default."""

MIN_TRAIN_DAYS = 28
"""Four of each weekday."""

MAX_RIDES = 5_000_000
"""Of a training in a function, before cleaning. docs/decisions/0038 has time and memory for so many."""


class TooFewRidesError(UserError):
    """There are too few usable rides, or days with rides, to train on."""


class TooManyRidesError(UserError):
    """There are more rides than a function has time and memory for."""


class DaySplit(NamedTuple):
    """Days by calendar month, ascending: validation is later than training, and the gate's days are the last ones.

    The gate's rides come after all that the model has met, as the rides do that it will serve. Validation lies between:
    the figures in the manifest are of days that the fit has not seen, and the gate judges on days that nobody has
    looked at.
    """

    train: tuple[Month, ...]
    validate: tuple[Month, ...]
    test: tuple[Month, ...]

    def command(self, bucket: str, channel: str = "stable", service: str = "") -> str:
        """Return the command that trains on the same days on another machine, and releases into the channel."""
        days = " ".join(
            f"--{name} {months[0].first_date}..{months[-1].last_date}"
            for name, months in zip(self._fields, self, strict=True)
        )
        of_service = f" --service {service}" if service else ""
        return f"ridecast train --labelled {bucket}{of_service} {days} --channel {channel} --bucket {bucket}"


def split_days(first: date, last: date, gate_days: int) -> DaySplit:
    """Split the days from first to last.

    Raises:
        TooFewRidesError: Fewer than `MIN_TRAIN_DAYS` are left to train on.

    >>> [str(months[-1]) for months in split_days(date(2026, 9, 1), date(2026, 11, 28), gate_days=14)]
    ['2026-11-01..2026-11-07', '2026-11-08..2026-11-14', '2026-11-15..2026-11-28']
    """
    one_day = timedelta(days=1)
    gate_first = last - timedelta(days=gate_days) + one_day
    validate_first = gate_first - timedelta(days=VALIDATE_DAYS)
    n_train_days = (validate_first - first).days
    if n_train_days < MIN_TRAIN_DAYS:
        raise TooFewRidesError(
            f"labelled rides of {first} to {last} leave {max(n_train_days, 0)} days to train on,"
            f" after {VALIDATE_DAYS} to validate on and {gate_days} for the gate",
            f"wait until there are {MIN_TRAIN_DAYS}",
        )
    return DaySplit(
        parse_days(f"{first}..{validate_first - one_day}"),
        parse_days(f"{validate_first}..{gate_first - one_day}"),
        parse_days(f"{gate_first}..{last}"),
    )
