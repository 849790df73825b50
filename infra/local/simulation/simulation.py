"""A simulation of the stream path end to end: producer, stream, mapping, function, stream and bucket in memory.

The mapping and the function are the real ones. Streams, bucket and time are simulated. The simulation has no threads:
its user sends rides and polls.
"""

import io
import math
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import count
from typing import Any, NamedTuple

from infra.local.event_source.batcher import MappingTiming
from infra.local.event_source.config import MappingConfig
from infra.local.event_source.mapping import EventSourceMapping
from infra.local.runtime.in_process import FunctionError, FunctionTimeoutError, InProcessRuntime
from infra.local.s3 import MemoryS3
from infra.local.simulation.clock import SimulatedClock
from infra.local.simulation.kinesis import MemoryStream
from infra.local.sqs import MemoryQueue
from infra.operate.lambda_event import LambdaRecord, count_done
from lambda_function.aws.model_store import ModelStore
from lambda_function.aws.output import Output
from lambda_function.aws.publisher import Publisher
from lambda_function.aws.rejects import RejectStore
from lambda_function.aws.settings import Settings
from lambda_function.aws.telemetry import Telemetry
from lambda_function.core.records import Entry
from lambda_function.handler import StreamHandler
from training.model.bundle import ExportedBundle
from training.registry.bucket import Bucket
from training.registry.channels import Mover, move_channel, rollback, store_bundle

BUCKET, CHANNEL, OUTPUT_STREAM = "ridecast", "stable", "ride-predictions"

POLL_PERIOD_S = 1.0
"""Waiting time after a poll without records."""

_FUNCTION_NAME, _MEMORY_MB = "simulated-function", 512
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
    keeps_all: bool = True  # whether the input stream keeps records after they have been read
    # Seconds between two reads of the channel, for each execution environment; invocations go to them in turn.
    refreshes_s: tuple[float, ...] = (Settings.model_refresh_s,)


class Clients(NamedTuple):
    """The boto3 clients that producer, mapping and function use."""

    input: Any
    output: Any
    s3: Any
    queue: Any


class Simulation:
    """A producer, the two streams, the mapping, the function and the bucket.

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
        mapping: The event source mapping.
        function: The function.
    """

    def __init__(self, bundle: ExportedBundle, options: SimulationOptions, watch: Watch = lambda *_: None) -> None:
        self.clock = SimulatedClock()
        self.input = MemoryStream(
            options.mapping.stream_name, options.n_shards, self.clock.wall, keeps_read=options.keeps_all
        )
        self.output = MemoryStream(OUTPUT_STREAM, options.n_output_shards, self.clock.wall)
        self.bucket, self.queue = MemoryS3(), MemoryQueue()
        self.models = Bucket(self.bucket, BUCKET, n_threads=1)
        self._mover = Mover("simulation", lambda: datetime.fromtimestamp(self.clock.wall(), UTC))
        self._watch = watch
        self.serve(bundle)
        clients, ids = self.clients(), count()
        self._producer = _publisher(clients.input, self.input.name, self.clock)
        self.function = SimulatedFunction(clients, self.clock, options)
        self.mapping = EventSourceMapping(
            options.mapping,
            clients.input,
            self._watched,
            MappingTiming(self.clock.monotonic, self.clock.wall),
            s3=clients.s3,
            new_id=lambda: f"id-{next(ids)}",
        )

    def clients(self) -> Clients:
        """Return the clients of the streams and the bucket."""
        return Clients(self.input, self.output, self.bucket, self.queue)

    def invoke(self, event: dict[str, Any]) -> object:
        """Run the function on an event of the mapping."""
        return self.function(event)

    def serve(self, bundle: ExportedBundle) -> None:
        """Store a bundle and promote it: it serves the rides that arrive after the activation delay."""
        store_bundle(self.models, bundle)
        move_channel(self.models, CHANNEL, bundle.model_version, bundle.manifest_sha256, mover=self._mover)

    def roll_back(self, model_version: str) -> None:
        """Put a version that has served in place of the channel's newest one."""
        rollback(self.models, CHANNEL, model_version, mover=self._mover)

    def send(self, entries: Sequence[Entry]) -> None:
        """Send entries as a producer does until the input stream has accepted each one."""
        waiting = entries
        while waiting:
            deadline_s = self.clock.monotonic() + _PRODUCER_PATIENCE_S
            sent = self._producer.publish(waiting, lambda: deadline_s - self.clock.monotonic())  # noqa: B023
            waiting = [waiting[index] for index in sent.unpublished]

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


class SimulatedFunction:
    """The real handler in simulated time, one invocation at a time. A kill or a crash ends its environment."""

    def __init__(self, clients: Clients, clock: SimulatedClock, options: SimulationOptions) -> None:
        self._clients = clients
        self._clock = clock
        self._timeout_s = options.timeout_s
        self._settings = Settings(
            output_stream=OUTPUT_STREAM,
            bucket=BUCKET,
            model_channel=CHANNEL,
            output_format=options.output_format,
            output_groups=options.output_groups,
            rejects_queue_url=clients.queue.url,
        )
        self._refreshes_s = options.refreshes_s
        self._environments: list[InProcessRuntime | None] = [None] * len(options.refreshes_s)
        self._place = -1  # of the environment with the last invocation

    def __call__(self, event: dict[str, Any]) -> object:
        """Run one invocation, after a cold start if there is no environment.

        Raises:
            FunctionTimeoutError: It was killed at its deadline.
            FunctionExitError: Its process ended.
            PredictorError: The handler raised it.
        """
        started_s = self._clock.now_s
        self._clock.deadline_s = started_s + self._timeout_s
        self._place = (self._place + 1) % len(self._environments)
        try:
            environment = self._environments[self._place] or self._cold_start()
            self._environments[self._place] = environment
            with redirect_stdout(_Nowhere()):
                return environment(event)
        except TimeoutError as error:
            self.end_environment()
            raise FunctionTimeoutError(_FUNCTION_NAME, self._clock.now_s - started_s, self._timeout_s) from error
        except FunctionError:
            self.end_environment()
            raise
        finally:
            self._clock.deadline_s = math.inf

    def end_environment(self) -> None:
        """End the environment of the last invocation: its next one is a cold start."""
        self._environments[self._place] = None

    def _cold_start(self) -> InProcessRuntime:
        settings, clock, clients = self._settings, self._clock, self._clients
        refresh_s = self._refreshes_s[self._place]
        handler = StreamHandler(
            models=ModelStore(clients.s3, BUCKET, CHANNEL, refresh_s, clock.monotonic, wall=clock.wall),
            output=Output(
                RejectStore(clients.s3, BUCKET, settings.rejects_queue_url, lambda: clients.queue),
                _publisher(clients.output, OUTPUT_STREAM, clock),
                settings.packed_groups,
            ),
            telemetry=_telemetry(),
            clock=clock.wall,
        )
        return InProcessRuntime(handler, self._timeout_s, _MEMORY_MB, _FUNCTION_NAME, clock.monotonic)


def _publisher(kinesis: Any, stream: str, clock: SimulatedClock) -> Publisher:
    return Publisher(kinesis, stream, clock.sleep, jitter=lambda _, longest_s: longest_s)


class _Nowhere(io.TextIOBase):
    """A file that discards its input."""

    def write(self, text: str) -> int:
        return len(text)


@cache
def _telemetry() -> Telemetry:
    """Return one telemetry for all functions: a logger is never removed from memory."""
    with redirect_stdout(_Nowhere()):
        return Telemetry(_FUNCTION_NAME, _FUNCTION_NAME, "INFO")
