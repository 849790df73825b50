"""Send ride events to a stream at a steady rate, and read streams."""

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import batched
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from infra.operate.shards import (
    FIRST_IDLE_WAIT_S,
    ShardReader,
    StartingPosition,
    list_shards,
    next_idle_wait_s,
)
from lambda_function.aws.publisher import MAX_CHUNK_RECORDS, Publisher
from lambda_function.core.kpl import is_aggregated, unpack
from lambda_function.core.records import Entry
from lambda_function.errors import RejectError
from training.errors import UserError

READ_PATIENCE_S = 60.0
"""How long reading may fail for the moment, before it fails."""

_SECONDS_PER_PUT = 0.1  # at a given rate, send ten times a second: the rate is even, and calls are few


class Timing(NamedTuple):
    """Monotonic seconds and a sleep of seconds; tests replace both."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep


class Record(msgspec.Struct, frozen=True, gc=False):
    """A Kinesis record, or a sub-record of an aggregate with its own partition key and data."""

    shard_id: str
    sequence_number: str  # ordered as an int; all sub-records of an aggregate have the aggregate's
    partition_key: str
    arrived: datetime  # in aware UTC
    data: bytes


def ride_event_bytes(
    pickup_zone: NDArray[np.integer[Any]],
    dropoff_zone: NDArray[np.integer[Any]],
    trip_distance_miles: NDArray[np.float64],
    pickup_time: NDArray[np.datetime64],
    ride_ids: Sequence[int | str],
) -> list[bytes]:
    """Encode rides as ride events, byte for byte as `json.dumps` would, in half the time.

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
    publisher: Publisher,
    entries: Iterable[Entry],
    *,
    rate_per_s: float = math.inf,
    patience_s: float = 30.0,
    timing: Timing = Timing(),  # noqa: B008 - immutable
) -> Iterator[int]:
    """Send entries in order, at a given rate, each chunk after the stream has accepted the one before.

    It sends while it is iterated, so the caller can show progress or do other work between two chunks. Entries are read
    as they are sent, so they may be endless. `patience_s` is the time limit for one chunk of 500 entries at most.

    Yields:
        Entries accepted so far, after each chunk.

    Raises:
        UserError: The stream did not accept a whole chunk.
    """
    chunk_size = max(1, int(min(MAX_CHUNK_RECORDS, rate_per_s * _SECONDS_PER_PUT)))
    pace = Pace(rate_per_s, timing)
    n_published = 0
    for chunk in batched(entries, chunk_size, strict=False):
        pace.wait_for(len(chunk))
        published = publisher.publish(chunk, countdown(patience_s, timing.clock))
        n_waiting = len(published.unpublished)
        n_published += len(chunk) - n_waiting
        if n_waiting:
            raise refused(publisher.stream_name, n_published, n_waiting, published.last_error)
        yield n_published


def refused(stream_name: str, n_accepted: int, n_waiting: int, last_error: str) -> UserError:
    """Return the error for a stream that did not accept a whole chunk."""
    reason = last_error or "the time limit was reached before the first request"
    return UserError(
        f"stream {stream_name} accepted {n_accepted} records and then not {n_waiting} more ({reason})",
        "check that it exists and that you may write to it, give it more shards, or send at a lower rate",
    )


def unreadable(stream_name: str, problem: str) -> UserError:
    """Return the error for a stream that could not be read for READ_PATIENCE_S."""
    return UserError(f"stream {stream_name} could not be read for {READ_PATIENCE_S:g} s: {problem}", "try again later")


def countdown(seconds: float, clock: Callable[[], float]) -> Callable[[], float]:
    """Return a function that gives the seconds left from now on."""
    deadline_s = clock() + seconds
    return lambda: deadline_s - clock()


class Pace:
    """Spread chunks over time, at a rate of records a second."""

    def __init__(self, rate_per_s: float, timing: Timing) -> None:
        self._rate_per_s = rate_per_s
        self._timing = timing
        self._due_s = timing.clock()

    def wait_for(self, n_records: int) -> None:
        """Sleep until the next chunk is due; after a delay, count from now, so that no burst follows."""
        now_s = self._timing.clock()
        if self._due_s > now_s:
            self._timing.sleep(self._due_s - now_s)
        self._due_s = max(self._due_s, now_s) + n_records / self._rate_per_s


class StreamReader:
    """Read all shards of a stream step by step; after a reshard, go on with the new shards."""

    def __init__(
        self,
        kinesis: Any,
        stream_name: str,
        starting_position: StartingPosition = "LATEST",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kinesis = kinesis
        self._stream_name = stream_name
        self._clock = clock
        self._failing_since_s: float | None = None
        self._known = {shard.shard_id for shard in list_shards(kinesis, stream_name)}
        self._shards = [ShardReader(kinesis, stream_name, one, starting_position) for one in sorted(self._known)]

    @property
    def is_closed(self) -> bool:
        """Whether every shard, including those of a reshard, has ended and been read."""
        return not self._shards

    def read_once(self) -> list[Record]:
        """Read each shard once: in order within a shard, in no order between shards; aggregates as sub-records.

        Raises:
            UserError: A shard could not be read for READ_PATIENCE_S.
        """
        records = [
            Record(
                shard.shard_id,
                record["SequenceNumber"],
                partition_key,
                record["ApproximateArrivalTimestamp"].astimezone(UTC),
                data,
            )
            for shard in self._shards
            for record in shard.read()
            for partition_key, data in _sub_records(record["PartitionKey"], record["Data"])
        ]
        self._check_patience()
        if any(shard.is_closed for shard in self._shards):
            self._open_new_shards()
        return records

    def _check_patience(self) -> None:
        problem = next((shard.problem for shard in self._shards if shard.problem), "")
        if not problem:
            self._failing_since_s = None
            return
        now_s = self._clock()
        self._failing_since_s = now_s if self._failing_since_s is None else self._failing_since_s
        if now_s - self._failing_since_s >= READ_PATIENCE_S:
            raise unreadable(self._stream_name, problem)

    def polls(self, wait: Callable[[float], object]) -> Iterator[list[Record]]:
        """Read again and again until every shard has ended, or `wait` returns true.

        While there are no records, `wait` waits for seconds. Yields the records of each read, which may be none.
        """
        wait_s = FIRST_IDLE_WAIT_S
        while not self.is_closed:
            records = self.read_once()
            yield records
            wait_s = next_idle_wait_s(wait_s, len(records))
            if not records and wait(wait_s):
                return

    def _open_new_shards(self) -> None:
        self._shards = [shard for shard in self._shards if not shard.is_closed]
        for shard in list_shards(self._kinesis, self._stream_name):
            if shard.shard_id not in self._known:
                self._known.add(shard.shard_id)
                # All records in a new shard are new.
                self._shards.append(ShardReader(self._kinesis, self._stream_name, shard.shard_id, "TRIM_HORIZON"))


def _sub_records(partition_key: str, data: bytes) -> list[Entry]:
    """Return an intact aggregate's sub-records; for any other record, the record itself."""
    if is_aggregated(data):
        with suppress(RejectError):
            return unpack(data)
    return [(partition_key, data)]


def tail(
    kinesis: Any, stream_name: str, starting_position: StartingPosition, wait: Callable[[float], bool]
) -> Iterator[Record]:
    """Read a stream, aggregates as sub-records, until every shard has ended or `wait` returns true.

    While there are no records, `wait` waits for seconds; `threading.Event.wait` fits.
    """
    for records in StreamReader(kinesis, stream_name, starting_position).polls(wait):
        yield from records
