"""Telemetry of the loop: a log line, a metric and an event for each step."""

from datetime import UTC
from typing import ClassVar

from aws_lambda_powertools.metrics import MetricUnit

from lambda_function.aws.telemetry import FunctionTelemetry
from training.errors import UserError
from training.monitoring.monitor.events import EventBus, send_events
from training.monitoring.monitor.status import Event
from training.workflows.loop.options import LoopEvent, Tell

LOOP_STEP = "ridecast loop step"
"""The detail type of its events."""

_END_METRICS = {
    "promoted": "LoopPromotions",
    "rolled back": "LoopRollbacks",
    "refused": "LoopRefusals",
    "failed": "LoopFailures",
}
"""The metric that counts runs by how they ended; other ends are in the log and the events."""

_TOLD = ("decide", "approve")
"""Steps that people are told of, beside the moves and the end: a run begins, and one waits for them."""

_MOVES = ("promoted", "rolled back")


class LoopTelemetry(FunctionTelemetry):
    """Logs and metrics of the loop."""

    FAILED: ClassVar[str] = "LoopFailures"

    def step(self, event: LoopEvent) -> None:
        """Write the log line and the metrics of a step."""
        log = self.logger.warning if event.end and event.end.outcome in {"failed", "rolled back"} else self.logger.info
        facts = {"run_id": event.run_id, "step": event.step, "outcome": event.outcome, "text": event.text}
        log("step", extra={**facts, "event_id": event.event_id, "facts": event.facts})
        metrics = self._metrics()
        metrics.add_metric("LoopSteps", MetricUnit.Count, 1)
        if is_end(event) and event.end and event.end.outcome in _END_METRICS:
            metrics.add_metric(_END_METRICS[event.end.outcome], MetricUnit.Count, 1)
        metrics.flush_metrics()


class NotSentError(UserError):
    """EventBridge did not take a step's event."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"EventBridge did not take the step's event: {problem}", "the step is tried again")


def tell_with(telemetry: LoopTelemetry, bus: EventBus, stack: str) -> Tell:
    """Return what tells of a step: it sends the event, then logs and counts the step."""

    def tell(event: LoopEvent) -> None:
        sent = send_events(bus, [step_event(event, stack)])
        if sent.pending:
            raise NotSentError(sent.problem or "no reason given")
        telemetry.step(event)

    return tell


def is_end(event: LoopEvent) -> bool:
    """Whether this is the event of a run's end, and not of the step that led to it."""
    return event.step == "end"


def step_event(event: LoopEvent, stack: str) -> Event:
    """Return a step as an event of EventBridge. `tell` says whether people should read it."""
    is_told = event.step in _TOLD or event.outcome in _MOVES or is_end(event)
    place = f"Stack {stack}, " if stack else ""
    return Event(
        event_id=event.event_id,
        time=event.at.astimezone(UTC).isoformat(),
        detail_type=LOOP_STEP,
        detail={
            "stack": stack,
            "channel": event.channel,
            "run_id": event.run_id,
            "step": event.step,
            "outcome": event.outcome,
            "text": f"{place}run {event.run_id} of the loop, {event.step}: {event.outcome}. {event.text}",
            "end": event.end.outcome if event.end else None,
            "tell": is_told,
        },
    )
