"""Compare a local template with the deployed one; what `sam build` and `sam package` change is no difference."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from infra.stack.template import read_template

_MADE_BY_SAM = {"CodeUri", "Metadata", "DefinitionUri"}
"""Keys whose values `sam build` and `sam package` replace."""

_SECTIONS = ("Parameters", "Mappings", "Conditions", "Rules", "Globals", "Resources", "Outputs")

_LONGEST_VALUE = 30
"""Characters of the longest value that a sentence shows."""


def diff_deployed_template(cloudformation: Any, name: str, template: Path | None) -> tuple[str, ...] | None:
    """Compare a local template with the one that a stack was deployed from; return None if there is no local one.

    Raises:
        YAMLError: The deployed template can't be read.
        UserError: The local template can't be read.
    """
    if template is None:
        return None
    answer = cloudformation.get_template(StackName=name, TemplateStage="Original")
    return diff_templates(read_template(template), parse_deployed(answer["TemplateBody"]))


def parse_deployed(body: object) -> dict[str, Any]:
    """Read the template that GetTemplate returns: JSON decoded by boto3, or YAML with functions in their long form.

    Raises:
        YAMLError: It is neither, or has functions in their short form, which `sam deploy` does not write.
    """
    decoded: dict[str, Any] = yaml.safe_load(body) if isinstance(body, str) else json.loads(json.dumps(body))
    return decoded


def diff_templates(local: Mapping[str, Any], deployed: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a sentence for each entry of a section that differs: about its first difference.

    >>> diff_templates({"Resources": {"A": {"Type": "x"}}}, {"Resources": {"B": {"Type": "x"}}})
    ('A is only here', 'B is only deployed')
    >>> diff_templates({"Parameters": {"A": {"Default": 2}}}, {"Parameters": {"A": {"Default": 1}}})
    ('A.Default is 2 here, 1 deployed',)
    """
    found: list[str] = []
    for section in _SECTIONS:
        mine, theirs = (
            {name: _plain(entry) for name, entry in side.get(section, {}).items()} for side in (local, deployed)
        )
        for name in dict.fromkeys([*mine, *theirs]):
            found += [next(_differences(name, mine.get(name), theirs.get(name)), "")]
    return tuple(filter(None, found))


def _differences(path: str, mine: Any, theirs: Any) -> Iterator[str]:
    """Yield a sentence for each place below a path where two plain values differ; None means a missing value."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        for key in dict.fromkeys([*mine, *theirs]):
            yield from _differences(f"{path}.{key}", mine.get(key), theirs.get(key))
    elif mine is None:
        yield f"{path} is only deployed"
    elif theirs is None:
        yield f"{path} is only here"
    elif mine != theirs:
        is_short = all(isinstance(side, str) and len(side) <= _LONGEST_VALUE for side in (mine, theirs))
        yield f"{path} is {mine} here, {theirs} deployed" if is_short else f"{path} differs"


def _plain(node: Any) -> Any:
    """Return a part of a template in the form that is compared: scalars as text, never None, one form of GetAtt."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, Mapping):
        return str(node).lower() if isinstance(node, bool) else str(node)
    if set(node) == {"Fn::GetAtt"}:
        target = node["Fn::GetAtt"]
        return {"Fn::GetAtt": target if isinstance(target, str) else ".".join(target)}
    return {key: _plain(value) for key, value in node.items() if key not in _MADE_BY_SAM}
