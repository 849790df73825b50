"""The entry point of the monitor: figures, judgement, calibration, status, events, experiments, every 15 minutes.

A run stops adding figures when its time runs out, and experiments get the time that is left; the next run does the
rest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

from lambda_function.aws.clients import make_events_client, make_kms_client, make_s3_client
from lambda_function.aws.invocation import Context
from lambda_function.aws.telemetry import MILLISECONDS_PER_S, Stopwatch
from training.errors import BucketError, UserError
from training.experiments.advance import Advanced, AdvanceOptions, advance_experiments
from training.functions.join import S3_ATTEMPTS, S3_READ_TIMEOUT_S
from training.functions.monitor_telemetry import MonitorTelemetry
from training.functions.settings import MonitorSettings
from training.monitoring.join.skew import Load, stored_models
from training.monitoring.monitor.events import EventBus
from training.monitoring.monitor.monitor import Failure, MonitorOptions, MonitorRun, run_monitor
from training.registry.bucket import Bucket
from training.registry.signing import signer_of


def lambda_handler(event: dict[str, Any], context: Context) -> dict[str, Any]:
    """Run the monitor once.

    Args:
        event: Not used; the schedule and a run by hand send what they like.
        context: Lambda's context.

    Returns:
        ``hours`` and ``days`` added, ``left`` for the next run, ``stored``: False if another run at the same time
        stored its status first, and ``experiments``: the days that each running experiment got.

    Raises:
        StepsFailedError: Steps failed; the others were done, and their status is stored.
    """
    return _cold_start()(event, context)


class StepsFailedError(UserError):
    """Steps of a run that failed."""

    def __init__(self, failures: Sequence[Failure]) -> None:
        problems = "; ".join(f"{step} ({error})" for step, error in failures)
        super().__init__(f"these steps of the monitor failed: {problems}", "the next run tries them again")


@dataclass(frozen=True, slots=True)
class MonitorHandler:
    """The function with its parts.

    Attributes:
        clock: Returns the time, aware.
        load: Loads the served model, and may keep it for the next run; without it, each run loads it.
    """

    bucket: Bucket
    options: MonitorOptions
    bus: EventBus
    telemetry: MonitorTelemetry
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    stopwatch: Callable[[], Stopwatch] = Stopwatch
    load: Load | None = None

    def __call__(self, event: dict[str, Any], context: Context) -> dict[str, Any]:
        """Run the monitor once.

        Raises:
            StepsFailedError: Steps failed; the others were done.
            BucketError: S3 does not give or take the status.
        """
        del event
        stopwatch, now = self.stopwatch(), self.clock()
        try:
            run, experiments = self._run(context)
        except Exception as error:
            self.telemetry.failed(error)
            raise
        self.telemetry.ran(run, now, stopwatch.ms(), experiments)
        if run.failures:
            raise StepsFailedError(run.failures) from run.failures[0].error
        return {
            "hours": [one.hour for one in run.hours],
            "days": run.n_days,
            "left": run.n_left,
            "stored": bool(run.status),
            "experiments": {one.name: len(one.days) for one in experiments},
        }

    def _run(self, context: Context) -> tuple[MonitorRun, tuple[Advanced, ...]]:
        """Run the monitor, and then the experiments; what fails in these counts as a step of the run."""

        def time_left_s() -> float:
            return context.get_remaining_time_in_millis() / MILLISECONDS_PER_S

        run = run_monitor(self.bucket, self.options, self.bus, self.clock, time_left_s, self.load)
        options = AdvanceOptions(
            calibration_mode=self.options.mode,
            signer=self.options.signer,
            time_left_s=time_left_s,
            bus=self.bus,
            stack=self.options.stack,
        )
        try:
            advanced = advance_experiments(self.bucket, run.joined, self.clock(), options)
        except BucketError as error:
            return replace(run, failures=(*run.failures, Failure("experiments", error))), ()
        failed = tuple(Failure(f"experiment {one.name}", one.problem) for one in advanced if one.problem)
        return replace(run, failures=(*run.failures, *failed)), advanced


def build_monitor(
    settings: MonitorSettings, s3: Any, bus: EventBus, make_kms: Callable[[str], Any] = make_kms_client
) -> MonitorHandler:
    """Build the handler around its clients. `make_kms` makes a KMS client of a region, for signed models only."""
    options = MonitorOptions(
        channel=settings.model_channel,
        mode=settings.calibration_mode,
        stack=settings.stack_name,
        activation_delay_s=settings.model_activation_delay_s,
        signer=signer_of(settings.model_signing_key, make_kms),
    )
    telemetry = MonitorTelemetry(settings.service_name, settings.metrics_namespace, settings.log_level)
    bucket = Bucket(s3, settings.bucket)
    return MonitorHandler(bucket, options, bus, telemetry, load=stored_models(bucket, options.signer))


@cache
def _cold_start() -> MonitorHandler:
    """Read the settings and build the clients, once per execution environment."""
    settings = MonitorSettings.from_env()
    return build_monitor(settings, make_s3_client(S3_READ_TIMEOUT_S, S3_ATTEMPTS), make_events_client())
