"""Shards and streams that replace moto's: records in one list, real sequence numbers, closed shards, shard limits."""

import hashlib
import itertools
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from operator import attrgetter
from threading import Lock
from typing import Any, NamedTuple

from moto.core.exceptions import JsonRESTError
from moto.kinesis import models
from moto.kinesis.exceptions import InvalidArgumentError

from infra.local.moto.kinesis_limits import MAX_ITERATOR_AGE_S, MAX_KEY_CHARACTERS, MAX_READ_BYTES, ShardLimits

# 56 digits that begin as on AWS. One counter for all streams: numbers rise in each stream, with gaps, as on AWS.
sequence_numbers: Iterator[int] = itertools.count(49590338271490256608559692538361571095921575989136588898)


class ThroughputExceededError(JsonRESTError):  # type: ignore[misc] # moto is not typed
    """A request, or one entry of a PutRecords, beyond a shard's limits."""

    def __init__(self, shard: "LocalShard", stream: "LocalStream") -> None:
        super().__init__(
            "ProvisionedThroughputExceededException",
            f"Rate exceeded for shard {shard.shard_id} in stream {stream.stream_name}"
            f" under account {stream.account_id}.",
        )


class ShardBusyError(Exception):
    """The shard has reached its limits for now."""


class ShardClosedError(Exception):
    """The shard was split or merged: its children take its records."""


class StoredRecord(NamedTuple):
    """A record in a shard. `data` is the base64 text of the request, so that a read only copies text."""

    sequence_number: int
    arrival_s: float
    partition_key: str
    data: str


class Page(NamedTuple):
    """The result of one read: the next read starts after `position`, unless the shard has `ended`."""

    records: list[StoredRecord]
    position: int
    behind_ms: int
    ended: bool


class LocalShard(models.Shard):  # type: ignore[misc] # moto is not typed
    """A shard with its records in one list, in order of sequence number.

    moto's own `records` stays empty on purpose: moto's split and merge move its content to the children, while on AWS
    records stay in the shard that accepted them.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._lock = Lock()  # the server has one thread a connection; records must be stored in order of their numbers
        super().__init__(*args, **kwargs)
        self.first_sequence_number = next(sequence_numbers)
        self._log: list[StoredRecord] = []

    @property
    def is_open(self) -> bool:
        """Whether the shard accepts records. Once it is False, no append is in progress."""
        return self._is_open

    @is_open.setter
    def is_open(self, value: bool) -> None:
        with self._lock:
            self._is_open = value

    def restore(self, first_sequence_number: int, records: list[StoredRecord], *, is_open: bool) -> None:
        """Set what an earlier server held in this shard."""
        self.first_sequence_number, self._log, self.is_open = first_sequence_number, records, is_open

    def append(self, partition_key: str, data: str) -> StoredRecord:
        """Store a record and return it.

        Raises:
            ShardClosedError: The shard is closed.
            ShardBusyError: The shard has reached its limits.
        """
        with self._lock:
            if not self._is_open:
                raise ShardClosedError
            record = StoredRecord(next(sequence_numbers), time.time(), partition_key, data)
            self._log.append(record)
        return record

    def read(self, position: int, limit: int) -> Page:
        """Return at most `limit` records with sequence numbers above `position`.

        Raises:
            ShardBusyError: The shard has reached its limits.
        """
        is_open = self.is_open  # read before the records: otherwise a record stored in between would never be read
        start = bisect_right(self._log, position, key=attrgetter("sequence_number"))
        records = self._log[start : start + limit]
        at_tip = start + len(records) >= len(self._log)
        behind_ms = 0 if at_tip else 1 + int((time.time() - self._log[start].arrival_s) * 1000)  # 0 means at the tip
        last = records[-1].sequence_number if records else position
        return Page(records, last, behind_ms, ended=at_tip and not is_open)

    def accepts_iterator(self, made_s: float) -> bool:  # noqa: ARG002 - only LimitedShard has limits
        """Return whether an iterator made at a Unix time is still valid."""
        return True

    def get_min_sequence_number(self) -> int:
        """Return the shard's starting number; its first record has a greater one."""
        return self.first_sequence_number

    def get_max_sequence_number(self) -> int:
        """Return the last record's number: the position of LATEST."""
        return self._log[-1].sequence_number if self._log else self.first_sequence_number

    def get_sequence_number_at(self, at_timestamp: float) -> int:
        """Return the number of the last record that arrived before a Unix time in seconds."""
        index = bisect_left(self._log, at_timestamp, key=attrgetter("arrival_s"))
        return self._log[index - 1].sequence_number if index else self.first_sequence_number


