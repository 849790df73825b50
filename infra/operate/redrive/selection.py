"""Select failed records in a bucket: by kind, stream, shard, reason and time of arrival, or one by its name."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain

from infra.operate.redrive.records import FailedObject, FailedRecord, decode_failure, decode_rejects
from lambda_function.aws.rejects import PREFIX as REJECTS_PREFIX
from training.errors import UserError, bucket_address
from training.registry.bucket import Bucket

_AGO = re.compile(r"(?P<n>\d{1,6})(?P<unit>[smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True, slots=True)
class Kind:
    """Rejects or failed batches."""

    name: str  # "rejects" or "failures"
    prefix: str  # of the keys, with its slash
    shard_place: int  # index of the shard id among the parts of a key between slashes
    is_batch: bool  # an object is one item, not one item per record
    decode: Callable[[str, bytes], FailedObject]  # decodes an object from its key and body

    def keys(self, bucket: Bucket, stream: str | None = None, shard_id: str | None = None) -> list[str]:
        """List the objects that can hold records of a stream and a shard, in order of shard and time."""
        prefix = self.prefix if stream is None or self.is_batch else f"{self.prefix}{stream}/"
        keys = (key for key in bucket.keys(prefix) if key.count("/") > self.shard_place)
        return [key for key in keys if shard_id in {None, key.split("/")[self.shard_place]}]

    def read(self, bucket: Bucket, keys: Iterable[str]) -> Iterator[FailedObject]:
        """Read objects in order."""
        return (self.decode(stored.key, stored.body) for stored in bucket.read_all(keys))


REJECTS = Kind("rejects", f"{REJECTS_PREFIX}/", shard_place=2, is_batch=False, decode=decode_rejects)
"""``rejects/<stream>/<shard>/<first sequence number>-<digest>.ndjson``"""

FAILURES = Kind("failures", "aws/lambda/", shard_place=3, is_batch=True, decode=decode_failure)
"""``aws/lambda/<mapping id>/<shard>/<year>/<month>/<day>/<time>-<id>``: Lambda defines it."""


def find(bucket: Bucket, kind: Kind, name: str, waiting: Iterable[FailedObject] = ()) -> FailedObject:
    """Find one record by its id, or a whole object by its key or a unique end of the key.

    Args:
        bucket: Where objects are.
        kind: Their kind.
        name: The id or the key.
        waiting: Objects that are in the queue and not in the bucket.

    Returns:
        The object; for a record's id, with only that record.

    Raises:
        UserError: No record or object fits the name, or several objects do.
    """
    shard_id, colon, place = name.partition(":")
    if not colon or "/" in name:
        return _find_object(bucket, kind, name, {one.key: one for one in waiting})
    keys = [key for key in kind.keys(bucket, shard_id=shard_id) if kind.is_batch or _may_hold(key, place)]
    for found in chain(waiting, kind.read(bucket, reversed(keys))):
        if (one := found.only(lambda record: record.record_id == name)).records:
            return one
    raise _not_found(bucket, kind, name, 0)


def _find_object(bucket: Bucket, kind: Kind, name: str, waiting: Mapping[str, FailedObject]) -> FailedObject:
    keys = [key for key in {*kind.keys(bucket), *waiting} if key.endswith(name)]
    if name in keys:
        keys = [name]
    if len(keys) == 1 and keys[0] in waiting:
        return waiting[keys[0]]
    found = list(kind.read(bucket, keys)) if len(keys) == 1 else []
    if not found:
        raise _not_found(bucket, kind, name, len(keys))
    return found[0]


def _not_found(bucket: Bucket, kind: Kind, name: str, n_found: int) -> UserError:
    hint = f"{n_found} keys end in it, give more of the key" if n_found else "`list` shows all"
    return UserError(f"{name!r} names no single one of the {kind.name} in {bucket_address(bucket.name)}", hint)


def _may_hold(key: str, place: str) -> bool:
    """Return whether an object of rejects begins at or before a sequence number (with or without an index)."""
    first = re.split("[-.:]", key.rpartition("/")[2])[0]  # older names have a colon, or no digest after a dash
    wanted = place.partition(":")[0]
    return not (first.isdecimal() and wanted.isdecimal()) or int(first) <= int(wanted)


def each_once(objects: Iterable[FailedObject]) -> Iterator[FailedObject]:
    """Leave out repeated records: a record that was delivered twice may be in two objects."""
    seen: set[tuple[str, str, bool]] = set()

    def is_new(record: FailedRecord) -> bool:
        is_first = record.identity not in seen
        seen.add(record.identity)
        return is_first

    return (one.only(is_new) for one in objects)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records to select; None selects all."""

    reason: str | None = None
    since: datetime | None = None  # the earliest arrival, in aware UTC
    until: datetime | None = None  # the first arrival that is too late, in aware UTC
    shard_id: str | None = None
    stream: str | None = None

    def admits(self, record: FailedRecord) -> bool:
        """Return whether a record is selected."""
        return (
            self.reason in {None, record.reason}
            and self.shard_id in {None, record.shard_id}
            and self.stream in {None, record.stream}
            and (self.since is None or record.arrived >= self.since)
            and (self.until is None or record.arrived < self.until)
        )


def parse_time(text: str, now: Callable[[], datetime]) -> datetime:
    """Parse a time: ISO 8601, in UTC if it has no offset, or an age such as 90s, 30m, 2h, 7d, 1w.

    Raises:
        ValueError: The text is neither.

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
    """Return a shard's id, given the id or its number.

    >>> full_shard_id("3"), full_shard_id("shardId-000000000003")
    ('shardId-000000000003', 'shardId-000000000003')
    """
    return f"shardId-{int(text):012d}" if text.isdecimal() else text
