"""moto's Kinesis made quick and true: constant-time puts, real sequence numbers, shards that close and end.

What moto 5.2.5 does otherwise: a put copies the shard's keys (quadratic), sequence numbers are "1", "2", …, puts go
to closed parents after a reshard, records move out of their shard, an iterator of a closed shard never ends, and
every field of every record goes through a generic serializer.
"""

import hashlib
import itertools
import json
import time
from bisect import bisect_left, bisect_right
from importlib.metadata import version
from operator import attrgetter
from threading import Lock
from typing import Any, NamedTuple

from moto.kinesis import models
from moto.kinesis.exceptions import (
    InvalidArgumentError,
    RecordSizeExceedsLimit,
    TooManyRecords,
    TotalRecordsSizeExceedsLimit,
)
from moto.kinesis.responses import KinesisResponse
from moto.kinesis.utils import compose_shard_iterator, decompose_shard_iterator

from infra.errors import MotoVersionError

EXPECTED_MOTO = "5.2.5"
INSTALLED_MOTO = version("moto")

MAX_PUT_RECORDS = 500
"""Records in one PutRecords."""

MAX_PUT_BYTES = 5 * 1024 * 1024
"""Data and partition keys of one PutRecords."""

MAX_RECORD_BYTES = 1024 * 1024
"""Data and partition key of one record."""

MAX_READ_RECORDS = 10_000
"""Records that one GetRecords gives at most."""

MAX_KEY_CHARACTERS = 256

# 56 digits that begin as real ones do. One counter for all streams: it rises in each, with gaps, as in AWS.
_sequence_numbers = itertools.count(49590338271490256608559692538361571095921575989136588898)


class StoredRecord(NamedTuple):
    """A record as a shard keeps it. `data` stays the base64 that came, so that a read copies text only."""

    sequence_number: int
    arrival_s: float
    partition_key: str
    data: str


class Page(NamedTuple):
    """What one read of a shard gives: the next one starts after `position`, unless the shard `ended`."""

    records: list[StoredRecord]
    position: int
    behind_ms: int
    ended: bool


class LocalShard(models.Shard):  # type: ignore[misc] # moto is not typed
    """A shard whose records stand in one list, in order of sequence number.

    moto's own `records` stays empty on purpose: its split and merge move what is in there to the children, while
    in AWS records stay in the shard that took them.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.first_sequence_number = next(_sequence_numbers)
        self._log: list[StoredRecord] = []
        self._lock = Lock()  # the server has a thread for each connection, and a number must not overtake another

    def append(self, partition_key: str, data: str) -> int:
        """Stores a record and returns its sequence number."""
        with self._lock:
            number = next(_sequence_numbers)
            self._log.append(StoredRecord(number, time.time(), partition_key, data))
        return number

    def read(self, position: int, limit: int) -> Page:
        """Returns at most `limit` records whose sequence number is beyond `position`."""
        start = bisect_right(self._log, position, key=attrgetter("sequence_number"))
        records = self._log[start : start + limit]
        at_tip = start + len(records) >= len(self._log)
        behind_ms = 0 if at_tip else 1 + int((time.time() - self._log[start].arrival_s) * 1000)  # 0 means: at the tip
        last = records[-1].sequence_number if records else position
        return Page(records, last, behind_ms, ended=at_tip and not self.is_open)

    def get_min_sequence_number(self) -> int:
        """Returns the number that the shard began with; its first record has a greater one."""
        return self.first_sequence_number

    def get_max_sequence_number(self) -> int:
        """Returns the last record's number, which is where LATEST stands."""
        return self._log[-1].sequence_number if self._log else self.first_sequence_number

    def get_sequence_number_at(self, at_timestamp: float) -> int:
        """Returns the number of the last record that arrived before a Unix time in seconds."""
        index = bisect_left(self._log, at_timestamp, key=attrgetter("arrival_s"))
        return self._log[index - 1].sequence_number if index else self.first_sequence_number


