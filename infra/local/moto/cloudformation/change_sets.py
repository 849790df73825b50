"""The CloudFormation calls of `sam deploy` and `sam delete`; engine.py applies the templates instead of moto's code.

Not supported: nested stacks, change sets of several pages, drift detection, DisableRollback. The call that starts a
change creates all resources before it returns, so a stack is never seen in progress.
"""

import json
from collections.abc import Mapping
from copy import copy
from typing import Any
from urllib.parse import unquote, urlsplit

from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import Change, ChangeSet, CloudFormationBackend, Stack
from moto.cloudformation.parsing import OutputMap
from moto.cloudformation.responses import CloudFormationResponse
from moto.core.responses import ActionResult
from moto.s3.models import s3_backends

from infra.local.moto.cloudformation.engine import apply, check_types, creation_order, remove
from infra.local.moto.cloudformation.repairs import patch_resources
from infra.local.moto.cloudformation.resources import STAND_INS  # noqa: F401 - moto finds classes once imported
from infra.local.moto.cloudformation.templates import TemplateRefusedError, expand

_NO_CHANGES = "The submitted information didn't contain changes. Submit different information to create a change set."


def patch_cloudformation() -> None:
    """Replace moto's answers with those of this file, and correct its resource types, in the whole process."""
    patch_resources()
    ChangeSet._parse_template = _expand_change_set
    ChangeSet.diff = _diff
    CloudFormationResponse.describe_change_set = _describe_change_set
    CloudFormationBackend.create_change_set = _create_change_set
    CloudFormationBackend.execute_change_set = _execute_change_set
    Stack.has_template = lambda *_: False  # moto's version restores the template with its macros; _is_unchanged decides
    Stack.delete = _delete
    CloudFormationResponse.get_template = _get_template
    CloudFormationResponse._get_stack_from_s3_url = _read_uploaded_template


def _expand_change_set(change_set: ChangeSet) -> None:
    try:
        change_set.template_dict = expand(change_set.template, change_set.parameters, change_set.stack.region_name)
        check_types(change_set.template_dict)
    except TemplateRefusedError as error:
        raise ValidationError(message=str(error)) from error


_moto_diff = ChangeSet.diff


def _diff(change_set: ChangeSet) -> list[Change]:
    """Return the changes, each with its resource before and after as JSON; references are not resolved."""
    changes: list[Change] = _moto_diff(change_set)
    templates = {"after": change_set.template_dict}
    if change_set.change_set_type == "UPDATE":
        templates["before"] = change_set.stack.template_dict
    for change in changes:
        for when, template in templates.items():
            if resource := template["Resources"].get(change.logical_resource_id):
                setattr(change, f"{when}_context", json.dumps(resource))
    return changes


def _describe_change_set(response: CloudFormationResponse) -> ActionResult:
    """Answer DescribeChangeSet: with the values of its changes if the request asks for them."""
    change_set = copy(response.cloudformation_backend.describe_change_set(response._get_param("ChangeSetName")))
    if not response._get_bool_param("IncludePropertyValues"):
        found = change_set.changes
        change_set.changes = [Change(one.action, one.logical_resource_id, one.resource_type) for one in found]
    return ActionResult(change_set)


_moto_create_change_set = CloudFormationBackend.create_change_set


def _create_change_set(backend: CloudFormationBackend, **request: Any) -> tuple[str, str]:
    """Create a change set; one without changes has failed, as on AWS."""
    parameters = {name: _as_sent(value) for name, value in request["parameters"].items()}
    stack = _find(backend, request["stack_name"])
    if request["change_set_type"] == "UPDATE":
        _check_update(request["stack_name"], stack)
    if request["change_set_type"] == "CREATE" and stack is not None:
        _clear_review(backend, stack)
    change_set_id, stack_id = _moto_create_change_set(backend, **{**request, "parameters": parameters})
    change_set = backend.change_sets[change_set_id]
    is_same = stack is not None and _is_unchanged(stack, change_set)
    change_set.status, change_set.execution_status = (
        ("FAILED", "UNAVAILABLE") if is_same else ("CREATE_COMPLETE", "AVAILABLE")
    )
    change_set.status_reason = _NO_CHANGES if is_same else None
    return change_set_id, stack_id


def _check_update(name: str, stack: Stack | None) -> None:
    if stack is None:
        raise ValidationError(message=f"Stack [{name}] does not exist")
    if stack.status == "ROLLBACK_COMPLETE":
        raise ValidationError(message=f"Stack:{stack.stack_id} is in ROLLBACK_COMPLETE state and can not be updated.")


