"""Calls of a rollout of new code that moto lacks: so that whoever may make them is answered, and not only let through.

A verdict is kept as its deployment's status, and nothing else follows from it: here no traffic shifts. No version has
provisioned concurrency.
"""

from moto.awslambda import urls
from moto.awslambda.responses import LambdaResponse
from moto.codedeploy.responses import CodeDeployResponse
from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult


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
