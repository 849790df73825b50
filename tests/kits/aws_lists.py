"""AWS's own lists, as cfn-lint ships them: what CloudFormation calls for a resource, what an action is allowed on."""

import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple


class ResourceType(NamedTuple):
    """A resource type of CloudFormation's registry.

    Attributes:
        properties: Names of all that a template may set.
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
    """What the registry says of a type, as in ``AWS::Kinesis::Stream``."""
    schema = _schemas()[name]
    handlers = (schema["handlers"].get(one, {}) for one in ("create", "read", "update", "delete"))
    calls = {_spelt(action) for handler in handlers for action in handler.get("permissions", ())}
    return ResourceType(frozenset(schema["properties"]), frozenset(calls))


def _spelt(action: str) -> str:
    """An action as IAM's list spells it: the registry has ``s3:getObject`` too."""
    service, _, name = action.partition(":")
    return f"{service}:{name[:1].upper()}{name[1:]}"


@cache
def _policies() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((_folder() / "AdditionalSpecs/Policies.json").read_text(encoding="utf-8"))
    return found


def is_action(action: str) -> bool:
    """Whether IAM's list has it."""
    service, _, name = action.partition(":")
    return name.lower() in _policies().get(service, {}).get("Actions", {})


def resource_kinds(action: str) -> frozenset[str]:
    """The kinds of resources that an action is allowed on, as in ``log-group``; none where AWS takes ``*`` only."""
    service, _, name = action.partition(":")
    listed = _policies()[service]["Actions"][name.lower()].get("Resources", ())
    return frozenset(kind.lower() for kind in listed)