def _as_sent(value: object) -> str:
    """Return a value as in a request: moto stores earlier values parsed."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _find(backend: CloudFormationBackend, name: str) -> Stack | None:
    return next((stack for stack in backend.stacks.values() if name in {stack.name, stack.stack_id}), None)


def _clear_review(backend: CloudFormationBackend, stack: Stack) -> None:
    """Delete a stack that has never been created, so that a new one can have its name."""
    if stack.status != "REVIEW_IN_PROGRESS":
        raise ValidationError(message=f"Stack [{stack.name}] already exists and cannot be created again")
    del backend.stacks[stack.stack_id]


def _is_unchanged(stack: Stack, change_set: ChangeSet) -> bool:
    if change_set.change_set_type != "UPDATE" or stack.template_dict != change_set.template_dict:
        return False
    declared = stack.template_dict.get("Parameters", {})
    defaults = {name: slot["Default"] for name, slot in declared.items() if "Default" in slot}
    now, wanted = ({**defaults, **values} for values in (stack.parameters, change_set.parameters))
    return {name: _as_sent(value) for name, value in now.items()} == {k: _as_sent(v) for k, v in wanted.items()}


def _execute_change_set(backend: CloudFormationBackend, change_set_name: str, **_: object) -> None:
    """Apply a change set; if that fails, roll the stack back and record events about it."""
    change_set = backend.describe_change_set(change_set_name)
    if change_set.execution_status != "AVAILABLE":
        raise ValidationError(message=f"ChangeSet [{change_set_name}] cannot be executed in its current status")
    stack = backend.stacks[change_set.stack_id]
    stack.resource_map.cross_stack_resources = backend.exports
    verb = change_set.change_set_type
    stack._add_stack_event(f"{verb}_IN_PROGRESS", resource_status_reason="User Initiated")
    before = stack.template_dict, dict(stack.parameters)
    exported = [] if verb == "CREATE" else [export.name for export in stack.exports]
    try:
        apply(stack, change_set.template_dict, change_set.parameters)
    except Exception as error:  # noqa: BLE001 - a resource's class may raise anything
        _roll_back(stack, verb, before, str(error))
        change_set.execution_status = "EXECUTE_FAILED"
        return
    stack.template, stack.tags = change_set.template, change_set.tags or stack.tags
    for name in exported:
        backend.exports.pop(name, None)
    backend.exports.update({export.name: export for export in stack.exports})
    change_set.execution_status = "EXECUTE_COMPLETE"
    _end(stack, f"{verb}_COMPLETE")


def _roll_back(stack: Stack, verb: str, before: tuple[dict[str, Any], Mapping[str, str]], reason: str) -> None:
    prefix = "" if verb == "CREATE" else "UPDATE_"
    stack._add_stack_event(f"{prefix}ROLLBACK_IN_PROGRESS", resource_status_reason=reason)
    template, parameters = before
    if verb == "CREATE":
        _remove_all(stack, creation_failed=True)
    else:
        apply(stack, template, parameters)
    _end(stack, f"{prefix}ROLLBACK_COMPLETE")


def _delete(stack: Stack) -> None:
    """Delete a stack's resources, the last created first, except those that their policy retains."""
    stack._add_stack_event("DELETE_IN_PROGRESS", resource_status_reason="User Initiated")
    _remove_all(stack)
    _end(stack, "DELETE_COMPLETE")


def _remove_all(stack: Stack, *, creation_failed: bool = False) -> None:
    resources = stack.resource_map._resource_json_map
    for name in reversed(list(creation_order(resources))):
        remove(stack, name, resources[name], creation_failed=creation_failed)
    # Otherwise moto would create the missing resources when it describes the stack.
    stack.resource_map._resource_json_map = {}
    stack.output_map = OutputMap(stack.resource_map, {}, stack.stack_id)


def _end(stack: Stack, status: str) -> None:
    stack.status = status
    stack._add_stack_event(status)


def _get_template(response: CloudFormationResponse) -> ActionResult:
    """Answer GetTemplate: the template as it was sent or, for the stage Processed, without macros."""
    stack = response.cloudformation_backend.get_stack(response._get_param("StackName"))
    processed = response._get_param("TemplateStage") == "Processed"
    body = json.dumps(stack.template_dict) if processed else stack.template
    return ActionResult({"TemplateBody": body, "StagesAvailable": ["Original", "Processed"]})


def _read_uploaded_template(response: CloudFormationResponse, template_url: str) -> str:
    """Read an uploaded template. Its URL has this server's host, which moto would take for a bucket's name."""
    bucket, _, key = urlsplit(template_url).path.lstrip("/").partition("/")
    stored = s3_backends[response.current_account][response.partition].get_object(bucket, unquote(key))
    if stored is None:
        raise ValidationError(message=f"S3 error: there is no template at {template_url}")
    text: str = stored.value.decode()
    return text
