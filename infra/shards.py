"""A shard read from a starting position to its end: `tail` and the event source mapping both stand on it."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from botocore.exceptions import ClientError

StartingPosition = Literal["TRIM_HORIZON", "LATEST"] | datetime
"""Where reading begins: at the oldest record, the next one, or the first to arrive from an aware time on."""

MAX_RECORDS_PER_READ = 10_000  # GetRecords takes no more

# A shard takes five reads a second, so 0.2 s is the longest useful wait; 5 ms is about one local read.
FIRST_IDLE_WAIT_S, MAX_IDLE_WAIT_S = 0.005, 0.2

_LATER = {"ProvisionedThroughputExceededException", "LimitExceededException", "KMSThrottlingException"}


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
        created = datetime.fromtimestamp(wall_clock(), UTC)
        # Asked for now and not at the first read: LATEST means the records after the reader was made.
        self._iterator: str | None = self._make_iterator()
        if starting_position == "LATEST":
            # Should this iterator expire before the first record, LATEST would by then skip some.
            self._starting_position = created

    def read(self, limit: int = MAX_RECORDS_PER_READ) -> list[dict[str, Any]]:
        """Reads the next records, as boto3 gives them: none if there are none yet or the shard is too busy.

        Raises:
            ClientError: Kinesis refused for another reason than its limits or an expired iterator.
        """
        if self.is_closed:
            return []
        try:
            self._iterator = self._iterator or self._make_iterator()
            response = self._kinesis.get_records(ShardIterator=self._iterator, Limit=limit)
        except ClientError as error:
            self._forgive(error)
            return []
        records: list[dict[str, Any]] = response["Records"]
        if records:
            self.position = records[-1]["SequenceNumber"]
        self._iterator = response.get("NextShardIterator")
        self.is_closed = self._iterator is None
        return records

    def _forgive(self, error: ClientError) -> None:
        code = error.response["Error"]["Code"]
        if code == "ExpiredIteratorException":
            self._iterator = None
        elif code not in _LATER:
            raise error

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


def open_shards(
    kinesis: KinesisStream,
    stream_name: str,
    starting_position: StartingPosition,
    wall_clock: Callable[[], float] = time.time,
) -> list[ShardReader]:
    """Makes a reader for each shard that the stream has now, closed ones with records left among them."""
    request: dict[str, Any] = {"StreamName": stream_name}
    readers: list[ShardReader] = []
    while True:
        page = kinesis.list_shards(**request)
        readers += [
            ShardReader(kinesis, stream_name, shard["ShardId"], starting_position, wall_clock)
            for shard in page["Shards"]
        ]
        if not (token := page.get("NextToken")):
            return readers
        request = {"NextToken": token}  # a token names its stream; giving both is refused


def next_idle_wait_s(last_wait_s: float, n_records: int) -> float:
    """Tells a polling loop its next wait: the shortest after records, doubling to the longest without.

    >>> next_idle_wait_s(0.05, n_records=0), next_idle_wait_s(0.05, n_records=7)
    (0.1, 0.005)
    """
    return FIRST_IDLE_WAIT_S if n_records else min(2 * last_wait_s, MAX_IDLE_WAIT_S)
