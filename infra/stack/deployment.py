"""Deploy by a change set: make it, execute exactly the one that was approved, and undo it afterwards."""

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
from infra.stack.upload import upload_template
from training.errors import UserError

WAIT_S = 10.0
"""Between two reads of a stack that is being deployed."""

MAX_WAITS = 360
"""An hour: a canary takes about 10 minutes, a first deployment 5, and a rollback as long again."""

_GOOD_ENDS = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE"})
_SHOWN_REASONS = 5
_NEVER_DEPLOYED = "REVIEW_IN_PROGRESS"  # the status of a stack whose first change set was never executed
_NO_CHANGES = ("didn't contain changes", "No updates are to be performed")
_NOT_AVAILABLE = frozenset({"ChangeSetNotFound", "InvalidChangeSetStatus"})

_WITHOUT_DELAY = {"CodeRollout": "AllAtOnce", "RolloutAlarms": "Ignored"}
"""Parameters of an undo. The old version has served before: it takes over at once, and no alarm that the bad release
has raised rolls it back. samconfig.toml sets the usual values again at the next deployment."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What samconfig.toml says about deployments to one environment."""

    parameters: Mapping[str, str]
    tags: Mapping[str, str]
    capabilities: tuple[str, ...]


def read_settings(samconfig: Path, environment: str) -> Settings:
    """Read an environment's settings, as in ``prod``.

    Raises:
        UserError: The file has no such environment.
    """
    tables = tomllib.loads(samconfig.read_text(encoding="utf-8"))
    if environment not in tables:
        raise UserError(f"{samconfig.name} has no environment {environment}", f"add [{environment}.deploy.parameters]")
    given = tables[environment].get("deploy", {}).get("parameters", {})
    return Settings(
        parameters=dict(word.split("=", 1) for word in _words(given.get("parameter_overrides", []))),
        tags=dict(word.split("=", 1) for word in _words(given.get("tags", []))),
        capabilities=tuple(_words(given.get("capabilities", []))),
    )


def _words(value: str | list[str]) -> list[str]:
    return shlex.split(value) if isinstance(value, str) else list(map(str, value))


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


