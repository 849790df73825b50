"""One Kinesis stream in memory with the methods of a boto3 client: shards by hash range, resharding, iterators.

It serves a million rides in one process: with `keeps_read=False`, records are dropped when every reader has read them.
"""

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count, pairwise
from typing import Any

from infra.local.moto.kinesis_limits import (
    MAX_KEY_CHARACTERS,
    MAX_PUT_BYTES,
    MAX_PUT_RECORDS,
    MAX_READ_RECORDS,
    MAX_RECORD_BYTES,
)
from training.registry.folder_s3 import client_error

HASH_KEYS = 2**128

_FIRST_SEQUENCE_NUMBER = 49590338271490256608559692538361571095921575989136588898


@dataclass(slots=True)
class MemoryShard:
    """A shard. `records` are in GetRecords' format; `n_dropped` records before them are gone."""

    shard_id: str
    first_hash_key: int
    last_hash_key: int
    parent_ids: tuple[str, ...] = ()
    is_open: bool = True
    records: list[dict[str, Any]] = field(default_factory=list)
    n_dropped: int = 0

    def drop_before(self, place: int) -> None:
        """Drop records up to a place, counted from the shard's first record ever."""
        del self.records[: max(0, place - self.n_dropped)]
        self.n_dropped = max(place, self.n_dropped)


