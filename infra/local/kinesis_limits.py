"""What a shard bears: token buckets for what is put and read, and the age at which an iterator expires.

The figures are those of a provisioned stream ("Quotas and limits" in the Kinesis developer guide).
"""

import time
from collections.abc import Callable
from threading import Lock

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
