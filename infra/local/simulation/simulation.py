"""A simulation of the stream path end to end: producer, stream, mapping, function, stream and bucket in memory.

The mappings and the functions are the real ones. Streams, bucket and time are simulated. The simulation has no threads:
its user sends rides and polls.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import count
from typing import Any, NamedTuple

from infra.local.event_source.batcher import MappingTiming
from infra.local.event_source.config import MappingConfig
from infra.local.event_source.mapping import EventSourceMapping
from infra.local.runtime.in_process import FunctionError
from infra.local.s3 import MemoryS3
from infra.local.simulation.clock import SimulatedClock
from infra.local.simulation.function import SimulatedFunction, silent_telemetry
from infra.local.simulation.kinesis import MemoryStream
from infra.local.sqs import MemoryQueue
from infra.operate.lambda_event import LambdaRecord, count_done
from lambda_function.archive import ArchiveHandler
from lambda_function.aws.archive_store import ArchiveStore
from lambda_function.aws.model_store import ModelStore
from lambda_function.aws.output import Output
from lambda_function.aws.publisher import Publisher
from lambda_function.aws.rejects import RejectStore
from lambda_function.aws.settings import Settings
from lambda_function.aws.telemetry import ArchiveTelemetry, Telemetry
from lambda_function.core.records import OUTCOMES, PREDICTIONS, RIDES, Entry
from lambda_function.handler import StreamHandler
from training.model.bundle import ExportedBundle
from training.registry.bucket import Bucket
from training.registry.channels import (
    Mover,
    calibrate_channel,
    end_split,
    move_channel,
    rollback,
    split_channel,
    stop_calibration,
    store_bundle,
)

BUCKET, CHANNEL = "ridecast", "stable"
OUTPUT_STREAM, OUTCOME_STREAM = "ride-predictions", "ride-outcomes"

POLL_PERIOD_S = 1.0
"""Waiting time after a poll without records."""

_FUNCTION_NAME, _ARCHIVER_NAME = "simulated-function", "simulated-archiver"
_PRODUCER_PATIENCE_S = 30.0

Watch = Callable[[list[LambdaRecord], int | None], None]
"""Called after each invocation with the batch and the number of leading records that are done; None: no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationOptions:
    """Options of a simulation."""

    mapping: MappingConfig  # the event source mapping's properties
    n_shards: int = 1  # shards of the input stream
    n_output_shards: int = 1  # shards of the output stream
    output_format: str = "json"  # the function's setting, like `output_groups`
    output_groups: int = 1
    timeout_s: float = 60.0  # the function's timeout
    keeps_all: bool = True  # whether streams keep records after all their readers have read them
    # Seconds between two reads of the channel, for each execution environment; invocations go to them in turn.
    refreshes_s: tuple[float, ...] = (Settings.model_refresh_s,)
    archive: Mapping[str, MappingConfig] = field(
        default_factory=dict
    )  # the archive's mappings by kind; none: no archive
    bucket: MemoryS3 | None = None  # None: a new one
    clock: SimulatedClock | None = None  # None: a new one
    log_level: str = "INFO"  # of the functions, whose logs go nowhere


class Clients(NamedTuple):
    """The boto3 clients that producers, mappings and functions use."""

    input: Any
    output: Any
    s3: Any
    queue: Any
    archived: Mapping[str, Any]  # the archive's readers of the three streams, by kind
    archive_s3: Any  # the archive's


