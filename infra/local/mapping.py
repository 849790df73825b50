"""The event source mapping: reads a stream's shards, hands batches to the function, brings back what failed.

It takes steps instead of threads: `poll_once` looks at each shard once and waits for nothing, so that time can
be injected. A shard with a failed batch reads no further until that is done; what becomes of it is decided in
`ShardLease._bring_back` alone.
"""

import logging
import threading
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

from infra.local.lambda_event import MAX_PAYLOAD_BYTES, LambdaRecord, count_done, json_sizes, lambda_records
from infra.shards import (
    FIRST_IDLE_WAIT_S,
    KinesisStream,
    ShardReader,
    StartingPosition,
    next_idle_wait_s,
    open_shards,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MappingConfig:
    """An `AWS::Lambda::EventSourceMapping` on a Kinesis stream; the defaults are AWS's.

    Attributes:
        stream_name: The stream.
        batch_size: Records an invocation at most, 1 to 10,000.
        batching_window_s: How long a batch that is not full waits for more, 0 to 300.
        starting_position: Where reading begins in each shard.
        parallelization_factor: Batches of one shard at a time, 1 to 10.
        bisect_on_error: Whether a failed batch is cut in two.
        maximum_retry_attempts: -1 for no end.
        maximum_record_age_s: -1 for no end.
        on_failure_bucket: Where records go that are given up; None for nowhere.
        report_batch_item_failures: Whether the function's response says what failed.
    """

    stream_name: str
    batch_size: int = 100
    batching_window_s: float = 0.0
    starting_position: StartingPosition = "TRIM_HORIZON"
    parallelization_factor: int = 1
    bisect_on_error: bool = False
    maximum_retry_attempts: int = -1
    maximum_record_age_s: int = -1
    on_failure_bucket: str | None = None
    report_batch_item_failures: bool = False


@dataclass(slots=True)
class MappingStats:
    """What a mapping has done so far; it counts on while the mapping runs.

    Attributes:
        n_invocations: Invocations, the failed ones among them.
        n_delivered: Records in all invocations, a record counted each time.
        n_redelivered: Those among them that had been delivered before.
        n_done: Records that will not come again.
        n_failures: Invocations after which something comes again.
        last_error: The last exception that an invocation raised, "" if none did.
    """

    n_invocations: int = 0
    n_delivered: int = 0
    n_redelivered: int = 0
    n_done: int = 0
    n_failures: int = 0
    last_error: str = ""


def exponential_backoff_s(attempt: int) -> float:
    """Tells how long a failed batch stays away: 0.1 s after the first failure, doubling, 30 s at most.

    >>> [exponential_backoff_s(attempt) for attempt in (1, 2, 3, 1000)]
    [0.1, 0.2, 0.4, 30.0]
    """
    return min(0.1 * 2.0 ** min(attempt - 1, 20), 30.0)


class ShardLease:
    """One shard's records on their way to the function: buffered, cut into batches, kept until they are done.

    Args:
        read: Reads the shard's next records.
        deliver: Hands a batch to the function; given also how many of its records it has had before. Returns how
            many leading ones are done.
        config: The mapping's properties.
        clock: Monotonic seconds.
        backoff: Seconds that a batch stays away after the n-th failure in a row that got nothing done.
    """

    def __init__(
        self,
        read: Callable[[], list[LambdaRecord]],
        deliver: Callable[[list[LambdaRecord], int], int],
        config: MappingConfig,
        clock: Callable[[], float],
        backoff: Callable[[int], float],
    ) -> None:
        self._read = read
        self._deliver = deliver
        self._config = config
        self._clock = clock
        self._backoff = backoff
        self._records: list[LambdaRecord] = []  # all that is read and not done; what comes again stands in front
        self._sizes: list[int] = []
        self._n_bytes = 0
        self._due_s = 0.0  # when a batch goes though it isn't full: end of its window, or of its backoff
        self._n_retry = 0  # records that come again, with none added: what is repeated is the same batch
        self._n_attempts = 0

    def step(self) -> int:
        """Reads once if there is room, and invokes the function once if a batch is due.

        Returns:
            Records handed over.
        """
        if not self._n_retry and not self._holds_full_batch():
            self._fill()
        n_batch = self._n_due()
        if n_batch:
            batch = self._records[:n_batch]
            self._settle(n_batch, self._deliver(batch, self._n_retry))
        return n_batch

    def _holds_full_batch(self) -> bool:
        return len(self._records) >= self._config.batch_size or self._n_bytes >= MAX_PAYLOAD_BYTES

    def _fill(self) -> None:
        records = self._read()
        if records and not self._records:
            self._open_window()
        sizes = json_sizes(records)
        self._records += records
        self._sizes += sizes
        self._n_bytes += sum(sizes)

    def _open_window(self) -> None:
        self._due_s = self._clock() + self._config.batching_window_s

    def _n_due(self) -> int:
        """Counts the records of the batch that goes now; 0 while it waits."""
        is_due = self._clock() >= self._due_s
        if self._n_retry:
            return self._n_retry if is_due else 0
        return self._n_fitting() if is_due or self._holds_full_batch() else 0

    def _n_fitting(self) -> int:
        room_bytes = MAX_PAYLOAD_BYTES - len('{"Records":[]}') + 1  # a comma after each record but the last
        ends = list(accumulate(size + 1 for size in self._sizes[: self._config.batch_size]))
        # A record too large for any payload goes all the same, alone: held back, it would block its shard.
        return max(bisect_right(ends, room_bytes), min(len(ends), 1))

    def _settle(self, n_batch: int, n_done: int) -> None:
        self._n_bytes -= sum(self._sizes[:n_done])
        del self._records[:n_done], self._sizes[:n_done]
        if n_done < n_batch:
            self._bring_back(n_batch - n_done, made_progress=n_done > 0)
        else:
            self._n_retry = self._n_attempts = 0
            self._open_window()

    def _bring_back(self, n_records: int, *, made_progress: bool) -> None:
        """Decides what becomes of the rest of a failed batch: it comes again, after a while."""
        self._n_retry = n_records
        self._n_attempts = 1 if made_progress else self._n_attempts + 1
        self._due_s = self._clock() + self._backoff(self._n_attempts)


class EventSourceMapping:
    """Hands the records of a stream to a function, batch by batch, each shard in order.

    Args:
        config: The mapping's properties.
        kinesis: A boto3 Kinesis client; the shards are those that it lists now.
        invoke: Runs the function on an event: returns its response, raises if it failed.
        clock: Monotonic seconds.
        backoff: Seconds that a batch stays away after the n-th failure in a row that got nothing done.

    Attributes:
        stats: What it has done so far.
    """

    def __init__(
        self,
        config: MappingConfig,
        kinesis: KinesisStream,
        invoke: Callable[[dict[str, Any]], object],
        clock: Callable[[], float] = time.monotonic,
        backoff: Callable[[int], float] = exponential_backoff_s,
    ) -> None:
        self.stats = MappingStats()
        self._config = config
        self._invoke = invoke
        summary = kinesis.describe_stream_summary(StreamName=config.stream_name)
        self._stream_arn: str = summary["StreamDescriptionSummary"]["StreamARN"]
        self._leases = [
            ShardLease(partial(self._read, shard), self._deliver, config, clock, backoff)
            for shard in open_shards(kinesis, config.stream_name, config.starting_position)
        ]

    def poll_once(self) -> int:
        """Gives every shard one step.

        Returns:
            Records handed over to the function, over all shards.
        """
        return sum(lease.step() for lease in self._leases)

    def run(self, stop: threading.Event) -> None:
        """Polls until `stop` is set, and waits on it while there is nothing to hand over."""
        wait_s = FIRST_IDLE_WAIT_S
        while not stop.is_set():
            n_records = self.poll_once()
            wait_s = next_idle_wait_s(wait_s, n_records)
            if n_records == 0:
                stop.wait(wait_s)

    def _read(self, shard: ShardReader) -> list[LambdaRecord]:
        return lambda_records(shard.read(), shard.shard_id, self._stream_arn)

    def _deliver(self, batch: list[LambdaRecord], n_redelivered: int) -> int:
        n_done = self._invoke_and_count_done(batch)
        self.stats.n_invocations += 1
        self.stats.n_delivered += len(batch)
        self.stats.n_redelivered += n_redelivered
        self.stats.n_done += n_done
        self.stats.n_failures += n_done < len(batch)
        return n_done

    def _invoke_and_count_done(self, batch: list[LambdaRecord]) -> int:
        try:
            response = self._invoke({"Records": batch})
        except Exception as error:
            # Whatever a function raises, Lambda brings the batch again.
            self.stats.last_error = f"{type(error).__name__}: {error}"
            logger.warning("%d records from %s on come again", len(batch), batch[0]["eventID"], exc_info=True)
            return 0
        return count_done(response, batch) if self._config.report_batch_item_failures else len(batch)
