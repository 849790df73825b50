"""A template applied to a stack of moto's: created in order, changed where it differs, cleaned up last, or put back.

moto's own update removes first, creates in any order, overlooks what a changed resource changes in others, and stops
half-way at the first failure. Resources themselves are still moto's, and as true as their classes are.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from moto.cloudformation import parsing
from moto.cloudformation.models import Event, Stack

from infra.stack.template import broken_rules

# MERGED FROM infra/local/deploy/macro.py
# A template's text → what CloudFormation creates: parsed, its parameters checked, SAM's macro run.
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
    infra.local.moto.cloudformation.engine.TemplateRefusedError: Parameter 'Shards' must be a number not less than 1
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
    from infra.stack.template import MacroError, translate  # noqa: PLC0415

    try:
        return translate(template, parameters, region)
    except MacroError as error:
        raise TemplateRefusedError(f"Transform {_SERVERLESS} failed with: {error}") from error


def _listed(transform: object) -> list[object]:
    return transform if isinstance(transform, list) else [transform]


_KEPT = {"Retain", "RetainExceptOnCreate"}
_KEPT_FROM_THE_FIRST = {"Retain"}


def check_types(template: Template) -> None:
    """Refuses a template with a resource type that nothing here stands for: moto would leave it out in silence.

    Raises:
        TemplateRefusedError: There is one.
    """
    types = {resource["Type"] for resource in template["Resources"].values()}
    if unknown := sorted(one for one in types if parsing.resource_class_from_type(one) is None):
        raise TemplateRefusedError(
            f"the embedded AWS has no {', '.join(unknown)}: add it to infra/local/moto/cloudformation/resources.py"
        )


def apply(stack: Stack, template: Template, parameters: Mapping[str, str]) -> None:
    """Makes a stack what a template says.

    Args:
        stack: moto's; its resources of now are what it is changed from.
        template: Without macros.
        parameters: Values by name.

    Raises:
        Exception: A resource could not be made or changed: whatever its class in moto raised. The stack is then
            half-way, and applying the template of before brings it back.
    """
    old_order = list(creation_order(stack.resource_map._resource_json_map))  # noqa: SLF001 - moto has no other door
    old_resources = stack.resource_map._resource_json_map  # noqa: SLF001
    resources = _load(stack, template, parameters)
    for name in creation_order(resources):
        _make(stack, name, resources[name])
    for name in reversed(old_order):
        if name not in resources:
            remove(stack, name, old_resources[name])
    stack.template_dict = template
    stack.parameters = dict(parameters)
    stack.description = template.get("Description")
    stack.output_map = stack._create_output_map()  # noqa: SLF001


def _load(stack: Stack, template: Template, parameters: Mapping[str, str]) -> dict[str, Any]:
    """Puts a template into moto's lazy map of resources; returns the resources whose condition holds."""
    known = stack.resource_map
    known._template, known._resource_json_map = template, template["Resources"]  # noqa: SLF001
    known.input_parameters, known.resolved_parameters = dict(parameters), {}
    known.load_mapping()
    known.load_parameters()
    known.load_conditions()
    return {
        name: resource
        for name, resource in template["Resources"].items()
        if "Condition" not in resource or known.lazy_condition_map[resource["Condition"]]
    }


def _make(stack: Stack, name: str, resource: Mapping[str, Any]) -> None:
    known = stack.resource_map
    resolved = parsing.clean_json(resource, known)  # by its module: it is mended in repairs.py
    before = _resolved(stack).get(name)
    is_new = name not in known._parsed_resources  # noqa: SLF001
    verb = "CREATE" if is_new else "UPDATE"
    if not is_new and _wanted(resolved) == _wanted(before):
        return
    try:
        if is_new:
            made = known[name]
        else:
            made = parsing.parse_and_update_resource(name, resource, known, stack.account_id, stack.region_name)
    except Exception as error:
        note(stack, name, resource["Type"], f"{verb}_FAILED", str(error))
        raise
    if made is not None:  # None: moto's class can't be changed, and stays as it is
        known._parsed_resources[name] = made  # noqa: SLF001
    _resolved(stack)[name] = resolved
    note(stack, name, resource["Type"], f"{verb}_COMPLETE")


def remove(stack: Stack, name: str, resource: Mapping[str, Any], *, never_was: bool = False) -> None:
    """Deletes one resource, unless its policy keeps it; what is kept no longer belongs to the stack.

    Args:
        stack: The stack.
        name: The resource's logical name.
        resource: As in the template.
        never_was: Whether the stack's creation has failed: less is kept then.
    """
    model = stack.resource_map._parsed_resources.pop(name, None)  # noqa: SLF001
    _resolved(stack).pop(name, None)
    if model is None or isinstance(model, str):
        return
    if resource.get("DeletionPolicy") in (_KEPT_FROM_THE_FIRST if never_was else _KEPT):
        note(stack, name, resource["Type"], "DELETE_SKIPPED")
        return
    stack.resource_map._delete_resource(model, resource)  # noqa: SLF001
    note(stack, name, resource["Type"], "DELETE_COMPLETE")


def _wanted(resolved: Mapping[str, Any] | None) -> object:
    return resolved and (resolved["Type"], resolved.get("Properties"))


def _resolved(stack: Stack) -> dict[str, Any]:
    """Returns each resource's properties as they were applied, by logical name: kept with the stack."""
    if not hasattr(stack, "applied"):
        stack.applied = {}
    applied: dict[str, Any] = stack.applied
    return applied


def note(stack: Stack, name: str, kind: str, status: str, reason: str | None = None) -> None:
    """Adds to the stack's events, which `sam deploy` shows as they come."""
    model = stack.resource_map._parsed_resources.get(name)  # noqa: SLF001
    physical_id = getattr(model, "physical_resource_id", None) or ""
    stack.events.append(Event(stack.stack_id, stack.name, name, physical_id, kind, status, reason, None))


# MERGED FROM infra/local/deploy/order.py
# The order in which a template's resources can be made: each after those that it refers to.
_SUB_NAME = re.compile(r"\$\{([A-Za-z0-9]+)[.}]")


def creation_order(resources: Mapping[str, Any]) -> Iterator[str]:
    """Yields logical names so that each comes after those that it refers to.

    >>> list(creation_order({"A": {"Properties": {"b": {"Ref": "B"}}}, "B": {"DependsOn": "C"}, "C": {}}))
    ['C', 'B', 'A']
    """
    done: set[str] = set()

    def visit(name: str) -> Iterator[str]:
        if name in done:
            return
        done.add(name)
        for other in sorted(_named_in(resources[name]) & resources.keys()):
            yield from visit(other)
        yield name

    for name in resources:
        yield from visit(name)


def _named_in(node: Any) -> set[str]:
    """Returns every string in a piece of template that may name a resource."""
    if isinstance(node, str):
        return {node, node.partition(".")[0], *_SUB_NAME.findall(node)}
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return set().union(*map(_named_in, children))
