"""A stack as CloudFormation tells of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from infra.doctor.drift import differences, parse_deployed
from infra.errors import NoSuchStackError
from infra.template.transform import read_template

_OUTPUTS = (
    "FunctionName",
    "FunctionAliasArn",
    "BucketName",
    "RideEventsStream",
    "RideEventsArn",
    "RidePredictionsStream",
)
"""What a stack of this project says of itself."""

_NOT_ASKED = "NOT_CHECKED"


@dataclass(frozen=True, slots=True)
class DeployedStack:
    """A stack's name, and where its parts are.

    Attributes:
        outputs: By name; empty where there is nothing to look at but `status`.
        parameters: As it was deployed with.
        resource_drift: See `StackFacts`.
    """

    name: str
    status: str
    outputs: Mapping[str, str]
    parameters: Mapping[str, str]
    resource_drift: str


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource of a stack: its name in the template, its own name or ARN, its type."""

    logical_name: str
    physical_name: str
    type: str


def describe_stack(cloudformation: Any, name: str) -> DeployedStack:
    """Looks a stack up.

    Raises:
        NoSuchStackError: There is none, or it may not be described, or it is another project's.
    """
    try:
        (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
    except ClientError as error:
        raise NoSuchStackError(name, str(error)) from error
    status, outputs = stack["StackStatus"], _pairs(stack.get("Outputs", ()), "Output")
    if missing := [output for output in _OUTPUTS if output not in outputs]:
        if status in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}:
            raise NoSuchStackError(name, f"it is {status} and has no output {missing[0]}, so it is none of ridecast's")
        outputs = {}  # being made, or given up: its status says all
    drift = stack.get("DriftInformation", {}).get("StackDriftStatus", _NOT_ASKED)
    parameters = _pairs(stack.get("Parameters", ()), "Parameter")
    return DeployedStack(name, status, outputs, parameters, "" if drift == _NOT_ASKED else drift)


def _pairs(listed: Iterable[Mapping[str, str]], kind: str) -> dict[str, str]:
    return {one[f"{kind}Key"]: one[f"{kind}Value"] for one in listed}


def list_resources(cloudformation: Any, name: str) -> tuple[Resource, ...]:
    """Lists what the stack made; what has no name of its own yet is left out.

    Raises:
        ClientError: CloudFormation refused.
    """
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=name)
    return tuple(
        Resource(one["LogicalResourceId"], one["PhysicalResourceId"], one["ResourceType"])
        for page in pages
        for one in page["StackResourceSummaries"]
        if one.get("PhysicalResourceId")
    )


def look_at_drift(cloudformation: Any, name: str, template: Path | None) -> tuple[str, ...] | None:
    """Compares a template with the deployed one; None where there is none to compare with.

    Raises:
        ClientError: CloudFormation refused.
        YAMLError: What is deployed can't be read.
        TemplateError: The one here can't be.
    """
    if template is None:
        return None
    answer = cloudformation.get_template(StackName=name, TemplateStage="Original")
    return differences(read_template(template), parse_deployed(answer["TemplateBody"]))
