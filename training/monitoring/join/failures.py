"""Find the rejects and the failed batches that hold records which have no prediction.

Rejects are `rejects/<stream>/<shard>/<sequence number of the first>-<digest>.ndjson`, so an object that holds a record
begins at it or before it. Failed batches are `aws/lambda/<mapping>/<shard>/…/<time>-…`, written by Lambda itself.

Rejects that are only in the rejects queue are not found: `ridecast records` moves them to the bucket.
"""

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import msgspec

from lambda_function.aws.rejects import PREFIX
from lambda_function.core.archive_lines import archive_prefix
from lambda_function.core.events import REJECT_REASONS, decode_reject
from lambda_function.core.records import RIDES, stream_of_arn
from training.monitoring.hours import Hour
from training.registry.bucket import Bucket

BATCH_HOURS = 24
"""How much earlier than a record the first reject of its batch may have arrived, whose number names the object. A batch
spans seconds on a busy stream; on a quiet one, all that came while the function stood still."""

MAX_BETWEEN = 64
"""A reject is in one of so many objects that begin at its record or right before it. Usually it is in the first: only
batches that came again in other cuts lie between. Without a bound, one lost ride would have a day's objects read."""

OTHER = "other"
"""The reason of a reject of another version of this code, which has reasons that this one does not know."""

_FAILED_PREFIX = "aws/lambda/"
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError)
_ARCHIVED = re.compile(r"(?P<shard>[^/]+)-(?P<first>\d+)-[0-9a-f]+\.ndjson\.gz")
_REJECTS = re.compile(r"(?P<first>\d+)[^/]*\.ndjson")
_FAILED = re.compile(_FAILED_PREFIX + r"[^/]+/(?P<shard>[^/]+)/.*/(?P<time>\d{4}-\d\d-\d\dT\d\d\.\d\d\.\d\d)-[^/]*")


def place_of(event_id: str) -> tuple[str, int]:
    """Return the shard and the sequence number of a record, or of the record that a part is of.

    >>> place_of("shardId-000000000000:49:3")
    ('shardId-000000000000', 49)
    """
    shard_id, number, *_ = event_id.split(":", 2)
    return shard_id, int(number)


def first_numbers(bucket: Bucket, hours: Iterable[Hour]) -> dict[str, str]:
    """Return the first sequence number of each shard among the archived ride events of some hours, from the keys."""
    firsts: dict[str, int] = {}
    for hour in hours:
        for shard_id, number in map(_first_of_key, bucket.keys(archive_prefix(RIDES, hour.partition))):
            firsts[shard_id] = min(number, firsts.get(shard_id, number))
    return {shard_id: str(number) for shard_id, number in firsts.items()}


def is_before(event_id: str, firsts: Mapping[str, str]) -> bool:
    """Return whether a record came before the first ones of its shard; True for another shard.

    >>> [is_before(event_id, {"s-0": "100"}) for event_id in ("s-0:99", "s-0:100:1", "s-1:100", "no id")]
    [True, False, True, True]
    """
    shard_id, _, place = event_id.partition(":")
    number, first = place.partition(":")[0], firsts.get(shard_id)
    return first is None or (len(number), number) < (len(first), first)


def _first_of_key(key: str) -> tuple[str, int]:
    """Return the shard and the first sequence number of an object of the archive, from its key.

    >>> _first_of_key("archive/rides/dt=2026-08-01/hh=09/shardId-000000000000-4959-0123456789abcdef.ndjson.gz")
    ('shardId-000000000000', 4959)
    """
    parsed = _ARCHIVED.fullmatch(key.rpartition("/")[2])
    return (parsed["shard"], int(parsed["first"])) if parsed else ("", 0)


class Unaccounted:
    """Ids of records and parts without a result. Results take them out.

    A result is of an id if it has that id, or the id of the record that the id is a part of; and a result of a part is
    one of the whole record too. So it does not matter whether the code divided a record as this code does.

    >>> left = Unaccounted(["s-0:1", "s-0:2:0", "s-0:2:1", "s-0:3:0"])
    >>> left.take_out("s-0:1:5"), sorted(left.take_out("s-0:2")), left.take_out("s-0:3:1")
    ({'s-0:1'}, ['s-0:2:0', 's-0:2:1'], set())
    >>> list(left), left.numbers("s-0")
    (['s-0:3:0'], [3])
    """

    def __init__(self, event_ids: Iterable[str]) -> None:
        self._shards: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
        for event_id in event_ids:
            shard_id, number = place_of(event_id)
            self._shards[shard_id][number].add(event_id)

    def __iter__(self) -> Iterator[str]:
        return (event_id for records in self._shards.values() for ids in records.values() for event_id in ids)

    def shards(self) -> list[str]:
        """Return the shards of the ids that are left."""
        return [shard_id for shard_id, records in self._shards.items() if records]

    def numbers(self, shard_id: str) -> list[int]:
        """Return the sequence numbers of a shard's records that are left, ascending."""
        return sorted(self._shards[shard_id])

    def has(self, shard_id: str, number: int) -> bool:
        """Return whether ids of a record are left."""
        return number in self._shards[shard_id]

    def take_out(self, result_id: str) -> set[str]:
        """Take out and return the ids that a result is of."""
        shard_id, number = place_of(result_id)
        records = self._shards.get(shard_id, {})
        ids = records.get(number, set())
        record_id = f"{shard_id}:{number}"
        found = set(ids) if result_id == record_id else ids & {result_id, record_id}
        ids -= found
        if not ids:
            records.pop(number, None)
        return found


