"""AWS's lists, as cfn-lint ships them: CloudFormation's calls for a resource, the resources of an action."""

import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple


class ResourceType(NamedTuple):
    """A resource type of CloudFormation's registry.

    Attributes:
        properties: The names of all properties.
        calls: The permissions of its handlers that create, read, update and delete it.
    """

    properties: frozenset[str]
    calls: frozenset[str]


@cache
def _folder() -> Path:
    found = find_spec("cfnlint")  # importing it takes seconds
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "data"


@cache
def _schemas() -> dict[str, dict[str, Any]]:
    files = (json.loads(path.read_text(encoding="utf-8")) for path in (_folder() / "schemas/resources").glob("*.json"))
    return {schema["typeName"]: schema for schema in files}


def resource_type(name: str) -> ResourceType:
    """Return the registry's entry for a type, as in ``AWS::Kinesis::Stream``."""
    schema = _schemas()[name]
    handlers = (schema["handlers"].get(one, {}) for one in ("create", "read", "update", "delete"))
    calls = {_iam_spelling(action) for handler in handlers for action in handler.get("permissions", ())}
    return ResourceType(frozenset(schema["properties"]), frozenset(calls))


def _iam_spelling(action: str) -> str:
    """Return an action in the spelling of IAM's list: the registry has ``s3:getObject`` too."""
    service, _, name = action.partition(":")
    return f"{service}:{name[:1].upper()}{name[1:]}"


@cache
def _policies() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((_folder() / "AdditionalSpecs/Policies.json").read_text(encoding="utf-8"))
    return found


def is_action(action: str) -> bool:
    """Return whether IAM's list has the action."""
    service, _, name = action.partition(":")
    return name.lower() in _policies().get(service, {}).get("Actions", {})


def resource_kinds(action: str) -> frozenset[str]:
    """Return the kinds of resources of an action, as in ``log-group``; none if AWS accepts only ``*``."""
    service, _, name = action.partition(":")
    listed = _policies()[service]["Actions"][name.lower()].get("Resources", ())
    return frozenset(kind.lower() for kind in listed)
