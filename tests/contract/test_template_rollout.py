"""The rollout of new code: one version a change, tested before it gets rides, rolled back on an alarm."""

import re
from typing import Any

import pytest
from samtranslator.model.preferences.deployment_preference_collection import CODEDEPLOY_PREDEFINED_CONFIGURATIONS_LIST

from tests.builders import lambda_record, ride_bytes, small_bundle
from tests.fakes import FakeContext, FakeFunction
from tests.kits.canary import Function, alarms_of_a_canary
from tests.kits.template import arn_of, of_type, properties, resource, stack
from tests.outcomes import THROTTLED

GROUP = "PredictorDeploymentGroup"
ALARMS = ("FunctionErrorsAlarm", "RetriedRecordsAlarm", "IteratorAgeAlarm", "RefreshFailuresAlarm")
DESCRIPTION_CHARACTERS = 256
LONGEST = {
    "ModelChannel": "c" * 32,
    "ModelRefreshSeconds": "3600",
    "ModelActivationDelaySeconds": "86400",
    "ModelSigningKeyArn": "arn:aws:kms:us-east-1:123456789012:key/" + "k" * 36,
    "OutputFormat": "json",
    "RidePredictionsArn": "arn:aws:kinesis:us-east-1:123456789012:stream/" + "n" * 60,
    "RidePredictionsShards": "1000",
    "RidePredictionsName": "n" * 48,
    "BucketName": "b" * 63,
    "LogLevel": "WARNING",
    "MemoryMb": "10240",
    "TimeoutSeconds": "900",
    "Architecture": "x86_64",
    "SnapStart": "PublishedVersions",
}
"""The longest value of each parameter that the function's configuration is made of."""


EXISTING = {"RidePredictionsArn": LONGEST["RidePredictionsArn"]}


def version() -> dict[str, Any]:
    (found,) = of_type("AWS::Lambda::Version").values()
    return found


def alias() -> dict[str, Any]:
    return resource("PredictorAliaslive")


def config_name(**parameters: str | int) -> str:
    """Return CodeDeploy's configuration, as CloudFormation resolves it."""
    template, values = properties(GROUP, **parameters)["DeploymentConfigName"]["Fn::Sub"]
    return str(template).replace("${ConfigName}", values["ConfigName"])


def test_alias_live_follows_the_version_that_each_deployment_publishes() -> None:
    name = next(iter(of_type("AWS::Lambda::Version")))

    assert alias()["Properties"] == {
        "Name": "live",
        "FunctionName": {"Ref": "Predictor"},
        "FunctionVersion": {"Fn::GetAtt": [name, "Version"]},
    }
    assert version()["Properties"]["FunctionName"] == {"Ref": "Predictor"}


def test_old_version_and_its_snapshot_are_deleted_after_the_rollout() -> None:
    assert version()["DeletionPolicy"] == "Delete"
    assert "UpdateReplacePolicy" not in version()  # CloudFormation's default: the replaced one is deleted, at the end


# A new setting is a new version ---------------------------------------------------------------------------------------


def parameters_in(node: Any, declared: set[str]) -> set[str]:
    """Return the parameters that a part of the template refers to, also through conditions."""
    if isinstance(node, str):
        return {name for name in declared if f"${{{name}}}" in node}
    if isinstance(node, list):
        return set().union(*(parameters_in(item, declared) for item in node))
    if not isinstance(node, dict):
        return set()
    if node.get("Ref") in declared:
        return {node["Ref"]}
    if node.get("Ref") in {"Bucket", "RidePredictions"}:  # a name that is a parameter's
        return {{"Bucket": "BucketName", "RidePredictions": "RidePredictionsName"}[node["Ref"]]}
    return set().union(*(parameters_in(value, declared) for value in node.values()))


def test_each_parameter_of_the_functions_configuration_makes_a_new_version() -> None:
    template = stack().template
    declared = set(template["Parameters"])
    function = dict(template["Resources"]["Predictor"]["Properties"])
    del function["Tags"], function["ReservedConcurrentExecutions"]  # no part of a version: a new one would be refused

    (published,) = (template["Resources"][name] for name in of_type("AWS::Lambda::Version"))
    assert parameters_in(published["Properties"]["Description"], declared) == parameters_in(function, declared)
    assert parameters_in(function, declared) == LONGEST.keys()


@pytest.mark.parametrize(
    ("parameters", "output", "groups"),
    [({}, "RidePredictionsName", "RidePredictionsShards"), (EXISTING, "RidePredictionsArn", "16")],
    ids=["own stream", "existing stream"],
)
def test_description_that_makes_a_new_version_is_never_too_long(
    parameters: dict[str, str], output: str, groups: str
) -> None:
    (found,) = of_type("AWS::Lambda::Version", **parameters).values()
    text, values = found["Properties"]["Description"]["Fn::Sub"]
    assert values["SigningKey"] == {"Fn::Select": [1, {"Fn::Split": ["/", {"Fn::Sub": "${ModelSigningKeyArn}/"}]}]}
    assert values["OutputGroups"] == ({"Ref": groups} if groups in LONGEST else int(groups))
    name_of_the_stream = LONGEST[output].rpartition("/")[2]
    computed = {"SigningKey": "k" * 36, "OutputGroups": LONGEST.get(groups, groups), "Output": name_of_the_stream}
    for name, value in {**LONGEST, **computed}.items():
        text = text.replace(f"${{{name}}}", value)

    assert "$" not in text
    assert len(text) <= DESCRIPTION_CHARACTERS


