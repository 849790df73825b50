"""What differs between a template here and the one that was deployed; being built and packaged is no difference."""

import json
from collections.abc import Mapping
from typing import Any

import yaml

_MADE_BY_SAM = {"CodeUri", "Metadata", "DefinitionUri"}
"""Building points them elsewhere."""

_SECTIONS = ("Parameters", "Conditions", "Globals", "Resources", "Outputs")


def parse_deployed(body: object) -> dict[str, Any]:
    """Reads what GetTemplate gives: JSON that boto3 has decoded, or YAML, its functions in their long form."""
    decoded: dict[str, Any] = yaml.safe_load(body) if isinstance(body, str) else json.loads(json.dumps(body))
    return decoded


def differences(here: Mapping[str, Any], deployed: Mapping[str, Any]) -> tuple[str, ...]:
    """Tells what differs, a sentence an entry.

    >>> differences({"Resources": {"A": {"Type": "x"}}}, {"Resources": {"B": {"Type": "x"}}})
    ('A is only here', 'B is only deployed')
    """
    found: list[str] = []
    for section in _SECTIONS:
        mine, theirs = here.get(section, {}), deployed.get(section, {})
        found += [f"{name} is only here" for name in mine if name not in theirs]
        found += [f"{name} is only deployed" for name in theirs if name not in mine]
        found += [f"{name} differs" for name in mine if name in theirs and _plain(mine[name]) != _plain(theirs[name])]
    return tuple(found)


def _plain(node: Any) -> Any:
    """Returns a piece of template as it is compared: a number is its text, and GetAtt is the same in both its forms."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, Mapping):
        return str(node).lower() if isinstance(node, bool) else str(node)
    if set(node) == {"Fn::GetAtt"}:
        target = node["Fn::GetAtt"]
        return {"Fn::GetAtt": target if isinstance(target, str) else ".".join(target)}
    return {key: _plain(value) for key, value in node.items() if key not in _MADE_BY_SAM}
