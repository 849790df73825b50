"""A shard read from a starting position to its end: `tail` and the event source mapping both stand on it."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Literal, NamedTuple, Protocol

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError

StartingPosition = Literal["TRIM_HORIZON", "LATEST"] | datetime
"""Where reading begins: at the oldest record, the next one, or the first to arrive from an aware time on."""

MAX_RECORDS_PER_READ = 10_000  # GetRecords takes no more

# A shard takes five reads a second, so 0.2 s is the longest useful wait; 5 ms is about one local read.
FIRST_IDLE_WAIT_S, MAX_IDLE_WAIT_S = 0.005, 0.2

# Kinesis answers these with status 400.
_THROTTLED = {
    "ProvisionedThroughputExceededException",
    "LimitExceededException",
    "KMSThrottlingException",
    "ThrottlingException",
}
_LOST_ON_THE_WAY = (HTTPClientError, BotoConnectionError, ResponseParserError)

logger = logging.getLogger(__name__)


class KinesisStream(Protocol):
    """The part of a boto3 Kinesis client that reading needs; requests and answers are boto3's."""

    def describe_stream_summary(self, **request: Any) -> Any:
        """Tells the stream's ARN."""

    def list_shards(self, **request: Any) -> Any:
        """Lists shards, a page at a time."""

    def get_shard_iterator(self, **request: Any) -> Any:
        """Makes a place in a shard to read from."""

    def get_records(self, **request: Any) -> Any:
        """Reads from that place; tells the next."""


class Shard(NamedTuple):
    """A shard of a stream; its parents are the one that it was split from, or the two merged into it."""

    shard_id: str
    parent_ids: tuple[str, ...] = ()


class ShardReader:
    """Reads one shard from a starting position to its end, each record once and in order.

    Attributes:
        shard_id: The shard.
        position: Sequence number of the last record read; None before the first.
        is_closed: The shard was split or merged, and everything in it has been read.
    """

    def __init__(
        self,
        kinesis: KinesisStream,
        stream_name: str,
        shard_id: str,
        starting_position: StartingPosition,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.shard_id = shard_id
        self.position: str | None = None
        self.is_closed = False
        self._kinesis = kinesis
        self._stream_name = stream_name
        self._starting_position = starting_position
        self._iterator: str | None = None
        self._is_failing = False
        if starting_position == "LATEST":
            # Asked for now and not at the first read: LATEST means the records after the reader was made. Should
            # this iterator expire before the first record, LATEST would by then skip some.
            created = datetime.fromtimestamp(wall_clock(), UTC)
            self._iterator = self._make_iterator()
            self._starting_position = created

    def read(self, limit: int = MAX_RECORDS_PER_READ) -> list[dict[str, Any]]:
        """Reads the next records, as boto3 gives them: none if there are none yet, or they can't be had now.

        Raises:
            ClientError: Kinesis refused, and will again.
        """
        if self.is_closed:
            return []
        try:
            self._iterator = self._iterator or self._make_iterator()
            response = self._kinesis.get_records(ShardIterator=self._iterator, Limit=limit)
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            self._forgive(error)
            return []
        self._is_failing = False
        records: list[dict[str, Any]] = response["Records"]
        if records:
            self.position = records[-1]["SequenceNumber"]
        self._iterator = response.get("NextShardIterator")
        self.is_closed = self._iterator is None
        return records

    def _forgive(self, error: Exception) -> None:
        if error_code(error) == "ExpiredIteratorException":
            self._iterator = None
        elif not is_temporary(error):
            raise error
        elif error_code(error) not in _THROTTLED and not self._is_failing:
            self._is_failing = True  # said once, not with each attempt
            logger.warning("%s of %s can't be read now: %s", self.shard_id, self._stream_name, error)

    def _make_iterator(self) -> str:
        if self.position is not None:
            where: dict[str, Any] = {
                "ShardIteratorType": "AFTER_SEQUENCE_NUMBER",
                "StartingSequenceNumber": self.position,
            }
        elif isinstance(self._starting_position, datetime):
            where = {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": self._starting_position}
        else:
            where = {"ShardIteratorType": self._starting_position}
        response = self._kinesis.get_shard_iterator(StreamName=self._stream_name, ShardId=self.shard_id, **where)
        iterator: str = response["ShardIterator"]
        return iterator


def error_code(error: Exception) -> str:
    """Tells AWS's code of an error, "" where it is no answer of AWS's."""
    code: str = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
    return code


def is_temporary(error: Exception) -> bool:
    """Says whether the same request may succeed later: it was throttled, met AWS's own fault, or got lost."""
    if not isinstance(error, ClientError):
        return isinstance(error, _LOST_ON_THE_WAY)
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    return (
        error_code(error) in _THROTTLED
        or status == HTTPStatus.TOO_MANY_REQUESTS
        or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    )


def list_shards(kinesis: KinesisStream, stream_name: str) -> list[Shard]:
    """Lists all shards that the stream has now, closed ones with records left among them.

    Raises:
        BotoCoreError: Kinesis could not be reached.
        ClientError: It refused.
    """
    request: dict[str, Any] = {"StreamName": stream_name}
    shards: list[Shard] = []
    while True:
        page = kinesis.list_shards(**request)
        shards += map(_shard, page["Shards"])
        if not (token := page.get("NextToken")):
            return shards
        request = {"NextToken": token}  # a token names its stream; giving both is refused


def _shard(described: dict[str, Any]) -> Shard:
    parents = (described.get("ParentShardId"), described.get("AdjacentParentShardId"))
    return Shard(described["ShardId"], tuple(parent for parent in parents if parent))


def open_shards(
    kinesis: KinesisStream,
    stream_name: str,
    starting_position: StartingPosition,
    wall_clock: Callable[[], float] = time.time,
) -> list[ShardReader]:
    """Makes a reader for each shard that the stream has now, closed ones with records left among them."""
    return [
        ShardReader(kinesis, stream_name, shard.shard_id, starting_position, wall_clock)
        for shard in list_shards(kinesis, stream_name)
    ]


def next_idle_wait_s(last_wait_s: float, n_records: int) -> float:
    """Tells a polling loop its next wait: the shortest after records, doubling to the longest without.

    >>> next_idle_wait_s(0.05, n_records=0), next_idle_wait_s(0.05, n_records=7)
    (0.1, 0.005)
    """
    return FIRST_IDLE_WAIT_S if n_records else min(2 * last_wait_s, MAX_IDLE_WAIT_S)
