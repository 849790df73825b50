"""Kinesis's limits: of one request, and of what a shard accepts and returns a second.

The figures are those of a provisioned stream ("Quotas and limits" in the Kinesis developer guide).
"""

import time
from collections.abc import Callable
from threading import Lock

MAX_PUT_RECORDS = 500
"""Records in one PutRecords."""

MAX_PUT_BYTES = 5 * 1024 * 1024
"""Data and partition keys of one PutRecords."""

MAX_RECORD_BYTES = 1024 * 1024
"""Data and partition key of one record."""

MAX_KEY_CHARACTERS = 256
MAX_READ_RECORDS = 10_000
"""Records in the answer to one GetRecords."""

PUT_RECORDS_PER_S = 1_000
PUT_BYTES_PER_S = 1024 * 1024
READS_PER_S = 5
READ_BYTES_PER_S = 2 * 1024 * 1024

MAX_READ_BYTES = 10 * 1024 * 1024
"""Data of one GetRecords."""

MAX_ITERATOR_AGE_S = 300


class TokenBucket:
    """A token bucket that holds one second's tokens at most; it may go into debt. `clock` returns monotonic seconds."""

    def __init__(self, per_s: float, clock: Callable[[], float]) -> None:
        self._per_s = per_s
        self._clock = clock
        self._tokens = float(per_s)
        self._filled_s = clock()

    def has(self, n_tokens: float) -> bool:
        """Return whether the bucket holds that many tokens now."""
        now_s = self._clock()
        self._tokens = min(self._per_s, self._tokens + (now_s - self._filled_s) * self._per_s)
        self._filled_s = now_s
        return self._tokens >= n_tokens

    def take(self, n_tokens: float) -> None:
        """Remove tokens, even if the bucket does not hold that many."""
        self._tokens -= n_tokens


class ShardLimits:
    """The limits of one shard. Safe to use from several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = Lock()
        self._put_records = TokenBucket(PUT_RECORDS_PER_S, clock)
        self._put_bytes = TokenBucket(PUT_BYTES_PER_S, clock)
        self._reads = TokenBucket(READS_PER_S, clock)
        self._read_bytes = TokenBucket(READ_BYTES_PER_S, clock)

    def may_put(self, n_bytes: int) -> bool:
        """Return whether the shard accepts a record now. Only an accepted record counts towards the limits."""
        with self._lock:
            if not (self._put_records.has(1) and self._put_bytes.has(n_bytes)):
                return False
            self._put_records.take(1)
            self._put_bytes.take(n_bytes)
            return True

    def may_read(self) -> bool:
        """Return whether the shard accepts a read now: five a second, and none while it owes bytes to earlier reads."""
        with self._lock:
            if not (self._reads.has(1) and self._read_bytes.has(1)):
                return False
            self._reads.take(1)
            return True

    def count_read(self, n_bytes: int) -> None:
        """Count the bytes that a read returned: 10 MiB block the shard for five seconds, at 2 MiB a second."""
        with self._lock:
            self._read_bytes.take(n_bytes)
