"""A Kinesis stream in memory for tests: errors by position, an outage, iterators that expire, and a record of calls."""

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from http import HTTPStatus
from typing import Any

from botocore.exceptions import ClientError

from infra.local.s3 import client_error
from infra.local.simulation.kinesis import MemoryShard, MemoryStream
from tests.fakes import FakeClock

_STATUS = {
    "InternalFailure": HTTPStatus.INTERNAL_SERVER_ERROR,
    "ServiceUnavailable": HTTPStatus.SERVICE_UNAVAILABLE,
}


class FakeKinesis(MemoryStream):
    """One stream.

    Args:
        n_shards: Shards; they share the hash keys evenly.
        clock: Gives arrival times.
        stream_name: Its name.
        put_faults: Positions refused in the 1st, 2nd, … PutRecords.
        read_faults: Error, or its code, of the 1st, 2nd, … GetRecords; None for none.
        shards_per_page: Shards that ListShards returns at once.

    Attributes:
        requests: Operation and arguments of each call so far.
        outage: The error of all calls about shards; None for none.
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
        self.clock = clock or FakeClock(now_s=1_700_000_000.0)
        super().__init__(stream_name, n_shards, self.clock)
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.outage: Exception | None = None
        self.put_faults = iter(put_faults)
        self._read_faults = iter(read_faults)
        self._shards_per_page = shards_per_page
        self._iterators: set[str] = set()

    def put(self, *data: bytes, partition_key: str = "key", shard: int | None = None) -> list[str]:
        """Put records without faults, by partition key or into the n-th shard; return their sequence numbers."""
        target = self.shard_of(partition_key) if shard is None else self._nth(shard)
        return [self.append(target, partition_key, one) for one in data]

    def split_shard(self, shard: int) -> None:
        """Split the n-th shard."""
        self.split(self.open_shards.index(self._nth(shard)))

    def merge_shards(self, shard: int, adjacent: int) -> None:
        """Merge the n-th shard with an adjacent one."""
        self.merge(min(self.open_shards.index(self._nth(n)) for n in (shard, adjacent)))

    def expire_iterators(self) -> None:
        """Make every iterator returned so far an expired one."""
        self._iterators.clear()

    def sequence_numbers(self, shard_id: str) -> list[str]:
        """Return the sequence numbers of a shard's records, in order."""
        return [record["SequenceNumber"] for record in self.shards[shard_id].records]

    def calls(self, operation: str) -> list[dict[str, Any]]:
        """Return the requests of one operation so far."""
        return [request for name, request in self.requests if name == operation]

    def list_shards(self, **request: Any) -> dict[str, Any]:
        """List shards in pages; refuse a name together with a token, as AWS does."""
        self._note("list_shards", request)
        if "NextToken" in request and "StreamName" in request:
            raise kinesis_error("InvalidArgumentException")
        start = int(request.get("NextToken", 0))
        end = start + self._shards_per_page
        shards = super().list_shards(StreamName=self.name)["Shards"]
        return {"Shards": shards[start:end]} | ({"NextToken": str(end)} if end < len(shards) else {})

    def get_shard_iterator(self, **request: Any) -> dict[str, Any]:
        """Create an iterator."""
        self._note("get_shard_iterator", request)
        answer = super().get_shard_iterator(**request)
        self._iterators.add(answer["ShardIterator"])
        return answer

    def get_records(self, **request: Any) -> dict[str, Any]:
        """Read, or fail by `read_faults`."""
        self._note("get_records", request)
        if fault := next(self._read_faults, None):
            raise kinesis_error(fault) if isinstance(fault, str) else fault
        if request["ShardIterator"] not in self._iterators:
            raise kinesis_error("ExpiredIteratorException")
        arguments = {name: value for name, value in request.items() if name != "StreamARN"}
        answer = super().get_records(**arguments)
        self._iterators.add(answer.get("NextShardIterator", ""))
        return answer

    def put_records(self, *, StreamName: str, Records: Sequence[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        """Put the records that `put_faults` does not refuse."""
        self.requests.append(("put_records", {"StreamName": StreamName, "Records": Records}))
        refused = next(self.put_faults, frozenset[int]())
        results = [
            {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "Rate exceeded"}
            if position in refused
            else {"SequenceNumber": self.put(entry["Data"], partition_key=entry["PartitionKey"])[0]}
            for position, entry in enumerate(Records)
        ]
        return {"FailedRecordCount": sum("ErrorCode" in result for result in results), "Records": results}

    def _nth(self, n: int) -> MemoryShard:
        return list(self.shards.values())[n]

    def _note(self, operation: str, request: dict[str, Any]) -> None:
        self.requests.append((operation, request))
        if self.outage:
            raise self.outage


def kinesis_error(code: str) -> ClientError:
    """Build the error that boto3 raises for a code of Kinesis."""
    return client_error(_STATUS.get(code, HTTPStatus.BAD_REQUEST), code)
