"""Which kept records are meant: by reason, time of arrival, shard and stream."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from infra.kept.record import KeptRecord

_AGO = re.compile(r"(?P<n>\d{1,6})(?P<unit>[smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True, slots=True)
class Selection:
    """What is asked for; None asks for all.

    Attributes:
        since: The earliest arrival, in aware UTC.
        until: The first arrival that is too late, in aware UTC.
    """

    reason: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    shard_id: str | None = None
    stream: str | None = None

    def admits(self, record: KeptRecord) -> bool:
        """Says whether a record is meant."""
        return (
            self.reason in {None, record.reason}
            and self.shard_id in {None, record.shard_id}
            and self.stream in {None, record.stream}
            and (self.since is None or record.arrived >= self.since)
            and (self.until is None or record.arrived < self.until)
        )


def parse_time(text: str, now: Callable[[], datetime]) -> datetime:
    """Reads a time: ISO 8601, UTC where it has no offset, or how long ago, as in 90s, 30m, 2h, 7d, 1w.

    Raises:
        ValueError: It is neither.

    >>> parse_time("2h", lambda: datetime(2021, 1, 5, 8, 15, tzinfo=UTC)).isoformat()
    '2021-01-05T06:15:00+00:00'
    """
    if ago := _AGO.fullmatch(text):
        return now() - timedelta(**{_UNITS[ago["unit"]]: int(ago["n"])})
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(
            f"{text!r} is no time: write it as 2021-01-05T08:15:00Z, or as 2h for two hours ago"
        ) from error
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def full_shard_id(text: str) -> str:
    """Returns a shard's id, which may be given as its number.

    >>> full_shard_id("3"), full_shard_id("shardId-000000000003")
    ('shardId-000000000003', 'shardId-000000000003')
    """
    return f"shardId-{int(text):012d}" if text.isdecimal() else text
