"""The event source mapping: reads a stream's shards, delivers batches to the function, retries failed batches.

It advances in steps and has no threads: `poll_once` steps each shard once and never waits, so time can be injected.
`batcher.py` decides what happens to a failed batch.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from infra.local.event_source.batcher import Batcher, MappingTiming
from infra.local.event_source.config import MappingConfig
from infra.local.event_source.delivery import Delivery
from infra.local.event_source.shard_consumer import ShardConsumer
from infra.operate.shards import (
    FIRST_IDLE_WAIT_S,
    CutOffAnswerError,
    Shard,
    ShardReader,
    StartingPosition,
    is_temporary,
    list_shards,
    next_idle_wait_s,
)

DISCOVERY_PERIOD_S = 10.0
"""Time between two listings of the shards. A shard's end causes another listing."""

logger = logging.getLogger(__name__)


class EventSourceMapping:
    """Delivers the records of a stream to a function, batch by batch, each partition key in order.

    Args:
        config: The mapping's properties.
        kinesis: A boto3 Kinesis client.
        invoke: Runs the function on an event: returns its response, raises if it failed.
        timing: Its clocks and its backoff.
        s3: A boto3 S3 client, for failed batches. Without one, a mapping with a failure destination retries
            for ever.
        new_id: Makes the unique part of names.
        positions: Where an earlier mapping of the function has ended, as its `positions` were.

    Attributes:
        stats: Its counters.
    """

    def __init__(
        self,
        config: MappingConfig,
        kinesis: Any,
        invoke: Callable[[dict[str, Any]], object],
        timing: MappingTiming = MappingTiming(),  # noqa: B008 - immutable
        *,
        s3: Any = None,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
        positions: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._kinesis = kinesis
        summary = kinesis.describe_stream_summary(StreamName=config.stream_name)
        self._stream_arn: str = summary["StreamDescriptionSummary"]["StreamARN"]
        if config.on_failure_bucket and not s3:
            config = replace(config, maximum_retry_attempts=-1, maximum_record_age_s=-1)
        self._config = config
        self._timing = timing
        self._delivery = Delivery(config, self._stream_arn, invoke, s3, timing.wall_clock, new_id)
        self.stats = self._delivery.stats
        self._parent_ids: dict[str, tuple[str, ...]] = {}  # of every shard that was ever listed
        self._positions = dict(positions)
        self._consumers: dict[str, ShardConsumer] = {}  # until the shard has ended and its records are settled
        self._add_shards(list_shards(kinesis, config.stream_name), config.starting_position)

    @property
    def is_idle(self) -> bool:
        """Whether everything on the stream, as far as the last poll found it, is read and settled."""
        return all(consumer.is_idle for consumer in self._consumers.values())

    @property
    def stream_name(self) -> str:
        """The stream."""
        return self._config.stream_name

    @property
    def positions(self) -> dict[str, str]:
        """The sequence number up to which all records of a shard are settled, by shard."""
        self._positions |= {id_: at for id_, consumer in self._consumers.items() if (at := consumer.position)}
        return dict(self._positions)

    def poll_once(self) -> int:
        """Step each shard once.

        Returns:
            Records sent to the function or the failure destination, over all shards.
        """
        if self._timing.clock() >= self._next_discovery_s:
            self._discover()
        ready = [consumer for shard_id, consumer in self._consumers.items() if self._may_be_read(shard_id)]
        n_records = sum(consumer.step() for consumer in ready)
        if done := [shard_id for shard_id, consumer in self._consumers.items() if consumer.is_done]:
            self._positions = self.positions
            for shard_id in done:
                del self._consumers[shard_id]
            self._discover()
        return n_records

    def run(self, stop: threading.Event) -> None:
        """Poll until `stop` is set; wait on it while there is nothing to deliver.

        Raises:
            ClientError: The stream does not exist, or reading is not permitted.
        """
        wait_s = FIRST_IDLE_WAIT_S
        while not stop.is_set():
            n_records = self.poll_once()
            wait_s = next_idle_wait_s(wait_s, n_records)
            if n_records == 0:
                stop.wait(wait_s)

    def _discover(self) -> None:
        self._next_discovery_s = self._timing.clock() + DISCOVERY_PERIOD_S
        try:
            shards = list_shards(self._kinesis, self._config.stream_name)
        except (BotoCoreError, ClientError, ResponseParserError, CutOffAnswerError) as error:
            if not is_temporary(error):
                raise
            logger.warning("shards of %s cannot be listed now: %s", self._config.stream_name, error)
        else:
            self._add_shards(shards, "TRIM_HORIZON")  # all records of a new shard are new

    def _add_shards(self, shards: Iterable[Shard], starting_position: StartingPosition) -> None:
        self._next_discovery_s = self._timing.clock() + DISCOVERY_PERIOD_S
        for shard in shards:
            if shard.shard_id not in self._parent_ids:
                self._parent_ids[shard.shard_id] = shard.parent_ids
                self._consumers[shard.shard_id] = self._make_consumer(shard.shard_id, starting_position)

    def _make_consumer(self, shard_id: str, starting_position: StartingPosition) -> ShardConsumer:
        config, timing = self._config, self._timing
        reader = ShardReader(
            self._kinesis,
            config.stream_name,
            shard_id,
            starting_position,
            timing.wall_clock,
            self._positions.get(shard_id),
        )
        batchers = [Batcher(config, self._delivery, timing) for _ in range(config.parallelization_factor)]
        return ShardConsumer(reader, self._stream_arn, batchers)

    def _may_be_read(self, shard_id: str) -> bool:
        """Return whether no parent is still consumed, so that a key's records stay in order.

        A parent that was never listed is gone with its records.
        """
        return not any(parent in self._consumers for parent in self._parent_ids[shard_id])


def settle(
    mappings: Sequence[EventSourceMapping], stall_s: float, on_done: Callable[[int], object] = lambda _: None
) -> bool:
    """Poll mappings in turn until everything on their streams is settled.

    Args:
        mappings: On streams that nobody writes to.
        stall_s: Seconds without progress after which to stop.
        on_done: Called after each turn with the number of records that the function has processed.

    Returns:
        Whether all is settled.
    """
    last_news_s, n_before, wait_s = time.monotonic(), 0, FIRST_IDLE_WAIT_S
    while not all(mapping.is_idle for mapping in mappings):
        n_records = sum(mapping.poll_once() for mapping in mappings)
        n_done = sum(mapping.stats.n_done for mapping in mappings)
        on_done(n_done)
        now_s = time.monotonic()
        if n_done > n_before:
            last_news_s, n_before = now_s, n_done
        if now_s - last_news_s > stall_s:
            return False
        wait_s = next_idle_wait_s(wait_s, n_records)
        if n_records == 0:
            time.sleep(wait_s)
    return True


@contextmanager
def polling(mapping: EventSourceMapping) -> Iterator[Future[None]]:
    """Run a mapping in a thread until the block ends. The future is done earlier only if polling fails."""
    stop = threading.Event()
    with ThreadPoolExecutor(1, thread_name_prefix="mapping") as thread:
        try:
            yield thread.submit(mapping.run, stop)
        finally:
            stop.set()


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Write what mappings log to a file: it has a traceback for each failed batch."""
    handler, package_logger = logging.FileHandler(path, encoding="utf-8"), logging.getLogger("infra")
    package_logger.addHandler(handler)
    try:
        yield
    finally:
        package_logger.removeHandler(handler)
        handler.close()
