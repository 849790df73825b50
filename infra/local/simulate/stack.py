"""The stack in virtual time: streams and bucket in memory, and the real functions on a simulated clock."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from infra.local.event_source.config import MappingConfig
from infra.local.simulate.arrivals import Sent
from infra.local.simulate.bucket import SortedS3
from infra.local.simulate.loop import SimulatedLoop
from infra.local.simulation.clock import SimulatedClock
from infra.local.simulation.function import SimulatedFunction, silent_telemetry
from infra.local.simulation.simulation import (
    BUCKET,
    CHANNEL,
    OUTCOME_STREAM,
    OUTPUT_STREAM,
    Simulation,
    SimulationOptions,
)
from lambda_function.core.pickup_time import NEW_YORK
from lambda_function.core.records import OUTCOMES, PREDICTIONS, RIDES
from training.functions.join import ArchiveJoins, JoinHandler
from training.functions.monitor import MonitorHandler
from training.functions.monitor_telemetry import MonitorTelemetry
from training.functions.telemetry import JoinTelemetry
from training.model.bundle import ExportedBundle
from training.monitoring.calibration.status import CalibrationMode
from training.monitoring.join.options import JoinOptions
from training.monitoring.join.skew import stored_models
from training.monitoring.monitor.detectors import GROUPS
from training.monitoring.monitor.events import STATE_CHANGE
from training.monitoring.monitor.monitor import MonitorOptions
from training.registry.bucket import Bucket
from training.workflows.loop.options import LoopOptions

INPUT_STREAM = "ride-events"
STACK = "simulated"

_BATCH_RECORDS = 10_000
_TIMEOUT_S = 900.0
_LOG_LEVEL = "WARNING"  # a line costs a third of a millisecond, and nobody reads it
_JOINER, _MONITOR = "simulated-joiner", "simulated-monitor"


class Events:
    """An event bus that keeps the details of all events."""

    def __init__(self) -> None:
        self.details: list[dict[str, Any]] = []

    def put_events(self, *, Entries: Any) -> dict[str, Any]:  # noqa: N803 - boto3's name
        """Take events."""
        self.details += [{"detail_type": one["DetailType"], **json.loads(one["Detail"])} for one in Entries]
        return {"FailedEntryCount": 0, "Entries": [{"EventId": "0"} for _ in Entries]}


def is_alarm(event: dict[str, Any]) -> bool:
    """Return whether an event says that an alarm of data or performance begins."""
    return event["detail_type"] == STATE_CHANGE and event["state"] == "alarm" and event["group"] in GROUPS


class SimulatedStack:
    """Streams, bucket, and the functions that predict, archive, join and monitor.

    Args:
        bundle: The model that serves at the start.
        starts_at_s: Unix time at the start.
        calibration: How often the served model is calibrated.
        loop: The options of the loop; None if it is off.

    Attributes:
        simulation: Streams, bucket, predicting function and archive function.
        bucket: The bucket.
        joiner: The join function, which its schedule invokes.
        monitor: The monitor function, which its schedule invokes.
        events: What EventBridge has got.
        loop: The loop; None if it is off.
    """

    def __init__(
        self,
        bundle: ExportedBundle,
        starts_at_s: float,
        calibration: CalibrationMode,
        loop: LoopOptions | None = None,
    ) -> None:
        self.clock = SimulatedClock(wall_ahead_s=starts_at_s)
        s3 = SortedS3(clock=self.clock.wall)
        streams = {RIDES: INPUT_STREAM, PREDICTIONS: OUTPUT_STREAM, OUTCOMES: OUTCOME_STREAM}
        options = SimulationOptions(
            mapping=_mapping(INPUT_STREAM),
            keeps_all=False,
            archive={kind: _mapping(stream) for kind, stream in streams.items()},
            bucket=s3,
            clock=self.clock,
            log_level=_LOG_LEVEL,
        )
        self.simulation = Simulation(bundle, options)
        self.bucket = Bucket(s3, BUCKET, n_threads=1)
        self.events = Events()
        self.joiner = SimulatedFunction(_JOINER, [self._join_handler], self.clock, _TIMEOUT_S)
        self.loop = SimulatedLoop(self.bucket, loop, self.now) if loop else None
        self.monitor = SimulatedFunction(_MONITOR, [lambda: self._monitor_handler(calibration)], self.clock, _TIMEOUT_S)

    def now(self) -> datetime:
        """Return the time."""
        return datetime.fromtimestamp(self.clock.wall(), UTC)

    def wait_until(self, at_s: float) -> None:
        """Let time pass until a time in seconds since the epoch."""
        self.clock.sleep(max(0.0, at_s - self.clock.wall()))

    def send(self, sent: Iterable[Sent]) -> None:
        """Put records onto their streams, each at its time."""
        ride_events, outcomes = self.simulation.input, self.simulation.outcomes
        for one in sent:
            self.wait_until(one.at_s)
            stream = outcomes if one.is_outcome else ride_events
            stream.append(stream.shard_of(one.key), one.key, one.data)

    def run_mappings(self) -> list[bytes]:
        """Predict and archive all that the streams hold; return the predictions."""
        while self.simulation.mapping.poll_once():
            pass
        while self.simulation.poll_archive():
            pass
        return [data for _, data in self.simulation.output.take()]

    def run_schedules(self) -> None:
        """Run what schedules and alarms start: join what is due, monitor and calibrate, and the loop.

        Raises:
            UserError: One of the functions failed.
        """
        self.joiner({})
        n_before = len(self.events.details)
        self.monitor({})
        if self.loop is None:
            return
        for one in self.events.details[n_before:]:
            if is_alarm(one):
                self.loop.on_alarm(one["text"])
        self.loop.on_day(self.now().astimezone(NEW_YORK).date())

    def run_loop(self) -> None:
        """Go on with the runs of the loop that are due."""
        if self.loop is not None:
            self.loop.resume()

    def _join_handler(self) -> JoinHandler:
        options = JoinOptions(channel=CHANNEL, ride_stream=INPUT_STREAM, outcome_stream=OUTCOME_STREAM, threads=1)
        joins = ArchiveJoins(self.bucket, options, stored_models(self.bucket), self.now)
        return JoinHandler(joins, silent_telemetry(JoinTelemetry, _JOINER, _LOG_LEVEL))

    def _monitor_handler(self, mode: CalibrationMode) -> MonitorHandler:
        options = MonitorOptions(channel=CHANNEL, mode=mode, stack=STACK)
        telemetry = silent_telemetry(MonitorTelemetry, _MONITOR, _LOG_LEVEL)
        load = stored_models(self.bucket)
        return MonitorHandler(self.bucket, options, self.events, telemetry, self.now, load=load)


def _mapping(stream: str) -> MappingConfig:
    return MappingConfig(stream, batch_size=_BATCH_RECORDS, report_batch_item_failures=True)