def test_longest_values_are_the_longest_that_the_template_takes() -> None:
    declared = stack().template["Parameters"]
    for name, value in LONGEST.items():
        limits = declared[name]
        assert "MaxValue" not in limits or len(str(limits["MaxValue"])) <= len(value), name
        assert all(len(str(one)) <= len(value) for one in limits.get("AllowedValues", ())), name
    assert "{0,31}" in declared["ModelChannel"]["AllowedPattern"]
    assert "{1,48}" in declared["RidePredictionsName"]["AllowedPattern"]
    assert "{1,60}" in declared["RidePredictionsArn"]["AllowedPattern"]
    assert "{1,61}" in declared["BucketName"]["AllowedPattern"]


# Steps, alarms and the hook ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({}, "AllAtOnce"),
        ({"Environment": "dev"}, "AllAtOnce"),
        ({"Environment": "prod"}, "Canary10Percent5Minutes"),
        ({"Environment": "prod", "CodeRollout": "AllAtOnce"}, "AllAtOnce"),
        ({"CodeRollout": "Linear10PercentEvery1Minute"}, "Linear10PercentEvery1Minute"),
    ],
    ids=str,
)
def test_rollout_is_a_canary_in_prod(parameters: dict[str, str], name: str) -> None:
    assert config_name(**parameters) == f"CodeDeployDefault.Lambda{name}"


def test_every_choice_of_a_rollout_is_one_of_codedeploys() -> None:
    choices = set(stack().template["Parameters"]["CodeRollout"]["AllowedValues"]) - {"ByEnvironment"}

    assert choices <= set(CODEDEPLOY_PREDEFINED_CONFIGURATIONS_LIST)  # SAM does not change an unknown name


def test_alarm_rolls_new_code_back() -> None:
    group = properties(GROUP)

    assert group["AlarmConfiguration"] == {"Enabled": True, "Alarms": [{"Name": {"Ref": name}} for name in ALARMS]}
    assert {resource(name)["Type"] for name in ALARMS} == {"AWS::CloudWatch::Alarm"}
    assert group["AutoRollbackConfiguration"]["Enabled"] is True
    assert "DEPLOYMENT_STOP_ON_ALARM" in group["AutoRollbackConfiguration"]["Events"]
    assert group["ServiceRoleArn"] == arn_of("DeploymentRole")


def test_parameter_lets_a_fix_through_while_an_alarm_sounds() -> None:
    assert stack().template["Parameters"]["RolloutAlarms"]["AllowedValues"] == ["Watched", "Ignored"]
    assert stack().parameters["RolloutAlarms"] == "Watched"
    assert properties(GROUP, RolloutAlarms="Watched") == properties(GROUP)
    # Empty, not missing: otherwise CodeDeploy keeps the old alarms (aws/serverless-application-model#2452).
    assert properties(GROUP, RolloutAlarms="Ignored")["AlarmConfiguration"] == {}


def rollout_minutes(choice: str) -> int:
    """Return the minutes of a rollout; a linear one has ten steps."""
    n_steps = 10 if choice.startswith("Linear") else 1
    return n_steps * int(re.findall(r"(\d+)Minutes?$", choice)[0])


@pytest.mark.parametrize("name", ALARMS)
def test_alarm_that_rolls_code_back_sounds_within_the_shortest_rollout(name: str) -> None:
    alarm = properties(name)
    periods_s = {query["MetricStat"]["Period"] for query in alarm.get("Metrics", ()) if "MetricStat" in query}
    (period_s,) = periods_s or {alarm["Period"]}
    choices = set(stack().template["Parameters"]["CodeRollout"]["AllowedValues"]) - {"ByEnvironment", "AllAtOnce"}
    shortest_s = 60 * min(map(rollout_minutes, choices))

    assert shortest_s == 300
    assert period_s * alarm["DatapointsToAlarm"] < shortest_s
    assert period_s * alarm["EvaluationPeriods"] <= shortest_s


def test_version_that_gives_all_records_back_is_rolled_back_by_the_canary() -> None:
    """Measured before: it raises no error, and no alarm that rolls code back sounded."""
    good, bad = FakeFunction(small_bundle()), FakeFunction(small_bundle())
    bad.kinesis.script = [THROTTLED] * 10_000

    def batch(number: int) -> dict[str, Any]:
        return {"Records": [lambda_record(ride_bytes(number), number)]}

    def run(function: FakeFunction) -> Function:
        return lambda event: function.handler(event, FakeContext(function.clock))

    assert alarms_of_a_canary(run(good), run(bad), batch) == {"RetriedRecordsAlarm"}
    assert alarms_of_a_canary(run(good), run(good), batch) == set()


def test_new_version_is_tested_before_it_gets_a_ride() -> None:
    assert alias()["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"] == {
        "ApplicationName": {"Ref": "ServerlessDeploymentApplication"},
        "DeploymentGroupName": {"Ref": GROUP},
        "BeforeAllowTrafficHook": {"Ref": "PreTraffic"},
    }
    assert properties("PreTraffic")["Environment"]["Variables"] == {
        "BUCKET": {"Ref": "Bucket"},
        "MODEL_CHANNEL": {"Ref": "ModelChannel"},
        "NEW_VERSION": {"Ref": next(iter(of_type("AWS::Lambda::Version")))},
        "POWERTOOLS_SERVICE_NAME": {"Fn::Sub": "${AWS::StackName}/pre-traffic"},
    }


def test_hook_has_time_for_all_its_attempts() -> None:
    from lambda_function.pre_traffic import ATTEMPTS, INVOKE_TIMEOUT_S  # noqa: PLC0415 - its import is not for each test

    assert properties("PreTraffic")["Timeout"] >= ATTEMPTS * INVOKE_TIMEOUT_S + 30
    assert properties("PreTraffic")["MemorySize"] == 512
    assert properties("PreTraffic")["Role"] == arn_of("PreTrafficRole")
