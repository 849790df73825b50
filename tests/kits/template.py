"""The repository's template as plain CloudFormation, for contract tests: translated once for each set of parameters."""

from functools import cache
from typing import Any

from infra.local.stack import Stack

OWN = (
    *("Key", "RideEvents", "RidePredictions", "RideOutcomes", "Bucket"),
    *("PredictorLogs", "PreTrafficLogs", "ArchiverLogs", "JoinerLogs", "Predictor", "PreTraffic", "Archiver", "Joiner"),
    *("MonitorLogs", "Monitor"),
    *("LooperLogs", "Looper", "CollectorLogs", "Collector", "TrainerLogs", "Trainer", "LoopFailures"),
)
SIGNING_KEY = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
ROLES = (
    *("PredictorRole", "ApiFunctionRole", "ArchiverRole", "JoinerRole", "JoinScheduleRole"),
    *("MonitorRole", "MonitorScheduleRole"),
    *("PreTrafficRole", "DeploymentRole"),
    *("LooperRole", "CollectorRole", "TrainerRole", "LoopScheduleRole"),
)
"""The roles of a stack with the loop."""

POLICIES_OF_ROLES = {
    "LooperRole": ("LooperExecutions",),
    "CollectorRole": ("LoopAnswers",),
    "TrainerRole": ("LoopAnswers",),
}
"""The policies of roles that are resources of their own."""

STREAMS = ("RideEvents", "RidePredictions", "RideOutcomes")
EXISTING_STREAMS = {
    f"{name}Arn": f"arn:aws:kinesis:eu-west-1:123456789012:stream/their-{name.lower()}" for name in STREAMS
}
KEYS_OF_STREAMS = {f"{name}KeyArn": f"arn:aws:kms:eu-west-1:123456789012:key/{name.lower()}" for name in STREAMS}
"""The parameters of a stack on streams that exist already, and are encrypted."""

LOOP: dict[str, str | int] = {"LoopMode": "on"}
"""The parameter of a stack with the loop."""


@cache
def stack(**parameters: str | int) -> Stack:
    """Return the template with these parameters."""
    return Stack(parameters=parameters)


def resource(name: str, **parameters: str | int) -> dict[str, Any]:
    """Return a resource by its logical name, with its conditions decided."""
    found: dict[str, Any] = stack(**parameters).decided["Resources"][name]
    return found


def properties(name: str, **parameters: str | int) -> dict[str, Any]:
    """Return a resource's properties, with their conditions decided."""
    found: dict[str, Any] = resource(name, **parameters)["Properties"]
    return found


def of_type(kind: str, **parameters: str | int) -> dict[str, dict[str, Any]]:
    """Return all resources of a type."""
    resources: dict[str, dict[str, Any]] = stack(**parameters).decided["Resources"]
    return {name: one for name, one in resources.items() if one["Type"] == kind}


def statements(name: str, **parameters: str | int) -> dict[str, dict[str, Any]]:
    """Return the statements of a managed policy, or of a role's policies, by their ids."""
    found = properties(name, **parameters)
    (policy,) = found.get("Policies", [found])
    more = [properties(other, **parameters) for other in POLICIES_OF_ROLES.get(name, ())]
    return {statement["Sid"]: statement for one in (policy, *more) for statement in one["PolicyDocument"]["Statement"]}


def allowed(name: str, **parameters: str | int) -> set[tuple[str, str]]:
    """Return each action that a role or policy allows, with its resource."""
    return {
        (action, str(target))
        for statement in statements(name, **parameters).values()
        for action in as_list(statement["Action"])
        for target in as_list(statement["Resource"])
    }


def as_list(value: Any) -> list[Any]:
    """Return a policy's value as a list."""
    return value if isinstance(value, list) else [value]


def arn_of(name: str) -> dict[str, list[str]]:
    """Return the reference to a resource's ARN."""
    return {"Fn::GetAtt": [name, "Arn"]}


def tags_of(properties: dict[str, Any]) -> dict[str, Any]:
    """Return a resource's tags by key."""
    return {tag["Key"]: tag["Value"] for tag in properties["Tags"]}