def _available(cloudformation: Any, stack_name: str) -> list[dict[str, Any]]:
    pages = cloudformation.get_paginator("list_change_sets").paginate(StackName=stack_name)
    return [one for page in pages for one in page["Summaries"] if one["ExecutionStatus"] == "AVAILABLE"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A stack as a change set shall make it."""

    name: str
    template_url: str
    parameters: Mapping[str, str | None]  # None keeps the stack's present value
    tags: Mapping[str, str]
    capabilities: tuple[str, ...]
    role_arn: str  # the role that CloudFormation deploys with; "" for the caller's own permissions


def kept_parameters(stack: DescribedStack | None, template: Mapping[str, Any]) -> dict[str, None]:
    """Return the parameters of a template that a stack has already: they keep their values, as with `sam deploy`."""
    if stack is None or stack.status == _NEVER_DEPLOYED:
        return {}
    return {name: None for name in template.get("Parameters", {}) if name in stack.parameters}


def make_change_set(cloudformation: Any, wanted: Wanted, kind: str) -> str | None:
    """Make a change set and wait for it; return its identity, or None if nothing would change.

    The identity is the end of its ARN, as in ``release-1/0a1b-2c3d``. A change set can't be altered, and another one of
    the same name has another identity. The whole ARN has the account's number, which a workflow's log masks, and GitHub
    drops a job's output that contains something masked.

    Args:
        cloudformation: The client.
        wanted: The stack afterwards.
        kind: The beginning of the change set's name.

    Raises:
        UserError: CloudFormation can't make it.
    """
    stack = find_stack(cloudformation, wanted.name)
    is_new = stack is None or stack.status == _NEVER_DEPLOYED
    name = f"{kind}-{time.time_ns()}"
    made = cloudformation.create_change_set(
        StackName=wanted.name,
        ChangeSetName=name,
        ChangeSetType="CREATE" if is_new else "UPDATE",
        TemplateURL=wanted.template_url,
        Parameters=[_parameter(one, value) for one, value in wanted.parameters.items()],
        Tags=[{"Key": one, "Value": value} for one, value in wanted.tags.items()],
        Capabilities=list(wanted.capabilities),
        **({"RoleARN": wanted.role_arn} if wanted.role_arn else {}),
    )
    try:
        cloudformation.get_waiter("change_set_create_complete").wait(ChangeSetName=name, StackName=wanted.name)
    except WaiterError as error:
        reason = error.last_response.get("StatusReason", str(error))
        if not any(words in reason for words in _NO_CHANGES):
            raise UserError(
                f"no change set of stack {wanted.name} could be made ({reason})", "fix it and plan again"
            ) from error
        cloudformation.delete_change_set(ChangeSetName=name, StackName=wanted.name)
        return None
    return identity_of(made["Id"])


def _parameter(name: str, value: str | None) -> dict[str, Any]:
    found = {"UsePreviousValue": True} if value is None else {"ParameterValue": value}
    return {"ParameterKey": name, **found}


def identity_of(change_set_arn: str) -> str:
    """Return a change set's name and unique id.

    >>> identity_of("arn:aws:cloudformation:us-east-1:123456789012:changeSet/release-1/0a1b-2c3d")
    'release-1/0a1b-2c3d'
    """
    return change_set_arn.partition(":changeSet/")[2]


def execute(
    cloudformation: Any, stack_name: str, change_set: str, sleep: Callable[[float], object] = time.sleep
) -> str:
    """Execute a change set and wait until the deployment has ended.

    Args:
        cloudformation: The client.
        stack_name: The stack.
        change_set: Its identity, as `make_change_set` returned it and the approver saw it.
        sleep: Waits.

    Returns:
        The stack's status, ``CREATE_COMPLETE`` or ``UPDATE_COMPLETE``.

    Raises:
        UserError: It was rolled back, by a failure or an alarm: the message has the first reasons; or it takes too
            long; or the change set is another one, or can't be executed any more.
    """
    before = {event["EventId"] for event in _events(cloudformation, stack_name)}
    name = change_set.partition("/")[0]
    try:
        arn = cloudformation.describe_change_set(ChangeSetName=name, StackName=stack_name)["ChangeSetId"]
        if identity_of(arn) != change_set:
            what = (
                f"stack {stack_name} is unchanged: {name} is not the change set that was shown, but another of its name"
            )
            raise UserError(what, "find out who has made it, and plan again")
        cloudformation.execute_change_set(ChangeSetName=arn, StackName=stack_name)
    except ClientError as error:
        if error.response["Error"]["Code"] not in _NOT_AVAILABLE:
            raise
        what = f"stack {stack_name} is unchanged: {name}, or a change set after it, has been executed already"
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
    if stack is None or stack.status == _NEVER_DEPLOYED:
        return None
    template = cloudformation.get_template(StackName=stack_name, TemplateStage="Original")["TemplateBody"]
    return Deployed(stack, template if isinstance(template, str) else msgspec.json.encode(template).decode())


def undo(
    cloudformation: Any, s3: Any, bucket: str, deployed: Deployed, sleep: Callable[[float], object] = time.sleep
) -> str:
    """Deploy what `read_deployed` returned over the stack as it is now: all at once, and without rollout alarms.

    Returns the stack's status, ``UPDATE_COMPLETE``.

    Raises:
        UserError: The change set could not be created or executed.
    """
    stack = deployed.stack
    wanted = Wanted(
        name=stack.name,
        template_url=upload_template(s3, bucket, stack.name, deployed.template.encode()),
        parameters={**stack.parameters, **{n: v for n, v in _WITHOUT_DELAY.items() if n in stack.parameters}},
        tags=stack.tags,
        capabilities=stack.capabilities,
        role_arn=stack.role_arn,
    )
    change_set = make_change_set(cloudformation, wanted, "undo")
    if change_set is None:
        raise UserError(f"stack {stack.name} is already as it was before", "deploy an older commit")
    return execute(cloudformation, stack.name, change_set, sleep)
