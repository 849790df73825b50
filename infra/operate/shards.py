"""Read a shard from a starting position to its end; `tail` and the local event source mapping both use it."""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError

from lambda_function.aws.publisher import THROTTLING_CODES, may_pass
from training.errors import UserError

StartingPosition = Literal["TRIM_HORIZON", "LATEST"] | datetime
"""Where reading begins: at the oldest record, at the next one, or at the first that arrives from an aware time on."""

MAX_RECORDS_PER_READ = 10_000  # GetRecords' limit

# A shard takes five reads a second, so 0.2 s is the longest useful wait; 5 ms is about one local read.
FIRST_IDLE_WAIT_S, MAX_IDLE_WAIT_S = 0.005, 0.2

_LIST_ATTEMPTS, _LIST_WAIT_S = 5, 0.2

_PARENTS = ("ParentShardId", "AdjacentParentShardId")

logger = logging.getLogger(__name__)


class CutOffAnswerError(UserError):
    """An answer with status 200 and an empty or half body, which boto3 gives without its members."""

    def __init__(self, operation: str) -> None:
        super().__init__(
            f"the answer to {operation} was cut off", "try again; if it stays, look at what is between here and AWS"
        )


class Shard(NamedTuple):
    """A shard of a stream; its parents are the shard that it was split from, or the two that were merged into it."""

    shard_id: str
    parent_ids: tuple[str, ...] = ()


class ShardReader:
    """A reader of one shard from a starting position to its end, each record once and in order.

    Attributes:
        shard_id: The shard.
        position: Sequence number of the last record read; None before the first.
        is_closed: The shard was split or merged, and everything in it has been read.
        is_at_end: The last read succeeded and found nothing newer.
        problem: Why the last read failed for the moment; "" if it did not.
    """

    def __init__(
        self,
        kinesis: Any,
        stream_name: str,
        shard_id: str,
        starting_position: StartingPosition,
        wall_clock: Callable[[], float] = time.time,
        position: str | None = None,
    ) -> None:
        self.shard_id = shard_id
        self.position = position
        self.is_closed = False
        self.is_at_end = False
        self.problem = ""
        self._kinesis = kinesis
        self._stream_name = stream_name
        self._starting_position = starting_position
        self._iterator: str | None = None
        if starting_position == "LATEST":
            # Made now and not at the first read: LATEST means the records after this moment. If this iterator expires
            # before the first record, reading goes on from this time, for a new LATEST would skip records.
            created = datetime.fromtimestamp(wall_clock(), UTC)
            with suppress(CutOffAnswerError):
                self._iterator = self._make_iterator()
            self._starting_position = created

    def read(self, limit: int = MAX_RECORDS_PER_READ) -> list[dict[str, Any]]:
        """Read the next records, as boto3 returns them: none if there are none yet, or Kinesis fails for the moment.

        Raises:
            ClientError: Kinesis refused, and a retry would not help.
        """
        if self.is_closed:
            return []
        try:
            self._iterator = self._iterator or self._make_iterator()
            response = self._kinesis.get_records(ShardIterator=self._iterator, Limit=limit)
            records: list[dict[str, Any]] = _member(response, "Records", "GetRecords")
        except (BotoCoreError, ClientError, ResponseParserError, CutOffAnswerError) as error:
            self.is_at_end = False
            self._handle(error)
            return []
        self.problem = ""
        if records:
            self.position = records[-1]["SequenceNumber"]
        self._iterator = response.get("NextShardIterator")
        self.is_closed = self._iterator is None
        self.is_at_end = not records and not response.get("MillisBehindLatest")
        return records

    def _handle(self, error: Exception) -> None:
        code = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
        if code == "ExpiredIteratorException":
            self._iterator = None
        elif not is_temporary(error):
            raise error
        elif code not in THROTTLING_CODES and not self.problem:  # log once, not at each attempt
            logger.warning("%s of %s can't be read now: %s", self.shard_id, self._stream_name, error)
            self.problem = str(error)

    def _make_iterator(self) -> str:
        request: dict[str, Any] = {"ShardIteratorType": self._starting_position}
        if self.position is not None:
            request = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": self.position}
        elif isinstance(self._starting_position, datetime):
            request = {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": self._starting_position}
        response = self._kinesis.get_shard_iterator(StreamName=self._stream_name, ShardId=self.shard_id, **request)
        return str(_member(response, "ShardIterator", "GetShardIterator"))


_NO_ANSWER = (HTTPClientError, BotoConnectionError, IncompleteReadError, ResponseParserError, CutOffAnswerError)


def _member(answer: dict[str, Any], name: str, operation: str) -> Any:
    """Return a member that every complete answer has."""
    if name not in answer:
        raise CutOffAnswerError(operation)
    return answer[name]


def is_temporary(error: Exception) -> bool:
    """Return whether the same request may succeed later: throttled, a fault of AWS, or no answer."""
    return may_pass(error) if isinstance(error, ClientError) else isinstance(error, _NO_ANSWER)


def list_shards(kinesis: Any, stream_name: str, sleep: Callable[[float], object] = time.sleep) -> list[Shard]:
    """List all shards that the stream has now, including closed shards with records left.

    Raises:
        CutOffAnswerError: The answer was cut off, again and again.
    """
    request: dict[str, Any] = {"StreamName": stream_name}
    shards: list[Shard] = []
    while True:
        page = _page_of_shards(kinesis, request, sleep)
        shards += [Shard(one["ShardId"], tuple(filter(None, map(one.get, _PARENTS)))) for one in page["Shards"]]
        if not (token := page.get("NextToken")):
            return shards
        request = {"NextToken": token}  # Kinesis refuses a token together with a stream name


def _page_of_shards(kinesis: Any, request: dict[str, Any], sleep: Callable[[float], object]) -> dict[str, Any]:
    for attempt in range(_LIST_ATTEMPTS):
        page: dict[str, Any] = kinesis.list_shards(**request)
        if "Shards" in page:
            return page
        sleep(_LIST_WAIT_S * 2**attempt)
    raise CutOffAnswerError("ListShards")


def next_idle_wait_s(last_wait_s: float, n_records: int) -> float:
    """Return the next wait of a polling loop: the shortest after records, doubled up to the longest without.

    >>> next_idle_wait_s(0.05, n_records=0), next_idle_wait_s(0.05, n_records=7)
    (0.1, 0.005)
    """
    return FIRST_IDLE_WAIT_S if n_records else min(2 * last_wait_s, MAX_IDLE_WAIT_S)
