"""A batcher: delivers records in order, one batch at a time, and holds each record until it is settled.

A shard has one batcher, or as many as the parallelization factor of its mapping. Then each batcher has a share of the
partition keys.
"""

import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import accumulate, takewhile
from typing import NamedTuple

from infra.local.event_source.config import MappingConfig
from infra.local.event_source.delivery import Condition, Delivery, FailedBatch, Outcome
from infra.operate.lambda_event import MAX_PAYLOAD_BYTES, LambdaRecord


def exponential_backoff_s(attempt: int) -> float:
    """Return the seconds until a retry: 0.1 after the first failure, doubling, at most 30.

    >>> [exponential_backoff_s(attempt) for attempt in (1, 2, 3, 1000)]
    [0.1, 0.2, 0.4, 30.0]
    """
    return min(0.1 * 2.0 ** min(attempt - 1, 20), 30.0)


class MappingTiming(NamedTuple):
    """The clocks and the backoff of a mapping.

    Attributes:
        clock: Monotonic seconds.
        wall_clock: Unix time in seconds, for the age of records.
        backoff: Seconds until a retry after the n-th failure in a row without progress.
    """

    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time
    backoff: Callable[[int], float] = exponential_backoff_s


@dataclass(frozen=True, slots=True)
class Batch:
    """A number of records that go to the function together, and how often exactly these went there and failed."""

    n_records: int
    n_invocations: int = 0


def after_failure(batch: Batch, n_done: int, config: MappingConfig) -> list[Batch]:
    """Return the batches to deliver after a batch was not done to its end; none if no retry is left.

    The rest of a batch that was partly done is a new batch: Lambda has moved its checkpoint, and all retries are
    available again. A split uses no retry.

    Args:
        batch: The delivered batch.
        n_done: Its leading records that are done, fewer than it has.
        config: The mapping's properties.

    >>> config = MappingConfig("rides", bisect_on_error=True, maximum_retry_attempts=1)
    >>> after_failure(Batch(5), 0, config)
    [Batch(n_records=3, n_invocations=0), Batch(n_records=2, n_invocations=0)]
    >>> after_failure(Batch(5), 2, config)
    [Batch(n_records=3, n_invocations=0)]
    >>> after_failure(Batch(1), 0, config), after_failure(Batch(1, 1), 0, config)
    ([Batch(n_records=1, n_invocations=1)], [])
    """
    if n_done:
        return [Batch(batch.n_records - n_done)]
    if config.bisect_on_error and batch.n_records > 1:
        n_second = batch.n_records // 2
        return [Batch(batch.n_records - n_second), Batch(n_second)]
    if 0 <= config.maximum_retry_attempts <= batch.n_invocations:
        return []
    return [Batch(batch.n_records, batch.n_invocations + 1)]


