"""A change set that `sam deploy --no-execute-changeset` has made: shown to the person at the gate, then carried out.

It is told by its name, never by its ARN: that has the account's number in it, which a workflow's log masks, and GitHub
drops a job's output with something masked in it.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from infra.errors import ChangeSetError

WAIT_S = 10.0
"""Between two looks at a stack at work."""

MAX_WAITS = 360
"""An hour: a canary takes some 10 minutes, a first deployment 5, and rolling back as long again."""

HOLDS_DATA = frozenset({"AWS::KMS::Key", "AWS::Kinesis::Stream", "AWS::Logs::LogGroup", "AWS::S3::Bucket"})
"""Types whose replacement or removal the person at the gate must not miss, though all of them are retained."""

_GOOD_ENDS = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE"})
_BAD_ENDS = frozenset(
    {
        "CREATE_FAILED",
        "DELETE_COMPLETE",
        "DELETE_FAILED",
        "ROLLBACK_COMPLETE",
        "ROLLBACK_FAILED",
        "UPDATE_FAILED",
        "UPDATE_ROLLBACK_COMPLETE",
        "UPDATE_ROLLBACK_FAILED",
    }
)
_SHOWN_REASONS = 5
_NOT_TO_BE_HAD = frozenset({"ChangeSetNotFound", "InvalidChangeSetStatus"})


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one resource.

    Attributes:
        action: ``Add``, ``Modify``, ``Remove``, ``Import`` or ``Dynamic``.
        replacement: ``True``, ``False`` or ``Conditional`` where it is modified, or "".
    """

    action: str
    logical_id: str
    resource_type: str
    replacement: str

    @property
    def endangers_data(self) -> bool:
        """Says whether something that holds data goes, or may be replaced by another."""
        goes = self.action == "Remove" or self.replacement in {"True", "Conditional"}
        return goes and self.resource_type in HOLDS_DATA


def find_stack(cloudformation: Any, stack_name: str) -> dict[str, Any] | None:
    """Returns what CloudFormation says of a stack; None where there is none.

    Raises:
        ClientError: CloudFormation refused.
    """
    try:
        (stack,) = cloudformation.describe_stacks(StackName=stack_name)["Stacks"]
    except ClientError as error:
        if "does not exist" in error.response["Error"]["Message"]:  # its code, ValidationError, says less
            return None
        raise
    found: dict[str, Any] = stack
    return found


def clear_change_sets(cloudformation: Any, stack_name: str) -> list[str]:
    """Deletes what was planned for a stack and never carried out, as by a no at the gate; returns the names.

    Else a plan without changes would leave the one before it to be carried out.
    """
    if find_stack(cloudformation, stack_name) is None:
        return []
    names = [one["ChangeSetName"] for one in _available(cloudformation, stack_name)]
    for name in names:
        cloudformation.delete_change_set(ChangeSetName=name, StackName=stack_name)
    return names


def newest_change_set(cloudformation: Any, stack_name: str) -> str | None:
    """Returns the name of a stack's newest change set that can be carried out; None if there is none."""
    found = _available(cloudformation, stack_name)
    newest = max(found, key=lambda one: one["CreationTime"], default=None)
    return str(newest["ChangeSetName"]) if newest else None


def _available(cloudformation: Any, stack_name: str) -> list[dict[str, Any]]:
    pages = cloudformation.get_paginator("list_change_sets").paginate(StackName=stack_name)
    return [one for page in pages for one in page["Summaries"] if one["ExecutionStatus"] == "AVAILABLE"]


def read_changes(cloudformation: Any, stack_name: str, change_set: str) -> list[Change]:
    """Reads all that a stack's change set would do."""
    pages = cloudformation.get_paginator("describe_change_set").paginate(ChangeSetName=change_set, StackName=stack_name)
    return [
        Change(
            action=change["Action"],
            logical_id=change["LogicalResourceId"],
            resource_type=change["ResourceType"],
            replacement=change.get("Replacement", ""),
        )
        for page in pages
        for change in (one["ResourceChange"] for one in page["Changes"])
    ]


def as_markdown(stack_name: str, changes: list[Change]) -> str:
    """Returns a table for the run's summary, what endangers data first.

    >>> print(as_markdown("ridecast", [Change("Modify", "Predictor", "AWS::Lambda::Function", "False")]))
    ### ridecast: 1 change
    | action | resource | type | replaced |
    |---|---|---|---|
    | Modify | Predictor | AWS::Lambda::Function | False |
    """
    ordered = sorted(changes, key=lambda change: (not change.endangers_data, change.action, change.logical_id))
    rows = (
        f"| {'⚠️ ' if change.endangers_data else ''}{change.action} | {change.logical_id} | {change.resource_type}"
        f" | {change.replacement} |"
        for change in ordered
    )
    title = f"### {stack_name}: {len(changes)} change{'' if len(changes) == 1 else 's'}"
    return "\n".join([title, "| action | resource | type | replaced |", "|---|---|---|---|", *rows])


def execute(
    cloudformation: Any, stack_name: str, change_set: str, sleep: Callable[[float], object] = time.sleep
) -> str:
    """Carries a change set out and waits until the stack has come to an end.

    Returns:
        The stack's status, ``CREATE_COMPLETE`` or ``UPDATE_COMPLETE``.

    Raises:
        ChangeSetError: It was rolled back, by a failure or an alarm, and the first reasons are told; or it takes too
            long; or it can't be carried out any more.
    """
    before = {event["EventId"] for event in _events(cloudformation, stack_name)}
    _begin(cloudformation, stack_name, change_set)
    for _ in range(MAX_WAITS):
        events = _new_events(cloudformation, stack_name, before)
        status = _end(events)
        if status in _GOOD_ENDS:
            return status
        if status:
            raise ChangeSetError(stack_name, status, _reasons(events))
        sleep(WAIT_S)
    raise ChangeSetError(stack_name, "still at work", [f"waited {MAX_WAITS * WAIT_S / 60:.0f} minutes"])


def _begin(cloudformation: Any, stack_name: str, change_set: str) -> None:
    try:
        cloudformation.execute_change_set(ChangeSetName=change_set, StackName=stack_name)
    except ClientError as error:
        if error.response["Error"]["Code"] not in _NOT_TO_BE_HAD:
            raise
        reason = f"change set {change_set} has been carried out already, or another one since: plan anew"
        raise ChangeSetError(stack_name, "left as it is", [reason]) from error


def _events(cloudformation: Any, stack_name: str) -> Iterator[dict[str, Any]]:
    """Yields a stack's events, the newest first."""
    for page in cloudformation.get_paginator("describe_stack_events").paginate(StackName=stack_name):
        yield from page["StackEvents"]


def _new_events(cloudformation: Any, stack_name: str, before: set[str]) -> list[dict[str, Any]]:
    """Returns those that were not there before, the oldest first; older pages are not asked for."""
    events = []
    for event in _events(cloudformation, stack_name):
        if event["EventId"] in before:
            break
        events.append(event)
    return events[::-1]


def _end(events: list[dict[str, Any]]) -> str:
    """Returns the status that the stack itself has come to, or "" while it is at work."""
    own = [event["ResourceStatus"] for event in events if event["PhysicalResourceId"] == event["StackId"]]
    return next((status for status in own if status in _GOOD_ENDS | _BAD_ENDS), "")


def _reasons(events: list[dict[str, Any]]) -> list[str]:
    failed = (event for event in events if event["ResourceStatus"].endswith("FAILED"))
    reasons = [f"{one['LogicalResourceId']}: {one.get('ResourceStatusReason', 'no reason')}" for one in failed]
    return reasons[:_SHOWN_REASONS]