class LocalStream(models.Stream):  # type: ignore[misc] # moto is not typed
    """A stream that routes to open shards only and knows no Lambda: mapping.py polls it, as Lambda does."""

    def put_record(self, partition_key: str, explicit_hash_key: str | None, data: str) -> tuple[str, str]:
        """Stores one record. Limits of a shard (records and bytes a second) belong here, before the append."""
        shard = self.get_shard_for_key(partition_key, explicit_hash_key)
        return str(shard.append(partition_key, data)), shard.shard_id

    def get_shard_for_key(self, partition_key: str, explicit_hash_key: str | None) -> LocalShard:
        """Returns the open shard whose range holds the explicit hash key, or else the key's MD5."""
        if not 1 <= len(partition_key) <= MAX_KEY_CHARACTERS:
            raise InvalidArgumentError("partition_key")
        if explicit_hash_key:
            position = int(explicit_hash_key)
        else:
            position = int.from_bytes(hashlib.md5(partition_key.encode(), usedforsecurity=False).digest())
        for shard in self.shards.values():
            if shard.is_open and shard.starting_hash <= position <= shard.ending_hash:
                return shard  # type: ignore[no-any-return] # moto is not typed
        raise InvalidArgumentError("explicit_hash_key")


def _n_bytes(record: dict[str, str]) -> int:
    data, key = record["Data"], record["PartitionKey"]
    padding = len(data) - len(data.rstrip("="))
    return len(data) * 3 // 4 - padding + len(key.encode())


def _check_sizes(records: list[dict[str, str]]) -> None:
    if len(records) > MAX_PUT_RECORDS:
        raise TooManyRecords
    sizes = [_n_bytes(record) for record in records]
    if sum(sizes) > MAX_PUT_BYTES:
        raise TotalRecordsSizeExceedsLimit
    if max(sizes, default=0) > MAX_RECORD_BYTES:
        raise RecordSizeExceedsLimit(position=1 + next(i for i, n in enumerate(sizes) if n > MAX_RECORD_BYTES))


_moto_get_shard_iterator = models.KinesisBackend.get_shard_iterator


def _get_shard_iterator(backend: models.KinesisBackend, arn: str | None, name: str | None, *rest: Any) -> str:
    """Puts the stream's name into the iterator where the caller gave its ARN only, which moto forgets."""
    stream = backend.describe_stream(arn, name)
    iterator: str = _moto_get_shard_iterator(backend, arn, stream.stream_name, *rest)
    return iterator


def _put_records(response: KinesisResponse) -> str:
    """Answers PutRecords. An entry that a limit refuses would get its ErrorCode here."""
    request = json.loads(response.body)
    stream = response.kinesis_backend.describe_stream(request.get("StreamARN"), request.get("StreamName"))
    _check_sizes(request["Records"])
    entries = []
    for record in request["Records"]:
        number, shard_id = stream.put_record(record["PartitionKey"], record.get("ExplicitHashKey"), record["Data"])
        entries.append({"SequenceNumber": number, "ShardId": shard_id})
    return json.dumps({"FailedRecordCount": 0, "Records": entries})


def _get_records(response: KinesisResponse) -> str:
    """Answers GetRecords. The limit of five reads a second and shard belongs here."""
    request = json.loads(response.body)
    stream_name, shard_id, position = decompose_shard_iterator(request["ShardIterator"])
    shard = response.kinesis_backend.describe_stream(None, stream_name).get_shard(shard_id)
    page = shard.read(int(position), min(request.get("Limit", MAX_READ_RECORDS), MAX_READ_RECORDS))
    records = [
        {
            "Data": record.data,
            "PartitionKey": record.partition_key,
            "SequenceNumber": str(record.sequence_number),
            "ApproximateArrivalTimestamp": round(record.arrival_s, 3),
        }
        for record in page.records
    ]
    following = None if page.ended else compose_shard_iterator(stream_name, shard, page.position)
    return json.dumps({"NextShardIterator": following, "Records": records, "MillisBehindLatest": page.behind_ms})


def patch_kinesis(installed: str = INSTALLED_MOTO) -> None:
    """Puts the classes and answers of this file in the place of moto's, for the whole process.

    Raises:
        MotoVersionError: Another moto than EXPECTED_MOTO is installed.
    """
    if installed != EXPECTED_MOTO:
        raise MotoVersionError(installed, EXPECTED_MOTO)
    models.Shard = LocalShard
    models.Stream = LocalStream
    models.KinesisBackend.get_shard_iterator = _get_shard_iterator
    KinesisResponse.put_records = _put_records
    KinesisResponse.get_records = _get_records