class MemoryStream:
    """A stream; as a client it is its first reader, see `reader` for others.

    Args:
        name: Its name.
        n_shards: Shards; they share the hash keys evenly.
        wall_clock: Unix time in seconds, for arrival times.
        keeps_read: Whether records stay after every reader has read them.
        n_readers: How many readers there are.

    Attributes:
        shards: All open and closed shards, oldest first.
        open_shards: The open ones, by hash key.
        n_put: Records accepted so far.
    """

    def __init__(
        self,
        name: str,
        n_shards: int,
        wall_clock: Callable[[], float],
        *,
        keeps_read: bool = True,
        n_readers: int = 1,
    ) -> None:
        self.name = name
        self.shards: dict[str, MemoryShard] = {}
        self.n_put = 0
        self._wall_clock = wall_clock
        self._keeps_read = keeps_read
        self._read_to: list[dict[str, int]] = [{} for _ in range(n_readers)]  # each reader's place in each shard
        self._sequence_numbers = count(_FIRST_SEQUENCE_NUMBER)
        bounds = [n * HASH_KEYS // n_shards for n in range(n_shards + 1)]
        for first, end in pairwise(bounds):
            self._add_shard(first, end - 1)
        self._route()

    # -- changes from outside

    def split(self, n: int) -> None:
        """Split the n-th open shard (modulo their number) into two with half of its hash keys each."""
        parent = self.open_shards[n % len(self.open_shards)]
        middle = (parent.first_hash_key + parent.last_hash_key) // 2
        parent.is_open = False
        self._add_shard(parent.first_hash_key, middle, parent)
        self._add_shard(middle + 1, parent.last_hash_key, parent)
        self._route()

    def merge(self, n: int) -> None:
        """Merge the n-th open shard with the next one; do nothing if only one is open."""
        if len(self.open_shards) == 1:
            return
        n %= len(self.open_shards) - 1
        left, right = self.open_shards[n : n + 2]
        left.is_open = right.is_open = False
        self._add_shard(left.first_hash_key, right.last_hash_key, left, right)
        self._route()

    def reader(self, n: int) -> "StreamClient":
        """Return the client of the n-th reader, from 0."""
        return StreamClient(self, n)

    def take_records(self) -> list[dict[str, Any]]:
        """Return the records that the first reader has not taken, in order within a shard; drop what all have read."""
        taken = []
        for shard in self.shards.values():
            taken += shard.records[max(0, self._read_to[0].get(shard.shard_id, 0) - shard.n_dropped) :]
            self._has_read(0, shard, shard.n_dropped + len(shard.records))
        return taken

    def take(self) -> list[tuple[str, bytes]]:
        """Do as `take_records`; return partition key and data of each record."""
        return [(record["PartitionKey"], record["Data"]) for record in self.take_records()]

    def _has_read(self, reader: int, shard: MemoryShard, place: int) -> None:
        """Note that a reader has read a shard up to a place, and drop what all readers have read."""
        self._read_to[reader][shard.shard_id] = place
        shard.drop_before(min(places.get(shard.shard_id, 0) for places in self._read_to))

    def shard_of(self, partition_key: str) -> MemoryShard:
        """Return the open shard of a partition key."""
        digest = hashlib.md5(partition_key.encode(), usedforsecurity=False).digest()
        return self.open_shards[bisect_right(self._bounds, int.from_bytes(digest, "big")) - 1]

    def append(self, shard: MemoryShard, partition_key: str, data: bytes) -> str:
        """Append a record to a shard and return its sequence number."""
        sequence_number = str(next(self._sequence_numbers))
        arrival = datetime.fromtimestamp(self._wall_clock(), UTC)
        shard.records.append(
            {
                "SequenceNumber": sequence_number,
                "ApproximateArrivalTimestamp": arrival,
                "Data": data,
                "PartitionKey": partition_key,
            }
        )
        self.n_put += 1
        return sequence_number

    # -- methods of a boto3 client

    def put_records(self, *, StreamName: str, Records: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Put records, within Kinesis's limits of a request."""
        self._check_name(StreamName)
        check_limits(Records)
        answers = []
        for entry in Records:
            shard = self.shard_of(entry["PartitionKey"])
            sequence_number = self.append(shard, entry["PartitionKey"], entry["Data"])
            answers.append({"ShardId": shard.shard_id, "SequenceNumber": sequence_number})
        return {"FailedRecordCount": 0, "Records": answers}

    def describe_stream_summary(self, *, StreamName: str) -> dict[str, Any]:
        """Return the stream's ARN."""
        self._check_name(StreamName)
        arn = f"arn:aws:kinesis:us-east-1:123456789012:stream/{self.name}"
        return {"StreamDescriptionSummary": {"StreamName": self.name, "StreamARN": arn}}

    def list_shards(self, *, StreamName: str) -> dict[str, Any]:
        """List all shards on one page."""
        self._check_name(StreamName)
        names = ("ParentShardId", "AdjacentParentShardId")
        return {
            "Shards": [
                {"ShardId": shard.shard_id, **dict(zip(names, shard.parent_ids, strict=False))}
                for shard in self.shards.values()
            ]
        }

    def get_shard_iterator(self, **request: Any) -> dict[str, Any]:
        """Create an iterator, `<shard>|<place>`, of any type but AT_SEQUENCE_NUMBER."""
        shard = self.shards[request["ShardId"]]
        match request["ShardIteratorType"]:
            case "TRIM_HORIZON":
                place = shard.n_dropped
            case "LATEST":
                place = shard.n_dropped + len(shard.records)
            case "AFTER_SEQUENCE_NUMBER":
                number = int(request["StartingSequenceNumber"])
                place = shard.n_dropped + bisect_right(shard.records, number, key=_number)
            case "AT_TIMESTAMP":
                place = shard.n_dropped + bisect_left(shard.records, request["Timestamp"], key=_arrival)
            case other:
                raise client_error(400, "InvalidArgumentException", f"GetShardIterator of {other}")
        return {"ShardIterator": f"{shard.shard_id}|{place}"}

    def get_records(self, *, ShardIterator: str, Limit: int = MAX_READ_RECORDS) -> dict[str, Any]:
        """Read from an iterator on. The end of a closed shard has no next iterator."""
        return self.read(0, ShardIterator, Limit)

    def read(self, reader: int, iterator: str, limit: int) -> dict[str, Any]:
        """Read as the n-th reader. Where it begins to read, it has read everything before."""
        shard_id, _, place = iterator.partition("|")
        shard, start = self.shards[shard_id], int(place)
        if not self._keeps_read:
            self._has_read(reader, shard, start)
        first = start - shard.n_dropped
        records = shard.records[first : first + limit]
        end = start + len(records)
        has_more = shard.is_open or end < shard.n_dropped + len(shard.records)
        answer: dict[str, Any] = {"Records": records, "MillisBehindLatest": 0}
        return answer | ({"NextShardIterator": f"{shard_id}|{end}"} if has_more else {})

    def _check_name(self, name: str) -> None:
        if name != self.name:
            raise client_error(400, "ResourceNotFoundException")

    def _add_shard(self, first_hash_key: int, last_hash_key: int, *parents: MemoryShard) -> None:
        shard_id = f"shardId-{len(self.shards):012}"
        parent_ids = tuple(parent.shard_id for parent in parents)
        self.shards[shard_id] = MemoryShard(shard_id, first_hash_key, last_hash_key, parent_ids)

    def _route(self) -> None:
        self.open_shards = sorted((s for s in self.shards.values() if s.is_open), key=lambda s: s.first_hash_key)
        self._bounds = [shard.first_hash_key for shard in self.open_shards]


@dataclass(frozen=True, slots=True)
class StreamClient:
    """A stream's client for one of its readers."""

    stream: MemoryStream
    n: int  # the reader, from 0

    def get_records(self, *, ShardIterator: str, Limit: int = MAX_READ_RECORDS) -> dict[str, Any]:
        """Read from an iterator on."""
        return self.stream.read(self.n, ShardIterator, Limit)

    def __getattr__(self, operation: str) -> Any:
        """Return any other operation: they are the same for all readers."""
        return getattr(self.stream, operation)


def _number(record: dict[str, Any]) -> int:
    return int(record["SequenceNumber"])


def _arrival(record: dict[str, Any]) -> datetime:
    arrival: datetime = record["ApproximateArrivalTimestamp"]
    return arrival


def check_limits(records: Sequence[dict[str, Any]]) -> None:
    """Raise ValidationException if a PutRecords request exceeds Kinesis's limits."""
    sizes = [len(record["Data"]) + len(record["PartitionKey"].encode()) for record in records]
    within = (
        1 <= len(records) <= MAX_PUT_RECORDS
        and sum(sizes) <= MAX_PUT_BYTES
        and max(sizes) <= MAX_RECORD_BYTES
        and all(1 <= len(record["PartitionKey"]) <= MAX_KEY_CHARACTERS for record in records)
    )
    if not within:
        raise client_error(400, "ValidationException", "PutRecords")
