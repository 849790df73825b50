"""Deploy a change set of `sam deploy --no-execute-changeset`: choose it, show it, execute it, and undo it afterwards.

A change set is identified by its name, not by its ARN: the ARN contains the account's number, which a workflow's log
masks, and GitHub drops a job's output that contains something masked.
"""

import hashlib
import shlex
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from botocore.exceptions import ClientError, WaiterError

from infra.stack.describe import DescribedStack, find_stack
from training.errors import UserError

WAIT_S = 10.0
"""Between two reads of a stack that is being deployed."""

MAX_WAITS = 360
"""An hour: a canary takes about 10 minutes, a first deployment 5, and a rollback as long again."""

HOLDS_DATA = frozenset({"AWS::KMS::Key", "AWS::Kinesis::Stream", "AWS::Logs::LogGroup", "AWS::S3::Bucket"})
"""Types whose replacement or removal the approver must not miss, although all of them are retained."""

_GOOD_ENDS = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE"})
_SHOWN_REASONS = 5
_NOT_AVAILABLE = frozenset({"ChangeSetNotFound", "InvalidChangeSetStatus"})

_WITHOUT_DELAY = {"CodeRollout": "AllAtOnce", "RolloutAlarms": "Ignored"}
"""Parameters of an undo. The old version has served before: it takes over at once, and no alarm that the bad release
has raised rolls it back. samconfig.toml sets the usual values again at the next deployment."""


def deployment_parameters(samconfig: Path, environment: str, more: Mapping[str, str]) -> list[str]:
    """Return ``Name=value`` for each parameter of a deployment.

    `sam deploy --parameter-overrides` replaces samconfig.toml's parameters instead of adding to them, so all are given:
    those of the file's environment, as in ``prod``, and more, as an ARN, which outrank them; an empty one is ignored.

    Raises:
        UserError: The file has no such environment.
    """
    tables = tomllib.loads(samconfig.read_text(encoding="utf-8"))
    if environment not in tables:
        raise UserError(f"{samconfig.name} has no environment {environment}", f"add [{environment}.deploy.parameters]")
    overrides = tables[environment].get("deploy", {}).get("parameters", {}).get("parameter_overrides", [])
    words = shlex.split(overrides) if isinstance(overrides, str) else list(map(str, overrides))
    given = dict(word.split("=", 1) for word in words)
    given |= {name: value for name, value in more.items() if value}
    return [f"{name}={value}" for name, value in given.items()]


def clear_change_sets(cloudformation: Any, stack_name: str) -> list[str]:
    """Delete change sets that were never executed, as after a refusal at the gate; return their names.

    Otherwise a plan without changes would leave the change set before it to be executed.
    """
    if find_stack(cloudformation, stack_name) is None:
        return []
    names = [one["ChangeSetName"] for one in _available(cloudformation, stack_name)]
    for name in names:
        cloudformation.delete_change_set(ChangeSetName=name, StackName=stack_name)
    return names


def newest_change_set(cloudformation: Any, stack_name: str) -> str | None:
    """Return the name of a stack's newest change set that can be executed; None if there is none."""
    newest = max(_available(cloudformation, stack_name), key=lambda one: one["CreationTime"], default=None)
    return str(newest["ChangeSetName"]) if newest else None


def _available(cloudformation: Any, stack_name: str) -> list[dict[str, Any]]:
    pages = cloudformation.get_paginator("list_change_sets").paginate(StackName=stack_name)
    return [one for page in pages for one in page["Summaries"] if one["ExecutionStatus"] == "AVAILABLE"]


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one resource."""

    action: str  # Add, Modify, Remove, Import or Dynamic
    logical_id: str
    resource_type: str
    replacement: str  # True, False or Conditional if it is modified, or ""

    @property
    def endangers_data(self) -> bool:
        """Whether something that holds data is removed, or may be replaced."""
        goes = self.action == "Remove" or self.replacement in {"True", "Conditional"}
        return goes and self.resource_type in HOLDS_DATA


def read_changes(cloudformation: Any, stack_name: str, change_set: str) -> list[Change]:
    """Read all changes of a stack's change set."""
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
    """Return a table for the run's summary; changes that endanger data come first.

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
    """Execute a change set and wait until the deployment has ended.

    Returns:
        The stack's status, ``CREATE_COMPLETE`` or ``UPDATE_COMPLETE``.

    Raises:
        UserError: It was rolled back, by a failure or an alarm: the message has the first reasons; or it takes too
            long; or the change set can't be executed any more.
    """
    before = {event["EventId"] for event in _events(cloudformation, stack_name)}
    try:
        cloudformation.execute_change_set(ChangeSetName=change_set, StackName=stack_name)
    except ClientError as error:
        if error.response["Error"]["Code"] not in _NOT_AVAILABLE:
            raise
        what = f"stack {stack_name} is unchanged: {change_set}, or a change set after it, has been executed already"
        raise UserError(what, "plan again") from error
    for _ in range(MAX_WAITS):
        events = _new_events(cloudformation, stack_name, before)
        status = _end(events)
        if status in _GOOD_ENDS:
            return status
        if status:
            raise UserError(f"stack {stack_name} is {status} ({_reasons(events)})", "remove the cause and deploy again")
        sleep(WAIT_S)
    what = f"the deployment of stack {stack_name} has not ended after {MAX_WAITS * WAIT_S / 60:.0f} minutes"
    raise UserError(what, "read the stack's events; it may still end")


def _events(cloudformation: Any, stack_name: str) -> Iterator[dict[str, Any]]:
    """Yield a stack's events, the newest first."""
    for page in cloudformation.get_paginator("describe_stack_events").paginate(StackName=stack_name):
        yield from page["StackEvents"]


