"""The repository's template as plain CloudFormation, for the contract tests: translated once for each set of values."""

from functools import cache
from typing import Any

from infra.local.stack import Stack

OWN = ("Key", "RideEvents", "RidePredictions", "Bucket", "PredictorLogs", "PreTrafficLogs", "Predictor", "PreTraffic")
ROLES = ("PredictorRole", "ApiFunctionRole", "PreTrafficRole", "DeploymentRole")


@cache
def stack(**parameters: str | int) -> Stack:
    """The template with these values for its parameters."""
    return Stack(parameters=parameters)


def resource(name: str, **parameters: str | int) -> dict[str, Any]:
    """A resource by its logical name, its conditions decided."""
    found: dict[str, Any] = stack(**parameters).decided["Resources"][name]
    return found


def properties(name: str, **parameters: str | int) -> dict[str, Any]:
    """A resource's properties, their conditions decided."""
    found: dict[str, Any] = resource(name, **parameters)["Properties"]
    return found


def of_type(kind: str) -> dict[str, dict[str, Any]]:
    """All resources of a type, with the default parameters."""
    resources: dict[str, dict[str, Any]] = stack().decided["Resources"]
    return {name: one for name, one in resources.items() if one["Type"] == kind}


def statements(role: str, **parameters: str | int) -> dict[str, dict[str, Any]]:
    """The statements of a role's one policy, by their ids."""
    (policy,) = properties(role, **parameters)["Policies"]
    return {statement["Sid"]: statement for statement in policy["PolicyDocument"]["Statement"]}


def allowed(role: str, **parameters: str | int) -> set[tuple[str, str]]:
    """Each action that a role allows, with the resource that it allows it on."""
    return {
        (action, str(target))
        for statement in statements(role, **parameters).values()
        for action in as_list(statement["Action"])
        for target in as_list(statement["Resource"])
    }


def as_list(value: Any) -> list[Any]:
    """A value of a policy: one, or a list of them."""
    return value if isinstance(value, list) else [value]


def arn_of(name: str) -> dict[str, list[str]]:
    """The reference to a resource's ARN."""
    return {"Fn::GetAtt": [name, "Arn"]}


def tags_of(properties: dict[str, Any]) -> dict[str, Any]:
    """A resource's tags by key."""
    return {tag["Key"]: tag["Value"] for tag in properties["Tags"]}
