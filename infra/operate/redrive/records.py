"""What could not be processed, as one shape: rejects and failures are both read into `KeptRecord`s.

A *reject* is what the function could never predict; it stores them a line each, those of a batch as one object. A
*failure* is a batch that the event source mapping gave up; Lambda itself stores the whole invocation, with what it
knows of its end. Some of a failure's records may have been predicted or rejected before the batch was given up, by a
function that published and died before it answered.
"""

import base64
import re
from binascii import Error as Base64Error
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import msgspec

from infra.errors import NoSuchKeptError
from lambda_function.aws.rejects import PREFIX as REJECTS_PREFIX
from lambda_function.core.events import Reject, decode_reject
from training.registry.bucket import Bucket

_UNREADABLE = (msgspec.DecodeError, ValueError, OverflowError, RecursionError)
"""What reading somebody else's bytes can raise: no JSON, no base64, no UTF-8; no time, or one that no calendar has;
nested without an end."""

_N_PROBLEMS = 10  # are told of an object: all of a large one that is none would fill a screen, and memory


@dataclass(frozen=True, slots=True)
class KeptRecord:
    """One record that was not processed, and all that is known of it.

    Attributes:
        record_id: ``<shard id>:<sequence number>``, and ``:<index>`` behind it for a part of an aggregate.
        reason: A reject's reason, or the condition under which Lambda gave the batch up.
        arrived: When the stream took it, in aware UTC.
        data: The producer's bytes.
        key: The object that it stands in.
    """

    record_id: str
    stream: str
    shard_id: str
    reason: str
    detail: str
    arrived: datetime
    partition_key: str
    data: bytes
    key: str

    @property
    def identity(self) -> tuple[str, str]:
        """What tells it from every other record, in whichever object it stands."""
        return self.stream, self.record_id


@dataclass(frozen=True, slots=True)
class KeptObject:
    """One object of the bucket, read. `problem` says what of it could not be, "" if all could."""

    key: str
    records: tuple[KeptRecord, ...] = ()
    problem: str = ""

    def only(self, admits: Callable[[KeptRecord], bool]) -> "KeptObject":
        """Returns the object without the records that are not admitted."""
        return replace(self, records=tuple(record for record in self.records if admits(record)))


def decode_rejects(key: str, body: bytes) -> KeptObject:
    """Reads an object of rejects; a line that is none is told, and the others stay."""
    stream = key.split("/")[1]
    records: list[KeptRecord] = []
    problems: list[str] = []
    n_unreadable = 0
    for number, line in enumerate(body.splitlines(), 1):
        try:
            records.append(_kept_reject(key, stream, decode_reject(line)))
        except _UNREADABLE as error:
            n_unreadable += 1
            if n_unreadable <= _N_PROBLEMS:
                problems.append(f"line {number}: {error}")
    if n_unreadable > _N_PROBLEMS:
        problems.append(f"and {n_unreadable - _N_PROBLEMS:,} lines more")
    return KeptObject(key, tuple(records), "; ".join(problems))


def _kept_reject(key: str, stream: str, reject: Reject) -> KeptRecord:
    part = "" if reject.sub_record is None else f":{reject.sub_record}"
    return KeptRecord(
        record_id=f"{reject.shard_id}:{reject.sequence_number}{part}",
        stream=stream,
        shard_id=reject.shard_id,
        reason=reject.reason,
        detail=reject.detail,
        arrived=datetime.fromisoformat(reject.arrival_time).astimezone(UTC),
        partition_key=reject.partition_key,
        data=base64.b64decode(reject.data, validate=True),
        key=key,
    )


class _Envelope(msgspec.Struct, rename="camel"):
    partition_key: str
    approximate_arrival_timestamp: float
    data: str


class _Record(msgspec.Struct):
    event_id: str = msgspec.field(name="eventID")
    kinesis: _Envelope


class _Invocation(msgspec.Struct):
    records: list[_Record] = msgspec.field(name="Records")


class _Request(msgspec.Struct, rename="camel"):
    condition: str
    approximate_invoke_count: int = 0


class _Response(msgspec.Struct, rename="camel"):
    function_error: str | None = None


class _Batch(msgspec.Struct, rename="camel"):
    stream_arn: str


class _Failure(msgspec.Struct, rename="camel"):
    """What Lambda puts into an on-failure bucket, as far as it matters here."""

    request_context: _Request
    timestamp: str
    batch: _Batch = msgspec.field(name="KinesisBatchInfo")
    payload: str | _Invocation
    response_context: _Response | None = None


def decode_failure(key: str, body: bytes) -> KeptObject:
    """Reads an object of Lambda's on-failure destination: a batch, all of it or nothing."""
    try:
        failure = msgspec.json.decode(body, type=_Failure)
        invocation = failure.payload
        if isinstance(invocation, str):  # Lambda writes the invocation as a text
            invocation = msgspec.json.decode(invocation, type=_Invocation)
        return KeptObject(key, tuple(_kept_failure(key, failure, record) for record in invocation.records))
    except _UNREADABLE as error:
        return KeptObject(key, problem=f"is no failed invocation: {error}")


