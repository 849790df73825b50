"""A template's text → what CloudFormation creates: parsed, its parameters checked, SAM's macro run."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from infra.template.conditions import broken_rules

Template = dict[str, Any]

_SERVERLESS = "AWS::Serverless-2016-10-31"


class TemplateRefusedError(Exception):
    """CloudFormation would not take the template, or a parameter's value; its text is what AWS would say."""


def parse(text: str) -> Template:
    """Reads a template as `sam deploy` uploads it: YAML without short forms, or JSON, which is YAML too.

    Raises:
        TemplateRefusedError: It is not one.
    """
    try:
        template = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise TemplateRefusedError(f"Template format error: {error}") from error
    if not isinstance(template, dict) or not template.get("Resources"):
        raise TemplateRefusedError("Template format error: At least one Resources member must be defined.")
    return template


def expand(text: str, parameters: Mapping[str, object], region: str) -> Template:
    """Parses a template, checks its parameters and rules, and runs SAM's macro where the template asks for it.

    Args:
        text: The template as it was sent; its code is in S3 already.
        parameters: Values by name; the template's defaults stand for the others.
        region: What the translator resolves partitions for.

    Raises:
        TemplateRefusedError: The template, a parameter or the macro is at fault.
    """
    template = parse(text)
    check_parameters(template.get("Parameters", {}), parameters)
    _check_rules(template, parameters)
    if _SERVERLESS not in _listed(template.get("Transform")):
        return template
    return _translated(template, parameters, region)


def check_parameters(declared: Mapping[str, Any], given: Mapping[str, object]) -> None:
    """Holds values against what the template says of its parameters, as moto does not.

    Raises:
        TemplateRefusedError: One is unknown, missing, or not allowed.

    >>> check_parameters({"Shards": {"Type": "Number", "MinValue": 1}}, {"Shards": "0"})
    Traceback (most recent call last):
        ...
    infra.local.deploy.macro.TemplateRefusedError: Parameter 'Shards' must be a number not less than 1
    """
    if unknown := sorted(given.keys() - declared.keys()):
        raise TemplateRefusedError(f"Parameters: [{', '.join(unknown)}] do not exist in the template")
    missing = [name for name, slot in declared.items() if given.get(name, slot.get("Default")) is None]
    if missing:
        raise TemplateRefusedError(f"Parameters: [{', '.join(missing)}] must have values")
    for name, slot in declared.items():
        if problem := _problem(slot, str(given.get(name, slot.get("Default")))):
            raise TemplateRefusedError(f"Parameter '{name}' must {problem}")


def _check_rules(template: Template, given: Mapping[str, object]) -> None:
    declared = template.get("Parameters", {})
    values = {name: str(given.get(name, slot.get("Default"))) for name, slot in declared.items()}
    if broken := broken_rules(Path("the template"), template, values):
        raise TemplateRefusedError(f"Template validation error: {'; '.join(broken)}")


def _problem(slot: Mapping[str, Any], value: str) -> str:
    """Says what a value must be and is not; "" where it may be so."""
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
    # It takes half a second to import: only who deploys needs it.
    from infra.template.transform import MacroError, translate  # noqa: PLC0415

    try:
        return translate(template, parameters, region)
    except MacroError as error:
        raise TemplateRefusedError(f"Transform {_SERVERLESS} failed with: {error}") from error


def _listed(transform: object) -> list[object]:
    return transform if isinstance(transform, list) else [transform]
