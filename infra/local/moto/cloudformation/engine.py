"""Apply a template to one of moto's stacks: create in order, update what differs, delete last; or restore a template.

moto's own update deletes first, creates in any order, ignores the effect of a changed resource on others, and stops
half-way at the first failure. The resources themselves are moto's classes, with their limits.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from moto.cloudformation import parsing
from moto.cloudformation.models import Event, Stack

from infra.local.moto.cloudformation.templates import Template, TemplateRefusedError

_RETAINED = {"Retain", "RetainExceptOnCreate"}
_RETAINED_ON_FAILED_CREATE = {"Retain"}


def check_types(template: Template) -> None:
    """Refuse a template with an unsupported resource type: moto would ignore the resource without an error.

    Raises:
        TemplateRefusedError: A resource type is not supported.
    """
    types = {resource["Type"] for resource in template["Resources"].values()}
    if unknown := sorted(one for one in types if parsing.resource_class_from_type(one) is None):
        raise TemplateRefusedError(
            f"the local AWS has no {', '.join(unknown)}: add it to infra/local/moto/cloudformation/resources.py"
        )


def apply(stack: Stack, template: Template, parameters: Mapping[str, str]) -> None:
    """Create, update and delete a stack's resources until it matches a template.

    Args:
        stack: moto's stack with its present resources.
        template: Without macros.
        parameters: Values by name.

    Raises:
        Exception: A resource could not be created or updated: whatever its class in moto raised. The stack is then in
            between; applying the previous template restores it.
    """
    old_order = list(creation_order(stack.resource_map._resource_json_map))
    old_resources = stack.resource_map._resource_json_map
    resources = _load(stack, template, parameters)
    for name in creation_order(resources):
        _create_or_update(stack, name, resources[name])
    for name in reversed(old_order):
        if name not in resources:
            remove(stack, name, old_resources[name])
    stack.template_dict = template
    stack.parameters = dict(parameters)
    stack.description = template.get("Description")
    stack.output_map = stack._create_output_map()


def _load(stack: Stack, template: Template, parameters: Mapping[str, str]) -> dict[str, Any]:
    """Load a template into moto's lazy map of resources and return the resources whose condition holds."""
    known = stack.resource_map
    known._template, known._resource_json_map = template, template["Resources"]
    known.input_parameters, known.resolved_parameters = dict(parameters), {}
    known.load_mapping()
    known.load_parameters()
    known.load_conditions()
    return {
        name: resource
        for name, resource in template["Resources"].items()
        if "Condition" not in resource or known.lazy_condition_map[resource["Condition"]]
    }


def _create_or_update(stack: Stack, name: str, resource: Mapping[str, Any]) -> None:
    known = stack.resource_map
    resolved = parsing.clean_json(resource, known)  # called through its module: repairs.py replaces it
    before = _resolved(stack).get(name)
    is_new = name not in known._parsed_resources
    verb = "CREATE" if is_new else "UPDATE"
    if not is_new and _definition(resolved) == _definition(before):
        return
    try:
        if is_new:
            made = known[name]
        else:
            made = parsing.parse_and_update_resource(name, resource, known, stack.account_id, stack.region_name)
    except Exception as error:
        _add_event(stack, name, resource["Type"], f"{verb}_FAILED", str(error))
        raise
    if made is not None:  # None: moto's class cannot be updated, and stays as it is
        known._parsed_resources[name] = made
    _resolved(stack)[name] = resolved
    _add_event(stack, name, resource["Type"], f"{verb}_COMPLETE")


def remove(stack: Stack, name: str, resource: Mapping[str, Any], *, creation_failed: bool = False) -> None:
    """Delete a resource, or only remove it from the stack if its deletion policy retains it.

    Args:
        stack: The stack.
        name: The resource's logical name.
        resource: As in the template.
        creation_failed: Whether the stack's creation has failed: then fewer policies retain.
    """
    model = stack.resource_map._parsed_resources.pop(name, None)
    _resolved(stack).pop(name, None)
    if model is None or isinstance(model, str):
        return
    if resource.get("DeletionPolicy") in (_RETAINED_ON_FAILED_CREATE if creation_failed else _RETAINED):
        _add_event(stack, name, resource["Type"], "DELETE_SKIPPED")
        return
    stack.resource_map._delete_resource(model, resource)
    _add_event(stack, name, resource["Type"], "DELETE_COMPLETE")


def _definition(resolved: Mapping[str, Any] | None) -> object:
    return resolved and (resolved["Type"], resolved.get("Properties"))


def _resolved(stack: Stack) -> dict[str, Any]:
    """Return the applied definition of each resource by logical name; it is stored as an attribute of the stack."""
    if not hasattr(stack, "applied"):
        stack.applied = {}
    applied: dict[str, Any] = stack.applied
    return applied


def _add_event(stack: Stack, name: str, kind: str, status: str, reason: str | None = None) -> None:
    """Add a stack event; `sam deploy` shows them."""
    model = stack.resource_map._parsed_resources.get(name)
    physical_id = getattr(model, "physical_resource_id", None) or ""
    stack.events.append(Event(stack.stack_id, stack.name, name, physical_id, kind, status, reason, None))


_SUB_NAME = re.compile(r"\$\{([A-Za-z0-9]+)[.}]")


def creation_order(resources: Mapping[str, Any]) -> Iterator[str]:
    """Yield logical names in an order in which each comes after those that it refers to.

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
    """Return every string in a part of a template that may name a resource."""
    if isinstance(node, str):
        return {node, node.partition(".")[0], *_SUB_NAME.findall(node)}
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return set().union(*map(_named_in, children))
