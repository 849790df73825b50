"""Kinesis from the command line's side: pace ride events onto a stream, read the shards of one.

`ShardReader` is the one reader of a shard: `tail` and the event source mapping both stand on it.
"""

import json
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Literal, NamedTuple, Protocol

import msgspec
import numpy as np
from botocore.exceptions import ClientError
from numpy.typing import NDArray

from infra.errors import InfraError
from lambda_function.publisher import MAX_CHUNK_RECORDS

StartingPosition = Literal["TRIM_HORIZON", "LATEST"] | datetime
"""Where reading begins: at the oldest record, the next one, or the first to arrive from an aware time on."""

Entry = tuple[str, bytes]
"""What a producer sends: partition key, data."""

MAX_RECORDS_PER_READ = 10_000  # GetRecords takes no more
_SECONDS_PER_PUT = 0.1  # at a given rate, send ten times a second: the pace is even, and calls stay few

# A shard takes five reads a second, so 0.2 s is the longest useful wait; 5 ms is about one local read.
FIRST_IDLE_WAIT_S, MAX_IDLE_WAIT_S = 0.005, 0.2

_BACKOFF_BASE_S, _BACKOFF_CAP_S = 0.1, 5.0
_MAX_PUTS_WITHOUT_PROGRESS = 5  # each with its own resending and waiting inside `put`

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