def take_out_rejects(bucket: Bucket, stream: str, hour: Hour, left: Unaccounted) -> dict[str, str]:
    """Take out the ids of which a reject is stored, and return them with its reason, one of REJECT_REASONS or OTHER.

    Args:
        bucket: Where the rejects are.
        stream: The name of the records' stream.
        hour: When the records arrived.
        left: Ids of records that arrived in the hour, and of their parts.
    """
    found: dict[str, str] = {}
    for shard_id, first in _first_archived(bucket, hour, left.shards()).items():
        numbers = left.numbers(shard_id)
        objects = list(_reject_objects(bucket, f"{PREFIX}/{stream}/{shard_id}/", min(first, numbers[0]), numbers[-1]))
        for stored in bucket.read_all(_may_hold(objects, left, shard_id)):
            for result_id, reason in _rejects_in(stored.body):
                found |= dict.fromkeys(left.take_out(result_id), reason)
    return found


def _first_archived(bucket: Bucket, hour: Hour, shards: Iterable[str]) -> dict[str, int]:
    """Return for each shard a sequence number that is older than any batch with a record of the hour."""
    first: dict[str, int] = {}
    wanted = set(shards)
    for n_hours in range(-BATCH_HOURS, 1):
        for key in bucket.keys(archive_prefix(RIDES, (hour + n_hours).partition)) if wanted else ():
            shard_id, number = _first_of_key(key)
            if shard_id in wanted:
                first[shard_id] = min(first.get(shard_id, number), number)
        wanted -= first.keys()
    return first


def _reject_objects(bucket: Bucket, folder: str, first: int, last: int) -> Iterator[tuple[int, str]]:
    """List the objects whose first reject lies between two sequence numbers: that number and the key, ascending."""
    for listed in bucket.list_objects(folder, start_after=f"{folder}{first}"):  # keys with this number are longer
        parsed = _REJECTS.fullmatch(listed.key.removeprefix(folder))
        number = int(parsed["first"]) if parsed else first
        if number > last:
            return
        if parsed:
            yield number, listed.key


def _may_hold(objects: Sequence[tuple[int, str]], left: Unaccounted, shard_id: str) -> Iterator[str]:
    """Return the keys of the objects that may hold what is left, the last first; what is taken out meanwhile counts."""
    numbers = left.numbers(shard_id)
    for place in reversed(range(len(objects))):
        end = objects[place + MAX_BETWEEN][0] if place + MAX_BETWEEN < len(objects) else numbers[-1] + 1
        here = range(bisect_left(numbers, objects[place][0]), bisect_left(numbers, end))
        if any(left.has(shard_id, numbers[index]) for index in here):
            yield objects[place][1]


def _rejects_in(body: bytes) -> Iterator[tuple[str, str]]:
    """Return id and reason of each of an object's rejects; a damaged line is left out."""
    for line in body.splitlines():
        try:
            reject = decode_reject(line)
        except _UNREADABLE:
            continue
        yield reject.event_id, reject.reason if reject.reason in REJECT_REASONS else OTHER


class _Batch(msgspec.Struct, rename="camel"):
    stream_arn: str
    shard_id: str
    start_sequence_number: str
    end_sequence_number: str


class _Request(msgspec.Struct, frozen=True, rename="camel"):
    function_arn: str = ""


class _Failure(msgspec.Struct, rename="camel"):
    """The part of a failed invocation that names its records: those of a shard from the first to the last."""

    batch: _Batch = msgspec.field(name="KinesisBatchInfo")
    request_context: _Request = _Request()


_ARCHIVER = re.compile(r"(?:^|[-:])Archiver(?:[-:]|$)")
_decode_failure = msgspec.json.Decoder(_Failure).decode


def is_archivers(function: str) -> bool:
    """Return whether a function, by name or ARN, is the archive function: CloudFormation's name holds the template's.

    >>> is_archivers("ridecast-Archiver-1A2B"), is_archivers("ridecast-Predictor-3C4D")
    (True, False)
    """
    return bool(_ARCHIVER.search(function))


def take_out_failed(bucket: Bucket, stream: str, hour: Hour, left: Unaccounted) -> set[str]:
    """Take out and return the ids that lie in a failed batch; the arguments are those of `take_out_rejects`."""
    found: set[str] = set()
    numbers = {shard_id: left.numbers(shard_id) for shard_id in left.shards()}
    for stored in bucket.read_all(_keys_of_failed(bucket, hour, numbers)) if numbers else ():
        try:
            failure = _decode_failure(stored.body)
            batch = failure.batch
            first, last = int(batch.start_sequence_number), int(batch.end_sequence_number)
        except _UNREADABLE:
            continue
        if stream_of_arn(batch.stream_arn) != stream or is_archivers(failure.request_context.function_arn):
            continue  # what the archive function failed on says nothing about predictions
        here = numbers.get(batch.shard_id, [])
        for number in here[bisect_left(here, first) : bisect_right(here, last)]:
            found |= left.take_out(f"{batch.shard_id}:{number}")
        if not left.shards():
            break
    return found


def _keys_of_failed(bucket: Bucket, hour: Hour, shards: Collection[str]) -> list[str]:
    """List the failed batches of shards that Lambda has stored since the hour began, oldest first."""
    since = hour.start.strftime("%Y-%m-%dT%H.%M.%S")
    parsed = (_FAILED.fullmatch(key) for key in bucket.keys(_FAILED_PREFIX))
    found = [one for one in parsed if one and one["shard"] in shards and one["time"] >= since]
    return [one[0] for one in sorted(found, key=lambda one: one["time"])]
