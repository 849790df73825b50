"""Where rejects and failures are: which objects of a bucket hold them, and how one of them is found by name."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from infra.bucket import Bucket
from infra.errors import NoSuchKeptError
from infra.kept.record import KeptObject, KeptRecord, decode_failure, decode_rejects
from lambda_function.rejects import PREFIX as REJECTS_PREFIX


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
