"""Read all facts of a deployed stack and check them. A part that may not be read is noted, and the rest continues."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from infra.operate.doctor import alarms, function, loop, mapping, monitor, resources, stack, streams
from infra.operate.doctor.facts import Finding, Severity, StackFacts
from infra.operate.doctor.faults import found
from infra.operate.doctor.local import for_local
from infra.operate.doctor.reading import Reading


@dataclass(frozen=True, slots=True)
class Doctor:
    """Reads one stack."""

    client: Callable[[str], Any]  # makes a boto3 client of a service
    stack_name: str  # the stack
    window_minutes: int = 60  # how far back the metrics go
    template: Path | None = None  # the local template to compare with; None compares nothing
    is_local: bool = False  # whether the stack is that of `ridecast up`

    def gather(self) -> StackFacts:
        """Read all facts once.

        Raises:
            UserError: There is no such stack, or it may not be described, or it is another project's, or the local
                template can't be read.
        """
        own = stack.describe_own_stack(self.client("cloudformation"), self.stack_name)
        facts = StackFacts(own.name, own.status, self.window_minutes, self.is_local, own.parameters, own.resource_drift)
        if not own.outputs:
            return facts
        end = datetime.now(UTC)
        reading = Reading(self.client, own, (end - timedelta(minutes=self.window_minutes), end))
        parts: dict[str, Any] = {
            **stack.read(reading, self.template),
            **streams.read(reading),
            **resources.read(reading),
            **function.read(reading),
            **mapping.read_archive(reading),
            **monitor.read(reading),
            **loop.read(reading),
            **alarms.read(reading),
        }
        denied = frozenset(reading.denied)
        return replace(facts, **parts, missing=reading.missing, unread=reading.unread, denied=denied)


def check(facts: StackFacts) -> tuple[Finding, ...]:
    """Check all facts; return the findings, the worst first, findings of one severity in the order of the checks."""
    findings = [finding for one in _CHECKS for finding in one(facts)]
    findings += function.check_waiting_time(facts.work, findings)
    if facts.is_local:
        findings = for_local(findings)
    return tuple(sorted(findings, key=lambda finding: list(Severity).index(finding.severity)))


def _check_missing(facts: StackFacts) -> Iterator[Finding]:
    yield from facts.missing.values()


def _check_unread(facts: StackFacts) -> Iterator[Finding]:
    for name, why in facts.unread.items():
        yield found("denied" if name in facts.denied else "not-read", f"could not be read: {why}", check=name)


def _check_model(facts: StackFacts) -> Iterator[Finding]:
    if facts.model:
        yield facts.model


_CHECKS = (
    stack.check_status,
    _check_missing,
    stack.check_template,
    stack.check_parameters,
    stack.check_resources,
    stack.check_release,
    resources.check_settings,
    streams.check_streams,
    mapping.check_mapping,
    mapping.check_archive,
    streams.check_concurrency,
    _check_model,
    function.check_function,
    function.check_refresh,
    function.check_work,
    monitor.check_monitor,
    loop.check_loop,
    alarms.check_alarms,
    streams.check_quotas,
    alarms.check_waiting,
    _check_unread,
)