def _new_events(cloudformation: Any, stack_name: str, before: set[str]) -> list[dict[str, Any]]:
    """Return the events that are not among those before, the oldest first; reads no more pages than it needs."""
    events = []
    for event in _events(cloudformation, stack_name):
        if event["EventId"] in before:
            break
        events.append(event)
    return events[::-1]


def _end(events: list[dict[str, Any]]) -> str:
    """Return the final status of the stack itself, or "" if it has none yet."""
    own = [event["ResourceStatus"] for event in events if event["PhysicalResourceId"] == event["StackId"]]
    return next((status for status in own if not status.endswith("IN_PROGRESS")), "")


def _reasons(events: list[dict[str, Any]]) -> str:
    failed = (event for event in events if event["ResourceStatus"].endswith("FAILED"))
    reasons = [f"{one['LogicalResourceId']}: {one.get('ResourceStatusReason', 'no reason')}" for one in failed]
    return "; ".join(reasons[:_SHOWN_REASONS]) or "CloudFormation gives no reason"


class Deployed(msgspec.Struct, frozen=True):
    """A stack as it was deployed, stored before a change and deployed again if the new stack fails its smoke test.

    CloudFormation itself rolls back a deployment that fails. After a successful one, the only way back is another
    change set with the template, parameters and tags from before.

    Attributes:
        template: As it was sent: the zips that it names are in the artefact bucket, under names made of their digests.
    """

    stack: DescribedStack
    template: str


def read_deployed(cloudformation: Any, stack_name: str) -> Deployed | None:
    """Return a stack as it is; None if there is none, or if it has never been deployed completely.

    Raises:
        ClientError: CloudFormation refused.
    """
    stack = find_stack(cloudformation, stack_name)
    if stack is None or stack.status == "REVIEW_IN_PROGRESS":  # it has a first change set that was never executed
        return None
    template = cloudformation.get_template(StackName=stack_name, TemplateStage="Original")["TemplateBody"]
    return Deployed(stack, template if isinstance(template, str) else msgspec.json.encode(template).decode())


def undo(
    cloudformation: Any, s3: Any, bucket: str, deployed: Deployed, sleep: Callable[[float], object] = time.sleep
) -> str:
    """Deploy what `read_deployed` returned over the stack as it is now: all at once, and without rollout alarms.

    The template goes through the artefact bucket: CloudFormation takes more than 51,200 bytes only from a bucket.
    Returns the stack's status, ``UPDATE_COMPLETE``.

    Raises:
        UserError: The change set could not be created or executed.
    """
    stack = deployed.stack
    name = f"undo-{hashlib.sha256(deployed.template.encode()).hexdigest()[:12]}-{time.time_ns()}"
    key = f"{stack.name}/{name}.template"
    s3.put_object(Bucket=bucket, Key=key, Body=deployed.template.encode(), ContentType="text/plain")
    parameters = {**stack.parameters, **{n: v for n, v in _WITHOUT_DELAY.items() if n in stack.parameters}}
    role = {"RoleARN": stack.role_arn} if stack.role_arn else {}
    cloudformation.create_change_set(
        StackName=stack.name,
        ChangeSetName=name,
        ChangeSetType="UPDATE",
        TemplateURL=f"{s3.meta.endpoint_url}/{bucket}/{key}",
        Parameters=[{"ParameterKey": one, "ParameterValue": value} for one, value in parameters.items()],
        Tags=[{"Key": one, "Value": value} for one, value in stack.tags.items()],
        Capabilities=list(stack.capabilities),
        **role,
    )
    try:
        waiter = cloudformation.get_waiter("change_set_create_complete")
        waiter.wait(ChangeSetName=name, StackName=stack.name)
    except WaiterError as error:
        raise UserError(f"stack {stack.name} is not undone ({error})", "deploy an older commit") from error
    return execute(cloudformation, stack.name, name, sleep)
