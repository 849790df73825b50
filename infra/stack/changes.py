"""The changes in a change set, as the person who approves them reads them: what changes, from which value to which."""

import difflib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

HOLDS_DATA = frozenset({"AWS::KMS::Key", "AWS::Kinesis::Stream", "AWS::Logs::LogGroup", "AWS::S3::Bucket"})
"""Types whose replacement or removal the approver must not miss, although all of them are retained."""

GRANTS_PERMISSIONS = frozenset(
    {
        "AWS::IAM::ManagedPolicy",
        "AWS::IAM::Policy",
        "AWS::IAM::Role",
        "AWS::KMS::Key",
        "AWS::Lambda::Permission",
        "AWS::S3::BucketPolicy",
        "AWS::SNS::TopicPolicy",
        "AWS::SQS::QueuePolicy",
    }
)
"""Types that hold policies: their values are shown first, and also if they are new or removed."""

MAX_SUMMARY_BYTES = 1_000_000
"""GitHub refuses a step's summary of more than 1 MiB."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one resource."""

    action: str  # Add, Modify, Remove, Import or Dynamic
    logical_id: str
    resource_type: str
    replacement: str  # True, False or Conditional if it is modified, or ""
    before: str = ""  # the resource as JSON; "" if there was none
    after: str = ""

    @property
    def endangers_data(self) -> bool:
        """Whether something that holds data is removed, or may be replaced."""
        goes = self.action == "Remove" or self.replacement in {"True", "Conditional"}
        return goes and self.resource_type in HOLDS_DATA

    @property
    def changes_permissions(self) -> bool:
        """Whether the resource holds policies."""
        return self.resource_type in GRANTS_PERMISSIONS


def read_changes(cloudformation: Any, stack_name: str, change_set: str) -> list[Change]:
    """Read all changes of a stack's change set, with the values before and after."""
    paginator = cloudformation.get_paginator("describe_change_set")
    pages = paginator.paginate(ChangeSetName=change_set, StackName=stack_name, IncludePropertyValues=True)
    return [
        Change(
            action=change["Action"],
            logical_id=change["LogicalResourceId"],
            resource_type=change["ResourceType"],
            replacement=change.get("Replacement", ""),
            before=change.get("BeforeContext", ""),
            after=change.get("AfterContext", ""),
        )
        for page in pages
        for change in (one["ResourceChange"] for one in page["Changes"])
    ]


def as_markdown(stack_name: str, changes: list[Change], account: str = "") -> str:
    """Return a table for the run's summary, with the values behind it. The account's number is left out.

    Changes that endanger data come first in the table, and changes of policies come first among the values.

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
    table = "\n".join([title, "| action | resource | type | replaced |", "|---|---|---|---|", *rows])
    shown = sorted(ordered, key=lambda change: not change.changes_permissions)
    texts = [text.replace(account, "ACCOUNT") if account else text for text in map(_values, shown) if text]
    return "\n".join([table, *_fitting(texts, MAX_SUMMARY_BYTES - len(table.encode()))])


def _values(change: Change) -> str:
    """Return the difference between before and after; "" for a new or removed resource without policies."""
    if not (change.changes_permissions or (change.before and change.after)):
        return ""
    lines = list(difflib.unified_diff(_lines(change.before), _lines(change.after), "before", "after", lineterm=""))
    if not lines:
        return ""
    opened = " open" if change.changes_permissions else ""
    # No line of the difference can end the block: JSON has no line that begins with a backquote.
    body = "\n".join(lines)
    return f"<details{opened}><summary>{change.logical_id}</summary>\n\n```diff\n{body}\n```\n</details>"


def _lines(context: str) -> list[str]:
    """Return a resource's JSON, one value a line."""
    return json.dumps(json.loads(context), indent=2, sort_keys=True).splitlines() if context else []


def _fitting(texts: list[str], max_bytes: int) -> Iterator[str]:
    """Yield the texts that fit, and a sentence that says how many did not."""
    for number, text in enumerate(texts):
        max_bytes -= len(text.encode()) + 1
        if max_bytes < 0:
            yield f"\n**{len(texts) - number} more resources change: read their values in CloudFormation's console.**"
            return
        yield text
