"""Read a deployed stack from CloudFormation: its status, outputs, parameters and resources.

A refusal is a `ClientError`, except in `describe_stack`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from training.errors import UserError

_NOT_CHECKED = "NOT_CHECKED"


@dataclass(frozen=True, slots=True)
class DescribedStack:
    """A deployed stack."""

    name: str
    status: str  # cloudFormation's, as in ``UPDATE_COMPLETE``
    outputs: Mapping[str, str]
    parameters: Mapping[str, str]
    tags: Mapping[str, str]
    capabilities: tuple[str, ...]
    resource_drift: str  # ``DRIFTED`` or ``IN_SYNC``; "" if nobody has started a drift detection
    role_arn: str  # the role that CloudFormation deploys with; "" for the caller's own permissions


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource of a stack: its name in the template, its physical name or ARN, its CloudFormation type."""

    logical_name: str
    physical_name: str
    type: str


def describe_stack(cloudformation: Any, name: str) -> DescribedStack:
    """Return what is deployed under a stack's name.

    Raises:
        UserError: There is no such stack, or the caller may not describe it, or CloudFormation cannot be reached.
    """
    try:
        return _describe(cloudformation, name)
    except (BotoCoreError, ClientError) as error:
        hint = (
            "try again"
            if _is_fault_of_aws(error)
            else "check --stack, --region and --profile, or deploy it first; --local is the stack of `ridecast up`"
        )
        raise UserError(f"cannot describe stack {name}: {error}", hint) from error


def find_stack(cloudformation: Any, name: str) -> DescribedStack | None:
    """Return what is deployed under a stack's name; None if there is no such stack."""
    try:
        return _describe(cloudformation, name)
    except ClientError as error:
        if "does not exist" in error.response["Error"]["Message"]:  # the code is ValidationError, as for other mistakes
            return None
        raise


def list_resources(cloudformation: Any, name: str) -> tuple[Resource, ...]:
    """List the resources of a stack, without those that have no physical name yet."""
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=name)
    return tuple(
        Resource(one["LogicalResourceId"], one["PhysicalResourceId"], one["ResourceType"])
        for page in pages
        for one in page["StackResourceSummaries"]
        if one.get("PhysicalResourceId")
    )


def physical_names(cloudformation: Any, name: str) -> dict[str, str]:
    """Return the physical names of a stack's resources by their logical names."""
    return {one.logical_name: one.physical_name for one in list_resources(cloudformation, name)}


def _is_fault_of_aws(error: BotoCoreError | ClientError) -> bool:
    status = (
        error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) if isinstance(error, ClientError) else 0
    )
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR


def _describe(cloudformation: Any, name: str) -> DescribedStack:
    (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
    drift = stack.get("DriftInformation", {}).get("StackDriftStatus", _NOT_CHECKED)
    return DescribedStack(
        name=name,
        status=stack["StackStatus"],
        outputs=_pairs(stack.get("Outputs", ()), "Output"),
        parameters=_pairs(stack.get("Parameters", ()), "Parameter"),
        tags=_pairs(stack.get("Tags", ()), ""),
        capabilities=tuple(stack.get("Capabilities", ())),
        resource_drift="" if drift == _NOT_CHECKED else drift,
        role_arn=stack.get("RoleARN", ""),
    )


def _pairs(listed: Iterable[Mapping[str, str]], kind: str) -> dict[str, str]:
    return {one[f"{kind}Key"]: one.get(f"{kind}Value", "") for one in listed}
