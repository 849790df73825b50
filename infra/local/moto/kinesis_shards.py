"""Shards and streams in moto's place: records in one list, real sequence numbers, shards that close, end and refuse."""

import hashlib
import itertools
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from operator import attrgetter
from threading import Lock
from typing import Any, NamedTuple

from moto.core.exceptions import JsonRESTError
from moto.kinesis import models
from moto.kinesis.exceptions import InvalidArgumentError

# MERGED FROM infra/local/kinesis_limits.py
# What a shard bears: token buckets for what is put and read, and the age at which an iterator expires.
# The figures are those of a provisioned stream ("Quotas and limits" in the Kinesis developer guide).
PUT_RECORDS_PER_S = 1_000
PUT_BYTES_PER_S = 1024 * 1024
READS_PER_S = 5
READ_BYTES_PER_S = 2 * 1024 * 1024

MAX_READ_BYTES = 10 * 1024 * 1024
"""Data of one GetRecords."""

MAX_ITERATOR_AGE_S = 300


class TokenBucket:
    """Tokens that come back with time, a second's worth at most; it may run into debt.

    Args:
        per_s: Tokens that come back in a second.
        clock: Monotonic seconds.
    """

    def __init__(self, per_s: float, clock: Callable[[], float]) -> None:
        self._per_s = per_s
        self._clock = clock
        self._tokens = float(per_s)
        self._filled_s = clock()

    def has(self, n_tokens: float) -> bool:
        """Says whether so many tokens are there."""
        now_s = self._clock()
        self._tokens = min(self._per_s, self._tokens + (now_s - self._filled_s) * self._per_s)
        self._filled_s = now_s
        return self._tokens >= n_tokens

    def take(self, n_tokens: float) -> None:
        """Takes tokens, those too that are not there yet."""
        self._tokens -= n_tokens


class ShardLimits:
    """The limits of one shard. Safe to use from several threads.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = Lock()
        self._put_records = TokenBucket(PUT_RECORDS_PER_S, clock)
        self._put_bytes = TokenBucket(PUT_BYTES_PER_S, clock)
        self._reads = TokenBucket(READS_PER_S, clock)
        self._read_bytes = TokenBucket(READ_BYTES_PER_S, clock)

    def may_put(self, n_bytes: int) -> bool:
        """Says whether the shard takes a record now, and counts it if so; a refused one costs nothing."""
        with self._lock:
            if not (self._put_records.has(1) and self._put_bytes.has(n_bytes)):
                return False
            self._put_records.take(1)
            self._put_bytes.take(n_bytes)
            return True

    def may_read(self) -> bool:
        """Says whether the shard takes a read now: not beyond five a second, nor before the last one is worked off."""
        with self._lock:
            if not (self._reads.has(1) and self._read_bytes.has(1)):
                return False
            self._reads.take(1)
            return True

    def count_read(self, n_bytes: int) -> None:
        """Notes what a read gave: 10 MiB shut the shard for the five seconds that 2 MiB a second need for it."""
        with self._lock:
            self._read_bytes.take(n_bytes)


def is_expired(made_s: float, now_s: float) -> bool:
    """Says whether an iterator is too old to be read from.

    >>> is_expired(made_s=1000.0, now_s=1300.0), is_expired(made_s=1000.0, now_s=1300.1)
    (False, True)
    """
    return now_s - made_s > MAX_ITERATOR_AGE_S


def rate_exceeded(shard_id: str, stream_name: str, account_id: str) -> str:
    """Builds AWS's message for a request beyond a shard's limits."""
    return f"Rate exceeded for shard {shard_id} in stream {stream_name} under account {account_id}."


MAX_KEY_CHARACTERS = 256

# 56 digits that begin as real ones do. One counter for all streams: it rises in each, with gaps, as in AWS.
_sequence_numbers = itertools.count(49590338271490256608559692538361571095921575989136588898)


class ThroughputExceededError(JsonRESTError):  # type: ignore[misc] # moto is not typed
    """A request beyond a shard's limits, or one entry of a PutRecords."""

    def __init__(self, shard: "LocalShard", stream: "LocalStream") -> None:
        super().__init__(
            "ProvisionedThroughputExceededException",
            rate_exceeded(shard.shard_id, stream.stream_name, stream.account_id),
        )


class ShardBusyError(Exception):
    """The shard has reached its limits for now."""


