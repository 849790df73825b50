"""A simulation of the stream path end to end: producer, stream, mapping, function, stream and bucket in memory.

The mapping and the function are the real ones. Streams, bucket and time are simulated, and each call between the parts
can have a fault. The simulation has no threads: its user sends rides and polls.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from infra.local.event_source.batcher import exponential_backoff_s
from infra.local.event_source.config import MappingConfig
from infra.local.event_source.lambda_event import LambdaRecord, count_done
from infra.local.event_source.mapping import EventSourceMapping
from infra.local.runtime.in_process import FunctionError
from infra.local.s3 import MemoryS3
from infra.local.simulation.clock import SimulatedClock
from infra.local.simulation.faults import (
    Fault,
    FaultSchedule,
    FaultyFunction,
    FaultyKinesis,
    FaultyS3,
    JumpClock,
    MergeShards,
    Place,
    ServeModel,
    SplitShard,
)
from infra.local.simulation.function import SimulatedFunction
from infra.local.simulation.kinesis import MemoryStream
from lambda_function.aws.publisher import Publisher
from lambda_function.aws.settings import Settings
from lambda_function.core.records import Entry
from training.model.bundle import ExportedBundle
from training.registry.bucket import Bucket
from training.registry.channels import move_channel, store_bundle

BUCKET, CHANNEL, OUTPUT_STREAM = "ridecast", "stable", "ride-predictions"

POLL_PERIOD_S = 1.0
"""Waiting time after a poll without records."""

_PRODUCER_PATIENCE_S = 30.0

Watch = Callable[[list[LambdaRecord], int | None], None]
"""Called after each invocation with the batch and the number of leading records that are done; None: no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationOptions:
    """Options of a simulation.

    Attributes:
        mapping: The event source mapping's properties.
        n_shards: Shards of the input stream.
        n_output_shards: Shards of the output stream.
        output_format: The function's setting, like `output_groups`.
        timeout_s: The function's timeout.
        keeps_all: Whether the input stream keeps records after they have been read.
    """

    mapping: MappingConfig
    n_shards: int = 1
    n_output_shards: int = 1
    output_format: str = "json"
    output_groups: int = 1
    timeout_s: float = 60.0
    keeps_all: bool = True


class Simulation:
    """A producer, the two streams, the mapping, the function and the bucket.

    Args:
        bundles: Models that a fault may switch to; the first is served at the start.
        options: Its options.
        schedule: The faults.
        watch: Called after each invocation.

    Attributes:
        clock: Its clock.
        input: The stream that the mapping reads.
        output: The stream that the function publishes to.
        bucket: Bundles, rejects and failed batches.
        mapping: The event source mapping.
        function: The function, without the faults of invocations.
    """

    def __init__(
        self,
        bundles: Sequence[ExportedBundle],
        options: SimulationOptions,
        schedule: FaultSchedule | None = None,
        watch: Watch = lambda *_: None,
    ) -> None:
        self.clock = SimulatedClock()
        self.input = MemoryStream(
            options.mapping.stream_name, options.n_shards, self.clock.wall, keeps_read=options.keeps_all
        )
        self.output = MemoryStream(OUTPUT_STREAM, options.n_output_shards, self.clock.wall)
        self.bucket = MemoryS3()
        self._schedule = schedule or FaultSchedule()
        self._bundles = bundles
        self._watch = watch
        self._serve(bundles[0])
        self._wire(options)

    def send(self, entries: Sequence[Entry]) -> None:
        """Send entries as a producer does until the input stream has accepted each one; then apply a fault."""
        waiting = entries
        while waiting:
            deadline_s = self.clock.monotonic() + _PRODUCER_PATIENCE_S
            sent = self._producer.publish(waiting, lambda: deadline_s - self.clock.monotonic())  # noqa: B023
            waiting = [waiting[index] for index in sent.unpublished]
        self._apply(self._schedule.next(Place.SENT))

    @property
    def n_settled(self) -> int:
        """Records of the input stream that are done or failed."""
        stats = self.mapping.stats
        return stats.n_done + stats.n_failed + stats.n_dropped

    @property
    def is_settled(self) -> bool:
        """Whether all records of the input stream are settled."""
        return self.n_settled == self.input.n_put

    def settle(self, patience_s: float = math.inf) -> bool:
        """Poll until all records are settled.

        Args:
            patience_s: Simulated seconds without a fault and without a settled record after which to stop.

        Returns:
            Whether all records are settled.
        """
        since_s, last = self.clock.monotonic(), (-1, -1)
        while not self.is_settled:
            if not self.mapping.poll_once():
                self.clock.sleep(POLL_PERIOD_S)
            now = self.n_settled, self._schedule.n_struck
            since_s, last = (since_s, last) if now == last else (self.clock.monotonic(), now)
            if self.clock.monotonic() - since_s > patience_s:
                return False
        return True

    def _wire(self, options: SimulationOptions) -> None:
        clock, schedule = self.clock, self._schedule
        faulty_input = FaultyKinesis(self.input, schedule, clock, Place.PUT_INPUT, Place.READ_INPUT)
        faulty_output = FaultyKinesis(self.output, schedule, clock, Place.PUT_OUTPUT)
        s3 = FaultyS3(self.bucket, schedule, clock)
        self._producer = Publisher(faulty_input, self.input.name, clock.sleep, jitter=lambda _, longest_s: longest_s)
        settings = Settings(
            output_stream=OUTPUT_STREAM,
            bucket=BUCKET,
            model_channel=CHANNEL,
            output_format=options.output_format,
            output_groups=options.output_groups,
        )
        self.function = SimulatedFunction(s3, faulty_output, clock, settings, options.timeout_s)
        self._faulty_function = FaultyFunction(self.function, schedule, clock)
        ids = count()
        self.mapping = EventSourceMapping(
            options.mapping,
            faulty_input,
            self._invoke,
            clock.monotonic,
            exponential_backoff_s,
            s3=s3,
            wall_clock=clock.wall,
            new_id=lambda: f"id-{next(ids)}",
        )

    def _invoke(self, event: dict[str, Any]) -> object:
        try:
            response = self._faulty_function(event)
        except Exception as error:
            if isinstance(error, FunctionError):
                self.function.end_environment()
            self._watch(event["Records"], None)
            raise
        self._watch(event["Records"], count_done(response, event["Records"]))
        return response

    def _apply(self, fault: Fault | None) -> None:
        match fault:
            case None:
                pass
            case SplitShard(n):
                self.input.split(n)
            case MergeShards(n):
                self.input.merge(n)
            case JumpClock(seconds, wall_only):
                self.clock.jump(seconds, wall_only=wall_only)
            case ServeModel(n):
                self._serve(self._bundles[n % len(self._bundles)])
            case _:
                raise TypeError(f"{fault} is not a fault of the simulation's state")

    def _serve(self, bundle: ExportedBundle) -> None:
        models = Bucket(self.bucket, BUCKET)
        store_bundle(models, bundle)
        move_channel(models, CHANNEL, bundle.model_version, bundle.manifest_sha256)
