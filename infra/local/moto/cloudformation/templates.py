"""A template's text → what CloudFormation creates: parse it, check its parameters and rules, run SAM's macro."""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from infra.stack.conditions import broken_rules
from training.errors import UserError

Template = dict[str, Any]

_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_SERVERLESS = "AWS::Serverless-2016-10-31"


class TemplateRefusedError(UserError):
    """CloudFormation refuses the template or a parameter's value; the message is like AWS's."""


def _parse(text: str) -> Template:
    """Parse a template as `sam deploy` uploads it: YAML without short forms, or JSON, which is YAML too."""
    try:
        template = yaml.load(text, _LOADER)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise TemplateRefusedError(f"Template format error: {error}") from error
    if not isinstance(template, dict) or not template.get("Resources"):
        raise TemplateRefusedError("Template format error: At least one Resources member must be defined.")
    return template


def expand(text: str, parameters: Mapping[str, object], region: str) -> Template:
    """Parse a template, check its parameters and rules, and run SAM's macro if the template requests it.

    Args:
        text: The template as it was sent; its code is in S3 already.
        parameters: Values by name; others have the template's defaults.
        region: The region for which the translator resolves the partition of ARNs.

    Raises:
        TemplateRefusedError: The text is not a template, a parameter or a rule is violated, or the macro fails.
    """
    template = _parse(text)
    values = resolve_parameters(template.get("Parameters", {}), parameters)
    if broken := broken_rules(template, values):
        raise TemplateRefusedError(f"Template validation error: {'; '.join(broken)}")
    transform = template.get("Transform")
    if _SERVERLESS not in (transform if isinstance(transform, list) else [transform]):
        return template
    return _translated(template, parameters, region)


def resolve_parameters(declared: Mapping[str, Any], given: Mapping[str, object]) -> dict[str, str]:
    """Return the value of each declared parameter, checked against its declaration, which moto does not do.

    Raises:
        TemplateRefusedError: A parameter is unknown, missing, or has a value that is not allowed.

    >>> resolve_parameters({"Shards": {"Type": "Number", "MinValue": 1}}, {"Shards": "0"})
    Traceback (most recent call last):
        ...
    infra.local.moto.cloudformation.templates.TemplateRefusedError: Parameter 'Shards' must be a number not less than 1
    """
    if unknown := sorted(given.keys() - declared.keys()):
        raise TemplateRefusedError(f"Parameters: [{', '.join(unknown)}] do not exist in the template")
    values = {name: given.get(name, slot.get("Default")) for name, slot in declared.items()}
    if missing := [name for name, value in values.items() if value is None]:
        raise TemplateRefusedError(f"Parameters: [{', '.join(missing)}] must have values")
    resolved = {name: str(value) for name, value in values.items()}
    for name, value in resolved.items():
        if problem := _problem(declared[name], value):
            raise TemplateRefusedError(f"Parameter '{name}' must {problem}")
    return resolved


def _problem(slot: Mapping[str, Any], value: str) -> str:
    """Return the constraint that a value violates; "" if it is allowed."""
    allowed = [str(one) for one in slot.get("AllowedValues", ())]
    if allowed and value not in allowed:
        return f"be one of AllowedValues: [{', '.join(allowed)}]"
    if "AllowedPattern" in slot and not re.fullmatch(slot["AllowedPattern"], value):
        return f"match pattern {slot['AllowedPattern']}"
    return _number_problem(slot, value) if slot.get("Type") == "Number" else ""


def _number_problem(slot: Mapping[str, Any], value: str) -> str:
    try:
        number = float(value)
    except ValueError:
        return "be a number"
    if number < float(slot.get("MinValue", "-inf")):
        return f"be a number not less than {slot['MinValue']}"
    if number > float(slot.get("MaxValue", "inf")):
        return f"be a number not greater than {slot['MaxValue']}"
    return ""


def _translated(template: Template, parameters: Mapping[str, object], region: str) -> Template:
    # The translator takes half a second to import, and not every use of the local AWS deploys a SAM template.
    from infra.stack.translate import translate  # noqa: PLC0415

    try:
        return translate(template, parameters, region)
    except UserError as error:
        raise TemplateRefusedError(f"Transform {_SERVERLESS} failed with: {error}") from error