class ShardClosedError(Exception):
    """The shard was split or merged: its records go to its children."""


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
        self._lock = Lock()  # the server has a thread for each connection, and a number must not overtake another
        super().__init__(*args, **kwargs)
        self.first_sequence_number = next(_sequence_numbers)
        self._log: list[StoredRecord] = []

    @property
    def is_open(self) -> bool:
        """Whether it takes records. Once it says no, none is on its way any more."""
        return self._is_open

    @is_open.setter
    def is_open(self, value: bool) -> None:
        with self._lock:
            self._is_open = value

    def append(self, partition_key: str, data: str) -> int:
        """Stores a record and returns its sequence number.

        Raises:
            ShardClosedError: Its records go elsewhere.
            ShardBusyError: It takes none now.
        """
        with self._lock:
            if not self._is_open:
                raise ShardClosedError
            number = next(_sequence_numbers)
            self._log.append(StoredRecord(number, time.time(), partition_key, data))
        return number

    def read(self, position: int, limit: int) -> Page:
        """Returns at most `limit` records whose sequence number is beyond `position`.

        Raises:
            ShardBusyError: It takes no reads now.
        """
        is_open = self.is_open  # asked first: a record that comes after the reading must not be overlooked for ever
        start = bisect_right(self._log, position, key=attrgetter("sequence_number"))
        records = self._log[start : start + limit]
        at_tip = start + len(records) >= len(self._log)
        behind_ms = 0 if at_tip else 1 + int((time.time() - self._log[start].arrival_s) * 1000)  # 0 means: at the tip
        last = records[-1].sequence_number if records else position
        return Page(records, last, behind_ms, ended=at_tip and not is_open)

    def honours_iterator(self, made_s: float) -> bool:  # noqa: ARG002 - the limits are LimitedShard's
        """Says whether an iterator made at a Unix time may still be read from."""
        return True

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


class LimitedShard(LocalShard):
    """A shard with AWS's limits."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits = ShardLimits()

    def append(self, partition_key: str, data: str) -> int:
        """Stores a record, unless the shard has taken its share for now."""
        if self.is_open and not self._limits.may_put(data_bytes(data) + len(partition_key.encode())):
            raise ShardBusyError
        return super().append(partition_key, data)

    def read(self, position: int, limit: int) -> Page:
        """Returns records, 10 MiB at most, unless the shard has given its share for now."""
        if not self._limits.may_read():
            raise ShardBusyError
        page = super().read(position, limit)
        ends = list(itertools.accumulate(data_bytes(record.data) for record in page.records))
        n_fitting = max(1, bisect_right(ends, MAX_READ_BYTES))
        self._limits.count_read(ends[:n_fitting][-1] if ends else 0)
        return page if n_fitting >= len(ends) else super().read(position, n_fitting)

    def honours_iterator(self, made_s: float) -> bool:
        """Says whether an iterator made at a Unix time may still be read from."""
        return not is_expired(made_s, time.time())


class LocalStream(models.Stream):  # type: ignore[misc] # moto is not typed
    """A stream that routes to open shards only and knows no Lambda: mapping.py polls it, as Lambda does."""

    def put_record(self, partition_key: str, explicit_hash_key: str | None, data: str) -> tuple[str, str]:
        """Stores one record; returns its sequence number and shard.

        Raises:
            ThroughputExceededError: The shard takes none now.
        """
        while True:
            shard = self.get_shard_for_key(partition_key, explicit_hash_key)
            try:
                return str(shard.append(partition_key, data)), shard.shard_id
            except ShardBusyError:
                raise ThroughputExceededError(shard, self) from None
            except ShardClosedError:
                continue  # split or merged a moment ago: its children are there already

    def get_shard_for_key(self, partition_key: str, explicit_hash_key: str | None) -> LocalShard:
        """Returns the open shard whose range holds the explicit hash key, or else the key's MD5."""
        if not 1 <= len(partition_key) <= MAX_KEY_CHARACTERS:
            raise InvalidArgumentError("partition_key")
        if explicit_hash_key:
            position = int(explicit_hash_key)
        else:
            position = int.from_bytes(hashlib.md5(partition_key.encode(), usedforsecurity=False).digest())
        for shard in list(self.shards.values()):  # a copy: another thread may be resharding
            if shard.is_open and shard.starting_hash <= position <= shard.ending_hash:
                return shard  # type: ignore[no-any-return] # moto is not typed
        raise InvalidArgumentError("explicit_hash_key")

    def merge_shards(self, shard_to_merge: str, adjacent_shard_to_merge: str) -> None:
        """Merges two open shards, named in either order; moto knows one order, and merges closed ones too."""
        shards = [self.get_shard(shard_id) for shard_id in (shard_to_merge, adjacent_shard_to_merge)]
        for shard in shards:
            if not shard.is_open:
                raise InvalidArgumentError(
                    f"Shard {shard.shard_id} in stream {self.stream_name} under account {self.account_id} has already"
                    " been merged or split, and thus is not eligible for merging or splitting."
                )
        lower, upper = sorted(shards, key=attrgetter("starting_hash"))
        super().merge_shards(lower.shard_id, upper.shard_id)

    def children_of(self, shard_id: str) -> list[LocalShard]:
        """Lists the shards that a closed one was split or merged into."""
        return [s for s in list(self.shards.values()) if shard_id in {s.parent, s.adjacent_parent}]


def data_bytes(data: str) -> int:
    """Tells the length of data from its base64.

    >>> data_bytes("Zm9vYg=="), data_bytes("Zm9vYmE="), data_bytes("Zm9vYmFy"), data_bytes("")
    (4, 5, 6, 0)
    """
    return len(data) * 3 // 4 - data.endswith("=") - data.endswith("==")
