"""The event source mapping: reads a stream's shards, hands batches to the function, brings back what failed.

It takes steps instead of threads: `poll_once` looks at each shard once and waits for nothing, so that time can
be injected. What becomes of a failed batch is decided in `retry.py`, and done in `lane.py`.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from infra.local.event_source.batcher import Lane, Timing
from infra.local.event_source.config import MappingConfig, MappingStats, exponential_backoff_s
from infra.local.event_source.delivery import Delivery
from infra.local.event_source.failures import FailureDestination, PutObject
from infra.local.event_source.shard_reader import ShardLease
from infra.operate.shards import (
    FIRST_IDLE_WAIT_S,
    KinesisStream,
    Shard,
    ShardReader,
    StartingPosition,
    is_temporary,
    list_shards,
    next_idle_wait_s,
)


# MERGED FROM infra/local/lineage.py
# Which shards of a stream may be read now: parents before their children, so that a key's records stay in order.
class Lineage:
    """The shards of one stream, as they become known and done."""

    def __init__(self) -> None:
        self._parents: dict[str, tuple[str, ...]] = {}
        self._done: set[str] = set()

    def add(self, shards: Iterable[Shard]) -> list[Shard]:
        """Takes a listing of the stream; returns the shards that are new in it."""
        new = [shard for shard in shards if shard.shard_id not in self._parents]
        self._parents |= {shard.shard_id: shard.parent_ids for shard in new}
        return new

    def finish(self, shard_id: str) -> None:
        """Notes that a shard has ended and all of its records are settled."""
        self._done.add(shard_id)

    def may_be_read(self, shard_id: str) -> bool:
        """Says whether all parents are done; one that was never listed has been dropped with its records."""
        return all(parent in self._done or parent not in self._parents for parent in self._parents[shard_id])


__all__ = ["EventSourceMapping", "MappingConfig", "MappingStats"]

DISCOVERY_PERIOD_S = 10.0
"""How often the stream is asked for new shards; besides, whenever one has ended."""

logger = logging.getLogger(__name__)


class EventSourceMapping:
    """Hands the records of a stream to a function, batch by batch, each partition key in order.

    Args:
        config: The mapping's properties.
        kinesis: A boto3 Kinesis client.
        invoke: Runs the function on an event: returns its response, raises if it failed.
        clock: Monotonic seconds.
        backoff: Seconds that a batch stays away after the n-th failure in a row that got nothing done.
        s3: A boto3 S3 client, for what is given up. Without one, a mapping that has a failure destination gives
            nothing up: what it can't put aside comes again for ever.
        wall_clock: Unix time in seconds, which the age of records is measured by.
        new_id: Makes the unique part of names.

    Attributes:
        stats: What it has done so far.
        mapping_id: Its UUID, as the keys of the failure destination have it.
    """

    def __init__(  # noqa: PLR0913 - six of them have the default that all but tests use
        self,
        config: MappingConfig,
        kinesis: KinesisStream,
        invoke: Callable[[dict[str, Any]], object],
        clock: Callable[[], float] = time.monotonic,
        backoff: Callable[[int], float] = exponential_backoff_s,
        *,
        s3: PutObject | None = None,
        wall_clock: Callable[[], float] = time.time,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self.stats = MappingStats()
        self.mapping_id = new_id()
        self._kinesis = kinesis
        summary = kinesis.describe_stream_summary(StreamName=config.stream_name)
        self._stream_arn: str = summary["StreamDescriptionSummary"]["StreamARN"]
        if config.on_failure_bucket and not s3:
            config = replace(config, maximum_retry_attempts=-1, maximum_record_age_s=-1)
        self._config = config
        self._timing = Timing(clock, wall_clock, backoff)
        self._delivery = Delivery(
            invoke,
            self._make_destination(s3),
            wall_clock,
            new_id,
            self.stats,
            reads_response=config.report_batch_item_failures,
        )
        self._lineage = Lineage()
        self._waiting: dict[str, ShardLease] = {}  # until their parents are done
        self._leases: dict[str, ShardLease] = {}
        self._take_up(list_shards(kinesis, config.stream_name), config.starting_position)

    def poll_once(self) -> int:
        """Gives every shard one step.

        Returns:
            Records that went out, to the function or the failure destination, over all shards.
        """
        if self._timing.clock() >= self._next_discovery_s:
            self._discover()
        n_records = sum(lease.step() for lease in self._leases.values())
        if done := [shard_id for shard_id, lease in self._leases.items() if lease.is_done]:
            self._retire(done)
        return n_records

    def run(self, stop: threading.Event) -> None:
        """Polls until `stop` is set, and waits on it while there is nothing to hand over.

        Raises:
            ClientError: Kinesis refuses for good: the stream is gone, or may not be read.
        """
        wait_s = FIRST_IDLE_WAIT_S
        while not stop.is_set():
            n_records = self.poll_once()
            wait_s = next_idle_wait_s(wait_s, n_records)
            if n_records == 0:
                stop.wait(wait_s)

    def _make_destination(self, s3: PutObject | None) -> FailureDestination | None:
        if not (s3 and self._config.on_failure_bucket):
            return None
        region, account = self._stream_arn.split(":")[3:5]
        function_arn = f"arn:aws:lambda:{region}:{account}:function:{self._config.function_name}"
        return FailureDestination(s3, self._config.on_failure_bucket, self.mapping_id, function_arn)

    def _discover(self) -> None:
        self._next_discovery_s = self._timing.clock() + DISCOVERY_PERIOD_S
        try:
            shards = list_shards(self._kinesis, self._config.stream_name)
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            if not is_temporary(error):
                raise
            logger.warning("shards of %s can't be listed now: %s", self._config.stream_name, error)
        else:
            self._take_up(shards, "TRIM_HORIZON")  # whatever is in a shard that was not there before is new

    def _take_up(self, shards: Iterable[Shard], starting_position: StartingPosition) -> None:
        self._next_discovery_s = self._timing.clock() + DISCOVERY_PERIOD_S
        for shard in self._lineage.add(shards):
            self._waiting[shard.shard_id] = self._make_lease(shard.shard_id, starting_position)
        self._begin()

    def _make_lease(self, shard_id: str, starting_position: StartingPosition) -> ShardLease:
        config, timing = self._config, self._timing
        reader = ShardReader(self._kinesis, config.stream_name, shard_id, starting_position, timing.wall_clock)
        lanes = [Lane(config, self._delivery, timing) for _ in range(config.parallelization_factor)]
        return ShardLease(reader, self._stream_arn, lanes)

    def _begin(self) -> None:
        """Begins with the shards whose parents are done."""
        for shard_id in [shard_id for shard_id in self._waiting if self._lineage.may_be_read(shard_id)]:
            self._leases[shard_id] = self._waiting.pop(shard_id)

    def _retire(self, shard_ids: list[str]) -> None:
        for shard_id in shard_ids:
            del self._leases[shard_id]
            self._lineage.finish(shard_id)
        self._begin()
        self._discover()
