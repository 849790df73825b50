"""Helpers to read the bootstrap template: its policies, resolved for one stack in one account."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from infra.stack.conditions import decide
from infra.stack.template import BOOTSTRAP, read_template
from tests.kits.template import as_list

REGION, ACCOUNT = "eu-west-1", "123456789012"
DEV = {
    "AWS::AccountId": ACCOUNT,
    "AWS::Partition": "aws",
    "AWS::Region": REGION,
    "AWS::StackName": "ridecast-cicd-dev",
    "AWS::URLSuffix": "amazonaws.com",
    "ArtefactBucket.Arn": "arn:aws:s3:::ridecast-cicd-dev-artefactbucket-1x2y3z",
    "Boundary": f"arn:aws:iam::{ACCOUNT}:policy/ridecast-cicd-dev-Boundary-1X2Y3Z",
    "EnvironmentName": "dev",
    "ExecutionRole.Arn": f"arn:aws:iam::{ACCOUNT}:role/ridecast-cicd-dev-ExecutionRole-1X2Y3Z",
    "Repository": "owner/ridecast",
    "RepositoryId": "456789",
    "RepositoryOwnerId": "123456",
    "RideEventsName": "ride-events-dev",
    "RideOutcomesName": "ride-outcomes-dev",
    "RidePredictionsName": "ride-predictions-dev",
    "StackName": "ridecast-dev",
}
"""The values of the template's references, in one account."""

Statement = dict[str, Any]


def bootstrap_resources(**parameters: str) -> dict[str, Any]:
    """Return the template's resources, with its conditions decided by these parameters and the others' defaults."""
    template = read_template(BOOTSTRAP)
    defaults = {name: str(one.get("Default", "")) for name, one in template["Parameters"].items()}
    found: dict[str, Any] = decide(template, {**defaults, **parameters})["Resources"]
    return found


def document(resource: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document of a role's only policy, or of a managed policy."""
    properties = resource["Properties"]
    found: dict[str, Any] = properties.get("PolicyDocument") or properties["Policies"][0]["PolicyDocument"]
    return found


def statements(*resources: Mapping[str, Any]) -> Iterator[Statement]:
    for resource in resources:
        yield from document(resource)["Statement"]


def actions(*resources: Mapping[str, Any]) -> set[str]:
    """Return all allowed actions."""
    return {
        action
        for statement in statements(*resources)
        if statement["Effect"] == "Allow"
        for action in as_list(statement["Action"])
    }


def execution_policies(resources: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the policies of the role with which CloudFormation deploys."""
    role = resources["ExecutionRole"]["Properties"]
    assert "Policies" not in role
    return [resources[policy["Ref"]] for policy in role["ManagedPolicyArns"]]


def resolved(node: Any, values: Mapping[str, str]) -> Any:
    """Return a part of the template with its references replaced.

    Args:
        node: The part.
        values: By reference, as in ``StackName`` and ``ArtefactBucket.Arn``.
    """
    if isinstance(node, list):
        return [resolved(one, values) for one in node]
    if not isinstance(node, dict):
        return node
    found = _reference(node, values)
    return {key: resolved(value, values) for key, value in node.items()} if found is None else found


def _reference(node: Mapping[str, Any], values: Mapping[str, str]) -> str | None:
    """Return the text that a function of CloudFormation stands for; None if the node is none."""
    match node:
        case {"Fn::Sub": [text, names]}:
            return _reference({"Fn::Sub": text}, {**values, **resolved(names, values)})
        case {"Fn::Sub": text}:
            return re.sub(r"\$\{([^}]+)\}", lambda found: values[found[1]], text)
        case {"Fn::Select": [index, {"Fn::Split": [separator, text]}]}:
            return str(resolved(text, values)).split(separator)[int(index)]
        case {"Fn::Join": [glue, {"Fn::Split": [separator, text]}]}:
            return str(glue).join(str(resolved(text, values)).split(separator))
        case {"Ref": path} | {"Fn::GetAtt": path}:
            return values[".".join(as_list(path))]
    return None
