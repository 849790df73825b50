"""One Kinesis stream in memory, with boto3's face: shards by hash range, resharding, 56-digit numbers, iterators.

For a million rides in one process: a read drops what its reader has read before, unless all is to be kept.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count, pairwise
from typing import Any

from infra.local.s3 import client_error

HASH_KEYS = 2**128
MAX_REQUEST_RECORDS, MAX_REQUEST_BYTES, MAX_RECORD_BYTES = 500, 5 * 1024 * 1024, 1024 * 1024
MAX_KEY_CHARACTERS = 256
MAX_READ_RECORDS = 10_000

_FIRST_SEQUENCE_NUMBER = 49590338271490256608559692538361571095921575989136588898


@dataclass(slots=True)
class MemoryShard:
    """A shard. `records` are as GetRecords gives them; `n_dropped` more stood before them."""

    shard_id: str
    first_hash_key: int
    last_hash_key: int
    parent_ids: tuple[str, ...] = ()
    is_open: bool = True
    records: list[dict[str, Any]] = field(default_factory=list)
    n_dropped: int = 0

    def drop_before(self, place: int) -> None:
        """Drops records up to a place, counted from the shard's first ever."""
        del self.records[: max(0, place - self.n_dropped)]
        self.n_dropped = max(place, self.n_dropped)


class MemoryStream:
    """A stream with one reader.

    Args:
        name: Its name.
        n_shards: Shards that share the hash keys evenly.
        wall_clock: Unix time in seconds, of arrivals.
        keeps_read: Whether records stay after they have been read.

    Attributes:
        shards: All there ever were, oldest first.
        n_put: Records taken so far.
    """

    def __init__(self, name: str, n_shards: int, wall_clock: Callable[[], float], *, keeps_read: bool = True) -> None:
        self.name = name
        self.shards: dict[str, MemoryShard] = {}
        self.n_put = 0
        self._wall_clock = wall_clock
        self._keeps_read = keeps_read
        self._sequence_numbers = count(_FIRST_SEQUENCE_NUMBER)
        bounds = [n * HASH_KEYS // n_shards for n in range(n_shards + 1)]
        for first, end in pairwise(bounds):
            self._add_shard(first, end - 1)
        self._route()

    # -- what the world does to it

    def split(self, n: int) -> None:
        """Closes the n-th open shard, counted around its end, and adds two with half of its hash keys each."""
        parent = self._open[n % len(self._open)]
        middle = (parent.first_hash_key + parent.last_hash_key) // 2
        parent.is_open = False
        self._add_shard(parent.first_hash_key, middle, parent)
        self._add_shard(middle + 1, parent.last_hash_key, parent)
        self._route()

    def merge(self, n: int) -> None:
        """Closes the n-th open shard and the next, and adds one with the hash keys of both; one alone stays."""
        if len(self._open) == 1:
            return
        n %= len(self._open) - 1
        left, right = self._open[n : n + 2]
        left.is_open = right.is_open = False
        self._add_shard(left.first_hash_key, right.last_hash_key, left, right)
        self._route()

    def take(self) -> list[tuple[str, bytes]]:
        """Takes all records off the stream: partition key and data, in order within a shard."""
        taken = []
        for shard in self.shards.values():
            taken += [(record["PartitionKey"], record["Data"]) for record in shard.records]
            shard.drop_before(shard.n_dropped + len(shard.records))
        return taken

    # -- boto3's face

    def put_records(self, *, StreamName: str, Records: Sequence[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        """Takes a request within Kinesis's limits."""
        self._check_name(StreamName)
        check_limits(Records)
        arrival = datetime.fromtimestamp(self._wall_clock(), UTC)
        return {"FailedRecordCount": 0, "Records": [self._append(record, arrival) for record in Records]}

    def describe_stream_summary(self, *, StreamName: str) -> dict[str, Any]:  # noqa: N803
        """Tells the ARN."""
        self._check_name(StreamName)
        arn = f"arn:aws:kinesis:us-east-1:123456789012:stream/{self.name}"
        return {"StreamDescriptionSummary": {"StreamName": self.name, "StreamARN": arn}}

    def list_shards(self, *, StreamName: str) -> dict[str, Any]:  # noqa: N803
        """Lists all shards on one page."""
        self._check_name(StreamName)
        names = ("ParentShardId", "AdjacentParentShardId")
        return {
            "Shards": [
                {"ShardId": shard.shard_id, **dict(zip(names, shard.parent_ids, strict=False))}
                for shard in self.shards.values()
            ]
        }

    def get_shard_iterator(self, **request: Any) -> dict[str, Any]:
        """Knows TRIM_HORIZON, LATEST and AFTER_SEQUENCE_NUMBER. An iterator is `<shard>|<place>`."""
        shard = self.shards[request["ShardId"]]
        match request["ShardIteratorType"]:
            case "TRIM_HORIZON":
                place = shard.n_dropped
            case "LATEST":
                place = shard.n_dropped + len(shard.records)
            case "AFTER_SEQUENCE_NUMBER":
                number = int(request["StartingSequenceNumber"])
                place = shard.n_dropped + bisect_right(shard.records, number, key=_number)
            case other:
                raise client_error(400, "InvalidArgumentException", f"GetShardIterator of {other}")
        return {"ShardIterator": f"{shard.shard_id}|{place}"}

    def get_records(self, *, ShardIterator: str, Limit: int = MAX_READ_RECORDS) -> dict[str, Any]:  # noqa: N803
        """Reads on from an iterator; a closed shard ends."""
        shard_id, _, place = ShardIterator.partition("|")
        shard, start = self.shards[shard_id], int(place)
        if not self._keeps_read:
            shard.drop_before(start)
        first = start - shard.n_dropped
        records = shard.records[first : first + Limit]
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
        self._open = sorted((s for s in self.shards.values() if s.is_open), key=lambda s: s.first_hash_key)
        self._bounds = [shard.first_hash_key for shard in self._open]

    def _append(self, entry: dict[str, Any], arrival: datetime) -> dict[str, str]:
        digest = hashlib.md5(entry["PartitionKey"].encode(), usedforsecurity=False).digest()
        shard = self._open[bisect_right(self._bounds, int.from_bytes(digest, "big")) - 1]
        sequence_number = str(next(self._sequence_numbers))
        shard.records.append(
            {
                "SequenceNumber": sequence_number,
                "ApproximateArrivalTimestamp": arrival,
                "Data": entry["Data"],
                "PartitionKey": entry["PartitionKey"],
            }
        )
        self.n_put += 1
        return {"ShardId": shard.shard_id, "SequenceNumber": sequence_number}


def _number(record: dict[str, Any]) -> int:
    return int(record["SequenceNumber"])


def check_limits(records: Sequence[dict[str, Any]]) -> None:
    """Raise ValidationException if a PutRecords request exceeds Kinesis's limits."""
    sizes = [len(record["Data"]) + len(record["PartitionKey"].encode()) for record in records]
    within = (
        1 <= len(records) <= MAX_REQUEST_RECORDS
        and sum(sizes) <= MAX_REQUEST_BYTES
        and max(sizes) <= MAX_RECORD_BYTES
        and all(1 <= len(record["PartitionKey"]) <= MAX_KEY_CHARACTERS for record in records)
    )
    if not within:
        raise client_error(400, "ValidationException", "PutRecords")