def _kept_failure(key: str, failure: _Failure, record: _Record) -> KeptRecord:
    request, response = failure.request_context, failure.response_context
    ending = f", function error {response.function_error}" if response and response.function_error else ""
    return KeptRecord(
        record_id=record.event_id,
        stream=failure.batch.stream_arn.partition("stream/")[2],
        shard_id=record.event_id.partition(":")[0],
        reason=request.condition,
        detail=f"given up at {failure.timestamp}, invocations: {request.approximate_invoke_count}{ending}",
        arrived=datetime.fromtimestamp(record.kinesis.approximate_arrival_timestamp, UTC),
        partition_key=record.kinesis.partition_key,
        data=_original_bytes(record.kinesis.data),
        key=key,
    )


def _original_bytes(text: str) -> bytes:
    """Returns the producer's bytes, or the envelope's text where that is no base64: what a reject keeps too."""
    try:
        return base64.b64decode(text, validate=True)
    except (Base64Error, ValueError):
        return text.encode()


# MERGED FROM infra/kept/bucket.py
# Where rejects and failures are: which objects of a bucket hold them, and how one of them is found by name.
@dataclass(frozen=True, slots=True)
class Kind:
    """Rejects or failures.

    Attributes:
        name: As the command is called.
        prefix: Of their keys, with its slash.
        shard_place: Where the shard stands between a key's slashes.
        is_batch: Whether an object is one thing to look at, and not a record a line.
        decode: Reads an object: key and body in.
    """

    name: str
    prefix: str
    shard_place: int
    is_batch: bool
    decode: Callable[[str, bytes], KeptObject]

    def keys(self, bucket: Bucket, stream: str | None = None, shard_id: str | None = None) -> list[str]:
        """Lists the objects that can hold records of a stream and a shard, in order of shard and time."""
        prefix = self.prefix if stream is None or self.is_batch else f"{self.prefix}{stream}/"
        keys = (key for key in bucket.keys(prefix) if key.count("/") > self.shard_place)
        return [key for key in keys if shard_id in {None, key.split("/")[self.shard_place]}]

    def read(self, bucket: Bucket, keys: Iterable[str]) -> Iterator[KeptObject]:
        """Reads objects in order."""
        return (self.decode(stored.key, stored.body) for stored in bucket.read_all(keys))


REJECTS = Kind("rejects", f"{REJECTS_PREFIX}/", shard_place=2, is_batch=False, decode=decode_rejects)
"""``rejects/<stream>/<shard>/<first sequence number>.ndjson``"""

FAILURES = Kind("failures", "aws/lambda/", shard_place=3, is_batch=True, decode=decode_failure)
"""``aws/lambda/<mapping id>/<shard>/<year>/<month>/<day>/<time>-<id>``: Lambda's own choice."""


def find(bucket: Bucket, kind: Kind, name: str) -> KeptObject:
    """Finds one record by its id, or a whole object by its key or a unique end of it.

    Returns:
        The object; for a record's id, with that record alone.

    Raises:
        NoSuchKeptError: Nothing is called so, or several objects are.
    """
    shard_id, colon, place = name.partition(":")
    if not colon or "/" in name:
        return _find_object(bucket, kind, name)
    keys = [key for key in kind.keys(bucket, shard_id=shard_id) if kind.is_batch or _may_hold(key, place)]
    for found in kind.read(bucket, reversed(keys)):
        if (one := found.only(lambda record: record.record_id == name)).records:
            return one
    raise NoSuchKeptError(bucket.name, kind.name, name, 0)


def _find_object(bucket: Bucket, kind: Kind, name: str) -> KeptObject:
    keys = [key for key in kind.keys(bucket) if key.endswith(name)]
    if name in keys:
        keys = [name]
    found = list(kind.read(bucket, keys)) if len(keys) == 1 else []
    if not found:
        raise NoSuchKeptError(bucket.name, kind.name, name, len(keys))
    return found[0]


def _may_hold(key: str, place: str) -> bool:
    """Says whether an object of rejects begins at or before a sequence number (with an index behind it or not)."""
    first, wanted = key.rpartition("/")[2].partition(".")[0].partition(":")[0], place.partition(":")[0]
    return not (first.isdecimal() and wanted.isdecimal()) or int(first) <= int(wanted)


def each_once(objects: Iterable[KeptObject]) -> Iterator[KeptObject]:
    """Leaves out records that have been seen: one that came again in another batch may stand in two objects."""
    seen: set[tuple[str, str]] = set()

    def is_new(record: KeptRecord) -> bool:
        is_first = record.identity not in seen
        seen.add(record.identity)
        return is_first

    return (kept.only(is_new) for kept in objects)


# MERGED FROM infra/kept/selection.py
# Which kept records are meant: by reason, time of arrival, shard and stream.
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