class Batcher:
    """An in-order queue of records: batches to deliver again first, new records behind them."""

    def __init__(self, config: MappingConfig, delivery: Delivery, timing: MappingTiming) -> None:
        self._config = config
        self._delivery = delivery
        self._timing = timing
        self._records: list[LambdaRecord] = []
        self._sizes: list[int] = []
        self._n_bytes = 0
        self._retries: list[Batch] = []  # delivered again without added records: the batch stays the same
        self._failed: FailedBatch | None = None  # the leading records, if they must go to the failure destination
        self._due_s = 0.0  # when a batch that is not full is delivered: end of its window or of its backoff
        self._n_failures = 0  # in a row, without progress

    @property
    def n_records(self) -> int:
        """Records that are not settled."""
        return len(self._records)

    @property
    def first_sequence_number(self) -> int | None:
        """Sequence number of the first record that is not settled; None if all are."""
        return int(self._records[0]["kinesis"]["sequenceNumber"]) if self._records else None

    @property
    def n_bytes(self) -> int:
        """Size of these records as JSON."""
        return self._n_bytes

    @property
    def wants_records(self) -> bool:
        """Whether another record would bring the next batch forward."""
        return not self._is_held_up and not self._holds_full_batch

    def add(self, records: list[LambdaRecord], sizes: list[int]) -> None:
        """Append records, with the size of each as JSON."""
        if records and not self._records:
            self._open_window()
        self._records += records
        self._sizes += sizes
        self._n_bytes += sum(sizes)

    def step(self) -> int:
        """Invoke the function once, or store failed records, if a batch is due.

        Returns:
            Records sent to the function or the failure destination.
        """
        if not self._records or not self._is_due():
            return 0
        if self._failed:
            return self._try_to_settle(self._failed)
        batch = self._retries[0] if self._retries else Batch(self._n_fitting())
        if n_aged := self._count_aged(batch):
            return self._fail_aged(batch, n_aged)
        return self._deliver(batch)

    @property
    def _is_held_up(self) -> bool:
        return bool(self._retries) or self._failed is not None

    @property
    def _holds_full_batch(self) -> bool:
        return len(self._records) >= self._config.batch_size or self._n_bytes >= MAX_PAYLOAD_BYTES

    def _is_due(self) -> bool:
        return self._timing.clock() >= self._due_s or (not self._is_held_up and self._holds_full_batch)

    def _n_fitting(self) -> int:
        room_bytes = MAX_PAYLOAD_BYTES - len('{"Records":[]}') + 1  # a comma after each record but the last
        ends = list(accumulate(size + 1 for size in self._sizes[: self._config.batch_size]))
        # A record too large for any payload is delivered alone, because it would block its shard.
        return max(bisect_right(ends, room_bytes), min(len(ends), 1))

    def _count_aged(self, batch: Batch) -> int:
        """Count the batch's leading records that are older than the maximum age."""
        if self._config.maximum_record_age_s < 0:
            return 0
        oldest_s = self._timing.wall_clock() - self._config.maximum_record_age_s
        arrivals_s = (r["kinesis"]["approximateArrivalTimestamp"] for r in self._records[: batch.n_records])
        return sum(1 for _ in takewhile(lambda arrival_s: arrival_s < oldest_s, arrivals_s))

    def _deliver(self, batch: Batch) -> int:
        outcome = self._delivery.deliver(self._records[: batch.n_records], is_redelivered=bool(self._retries))
        del self._retries[:1]
        self._remove(outcome.n_done)
        if outcome.n_done < batch.n_records:
            self._retry_or_fail(batch, outcome)
        else:
            self._n_failures = 0
            self._open_window()
        return batch.n_records

    def _retry_or_fail(self, batch: Batch, outcome: Outcome) -> None:
        self._n_failures = 1 if outcome.n_done else self._n_failures + 1
        again = after_failure(batch, outcome.n_done, self._config)
        if not again:
            self._fail(batch.n_records, "RetryAttemptsExhausted", batch.n_invocations + 1, raised=outcome.raised)
            return
        self._retries[:0] = again
        self._delivery.stats.n_bisects += len(again) > 1
        self._back_off()

    def _fail_aged(self, batch: Batch, n_aged: int) -> int:
        if self._retries:
            rest = replace(batch, n_records=batch.n_records - n_aged)
            self._retries[:1] = [rest] if rest.n_records else []
        return self._fail(n_aged, "RecordAgeExceeded", batch.n_invocations, raised=False)

    def _fail(self, n_records: int, condition: Condition, n_invocations: int, *, raised: bool) -> int:
        records = self._records[:n_records]
        self._failed = self._delivery.failed_batch(records, condition, n_invocations, raised=raised)
        return self._try_to_settle(self._failed)

    def _try_to_settle(self, failed: FailedBatch) -> int:
        if not self._delivery.settle(failed):  # the records stay here until they are stored
            self._n_failures += 1
            self._back_off()
            return 0
        self._failed = None
        self._remove(len(failed.records))
        self._n_failures = 0
        self._due_s = self._timing.clock()  # the records behind them have waited long enough
        return len(failed.records)

    def _remove(self, n_records: int) -> None:
        self._n_bytes -= sum(self._sizes[:n_records])
        del self._records[:n_records], self._sizes[:n_records]

    def _open_window(self) -> None:
        """Start the batching window of the next batch; a retry has none."""
        self._due_s = self._timing.clock() + (0 if self._retries else self._config.batching_window_s)

    def _back_off(self) -> None:
        self._due_s = self._timing.clock() + self._timing.backoff(self._n_failures)
