"""New code is tried and rolled out under the roles of the hook and of CodeDeploy, which need every part of them.

Other than on AWS, the local Lambda runs no code, so the function itself prepares the new version's answer, and the
local CodeDeploy shifts no traffic, so the test makes its calls. IAM checks each of them.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from botocore.exceptions import ClientError

from infra.local.runtime.in_process import InProcessRuntime, load_handler
from lambda_function.core.bundle import GOLDEN, decode_golden_rides
from lambda_function.core.rehearsal import rehearsal_event
from tests.kits.permissions import FIRST, Account, Cut, cuts, is_denial

ALARMS = ("FunctionErrorsAlarm", "RetriedRecordsAlarm", "IteratorAgeAlarm", "RefreshFailuresAlarm")
HOOK = "lambda_function.pre_traffic.lambda_handler"


class Rollout(NamedTuple):
    """A deployment by CodeDeploy, and the new version's answer to the golden rides."""

    deployment_id: str
    rehearsal: object


@pytest.fixture(scope="module")
def rollout(account: Account, tmp_path_factory: pytest.TempPathFactory) -> Rollout:
    return Rollout(begin_deployment(account), rehearse(account, tmp_path_factory.mktemp("rehearsal") / "function.log"))


def begin_deployment(account: Account) -> str:
    """Start a deployment in a group with the name of the stack's own group, which is only a stand-in."""
    codedeploy = account.aws.client("codedeploy")
    application = account.names["ServerlessDeploymentApplication"]
    group = {"applicationName": application, "deploymentGroupName": account.names["PredictorDeploymentGroup"]}
    codedeploy.create_application(applicationName=application, computePlatform="Lambda")
    codedeploy.create_deployment_group(**group, serviceRoleArn=account.roles["DeploymentRole"])
    begun: str = codedeploy.create_deployment(**group)["deploymentId"]
    return begun


def rehearse(account: Account, log: Path) -> object:
    """Let the function predict the golden rides of the present model."""
    variables = {**account.function_variables("Predictor"), **account.variables(account.roles["PredictorRole"])}
    with load_handler("lambda_function.handler.lambda_handler", variables, log) as handler:
        event = rehearsal_event(decode_golden_rides(FIRST.files[GOLDEN]))
        return InProcessRuntime(handler, 60, 1769, "predictor")(event)


def try_version(account: Account, role_name: str, rollout: Rollout, log: Path) -> None:
    """Run the hook on the new version under a role, with and without a model; raise an error if access is denied."""
    mine = account.clients(role_name, "logs")
    variables = {**account.function_variables("PreTraffic"), **account.variables(role_name)}
    event = {"DeploymentId": rollout.deployment_id, "LifecycleEventHookExecutionId": "hook"}
    for channel in (variables["MODEL_CHANNEL"], "none"):
        account.set_next_answer(rollout.rehearsal)
        with account.aws.enforcing(), load_handler(HOOK, variables | {"MODEL_CHANNEL": channel}, log) as handler:
            InProcessRuntime(handler, 300, 512, "hook")(event)
    with account.aws.enforcing():
        account.write_logs(mine["logs"], "PreTrafficLogs")
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    verdicts = [line for line in entries if line["message"] == "pre-traffic hook"]
    assert len(verdicts) == 2
    if not all(verdict["passed"] for verdict in verdicts):
        raise PermissionError([verdict["why"] for verdict in verdicts])


def test_hook_tries_the_version_and_reports_to_codedeploy_under_its_role_and_needs_every_part_of_it(
    account: Account, rollout: Rollout, tmp_path: Path
) -> None:
    account.take_asked(account.roles["PreTrafficRole"])
    try_version(account, account.roles["PreTrafficRole"], rollout, tmp_path / "hook.log")

    assert account.parts_without_use("PreTrafficRole") == []
    stored = account.aws.client("codedeploy").get_deployment(deploymentId=rollout.deployment_id)["deploymentInfo"]
    assert stored["status"] == "Succeeded"


@pytest.mark.parametrize("cut", cuts("PreTrafficRole")[:1], ids=str)
def test_hook_shows_that_a_part_of_its_role_is_missing(
    account: Account, rollout: Rollout, tmp_path: Path, cut: Cut
) -> None:
    role = account.role_without("PreTrafficRole", cut)

    with pytest.raises((PermissionError, ClientError), match=r"AccessDenied|the hook may not"):
        try_version(account, role, rollout, tmp_path / "hook.log")


def shift_traffic(account: Account, role_name: str) -> None:
    """Make CodeDeploy's calls for a canary: the hook, a tenth of the traffic, the alarms' states, all traffic."""
    mine = account.clients(role_name, "lambda", "cloudwatch")
    function, version = account.outputs["FunctionName"], account.version.rpartition(":")[2]
    alias = {"FunctionName": function, "Name": "live"}
    old = account.aws.client("lambda").publish_version(FunctionName=function)["Version"]
    account.set_next_answer(None)
    with account.aws.enforcing():
        mine["lambda"].get_alias(**alias)
        with suppress(mine["lambda"].exceptions.ProvisionedConcurrencyConfigNotFoundException):
            mine["lambda"].get_provisioned_concurrency_config(FunctionName=function, Qualifier="live")
        mine["lambda"].invoke(FunctionName=account.names["PreTraffic"], Payload=b"{}")
        canary = {"AdditionalVersionWeights": {version: 0.1}}
        mine["lambda"].update_alias(**alias, FunctionVersion=old, RoutingConfig=canary)
        mine["cloudwatch"].describe_alarms(AlarmNames=[account.names[alarm] for alarm in ALARMS])
        mine["lambda"].update_alias(**alias, FunctionVersion=version, RoutingConfig={})


def test_codedeploy_rolls_a_version_out_under_its_role_and_needs_every_part_of_it(account: Account) -> None:
    account.take_asked(account.roles["DeploymentRole"])
    shift_traffic(account, account.roles["DeploymentRole"])

    assert account.parts_without_use("DeploymentRole") == []
    alias = account.aws.client("lambda").get_alias(FunctionName=account.outputs["FunctionName"], Name="live")
    assert alias["FunctionVersion"] == account.version.rpartition(":")[2]


@pytest.mark.parametrize("cut", cuts("DeploymentRole")[:1], ids=str)
def test_codedeploy_is_refused_where_a_part_of_its_role_is_missing(account: Account, cut: Cut) -> None:
    role = account.role_without("DeploymentRole", cut)

    with pytest.raises(ClientError) as refused:
        shift_traffic(account, role)
    assert is_denial(refused.value)
