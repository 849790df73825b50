"""Patch moto's Kinesis: constant-time puts, real sequence numbers, resharding and limits as on AWS.

moto 5.2.5 differs from AWS: a put copies the shard's keys (quadratic time); sequence numbers are "1", "2", …; after a
reshard, puts still go to the closed parents, and records move out of their shard; an iterator of a closed shard never
ends; there are no limits; and every field of every record goes through a slow generic serializer.
The shards are in kinesis_shards.py, their limits in kinesis_limits.py.
"""

import json
import time
from importlib.metadata import version
from typing import Any, NamedTuple

from moto.core.exceptions import JsonRESTError
from moto.kinesis import models
from moto.kinesis.exceptions import RecordSizeExceedsLimit, TooManyRecords, TotalRecordsSizeExceedsLimit
from moto.kinesis.responses import KinesisResponse
from moto.kinesis.utils import compose_shard_iterator, decompose_shard_iterator

from infra.local.moto.kinesis_limits import MAX_PUT_BYTES, MAX_PUT_RECORDS, MAX_READ_RECORDS, MAX_RECORD_BYTES
from infra.local.moto.kinesis_shards import (
    LimitedShard,
    LocalShard,
    LocalStream,
    ShardBusyError,
    ThroughputExceededError,
    data_bytes,
)
from training.errors import UserError

EXPECTED_MOTO = "5.2.5"
INSTALLED_MOTO = version("moto")


class Iterator(NamedTuple):
    """A shard iterator: the position to read from, and the Unix time at which it was made."""

    stream_name: str
    shard: LocalShard
    position: int
    made_s: float

    def encode(self) -> str:
        """Return moto's form of the iterator, with the time appended, and without the line ends of moto's base64.

        An iterator is put into a shell variable without quotes, which would make two words of two lines.
        """
        text: str = compose_shard_iterator(self.stream_name, self.shard, f"{self.position}:{self.made_s}")
        return "".join(text.split())

    @classmethod
    def decode(cls, backend: models.KinesisBackend, text: str) -> "Iterator":
        """Parse the result of `encode`."""
        stream_name, shard_id, position, made_s = decompose_shard_iterator(text)
        shard = backend.describe_stream(None, stream_name).get_shard(shard_id)
        return cls(stream_name, shard, int(position), float(made_s))


def _check_sizes(records: list[dict[str, str]]) -> None:
    if len(records) > MAX_PUT_RECORDS:
        raise TooManyRecords
    sizes = [data_bytes(record["Data"]) + len(record["PartitionKey"].encode()) for record in records]
    if sum(sizes) > MAX_PUT_BYTES:
        raise TotalRecordsSizeExceedsLimit
    if max(sizes, default=0) > MAX_RECORD_BYTES:
        raise RecordSizeExceedsLimit(position=1 + next(i for i, n in enumerate(sizes) if n > MAX_RECORD_BYTES))


_moto_get_shard_iterator = models.KinesisBackend.get_shard_iterator


def _get_shard_iterator(backend: models.KinesisBackend, arn: str | None, name: str | None, *rest: Any) -> str:
    """Return an iterator with the time it was made, and with the stream's name even if the caller gave only the ARN."""
    stream = backend.describe_stream(arn, name)
    iterator: str = _moto_get_shard_iterator(backend, arn, stream.stream_name, *rest)
    stream_name, shard_id, position = decompose_shard_iterator(iterator)
    return Iterator(stream_name, stream.get_shard(shard_id), int(position), time.time()).encode()


def _put_records(response: KinesisResponse) -> str:
    """Answer PutRecords: with status 200, even if a shard refuses entries."""
    request = json.loads(response.body)
    stream = response.kinesis_backend.describe_stream(request.get("StreamARN"), request.get("StreamName"))
    _check_sizes(request["Records"])
    entries = [_put(stream, record) for record in request["Records"]]
    return json.dumps({"FailedRecordCount": sum("ErrorCode" in entry for entry in entries), "Records": entries})


def _put(stream: LocalStream, record: dict[str, str]) -> dict[str, str]:
    try:
        number, shard_id = stream.put_record(record["PartitionKey"], record.get("ExplicitHashKey"), record["Data"])
    except ThroughputExceededError as error:
        return {"ErrorCode": error.error_type, "ErrorMessage": error.message}
    return {"SequenceNumber": number, "ShardId": shard_id}


def _get_records(response: KinesisResponse) -> str:
    """Answer GetRecords. At the end of a closed shard the answer has no iterator, but the shard's children."""
    request = json.loads(response.body)
    iterator = Iterator.decode(response.kinesis_backend, request["ShardIterator"])
    shard, stream = iterator.shard, response.kinesis_backend.describe_stream(None, iterator.stream_name)
    if not shard.accepts_iterator(iterator.made_s):
        raise JsonRESTError("ExpiredIteratorException", "Iterator expired: it was made more than 5 minutes ago.")
    try:
        page = shard.read(iterator.position, min(request.get("Limit", MAX_READ_RECORDS), MAX_READ_RECORDS))
    except ShardBusyError:
        raise ThroughputExceededError(shard, stream) from None
    records = [
        {
            "Data": record.data,
            "PartitionKey": record.partition_key,
            "SequenceNumber": str(record.sequence_number),
            "ApproximateArrivalTimestamp": round(record.arrival_s, 3),
        }
        for record in page.records
    ]
    answer: dict[str, Any] = {"Records": records, "MillisBehindLatest": page.behind_ms}
    if page.ended:
        answer["ChildShards"] = [_as_child(child) for child in stream.children_of(shard.shard_id)]
    else:
        answer["NextShardIterator"] = Iterator(iterator.stream_name, shard, page.position, time.time()).encode()
    return json.dumps(answer)


def _as_child(shard: LocalShard) -> dict[str, Any]:
    described = shard.to_json()
    return {
        "ShardId": shard.shard_id,
        "ParentShards": [parent for parent in (shard.parent, shard.adjacent_parent) if parent],
        "HashKeyRange": described["HashKeyRange"],
    }


def patch_kinesis(installed: str = INSTALLED_MOTO, *, limits: bool = False) -> None:
    """Replace moto's classes and answers with those of this file, in the whole process.

    Args:
        installed: The installed version of moto.
        limits: Whether shards have AWS's limits.

    Raises:
        UserError: The installed moto is not EXPECTED_MOTO.
    """
    if installed != EXPECTED_MOTO:
        raise UserError(
            f"moto {installed} is installed, but infra/local/moto/kinesis.py patches {EXPECTED_MOTO}",
            "run `make setup`",
        )
    models.Shard = LimitedShard if limits else LocalShard
    models.Stream = LocalStream
    models.KinesisBackend.get_shard_iterator = _get_shard_iterator
    KinesisResponse.put_records = _put_records
    KinesisResponse.get_records = _get_records
