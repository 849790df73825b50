"""A change set that `sam deploy --no-execute-changeset` has made: shown to the person at the gate, then carried out.

It is told by its name, never by its ARN: that has the account's number in it, which a workflow's log masks, and GitHub
drops a job's output with something masked in it.
"""

import argparse
import hashlib
import shlex
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import msgspec
from botocore.exceptions import BotoCoreError, ClientError, WaiterError

from infra.errors import ChangeSetError, TemplateError
from infra.stack.describe import find_stack
from training.errors import UserError

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


# MERGED FROM infra/cicd/undo.py
# What is deployed, remembered before a change and put back after it, where the new stack's smoke test fails.
# CloudFormation rolls back by itself what fails while it is at work. Once it has ended well, it has no way back but
# another change set: of the template, parameters and tags from before.
_WITHOUT_DELAY = {"CodeRollout": "AllAtOnce", "RolloutAlarms": "Ignored"}
"""What is put back has served before: it takes over at once, and no alarm that the bad release set off takes it back.
samconfig.toml says the usual values, so that the next deployment has them again."""


class Deployed(msgspec.Struct, frozen=True):
    """A stack as it is deployed.

    Attributes:
        template: As it was sent: the zips that it names lie in the artefact bucket, under names made of their digests.
        role_arn: What CloudFormation acts as, or "".
    """

    stack_name: str
    template: str
    parameters: dict[str, str]
    tags: dict[str, str]
    capabilities: list[str]
    role_arn: str = ""

    def store(self, path: Path) -> None:
        """Writes it to a file."""
        path.write_bytes(msgspec.json.encode(self))

    @classmethod
    def load(cls, path: Path) -> "Deployed":
        """Reads it from a file."""
        return msgspec.json.decode(path.read_bytes(), type=cls)


def remember(cloudformation: Any, stack_name: str) -> Deployed | None:
    """Returns a stack as it is; None where there is none yet, or none that has ever been deployed in full.

    Raises:
        ClientError: CloudFormation refused.
    """
    stack = find_stack(cloudformation, stack_name)
    if stack is None or stack.status == "REVIEW_IN_PROGRESS":  # a first change set, not carried out yet
        return None
    template = cloudformation.get_template(StackName=stack_name, TemplateStage="Original")["TemplateBody"]
    return Deployed(
        stack_name=stack_name,
        template=template if isinstance(template, str) else msgspec.json.encode(template).decode(),
        parameters=dict(stack.parameters),
        tags=dict(stack.tags),
        capabilities=list(stack.capabilities),
        role_arn=stack.role_arn,
    )


def put_back(
    cloudformation: Any, s3: Any, bucket: str, deployed: Deployed, sleep: Callable[[float], object] = time.sleep
) -> str:
    """Deploys what was remembered, over whatever the stack is now: all at once, whatever alarms say.

    Args:
        cloudformation: A boto3 client.
        s3: A boto3 client.
        bucket: The artefact bucket: a template of over 51,200 bytes must lie in one.
        deployed: What `remember` returned.
        sleep: Waits for seconds.

    Returns:
        The stack's status, ``UPDATE_COMPLETE``.

    Raises:
        ChangeSetError: The change set could not be made or carried out.
    """
    name = f"undo-{hashlib.sha256(deployed.template.encode()).hexdigest()[:12]}-{time.time_ns()}"
    key = f"{deployed.stack_name}/{name}.template"
    s3.put_object(Bucket=bucket, Key=key, Body=deployed.template.encode(), ContentType="text/plain")
    parameters = {**deployed.parameters, **{n: v for n, v in _WITHOUT_DELAY.items() if n in deployed.parameters}}
    role = {"RoleARN": deployed.role_arn} if deployed.role_arn else {}
    cloudformation.create_change_set(
        StackName=deployed.stack_name,
        ChangeSetName=name,
        ChangeSetType="UPDATE",
        TemplateURL=f"{s3.meta.endpoint_url}/{bucket}/{key}",
        Parameters=[{"ParameterKey": one, "ParameterValue": value} for one, value in parameters.items()],
        Tags=[{"Key": one, "Value": value} for one, value in deployed.tags.items()],
        Capabilities=deployed.capabilities,
        **role,
    )
    try:
        waiter = cloudformation.get_waiter("change_set_create_complete")
        waiter.wait(ChangeSetName=name, StackName=deployed.stack_name)
    except WaiterError as error:
        raise ChangeSetError(deployed.stack_name, "not put back", [str(error)]) from error
    return execute(cloudformation, deployed.stack_name, name, sleep)


