"""CloudFormation's calls as `sam deploy` and `sam delete` use them, answered by `engine.py` instead of moto's code.

What is not here: nested stacks and change sets of several pages; drift detection; DisableRollback; and a stack's
resources are all made within the one call that starts it, so nobody ever sees CREATE_IN_PROGRESS last.
"""

import importlib
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from moto.awslambda import urls
from moto.awslambda.responses import LambdaResponse
from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import ChangeSet, CloudFormationBackend, Stack
from moto.cloudformation.parsing import OutputMap
from moto.cloudformation.responses import CloudFormationResponse
from moto.codedeploy.responses import CodeDeployResponse
from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult
from moto.s3.models import s3_backends

from infra.local.moto.cloudformation.engine import (
    TemplateRefusedError,
    apply,
    check_types,
    creation_order,
    expand,
    remove,
)
from infra.local.moto.cloudformation.policies import patch_enforcement
from infra.local.moto.cloudformation.resources import KINDS, repair, stand_in


# MERGED FROM infra/local/moto_cloudformation/rollout.py
# Calls of a rollout of new code that moto lacks: so that whoever may make them is answered, and not only let through.
# A verdict is kept as its deployment's status, and nothing else follows from it: here no traffic shifts. No version has
# provisioned concurrency.
def patch_rollout() -> None:
    """Adds them to moto's, for the whole process; before its applications are made."""
    CodeDeployResponse.put_lifecycle_event_hook_execution_status = _put_verdict
    LambdaResponse.get_provisioned_concurrency_config = _find_no_provisioned_concurrency
    urls.url_paths[r"{0}/(?P<api_version>[^/]+)/functions/(?P<function_name>[\w_:%-]+)/provisioned-concurrency$"] = (
        LambdaResponse.dispatch
    )


def _put_verdict(response: CodeDeployResponse) -> ActionResult:
    deployment = response.codedeploy_backend.get_deployment(response._get_param("deploymentId"))  # noqa: SLF001
    deployment.status = response._get_param("status")  # noqa: SLF001
    hook = response._get_param("lifecycleEventHookExecutionId")  # noqa: SLF001
    return ActionResult({"lifecycleEventHookExecutionId": hook})


def _find_no_provisioned_concurrency(_: LambdaResponse) -> None:
    raise _NoProvisionedConcurrencyError


class _NoProvisionedConcurrencyError(JsonRESTError):  # type: ignore[misc] # moto is not typed
    code = 404

    def __init__(self) -> None:
        super().__init__("ProvisionedConcurrencyConfigNotFoundException", "No Provisioned Concurrency Config found")


_NO_CHANGES = "The submitted information didn't contain changes. Submit different information to create a change set."


def patch_cloudformation() -> None:
    """Puts the answers of this file in the place of moto's, and the missing types beside its own."""
    for kind in KINDS:
        stand_in(kind)
    # To have its classes is enough: moto finds them by itself, as it does the stand-ins'.
    importlib.import_module("infra.local.moto.cloudformation.resources")
    repair()
    patch_enforcement()
    patch_rollout()
    patch_account_settings()
    ChangeSet._parse_template = _expand_change_set  # noqa: SLF001
    CloudFormationBackend.create_change_set = _create_change_set
    CloudFormationBackend.execute_change_set = _execute_change_set
    Stack.has_template = lambda *_: False  # moto's puts the template with its macros back; _says_the_same decides
    Stack.delete = _delete
    CloudFormationResponse.get_template = _get_template
    CloudFormationResponse._get_stack_from_s3_url = _read_uploaded_template  # noqa: SLF001


def _expand_change_set(change_set: ChangeSet) -> None:
    try:
        change_set.template_dict = expand(change_set.template, change_set.parameters, change_set.stack.region_name)
        check_types(change_set.template_dict)
    except TemplateRefusedError as error:
        raise ValidationError(message=str(error)) from error


_moto_create_change_set = CloudFormationBackend.create_change_set


def _create_change_set(backend: CloudFormationBackend, **request: Any) -> tuple[str, str]:
    """Makes a change set; one that would change nothing has failed, as in AWS."""
    parameters = {name: _as_sent(value) for name, value in request["parameters"].items()}
    stack = _find(backend, request["stack_name"])
    if request["change_set_type"] == "UPDATE" and stack is None:
        raise ValidationError(message=f"Stack [{request['stack_name']}] does not exist")
    if request["change_set_type"] == "CREATE" and stack is not None:
        _clear_review(backend, stack)
    change_set_id, stack_id = _moto_create_change_set(backend, **{**request, "parameters": parameters})
    change_set = backend.change_sets[change_set_id]
    is_same = stack is not None and _says_the_same(stack, change_set)
    change_set.status, change_set.execution_status = (
        ("FAILED", "UNAVAILABLE") if is_same else ("CREATE_COMPLETE", "AVAILABLE")
    )
    change_set.status_reason = _NO_CHANGES if is_same else None
    return change_set_id, stack_id


