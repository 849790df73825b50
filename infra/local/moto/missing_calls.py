"""API calls that moto lacks: Lambda's account settings, and the calls that a code rollout makes.

A rollout's verdict is only stored as its deployment's status: no traffic shifts here. No version has provisioned
concurrency. The permission tests need these calls so that an allowed caller gets an answer.
"""

import json

from moto.awslambda import urls
from moto.awslambda.responses import LambdaResponse
from moto.codedeploy.responses import CodeDeployResponse
from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult

_CONCURRENT_EXECUTIONS = 1000
"""AWS's default quota. Very new accounts have 10 at first."""

_LAMBDA_PATH = r"{0}/(?P<api_version>[^/]+)"


def patch_missing_calls() -> None:
    """Add the calls to moto, in the whole process; call it before moto creates its applications."""
    LambdaResponse.get_account_settings = _account_settings
    LambdaResponse.get_provisioned_concurrency_config = _no_provisioned_concurrency
    CodeDeployResponse.put_lifecycle_event_hook_execution_status = _store_verdict
    for path in ("account-settings/?$", r"functions/(?P<function_name>[\w_:%-]+)/provisioned-concurrency$"):
        urls.url_paths[f"{_LAMBDA_PATH}/{path}"] = LambdaResponse.dispatch


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