class Timing(NamedTuple):
    """Time and chance, to be replaced in tests: monotonic seconds, waiting for seconds, a number in [0, 1)."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep
    jitter: Callable[[], float] = random.random


class StreamStalledError(InfraError):
    """The stream kept refusing everything that it was sent.

    Attributes:
        n_published: Entries accepted before.
        n_waiting: Entries of the chunk that it refused.
    """

    def __init__(self, n_published: int, n_waiting: int) -> None:
        self.n_published = n_published
        self.n_waiting = n_waiting
        super().__init__(
            f"the stream took none of {n_waiting} records in {_MAX_PUTS_WITHOUT_PROGRESS} attempts, after"
            f" {n_published} that it took: give it more shards, or publish at a lower rate"
        )


class Record(msgspec.Struct, frozen=True, gc=False):
    """A Kinesis record as a reader sees it: `arrived` in aware UTC, `sequence_number` ordered as an int."""

    shard_id: str
    sequence_number: str
    partition_key: str
    arrived: datetime
    data: bytes


def ride_event_bytes(
    pickup_zone: NDArray[np.integer[Any]],
    dropoff_zone: NDArray[np.integer[Any]],
    trip_distance_miles: NDArray[np.float64],
    pickup_time: NDArray[np.datetime64],
    ride_ids: Sequence[int | str],
) -> list[bytes]:
    """Encodes rides as ride events, byte for byte as `json.dumps` would, in half the time.

    Args:
        pickup_zone: (n,), LocationID.
        dropoff_zone: (n,), LocationID.
        trip_distance_miles: (n,), finite.
        pickup_time: datetime64 (n,), New York wall-clock time; written to the second.
        ride_ids: n of them.

    Raises:
        ValueError: A distance is not finite or a time is NaT (JSON has neither), or the lengths differ.

    >>> when = np.array(["2021-01-05T08:15"], "M8[s]")
    >>> ride_event_bytes(np.array([130]), np.array([205]), np.array([3.66]), when, [256])  # doctest: +ELLIPSIS
    [b'{"ride": {"PULocationID": 130, "DOLocationID": 205, "trip_distance": 3.66, ...}, "ride_id": 256}']
    """
    if not np.isfinite(trip_distance_miles).all() or np.isnat(pickup_time).any():
        raise ValueError("a ride event needs a finite trip distance and a pickup time: drop the rides without")
    columns = (
        pickup_zone.tolist(),
        dropoff_zone.tolist(),
        trip_distance_miles.tolist(),
        np.datetime_as_string(pickup_time, unit="s").tolist(),
        [str(ride_id) if type(ride_id) is int else json.dumps(ride_id) for ride_id in ride_ids],
    )
    return [
        (
            f'{{"ride": {{"PULocationID": {pickup}, "DOLocationID": {dropoff}, "trip_distance": {miles!r},'
            f' "pickup_datetime": "{time_}"}}, "ride_id": {ride_id}}}'
        ).encode("ascii")
        for pickup, dropoff, miles, time_, ride_id in zip(*columns, strict=True)
    ]


def publish(
    put: Callable[[Sequence[Entry]], Sequence[int]],
    entries: Iterable[Entry],
    *,
    rate_per_s: float = math.inf,
    timing: Timing = Timing(),  # noqa: B008 - immutable
) -> Iterator[int]:
    """Sends entries in order, at a pace; sends again what was refused before it goes on.

    It sends as it is iterated, so that the caller shows progress or does other work between two chunks.

    Args:
        put: Sends at most 500 entries; returns the positions of those that the stream did not take.
        entries: Partition keys and data; read as they are sent, so they may be endless.
        rate_per_s: Entries a second at most, above 0.
        timing: Time and chance.

    Yields:
        Entries accepted so far, after each chunk.

    Raises:
        StreamStalledError: Several attempts in a row got nothing accepted.
    """
    n_published = 0
    for chunk in _paced_chunks(iter(entries), rate_per_s, timing):
        _put_all(put, chunk, n_published, timing)
        n_published += len(chunk)
        yield n_published


def _paced_chunks(entries: Iterator[Entry], rate_per_s: float, timing: Timing) -> Iterator[list[Entry]]:
    chunk_size = max(1, int(min(MAX_CHUNK_RECORDS, rate_per_s * _SECONDS_PER_PUT)))
    due_s = timing.clock()
    while chunk := list(islice(entries, chunk_size)):
        now_s = timing.clock()
        if due_s > now_s:
            timing.sleep(due_s - now_s)
        # Where it fell behind, the pace counts from now: a stall is not made good by a burst.
        due_s = max(due_s, now_s) + len(chunk) / rate_per_s
        yield chunk


def _put_all(
    put: Callable[[Sequence[Entry]], Sequence[int]],
    entries: Sequence[Entry],
    n_published: int,
    timing: Timing,
) -> None:
    n_fruitless = 0
    while refused := put(entries):
        n_fruitless = n_fruitless + 1 if len(refused) == len(entries) else 0
        n_published += len(entries) - len(refused)
        if n_fruitless == _MAX_PUTS_WITHOUT_PROGRESS:
            raise StreamStalledError(n_published, len(refused))
        entries = [entries[position] for position in sorted(refused)]
        timing.sleep(timing.jitter() * min(_BACKOFF_CAP_S, _BACKOFF_BASE_S * 2**n_fruitless))


def next_idle_wait_s(last_wait_s: float, n_records: int) -> float:
    """Tells a polling loop its next wait: the shortest after records, doubling to the longest without.

    >>> next_idle_wait_s(0.05, n_records=0), next_idle_wait_s(0.05, n_records=7)
    (0.1, 0.005)
    """
    return FIRST_IDLE_WAIT_S if n_records else min(2 * last_wait_s, MAX_IDLE_WAIT_S)


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


class StreamReader:
    """Reads all shards of a stream, a step at a time."""

    def __init__(
        self, kinesis: KinesisStream, stream_name: str, starting_position: StartingPosition = "LATEST"
    ) -> None:
        self._shards = open_shards(kinesis, stream_name, starting_position)

    @property
    def is_closed(self) -> bool:
        """Whether every shard has ended and been read."""
        return all(shard.is_closed for shard in self._shards)

    def read_once(self) -> list[Record]:
        """Reads each shard once: in order within a shard, in no order between shards."""
        return [
            Record(
                shard.shard_id,
                record["SequenceNumber"],
                record["PartitionKey"],
                record["ApproximateArrivalTimestamp"].astimezone(UTC),
                record["Data"],
            )
            for shard in self._shards
            for record in shard.read()
        ]


def tail(
    kinesis: KinesisStream,
    stream_name: str,
    starting_position: StartingPosition,
    wait: Callable[[float], bool],
) -> Iterator[Record]:
    """Reads a stream until every shard has ended or `wait` says so.

    Args:
        kinesis: A boto3 Kinesis client.
        stream_name: The stream.
        starting_position: Where to begin in each shard.
        wait: Waits for seconds while there is nothing to read; true ends the reading, so
            `threading.Event.wait` fits.
    """
    reader = StreamReader(kinesis, stream_name, starting_position)
    wait_s = FIRST_IDLE_WAIT_S
    while not reader.is_closed:
        records = reader.read_once()
        yield from records
        wait_s = next_idle_wait_s(wait_s, len(records))
        if not records and wait(wait_s):
            return
