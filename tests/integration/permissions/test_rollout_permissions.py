"""New code is tried and brought in under the roles of its hook and of CodeDeploy, and not without any part of them.

What is not real here: the local Lambda runs nothing, so the new version's answer is made before, by the function
itself; and the local CodeDeploy shifts no traffic, so its calls are made one by one. IAM decides on each of them.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from botocore.exceptions import ClientError

from infra.local.runtime.in_process import InProcessRuntime, load_handler
from lambda_function.core.bundle import GOLDEN, decode_golden_rides
from lambda_function.core.rehearsal import rehearsal_event
from tests.kits.permissions import FIRST, Account, Cut, cuts, is_denial

ALARMS = ("FunctionErrorsAlarm", "IteratorAgeAlarm", "RefreshFailuresAlarm")
HOOK = "lambda_function.pre_traffic.lambda_handler"


class Rollout(NamedTuple):
    """A deployment by CodeDeploy, and what the new version answers to the golden rides."""

    deployment_id: str
    rehearsal: object


@pytest.fixture(scope="module")
def rollout(account: Account, tmp_path_factory: pytest.TempPathFactory) -> Rollout:
    return Rollout(begin_deployment(account), rehearse(account, tmp_path_factory.mktemp("rehearsal") / "function.log"))


def begin_deployment(account: Account) -> str:
    """Begins a deployment in a group by the name of the stack's own, which is only a stand-in."""
    codedeploy = account.aws.client("codedeploy")
    application = account.names["ServerlessDeploymentApplication"]
    group = {"applicationName": application, "deploymentGroupName": account.names["PredictorDeploymentGroup"]}
    codedeploy.create_application(applicationName=application, computePlatform="Lambda")
    codedeploy.create_deployment_group(**group, serviceRoleArn=account.roles["DeploymentRole"])
    begun: str = codedeploy.create_deployment(**group)["deploymentId"]
    return begun


def rehearse(account: Account, log: Path) -> object:
    """Has the function predict the golden rides of the model in use."""
    variables = {**account.function_variables("Predictor"), **account.variables(account.roles["PredictorRole"])}
    with load_handler("lambda_function.handler.lambda_handler", variables, log) as handler:
        event = rehearsal_event(decode_golden_rides(FIRST.files[GOLDEN]))
        return InProcessRuntime(handler, 60, 1769, "predictor")(event)


def try_version(account: Account, role_name: str, rollout: Rollout, log: Path) -> None:
    """Has the hook try the new version under a role, with a model and before there is one; raises what is denied."""
    mine = account.clients(role_name, "logs")
    variables = {**account.function_variables("PreTraffic"), **account.variables(role_name)}
    event = {"DeploymentId": rollout.deployment_id, "LifecycleEventHookExecutionId": "hook"}
    for channel in (variables["MODEL_CHANNEL"], "none"):
        account.let_next_invocation_answer(rollout.rehearsal)
        with account.aws.enforcing(), load_handler(HOOK, variables | {"MODEL_CHANNEL": channel}, log) as handler:
            InProcessRuntime(handler, 300, 512, "hook")(event)
    with account.aws.enforcing():
        write_logs(account, mine["logs"])
    said = [json.loads(line) for line in log.read_text().splitlines()]
    verdicts = [line for line in said if line["message"] == "pre-traffic hook"]
    assert len(verdicts) == 2
    if not all(verdict["passed"] for verdict in verdicts):
        raise PermissionError([verdict["why"] for verdict in verdicts])


def write_logs(account: Account, logs: Any) -> None:
    """What Lambda does with the hook's role besides invoking it."""
    log = {"logGroupName": account.names["PreTrafficLogs"], "logStreamName": "now"}
    with suppress(logs.exceptions.ResourceAlreadyExistsException):
        logs.create_log_stream(**log)
    logs.put_log_events(**log, logEvents=[{"timestamp": 1, "message": "hello"}])


def test_hook_tries_the_version_and_tells_codedeploy_under_its_role(
    account: Account, rollout: Rollout, tmp_path: Path
) -> None:
    try_version(account, account.roles["PreTrafficRole"], rollout, tmp_path / "hook.log")

    told = account.aws.client("codedeploy").get_deployment(deploymentId=rollout.deployment_id)["deploymentInfo"]
    assert told["status"] == "Succeeded"


@pytest.mark.parametrize("cut", cuts("PreTrafficRole"), ids=str)
def test_hook_cannot_do_its_work_without_any_part_of_its_role(
    account: Account, rollout: Rollout, tmp_path: Path, cut: Cut
) -> None:
    role = account.role_without("PreTrafficRole", cut)

    with pytest.raises((PermissionError, ClientError), match="AccessDenied"):
        try_version(account, role, rollout, tmp_path / "hook.log")


def shift_traffic(account: Account, role_name: str) -> None:
    """Does what CodeDeploy does for a canary: the hook, a tenth of the traffic, a look at the alarms, the rest."""
    mine = account.clients(role_name, "lambda", "cloudwatch")
    function, version = account.outputs["FunctionName"], account.version.rpartition(":")[2]
    alias = {"FunctionName": function, "Name": "live"}
    old = account.aws.client("lambda").publish_version(FunctionName=function)["Version"]
    account.let_next_invocation_answer(None)
    with account.aws.enforcing():
        mine["lambda"].get_alias(**alias)
        with suppress(mine["lambda"].exceptions.ProvisionedConcurrencyConfigNotFoundException):
            mine["lambda"].get_provisioned_concurrency_config(FunctionName=function, Qualifier="live")
        mine["lambda"].invoke(FunctionName=account.names["PreTraffic"], Payload=b"{}")
        canary = {"AdditionalVersionWeights": {version: 0.1}}
        mine["lambda"].update_alias(**alias, FunctionVersion=old, RoutingConfig=canary)
        mine["cloudwatch"].describe_alarms(AlarmNames=[account.names[alarm] for alarm in ALARMS])
        mine["lambda"].update_alias(**alias, FunctionVersion=version, RoutingConfig={})


def test_codedeploy_brings_a_version_in_under_its_role(account: Account) -> None:
    shift_traffic(account, account.roles["DeploymentRole"])

    alias = account.aws.client("lambda").get_alias(FunctionName=account.outputs["FunctionName"], Name="live")
    assert alias["FunctionVersion"] == account.version.rpartition(":")[2]


@pytest.mark.parametrize("cut", cuts("DeploymentRole"), ids=str)
def test_codedeploy_cannot_bring_a_version_in_without_any_part_of_its_role(account: Account, cut: Cut) -> None:
    role = account.role_without("DeploymentRole", cut)

    with pytest.raises(ClientError) as refused:
        shift_traffic(account, role)
    assert is_denial(refused.value)