def _as_sent(value: object) -> str:
    """Writes a value as a request has it: moto keeps previous ones parsed."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _find(backend: CloudFormationBackend, name: str) -> Stack | None:
    return next((stack for stack in backend.stacks.values() if name in {stack.name, stack.stack_id}), None)


def _clear_review(backend: CloudFormationBackend, stack: Stack) -> None:
    """Makes way for a new stack where the one of that name was never begun."""
    if stack.status != "REVIEW_IN_PROGRESS":
        raise ValidationError(message=f"Stack [{stack.name}] already exists and cannot be created again")
    del backend.stacks[stack.stack_id]


def _says_the_same(stack: Stack, change_set: ChangeSet) -> bool:
    if change_set.change_set_type != "UPDATE" or stack.template_dict != change_set.template_dict:
        return False
    declared = stack.template_dict.get("Parameters", {})
    defaults = {name: slot["Default"] for name, slot in declared.items() if "Default" in slot}
    now, wanted = ({**defaults, **values} for values in (stack.parameters, change_set.parameters))
    return {name: _as_sent(value) for name, value in now.items()} == {k: _as_sent(v) for k, v in wanted.items()}


def _execute_change_set(backend: CloudFormationBackend, change_set_name: str, **_: object) -> None:
    """Applies a change set; if it fails, the stack goes back to what it was, and says so in its events."""
    change_set = backend.describe_change_set(change_set_name)
    if change_set.execution_status != "AVAILABLE":
        raise ValidationError(message=f"ChangeSet [{change_set_name}] cannot be executed in its current status")
    stack = backend.stacks[change_set.stack_id]
    stack.resource_map.cross_stack_resources = backend.exports
    verb = change_set.change_set_type
    stack._add_stack_event(f"{verb}_IN_PROGRESS", resource_status_reason="User Initiated")  # noqa: SLF001
    before = stack.template_dict, dict(stack.parameters)
    exported = [] if verb == "CREATE" else [export.name for export in stack.exports]
    try:
        apply(stack, change_set.template_dict, change_set.parameters)
    except Exception as error:  # noqa: BLE001 - whatever a resource's class raises: its stack is rolled back
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
    stack._add_stack_event(f"{prefix}ROLLBACK_IN_PROGRESS", resource_status_reason=reason)  # noqa: SLF001
    template, parameters = before
    if verb == "CREATE":
        _remove_all(stack, never_was=True)
    else:
        apply(stack, template, parameters)
    _end(stack, f"{prefix}ROLLBACK_COMPLETE")


def _delete(stack: Stack) -> None:
    """Deletes a stack's resources, the last made first; those with a policy to be retained stay."""
    stack._add_stack_event("DELETE_IN_PROGRESS", resource_status_reason="User Initiated")  # noqa: SLF001
    _remove_all(stack)
    _end(stack, "DELETE_COMPLETE")


def _remove_all(stack: Stack, *, never_was: bool = False) -> None:
    resources = stack.resource_map._resource_json_map  # noqa: SLF001 - moto has no other door
    for name in reversed(list(creation_order(resources))):
        remove(stack, name, resources[name], never_was=never_was)
    # Described once more, moto would make what it finds missing.
    stack.resource_map._resource_json_map = {}  # noqa: SLF001
    stack.output_map = OutputMap(stack.resource_map, {}, stack.stack_id)


def _end(stack: Stack, status: str) -> None:
    stack.status = status
    stack._add_stack_event(status)  # noqa: SLF001


def _get_template(response: CloudFormationResponse) -> ActionResult:
    """Answers GetTemplate: as it was sent, or, for the stage Processed, without macros."""
    stack = response.cloudformation_backend.get_stack(response._get_param("StackName"))  # noqa: SLF001
    processed = response._get_param("TemplateStage") == "Processed"  # noqa: SLF001
    body = json.dumps(stack.template_dict) if processed else stack.template
    return ActionResult({"TemplateBody": body, "StagesAvailable": ["Original", "Processed"]})


def _read_uploaded_template(response: CloudFormationResponse, template_url: str) -> str:
    """Reads a template that was uploaded: its address is this server's, which moto takes for a bucket's."""
    bucket, _, key = urlsplit(template_url).path.lstrip("/").partition("/")
    stored = s3_backends[response.current_account][response.partition].get_object(bucket, unquote(key))
    if stored is None:
        raise ValidationError(message=f"S3 error: there is no template at {template_url}")
    text: str = stored.value.decode()
    return text


# MERGED FROM infra/local/moto_cloudformation/account_settings.py
# Lambda's GetAccountSettings, which moto lacks: AWS's usual quotas, less what this server's functions take of them.
CONCURRENT_EXECUTIONS = 1000
TOTAL_CODE_BYTES = 75 << 30
UNZIPPED_CODE_BYTES, ZIPPED_CODE_BYTES = 250 << 20, 50 << 20
"""What AWS gives an account, but for very new ones, whose first is 10."""


def patch_account_settings() -> None:
    """Adds it to moto's, for the whole process; before its applications are made."""
    LambdaResponse.get_account_settings = _account_settings
    urls.url_paths[r"{0}/(?P<api_version>[^/]+)/account-settings/?$"] = LambdaResponse.dispatch


def _account_settings(response: LambdaResponse) -> str:
    functions = list(response.backend.list_functions())
    versions = list(response.backend.list_functions("ALL"))
    n_reserved = sum(int(function.reserved_concurrency or 0) for function in functions)
    limit = {
        "ConcurrentExecutions": CONCURRENT_EXECUTIONS,
        "UnreservedConcurrentExecutions": CONCURRENT_EXECUTIONS - n_reserved,
        "TotalCodeSize": TOTAL_CODE_BYTES,
        "CodeSizeUnzipped": UNZIPPED_CODE_BYTES,
        "CodeSizeZipped": ZIPPED_CODE_BYTES,
    }
    usage = {"FunctionCount": len(functions), "TotalCodeSize": sum(int(version.code_size) for version in versions)}
    return json.dumps({"AccountLimit": limit, "AccountUsage": usage})
