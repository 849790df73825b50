"""The entry point of the join: each hour that is due is joined and audited, the newest first.

A run stops when the time that is left may not suffice for another hour; the next run does the rest.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, Protocol

from lambda_function.aws.clients import make_kms_client, make_s3_client
from lambda_function.aws.invocation import Context
from lambda_function.aws.telemetry import Stopwatch
from training.errors import UserError
from training.functions.settings import JoinSettings
from training.functions.telemetry import JoinTelemetry
from training.monitoring.hours import Due, Hour, pass_of
from training.monitoring.join.join import hours_due, join_hour
from training.monitoring.join.options import JoinOptions
from training.monitoring.join.skew import Load, stored_models
from training.monitoring.summary import HourSummary
from training.registry.bucket import Bucket
from training.registry.signing import signer_of

S3_READ_TIMEOUT_S, S3_ATTEMPTS = 20, 5
"""Nobody waits for this function, and an hour takes thousands of requests: one that fails must not cost the hour."""

_TIMES_THE_LONGEST = 1.5
"""Another hour is begun if this many times the longest one of this run is left."""


def lambda_handler(event: dict[str, Any], context: Context) -> dict[str, list[str]]:
    """Join the hours that are due, or those that the event names.

    Args:
        event: ``{"hours": ["2026-08-01T09"]}`` for a run by hand; without hours, as the schedule sends it, those due.
        context: Lambda's context.

    Returns:
        The hours by what became of them: ``joined``, and ``left`` for the next run.

    Raises:
        HoursFailedError: Hours could not be joined; the others were.
    """
    return _cold_start()(event, context)


class HoursFailedError(UserError):
    """Hours that could not be joined."""

    def __init__(self, failed: Sequence[tuple[str, Exception]]) -> None:
        problems = ", ".join(f"{hour} ({error})" for hour, error in failed)
        super().__init__(f"cannot join {problems}", "hours that are due are tried again at the next run")


class Joins(Protocol):
    """What the function does with hours; tests have another one."""

    def due(self) -> Sequence[Due]:
        """Return the hours that are due, in the order in which they are joined."""

    def named(self, hours: Iterable[str]) -> Sequence[Due]:
        """Return hours by their names, as in ``2026-08-01T09``, each with the pass that it is in."""

    def join(self, due: Due) -> HourSummary:
        """Join one hour."""


@dataclass(frozen=True, slots=True)
class ArchiveJoins:
    """The hours of an archive. `clock` returns the time, aware."""

    bucket: Bucket
    options: JoinOptions
    load: Load
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def due(self) -> Sequence[Due]:
        """Return the hours that are due, in the order in which they are joined."""
        return hours_due(self.bucket, self.clock(), self.options)

    def named(self, hours: Iterable[str]) -> Sequence[Due]:
        """Return hours by their names, each with the pass that it is in."""
        now, delay_minutes = self.clock(), self.options.outcome_delay_minutes
        return [Due(hour, pass_of(hour, now, delay_minutes)) for hour in map(Hour.parse, hours)]

    def join(self, due: Due) -> HourSummary:
        """Join one hour."""
        return join_hour(self.bucket, due.hour, self.options, due.pass_number, self.load)


@dataclass(frozen=True, slots=True)
class JoinHandler:
    """The function with its parts."""

    joins: Joins
    telemetry: JoinTelemetry
    stopwatch: Callable[[], Stopwatch] = Stopwatch

    def __call__(self, event: dict[str, Any], context: Context) -> dict[str, list[str]]:
        """Join hours until all are done or the time that is left may not suffice.

        Raises:
            HoursFailedError: Hours could not be joined; the others were.
            UserError: The event names what is no hour, or S3 does not say which hours are due.
        """
        waiting = deque(self._wanted(event))
        joined: list[str] = []
        failed: list[tuple[str, Exception]] = []
        longest_ms = 0.0
        while waiting and context.get_remaining_time_in_millis() > _TIMES_THE_LONGEST * longest_ms:
            due, stopwatch = waiting.popleft(), self.stopwatch()
            name = str(due.hour)
            try:
                self.telemetry.joined(self.joins.join(due), stopwatch.ms())
                joined.append(name)
            except Exception as error:  # noqa: BLE001 - one hour must not stop the others; raised at the end
                self.telemetry.hour_failed(name, error)
                failed.append((name, error))
            longest_ms = max(longest_ms, stopwatch.ms())
        if failed:
            raise HoursFailedError(failed) from failed[0][1]
        return {"joined": joined, "left": [str(due.hour) for due in waiting]}

    def _wanted(self, event: dict[str, Any]) -> Sequence[Due]:
        hours = event.get("hours")
        try:
            return self.joins.named(map(str, hours)) if hours else self.joins.due()
        except Exception as error:
            self.telemetry.failed(error)
            raise


def build_joiner(settings: JoinSettings, s3: Any, make_kms: Callable[[str], Any] = make_kms_client) -> JoinHandler:
    """Build the handler around an S3 client. `make_kms` makes a KMS client of a region, for signed models only."""
    bucket = Bucket(s3, settings.bucket)
    options = JoinOptions(
        outcome_delay_minutes=settings.outcome_delay_minutes,
        channel=settings.model_channel,
        ride_stream=settings.ride_stream,
        outcome_stream=settings.outcome_stream,
    )
    signer = signer_of(settings.model_signing_key, make_kms)
    return JoinHandler(
        ArchiveJoins(bucket, options, stored_models(bucket, signer)),
        JoinTelemetry(settings.service_name, settings.metrics_namespace, settings.log_level),
    )


@cache
def _cold_start() -> JoinHandler:
    """Read the settings and build the client, once per execution environment."""
    return build_joiner(JoinSettings.from_env(), make_s3_client(S3_READ_TIMEOUT_S, S3_ATTEMPTS))
