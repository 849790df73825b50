"""API calls that moto lacks: Lambda's Invoke and account settings, IAM's simulation, and the calls of a code rollout.

moto runs a function's code in Docker. Here an invocation goes to the address in the function's tag RUNTIME_TAG, if it
has one: see infra/local/runtime/invocable.py.

A rollout's verdict is only stored as its deployment's status: no traffic shifts here. No version has provisioned
concurrency. IAM simulates the policies of a role, and no permissions boundary or organization. The permission tests
need these calls so that an allowed caller gets an answer.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from http.client import HTTPConnection
from typing import Any
from urllib.parse import unquote

from moto.awslambda import urls
from moto.awslambda.responses import LambdaResponse
from moto.codedeploy.responses import CodeDeployResponse
from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult
from moto.iam.responses import IamResponse

from infra.local.moto.names import ERROR_HEADER, RUNTIME_TAG
from infra.local.moto.policies import is_allowed

_CONCURRENT_EXECUTIONS = 1000
"""AWS's default quota. Very new accounts have 10 at first."""

_LONGEST_TIMEOUT_S = 900

_LAMBDA_PATH = r"{0}/(?P<api_version>[^/]+)"


def patch_missing_calls() -> None:
    """Add the calls to moto, in the whole process; call it before moto creates its applications."""
    LambdaResponse.invoke = _invoke
    LambdaResponse.get_account_settings = _account_settings
    LambdaResponse.get_provisioned_concurrency_config = _no_provisioned_concurrency
    CodeDeployResponse.put_lifecycle_event_hook_execution_status = _store_verdict
    IamResponse.simulate_principal_policy = _simulate
    for path in ("account-settings/?$", r"functions/(?P<function_name>[\w_:%-]+)/provisioned-concurrency$"):
        urls.url_paths[f"{_LAMBDA_PATH}/{path}"] = LambdaResponse.dispatch


_moto_invoke = LambdaResponse.invoke


def _invoke(response: LambdaResponse) -> Any:
    name = unquote(response.path.rsplit("/", 2)[-2])
    function = response.backend.get_function(name, response._get_param("qualifier"))
    # moto keeps tags with the unpublished code, whatever version an alias means.
    address = response.backend.get_function(function.function_name).tags.get(RUNTIME_TAG)
    if address is None:
        return _moto_invoke(response)
    with closing(HTTPConnection(address, timeout=_LONGEST_TIMEOUT_S)) as connection:
        connection.request("POST", "/", response.body)
        answer = connection.getresponse()
        error = answer.getheader(ERROR_HEADER)
        return answer.status, {ERROR_HEADER: error} if error else {}, answer.read()


def _account_settings(response: LambdaResponse) -> str:
    functions = list(response.backend.list_functions())
    versions = list(response.backend.list_functions("ALL"))
    n_reserved = sum(int(function.reserved_concurrency or 0) for function in functions)
    limit = {
        "ConcurrentExecutions": _CONCURRENT_EXECUTIONS,
        "UnreservedConcurrentExecutions": _CONCURRENT_EXECUTIONS - n_reserved,
        "TotalCodeSize": 75 << 30,
        "CodeSizeUnzipped": 250 << 20,
        "CodeSizeZipped": 50 << 20,
    }
    usage = {"FunctionCount": len(functions), "TotalCodeSize": sum(int(version.code_size) for version in versions)}
    return json.dumps({"AccountLimit": limit, "AccountUsage": usage})


def _no_provisioned_concurrency(_: LambdaResponse) -> None:
    error = JsonRESTError("ProvisionedConcurrencyConfigNotFoundException", "No Provisioned Concurrency Config found")
    error.code = 404
    raise error


def _store_verdict(response: CodeDeployResponse) -> ActionResult:
    deployment = response.codedeploy_backend.get_deployment(response._get_param("deploymentId"))
    deployment.status = response._get_param("status")
    hook = response._get_param("lifecycleEventHookExecutionId")
    return ActionResult({"lifecycleEventHookExecutionId": hook})


def _simulate(response: IamResponse) -> ActionResult:
    role = response.backend.get_role_by_arn(response._get_param("PolicySourceArn"))
    documents = list(_documents(role))
    entries = response._get_param("ContextEntries", [])
    context = {one["ContextKeyName"]: one["ContextKeyValues"][0] for one in entries}
    results = [
        {
            "EvalActionName": action,
            "EvalResourceName": resource,
            "EvalDecision": "allowed" if is_allowed(documents, action, resource, context) else "implicitDeny",
        }
        for action in response._get_param("ActionNames")
        for resource in response._get_param("ResourceArns", ["*"])
    ]
    return ActionResult({"EvaluationResults": results, "IsTruncated": False})


def _documents(role: Any) -> Iterator[Mapping[str, Any]]:
    yield from map(json.loads, role.policies.values())
    for policy in role.managed_policies.values():
        yield from (json.loads(version.document) for version in policy.versions if version.is_default)
