"""A template applied to a stack of moto's: created in order, changed where it differs, cleaned up last, or put back.

moto's own update removes first, creates in any order, overlooks what a changed resource changes in others, and stops
half-way at the first failure. Resources themselves are still moto's, and as true as their classes are.
"""

from collections.abc import Mapping
from typing import Any

from moto.cloudformation import parsing
from moto.cloudformation.models import Event, Stack

from infra.local.deploy.macro import Template, TemplateRefusedError
from infra.local.deploy.order import creation_order

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
            f"the embedded AWS has no {', '.join(unknown)}: add it to infra/local/moto_cloudformation/stand_ins.py"
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
