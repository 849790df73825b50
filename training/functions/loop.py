"""The entry point of the loop, a durable function: Lambda calls it again from its beginning whenever a run goes on.

It holds no rule: `training.workflows.loop` decides, and every effect is in a step of it.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

import msgspec
from aws_durable_execution_sdk_python import DurableContext, durable_execution

from lambda_function.aws.clients import make_events_client, make_kms_client, make_lambda_client, make_s3_client
from training.functions.durable import DurableCheckpoints
from training.functions.loop_telemetry import LoopTelemetry, tell_with
from training.functions.settings import LoopSettings
from training.monitoring.monitor.events import STATE_CHANGE, EventBus
from training.registry.bucket import Bucket
from training.registry.channels import Mover
from training.registry.signing import signer_of
from training.workflows.loop.checkpoints import Checkpoints
from training.workflows.loop.flow import run_loop
from training.workflows.loop.options import LoopOptions, LoopParts, LoopStart, mover_name
from training.workflows.loop.requests import CollectRequest, TrainRequest

READ_TIMEOUT_S, ATTEMPTS = 20, 5
"""Of requests to S3: nobody waits for the loop."""

INVOKE_READ_TIMEOUT_S, INVOKE_ATTEMPTS = 5, 3
"""Of asynchronous invocations, which Lambda only puts into a queue."""

_MAX_RUN_ID = 64
_MAX_REASON = 500


@durable_execution
def lambda_handler(event: dict[str, Any], context: DurableContext) -> dict[str, Any]:
    """Run the loop once, or go on with a run.

    Args:
        event: Of the schedule or of a person: ``trigger``, ``reason`` and ``id``, all optional. Or the monitor's event
            of an alarm, as EventBridge delivers it.
        context: The durable execution.

    Returns:
        ``run_id``, ``outcome`` and ``text``, the reason.

    Raises:
        RunFailedError: The run failed; its end is recorded.
        StepFailedError: The end of the run could not be recorded.
    """
    start = loop_start(event, execution_name(context.execution_context.durable_execution_arn))
    return _cold_start()(DurableCheckpoints(context), start)


class RunFailedError(Exception):
    """A run ended as failed. The execution ends as failed, too, so that Lambda puts its event into the queue."""


def loop_start(event: Mapping[str, Any], name: str) -> LoopStart:
    """Return why a run begins. The same event gives the same run, however often it is delivered.

    Args:
        event: As `lambda_handler` takes it.
        name: The execution's: the run's id, unless the event has one.
    """
    if event.get("detail-type") == STATE_CHANGE:
        text = str((event.get("detail") or {}).get("text", ""))
        return LoopStart(run_id=_run_id(f"alarm-{event.get('id', name)}"), trigger="alarm", reason=text[:_MAX_REASON])
    reason = str(event.get("reason", ""))[:_MAX_REASON]
    if event.get("trigger") == "schedule":
        return LoopStart(run_id=_run_id(f"schedule-{event.get('id', name)}"), trigger="schedule", reason=reason)
    return LoopStart(run_id=_run_id(str(event.get("id") or name)), trigger="manual", reason=reason)


def _run_id(text: str) -> str:
    return re.sub("[^a-z0-9_-]", "-", text.casefold()).strip("-_")[:_MAX_RUN_ID]


def execution_name(arn: str) -> str:
    """Return the name of a durable execution.

    >>> execution_name("arn:aws:lambda:eu-west-1:123456789012:function:loop:3/durable-execution/by-hand/4c61-9a")
    'by-hand'
    """
    parts = arn.split("/durable-execution/", 1)[-1].split("/")
    return parts[0]


@dataclass(frozen=True, slots=True)
class LambdaWorkers:
    """The collector and the trainer as Lambda functions. Invocations are asynchronous."""

    client: Any
    collector: str
    trainer: str

    def collect(self, request: CollectRequest) -> None:
        """Ask for rides."""
        self._invoke(self.collector, request)

    def train(self, request: TrainRequest) -> None:
        """Ask for a model."""
        self._invoke(self.trainer, request)

    def _invoke(self, function: str, request: msgspec.Struct) -> None:
        self.client.invoke(FunctionName=function, InvocationType="Event", Payload=msgspec.json.encode(request))


@dataclass(frozen=True, slots=True)
class LoopHandler:
    """The function with its parts."""

    parts: LoopParts

    def __call__(self, checkpoints: Checkpoints, start: LoopStart) -> dict[str, Any]:
        """Run the loop once, or go on with a run.

        Raises:
            RunFailedError: The run failed.
        """
        result = run_loop(checkpoints, self.parts, start)
        if result["outcome"] == "failed":
            raise RunFailedError(f"run {result['run_id']}: {result['text']}")
        return result


def _now() -> datetime:
    return datetime.now(UTC)


def build_loop(
    settings: LoopSettings,
    s3: Any,
    invoker: Any,
    bus: EventBus,
    make_kms: Callable[[str], Any] = make_kms_client,
    clock: Callable[[], datetime] = _now,
) -> LoopHandler:
    """Build the handler around its clients: of S3, of Lambda, and of EventBridge.

    `make_kms` makes a KMS client of a region, for signed models only.
    """
    telemetry = LoopTelemetry(settings.service_name, settings.metrics_namespace, settings.log_level)
    parts = LoopParts(
        bucket=Bucket(s3, settings.bucket),
        options=loop_options(settings),
        workers=LambdaWorkers(invoker, settings.collector_function, settings.trainer_function),
        tell=tell_with(telemetry, bus, settings.stack_name),
        clock=clock,
        mover_of=lambda run_id: Mover(mover_name(run_id), clock),
        signer=signer_of(settings.model_signing_key, make_kms),
    )
    return LoopHandler(parts)


def loop_options(settings: LoopSettings) -> LoopOptions:
    """Return the loop's options as the template sets them."""
    return LoopOptions(
        channel=settings.model_channel,
        approval=settings.approval,
        undecided=settings.undecided,
        training_days=settings.training_days,
        cooldown_days=settings.cooldown_days,
        budget_days=settings.budget_days,
        watch_days=settings.watch_days,
        activation_delay_s=settings.model_activation_delay_s,
        calibration_mode=settings.calibration_mode,
        stack=settings.stack_name,
    )


@cache
def _cold_start() -> LoopHandler:
    """Read the settings and build the clients, once per execution environment."""
    s3 = make_s3_client(READ_TIMEOUT_S, ATTEMPTS)
    invoker = make_lambda_client(INVOKE_READ_TIMEOUT_S, INVOKE_ATTEMPTS)
    return build_loop(LoopSettings.from_env(), s3, invoker, make_events_client())