class LimitedShard(LocalShard):
    """A shard with AWS's limits."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits = ShardLimits()

    def append(self, partition_key: str, data: str) -> StoredRecord:
        """Store a record, unless the shard has reached its limits."""
        if self.is_open and not self._limits.may_put(data_bytes(data) + len(partition_key.encode())):
            raise ShardBusyError
        return super().append(partition_key, data)

    def read(self, position: int, limit: int) -> Page:
        """Return records, 10 MiB at most, unless the shard has reached its limits."""
        if not self._limits.may_read():
            raise ShardBusyError
        page = super().read(position, limit)
        ends = list(itertools.accumulate(data_bytes(record.data) for record in page.records))
        n_fitting = max(1, bisect_right(ends, MAX_READ_BYTES))
        self._limits.count_read(ends[:n_fitting][-1] if ends else 0)
        return page if n_fitting >= len(ends) else super().read(position, n_fitting)

    def accepts_iterator(self, made_s: float) -> bool:
        """Return whether an iterator made at a Unix time is still valid."""
        return time.time() - made_s <= MAX_ITERATOR_AGE_S


class LocalStream(models.Stream):  # type: ignore[misc] # moto is not typed
    """A stream that routes records to open shards only; infra/local/event_source polls it, as Lambda does."""

    def put_record(self, partition_key: str, explicit_hash_key: str | None, data: str) -> tuple[str, str]:
        """Store one record and return its sequence number and shard.

        Raises:
            ThroughputExceededError: The shard has reached its limits.
        """
        while True:
            shard = self.get_shard_for_key(partition_key, explicit_hash_key)
            try:
                record = shard.append(partition_key, data)
            except ShardBusyError:
                raise ThroughputExceededError(shard, self) from None
            except ShardClosedError:
                continue  # it was split or merged a moment ago, and its children exist already
            self.stored(shard, record)
            return str(record.sequence_number), shard.shard_id

    def stored(self, shard: LocalShard, record: StoredRecord) -> None:
        """Receive each record that is stored, before its producer has the answer; for subclasses."""

    def get_shard_for_key(self, partition_key: str, explicit_hash_key: str | None) -> LocalShard:
        """Return the open shard whose range includes the explicit hash key, or else the key's MD5."""
        if not 1 <= len(partition_key) <= MAX_KEY_CHARACTERS:
            raise InvalidArgumentError("partition_key")
        if explicit_hash_key:
            position = int(explicit_hash_key)
        else:
            position = int.from_bytes(hashlib.md5(partition_key.encode(), usedforsecurity=False).digest())
        for shard in list(self.shards.values()):  # a copy: another thread may split or merge shards
            if shard.is_open and shard.starting_hash <= position <= shard.ending_hash:
                return shard  # type: ignore[no-any-return] # moto is not typed
        raise InvalidArgumentError("explicit_hash_key")

    def merge_shards(self, shard_to_merge: str, adjacent_shard_to_merge: str) -> None:
        """Merge two open shards, named in either order. moto accepts one order only, and closed shards too."""
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
        """Return the shards that a closed shard was split or merged into."""
        return [s for s in list(self.shards.values()) if shard_id in {s.parent, s.adjacent_parent}]


def data_bytes(data: str) -> int:
    """Return the length of the data from its base64 text.

    >>> data_bytes("Zm9vYg=="), data_bytes("Zm9vYmE="), data_bytes("Zm9vYmFy"), data_bytes("")
    (4, 5, 6, 0)
    """
    return len(data) * 3 // 4 - data.endswith("=") - data.endswith("==")