# MERGED FROM infra/cicd/parameters.py
# The parameters of a deployment: those of samconfig.toml's environment, and those that only the workflow knows.
# `sam deploy --parameter-overrides` does not add to samconfig.toml's, it replaces them: so all are given.
def deployment_parameters(samconfig: Path, environment: str, more: Mapping[str, str]) -> list[str]:
    """Returns ``Name=value`` for each parameter; `more` wins, but an empty value in it says nothing.

    Args:
        samconfig: The file.
        environment: One of its tables, as in ``prod``.
        more: Values that are not in the file: of one account, as an ARN.

    Raises:
        TemplateError: The file has no such environment.
    """
    tables = tomllib.loads(samconfig.read_text(encoding="utf-8"))
    if environment not in tables:
        raise TemplateError(samconfig, f"has no environment {environment}: add [{environment}.deploy.parameters]")
    overrides = tables[environment].get("deploy", {}).get("parameters", {}).get("parameter_overrides", [])
    words = shlex.split(overrides) if isinstance(overrides, str) else list(map(str, overrides))
    given = dict(word.split("=", 1) for word in words)
    given |= {name: value for name, value in more.items() if value}
    return [f"{name}={value}" for name, value in given.items()]


# MERGED FROM infra/cicd/__main__.py
# `python -m infra.cicd parameters | clear | show | execute | undo`: what a deployment does around `sam deploy`.
SAMCONFIG = Path("samconfig.toml")
BEFORE = Path("build/before.json")
"""Where `execute` keeps what was deployed, for `undo`."""


def parameters(_: Callable[[str], Any], options: argparse.Namespace) -> None:
    """Writes the parameters for `sam deploy`, a line each."""
    more = dict(word.split("=", 1) for word in options.more)
    sys.stdout.writelines(f"{word}\n" for word in deployment_parameters(SAMCONFIG, options.environment, more))


def clear(clients: Callable[[str], Any], options: argparse.Namespace) -> None:
    """Deletes change sets of before that were never carried out."""
    for name in clear_change_sets(clients("cloudformation"), options.stack):
        sys.stdout.write(f"{options.stack}: {name} was never carried out, deleted\n")


def show(clients: Callable[[str], Any], options: argparse.Namespace) -> None:
    """Writes what the newest change set would do, in Markdown, and its name for the steps to come."""
    cloudformation = clients("cloudformation")
    name = newest_change_set(cloudformation, options.stack)
    changes = read_changes(cloudformation, options.stack, name) if name else []
    sys.stdout.write(as_markdown(options.stack, changes) + "\n")
    if options.github_output:
        with options.github_output.open("a", encoding="utf-8") as output:
            output.write(f"change_set={name or ''}\n")


def execute_command(clients: Callable[[str], Any], options: argparse.Namespace) -> None:
    """Remembers what is deployed, and carries a change set out."""
    cloudformation = clients("cloudformation")
    if before := remember(cloudformation, options.stack):
        options.before.parent.mkdir(parents=True, exist_ok=True)
        before.store(options.before)
    sys.stdout.write(f"{options.stack}: {execute(cloudformation, options.stack, options.change_set)}\n")


def undo(clients: Callable[[str], Any], options: argparse.Namespace) -> None:
    """Puts back what `execute` remembered; after a first deployment there is nothing to put back."""
    if not options.before.exists():
        sys.stdout.write(f"{options.stack}: a first deployment, left as it is\n")
        return
    deployed = Deployed.load(options.before)
    status = put_back(clients("cloudformation"), clients("s3"), options.bucket, deployed)
    sys.stdout.write(f"{options.stack}: {status}, as it was before\n")


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m infra.cicd", description=__doc__)
    parser.add_argument("--endpoint-url", help="Another AWS than the real one.")
    commands = parser.add_subparsers(required=True)
    parameters_parser = commands.add_parser("parameters", help=parameters.__doc__)
    parameters_parser.set_defaults(command=parameters)
    parameters_parser.add_argument("--environment", required=True, help="One of samconfig.toml's.")
    parameters_parser.add_argument("more", nargs="*", metavar="Name=value", help="Added; an empty value is left out.")
    for name, command in (("clear", clear), ("show", show), ("execute", execute_command), ("undo", undo)):
        subparser = commands.add_parser(name, help=command.__doc__)
        subparser.set_defaults(command=command)
        subparser.add_argument("--stack", required=True)
        if name == "show":
            subparser.add_argument("--github-output", type=Path, help="The file that a step's outputs go to.")
        if name in {"execute", "undo"}:
            subparser.add_argument("--before", type=Path, default=BEFORE, help="What was deployed before.")
        if name == "execute":
            subparser.add_argument("--change-set", required=True, help="Its name.")
        if name == "undo":
            subparser.add_argument("--bucket", required=True, help="The artefact bucket.")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Runs a step, and returns its exit code."""
    options = read_options(arguments)
    try:
        options.command(lambda service: boto3.client(service, endpoint_url=options.endpoint_url), options)
    except (BotoCoreError, ClientError, UserError) as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
