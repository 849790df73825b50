"""What differs between a template here and the one that was deployed; being built and packaged is no difference."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

_MADE_BY_SAM = {"CodeUri", "Metadata", "DefinitionUri"}
"""Building points them elsewhere."""

_SECTIONS = ("Parameters", "Mappings", "Conditions", "Rules", "Globals", "Resources", "Outputs")

_LONGEST_VALUE = 30
"""Characters of a value that a sentence shows; of a longer one it only says that it differs."""


def parse_deployed(body: object) -> dict[str, Any]:
    """Reads what GetTemplate gives: JSON that boto3 has decoded, or YAML, its functions in their long form.

    Raises:
        YAMLError: It is neither, or has functions in their short form: `sam deploy` writes none.
    """
    decoded: dict[str, Any] = yaml.safe_load(body) if isinstance(body, str) else json.loads(json.dumps(body))
    return decoded


def differences(here: Mapping[str, Any], deployed: Mapping[str, Any]) -> tuple[str, ...]:
    """Tells what differs, a sentence an entry of a section; of an entry on both sides, where it first does.

    >>> differences({"Resources": {"A": {"Type": "x"}}}, {"Resources": {"B": {"Type": "x"}}})
    ('A is only here', 'B is only deployed')
    >>> differences({"Parameters": {"A": {"Default": 2}}}, {"Parameters": {"A": {"Default": 1}}})
    ('A.Default is 2 here, 1 deployed',)
    """
    found: list[str] = []
    for section in _SECTIONS:
        mine, theirs = here.get(section, {}), deployed.get(section, {})
        names = dict.fromkeys([*mine, *theirs])
        firsts = (next(_differing(name, _side(mine, name), _side(theirs, name)), "") for name in names)
        found += [sentence for sentence in firsts if sentence]
    return tuple(found)


class _Nothing:
    """What one side has not got."""


_NOTHING = _Nothing()


def _side(entries: Mapping[str, Any], name: str) -> Any:
    return _plain(entries[name]) if name in entries else _NOTHING


def _differing(path: str, mine: Any, theirs: Any) -> Iterator[str]:
    """Tells of each place below a path where two plain values differ, the first first."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        for key in dict.fromkeys([*mine, *theirs]):
            yield from _differing(f"{path}.{key}", mine.get(key, _NOTHING), theirs.get(key, _NOTHING))
    elif mine is _NOTHING:
        yield f"{path} is only deployed"
    elif theirs is _NOTHING:
        yield f"{path} is only here"
    elif mine != theirs:
        both = all(isinstance(side, str) and len(side) <= _LONGEST_VALUE for side in (mine, theirs))
        yield f"{path} is {mine} here, {theirs} deployed" if both else f"{path} differs"


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
