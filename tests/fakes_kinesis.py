"""An in-memory Kinesis with boto3's face, and a clock to turn by hand: shards, iterators, faults by position."""

import hashlib
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import count
from typing import Any

from botocore.exceptions import ClientError

HASH_KEYS = 2**128
FIRST_SEQUENCE_NUMBER = 49590338271490256608559692538361571095921575989136588898  # 56 digits, as real ones have
MAX_READ_RECORDS = 10_000
_STATUS = {
    "InternalFailure": HTTPStatus.INTERNAL_SERVER_ERROR,
    "ServiceUnavailable": HTTPStatus.SERVICE_UNAVAILABLE,
}


@dataclass
class FakeClock:
    """Seconds that pass only when told to: `clock()` reads them, `sleep` lets them pass and notes them."""

    now_s: float = 1_700_000_000.0
    slept_s: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        """Tells the time."""
        return self.now_s

    def advance(self, seconds: float) -> None:
        """Lets time pass."""
        self.now_s += seconds

    def sleep(self, seconds: float) -> None:
        """Lets time pass, and notes how much."""
        self.slept_s.append(seconds)
        self.now_s += seconds


@dataclass
class FakeShard:
    """A shard: its records as GetRecords gives them, and the range of hash keys that it takes."""

    shard_id: str
    first_hash_key: int
    last_hash_key: int
    records: list[dict[str, Any]] = field(default_factory=list)
    is_open: bool = True
    parent_ids: tuple[str, ...] = ()

    def sequence_numbers(self) -> list[str]:
        """Lists them in order."""
        return [record["SequenceNumber"] for record in self.records]