class Simulation:
    """Producers, the streams, the mappings, the functions and the bucket.

    A subclass may put faults between the parts: see `clients` and `invoke`.

    Args:
        bundle: The model that is served at the start.
        options: Its options.
        watch: Called after each invocation.

    Attributes:
        clock: Its clock.
        input: The stream that the mapping reads.
        output: The stream that the function publishes to.
        bucket: Bundles, rejects and failed batches.
        queue: Rejects that the bucket did not take.
        models: The bucket, for readers and movers of the channel.
        outcomes: The stream of outcomes.
        mapping: The event source mapping of the predicting function.
        function: The predicting function.
        archive: The event source mappings of the archive function.
        archiver: The archive function.
    """

    def __init__(self, bundle: ExportedBundle, options: SimulationOptions, watch: Watch = lambda *_: None) -> None:
        self.clock = options.clock or SimulatedClock()
        self._log_level = options.log_level
        keeps, n_readers = options.keeps_all, 2 if options.archive else 1
        self._last_arrival_s = 0.0
        self.input = MemoryStream(
            options.mapping.stream_name, options.n_shards, self.arrival_time_s, keeps_read=keeps, n_readers=n_readers
        )
        self.output = MemoryStream(
            OUTPUT_STREAM, options.n_output_shards, self.arrival_time_s, keeps_read=keeps, n_readers=n_readers
        )
        self.outcomes = MemoryStream(OUTCOME_STREAM, options.n_shards, self.arrival_time_s, keeps_read=keeps)
        self.bucket, self.queue = options.bucket or MemoryS3(), MemoryQueue()
        self.models = Bucket(self.bucket, BUCKET, n_threads=1)
        self._mover = Mover("simulation", lambda: datetime.fromtimestamp(self.clock.wall(), UTC))
        self._watch = watch
        self.serve(bundle)
        clients, ids = self.clients(), count()
        self._producer = _publisher(clients.input, self.input.name, self.clock)
        self._outcome_producer = _publisher(self.outcomes, OUTCOME_STREAM, self.clock)
        timing = MappingTiming(self.clock.monotonic, self.clock.wall)

        def new_id() -> str:
            return f"id-{next(ids)}"

        cold_starts = [partial(stream_handler, clients, self.clock, options, one) for one in options.refreshes_s]
        self.function = SimulatedFunction(_FUNCTION_NAME, cold_starts, self.clock, options.timeout_s)
        self.mapping = EventSourceMapping(
            options.mapping, clients.input, self._watched, timing, s3=clients.s3, new_id=new_id
        )
        self.archiver = SimulatedFunction(
            _ARCHIVER_NAME, [partial(self._archive_handler, clients)], self.clock, options.timeout_s
        )
        self.archive = [
            EventSourceMapping(
                config, clients.archived[kind], self._archived, timing, s3=clients.archive_s3, new_id=new_id
            )
            for kind, config in options.archive.items()
        ]

    def clients(self) -> Clients:
        """Return the clients of the streams and the bucket."""
        return Clients(self.input, self.output, self.bucket, self.queue, self.archive_readers(), self.bucket)

    def archive_readers(self) -> dict[str, Any]:
        """Return the archive's clients of the streams, by kind."""
        return {RIDES: self.input.reader(1), PREDICTIONS: self.output.reader(1), OUTCOMES: self.outcomes}

    def arrival_time_s(self) -> float:
        """Return the streams' Unix time, which does not go back: Kinesis does not take it from a function's clock."""
        self._last_arrival_s = max(self._last_arrival_s, self.clock.wall())
        return self._last_arrival_s

    def invoke(self, event: dict[str, Any]) -> object:
        """Run the predicting function on an event of its mapping."""
        return self.function(event)

    def invoke_archiver(self, event: dict[str, Any]) -> object:
        """Run the archive function on an event of its mappings."""
        return self.archiver(event)

    def serve(self, bundle: ExportedBundle) -> None:
        """Store a bundle and promote it: it serves the rides that arrive after the activation delay."""
        store_bundle(self.models, bundle)
        move_channel(self.models, CHANNEL, bundle.model_version, bundle.manifest_sha256, mover=self._mover)

    def roll_back(self, model_version: str) -> None:
        """Put a version that has served in place of the channel's newest one."""
        rollback(self.models, CHANNEL, model_version, mover=self._mover)

    def split(self, model_version: str, share: float, salt: str) -> None:
        """Let a candidate, which must have passed the gate, serve a share of the rides beside the newest model."""
        split_channel(self.models, CHANNEL, model_version, share, salt, mover=self._mover)

    def end_split(self) -> None:
        """Let the champion serve all rides again that arrive after the activation delay."""
        end_split(self.models, CHANNEL, mover=self._mover)

    def calibrate(self, *calibrations: bytes, resume: bool = False) -> None:
        """Let the channel's newest models serve with calibrations what arrives after the activation delay."""
        calibrate_channel(self.models, CHANNEL, *calibrations, mover=self._mover, resume=resume)

    def stop_calibration(self) -> None:
        """Put the channel's newest model without its calibration in place of the newest segment."""
        stop_calibration(self.models, CHANNEL, self._mover)

    def send(self, entries: Sequence[Entry]) -> None:
        """Send entries as a producer does until the input stream has accepted each one."""
        self._send(self._producer, entries)

    def send_outcomes(self, entries: Sequence[Entry]) -> None:
        """Send entries until the stream of outcomes has accepted each one."""
        self._send(self._outcome_producer, entries)

    def _send(self, producer: Publisher, entries: Sequence[Entry]) -> None:
        waiting = entries
        while waiting:
            deadline_s = self.clock.monotonic() + _PRODUCER_PATIENCE_S
            sent = producer.publish(waiting, lambda: deadline_s - self.clock.monotonic())  # noqa: B023
            waiting = [waiting[index] for index in sent.unpublished]

    def poll_archive(self) -> int:
        """Step each shard of the archive's mappings once; return the records sent to the archive function."""
        return sum(mapping.poll_once() for mapping in self.archive)

    def progress(self) -> tuple[int, ...]:
        """Return figures that change as long as the simulation advances: here the settled records."""
        stats = self.mapping.stats
        return (stats.n_done + stats.n_failed + stats.n_dropped,)

    def settle(self, patience_s: float = math.inf) -> bool:
        """Poll until all records of the input stream are done or failed.

        Args:
            patience_s: Simulated seconds without progress after which to stop.

        Returns:
            Whether all records are settled.
        """
        since_s, last = self.clock.monotonic(), self.progress()
        while last[0] < self.input.n_put:
            if not self.mapping.poll_once():
                self.clock.sleep(POLL_PERIOD_S)
            now = self.progress()
            since_s, last = (since_s if now == last else self.clock.monotonic()), now
            if self.clock.monotonic() - since_s > patience_s:
                return False
        return True

    def settle_archive(self, patience_s: float) -> bool:
        """Poll the archive until everything on the streams is archived or failed, at most so many simulated seconds."""
        end_s = self.clock.monotonic() + patience_s
        while not all(mapping.is_idle for mapping in self.archive):
            if not self.poll_archive():
                self.clock.sleep(POLL_PERIOD_S)
            if self.clock.monotonic() > end_s:
                return False
        return True

    def _archive_handler(self, clients: Clients) -> ArchiveHandler:
        kinds = {self.input.name: RIDES, self.output.name: PREDICTIONS, self.outcomes.name: OUTCOMES}
        telemetry = silent_telemetry(ArchiveTelemetry, _ARCHIVER_NAME, self._log_level)
        return ArchiveHandler(ArchiveStore(clients.archive_s3, BUCKET), kinds, telemetry)

    def _archived(self, event: dict[str, Any]) -> object:
        try:
            return self.invoke_archiver(event)
        except FunctionError:
            self.archiver.end_environment()
            raise

    def _watched(self, event: dict[str, Any]) -> object:
        try:
            response = self.invoke(event)
        except Exception as error:
            if isinstance(error, FunctionError):
                self.function.end_environment()
            self._watch(event["Records"], None)
            raise
        self._watch(event["Records"], count_done(response, event["Records"]))
        return response


def stream_handler(
    clients: Clients, clock: SimulatedClock, options: SimulationOptions, refresh_s: float
) -> StreamHandler:
    """Build the predicting function's handler around the simulation's clients and clock."""
    settings = Settings(
        output_stream=OUTPUT_STREAM,
        bucket=BUCKET,
        model_channel=CHANNEL,
        output_format=options.output_format,
        output_groups=options.output_groups,
        rejects_queue_url=clients.queue.url,
    )
    return StreamHandler(
        models=ModelStore(clients.s3, BUCKET, CHANNEL, refresh_s, clock.monotonic, wall=clock.wall),
        output=Output(
            RejectStore(clients.s3, BUCKET, settings.rejects_queue_url, lambda: clients.queue),
            _publisher(clients.output, OUTPUT_STREAM, clock),
            settings.packed_groups,
        ),
        telemetry=silent_telemetry(Telemetry, _FUNCTION_NAME, options.log_level),
        clock=clock.wall,
    )


def _publisher(kinesis: Any, stream: str, clock: SimulatedClock) -> Publisher:
    return Publisher(kinesis, stream, clock.sleep, jitter=lambda _, longest_s: longest_s)