class FakeKinesis:
    """One stream. Methods take and give what boto3's do.

    Args:
        n_shards: Shards that share the hash keys evenly.
        clock: Tells arrival times.
        stream_name: Its name.
        put_faults: Positions refused inside the 1st, 2nd, … PutRecords.
        read_faults: Error, or its code, of the 1st, 2nd, … GetRecords; None for none.
        shards_per_page: How many shards ListShards gives at once.

    Attributes:
        outage: While it is not None, all that is asked about shards fails with it.
    """

    def __init__(
        self,
        n_shards: int = 1,
        *,
        clock: FakeClock | None = None,
        stream_name: str = "ride-events",
        put_faults: Iterable[AbstractSet[int]] = (),
        read_faults: Iterable[str | Exception | None] = (),
        shards_per_page: int = 100,
    ) -> None:
        self.clock = clock or FakeClock()
        self.stream_name = stream_name
        self.shards: dict[str, FakeShard] = {}
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.outage: Exception | None = None
        self._put_faults = iter(put_faults)
        self._read_faults = iter(read_faults)
        self._shards_per_page = shards_per_page
        self._sequence_numbers = count(FIRST_SEQUENCE_NUMBER, step=16)
        self._iterators: dict[str, tuple[FakeShard, int]] = {}
        step = HASH_KEYS // n_shards
        for i in range(n_shards):
            last = HASH_KEYS - 1 if i == n_shards - 1 else (i + 1) * step - 1
            self._add_shard(i * step, last)

    # -- what a test does to it

    def put(self, *data: bytes, partition_key: str = "key", shard: int | None = None) -> list[str]:
        """Puts records past all faults, by partition key or straight into the n-th shard."""
        target = self._route(partition_key) if shard is None else list(self.shards.values())[shard]
        return [self._append(target, partition_key, one) for one in data]

    def split_shard(self, shard: int) -> None:
        """Closes the n-th shard and adds two that share its hash keys."""
        parent = list(self.shards.values())[shard]
        parent.is_open = False
        middle = (parent.first_hash_key + parent.last_hash_key) // 2
        self._add_shard(parent.first_hash_key, middle, parent)
        self._add_shard(middle + 1, parent.last_hash_key, parent)

    def merge_shards(self, shard: int, adjacent: int) -> None:
        """Closes the n-th shard and the one with the hash keys next to it, and adds one that has both's."""
        parents = [list(self.shards.values())[n] for n in (shard, adjacent)]
        for parent in parents:
            parent.is_open = False
        first = min(parent.first_hash_key for parent in parents)
        self._add_shard(first, max(parent.last_hash_key for parent in parents), *parents)

    def expire_iterators(self) -> None:
        """Makes every iterator given so far an expired one."""
        self._iterators.clear()

    def calls(self, operation: str) -> list[dict[str, Any]]:
        """Lists the requests of one operation so far."""
        return [request for name, request in self.requests if name == operation]

    # -- boto3's face

    def describe_stream_summary(self, **request: Any) -> dict[str, Any]:
        """Tells the ARN."""
        arn = f"arn:aws:kinesis:eu-west-1:123456789012:stream/{self.stream_name}"
        return {"StreamDescriptionSummary": {"StreamName": self.stream_name, "StreamARN": arn}}

    def list_shards(self, **request: Any) -> dict[str, Any]:
        """Lists shards in pages; refuses a name beside a token, as AWS does."""
        self._note("list_shards", request)
        if "NextToken" in request and "StreamName" in request:
            raise client_error("InvalidArgumentException", "ListShards")
        start = int(request.get("NextToken", 0))
        end = start + self._shards_per_page
        page: dict[str, Any] = {"Shards": [_described(shard) for shard in list(self.shards.values())[start:end]]}
        return page | ({"NextToken": str(end)} if end < len(self.shards) else {})

    def get_shard_iterator(self, **request: Any) -> dict[str, Any]:
        """Knows all types but AT_SEQUENCE_NUMBER."""
        self._note("get_shard_iterator", request)
        shard = self.shards[request["ShardId"]]
        return {"ShardIterator": self._make_iterator(shard, _start(shard, request))}

    def get_records(self, **request: Any) -> dict[str, Any]:
        """Reads, or fails as `read_faults` says; a closed shard ends."""
        self._note("get_records", request)
        if fault := next(self._read_faults, None):
            raise client_error(fault, "GetRecords") if isinstance(fault, str) else fault
        if request["ShardIterator"] not in self._iterators:
            raise client_error("ExpiredIteratorException", "GetRecords")
        shard, start = self._iterators[request["ShardIterator"]]
        records = shard.records[start : start + request.get("Limit", MAX_READ_RECORDS)]
        end = start + len(records)
        has_more = shard.is_open or end < len(shard.records)
        answer = {"Records": [dict(record) for record in records], "MillisBehindLatest": 0}
        return answer | ({"NextShardIterator": self._make_iterator(shard, end)} if has_more else {})

    def put_records(self, *, StreamName: str, Records: Sequence[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        """Takes what `put_faults` does not refuse."""
        self.requests.append(("put_records", {"StreamName": StreamName, "Records": Records}))
        refused = next(self._put_faults, frozenset[int]())
        results = [
            {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "Rate exceeded"}
            if position in refused
            else {"SequenceNumber": self.put(entry["Data"], partition_key=entry["PartitionKey"])[0]}
            for position, entry in enumerate(Records)
        ]
        return {"FailedRecordCount": sum("ErrorCode" in result for result in results), "Records": results}

    def _note(self, operation: str, request: dict[str, Any]) -> None:
        self.requests.append((operation, request))
        if self.outage:
            raise self.outage

    def _add_shard(self, first_hash_key: int, last_hash_key: int, *parents: FakeShard) -> None:
        shard_id = f"shardId-{len(self.shards):012d}"
        parent_ids = tuple(parent.shard_id for parent in parents)
        self.shards[shard_id] = FakeShard(shard_id, first_hash_key, last_hash_key, parent_ids=parent_ids)

    def _route(self, partition_key: str) -> FakeShard:
        hash_key = int.from_bytes(hashlib.md5(partition_key.encode(), usedforsecurity=False).digest())
        return next(
            shard
            for shard in self.shards.values()
            if shard.is_open and shard.first_hash_key <= hash_key <= shard.last_hash_key
        )

    def _append(self, shard: FakeShard, partition_key: str, data: bytes) -> str:
        sequence_number = str(next(self._sequence_numbers))
        shard.records.append(
            {
                "SequenceNumber": sequence_number,
                "ApproximateArrivalTimestamp": datetime.fromtimestamp(self.clock(), UTC),
                "Data": data,
                "PartitionKey": partition_key,
            }
        )
        return sequence_number

    def _make_iterator(self, shard: FakeShard, start: int) -> str:
        iterator = f"iterator-{len(self.requests)}"
        self._iterators[iterator] = (shard, start)
        return iterator


def client_error(code: str, operation: str) -> ClientError:
    """Builds the error that boto3 raises for a code."""
    status = _STATUS.get(code, HTTPStatus.BAD_REQUEST)
    response: Any = {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": int(status)}}
    return ClientError(response, operation)


def _described(shard: FakeShard) -> dict[str, Any]:
    names = ("ParentShardId", "AdjacentParentShardId")
    return {"ShardId": shard.shard_id, **dict(zip(names, shard.parent_ids, strict=False))}


def _start(shard: FakeShard, request: dict[str, Any]) -> int:
    match request["ShardIteratorType"]:
        case "TRIM_HORIZON":
            return 0
        case "LATEST":
            return len(shard.records)
        case "AT_TIMESTAMP":
            return sum(record["ApproximateArrivalTimestamp"] < request["Timestamp"] for record in shard.records)
        case "AFTER_SEQUENCE_NUMBER":
            return shard.sequence_numbers().index(request["StartingSequenceNumber"]) + 1
        case other:
            raise client_error(f"InvalidArgumentException: {other}", "GetShardIterator")
