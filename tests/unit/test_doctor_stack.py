"""The doctor's checks of the deployed stack: status, template diff, parameters and release."""

from types import SimpleNamespace
from typing import Any

import pytest
from yaml import YAMLError

from infra.operate.doctor.doctor import check
from infra.operate.doctor.facts import ReleaseFacts, Severity
from infra.operate.doctor.stack import describe_own_stack
from infra.operate.doctor.template_diff import diff_templates, parse_deployed
from infra.stack.describe import DescribedStack
from tests.builders_doctor import HEALTHY, only_problem, problems, stack_with
from training.errors import UserError

OUTPUTS = (
    "FunctionName", "FunctionAliasArn", "BucketName", "RideEventsStream", "RideEventsArn", "RidePredictionsStream",
)  # fmt: skip


@pytest.mark.parametrize(
    ("status", "severity", "remedy"),
    [
        ("CREATE_COMPLETE", Severity.good, ""),
        ("UPDATE_COMPLETE", Severity.good, ""),
        ("UPDATE_ROLLBACK_COMPLETE", Severity.warning, "describe-stack-events"),
        ("UPDATE_IN_PROGRESS", Severity.warning, "again"),
        ("REVIEW_IN_PROGRESS", Severity.warning, "change set"),
        ("ROLLBACK_COMPLETE", Severity.bad, "delete it and deploy again"),
        ("UPDATE_ROLLBACK_FAILED", Severity.bad, "continue-update-rollback"),
        ("DELETE_FAILED", Severity.bad, "delete it again"),
    ],
)
def test_status_of_the_stack(status: str, severity: Severity, remedy: str) -> None:
    (found,) = [one for one in check(stack_with(status=status)) if one.check == "stack"]
    assert found.severity is severity
    assert remedy in found.remedy


def test_template_diff_names_three_differences_and_counts_the_rest() -> None:
    found = only_problem(stack_with(template_diff=tuple(f"{name} differs" for name in "ABCDE")))
    assert found.what.endswith("A differs; B differs; C differs and 2 more")


def test_template_that_was_not_compared_has_no_finding() -> None:
    assert "template diff" not in {one.check for one in check(stack_with(template_diff=None))}


def test_parameter_that_somebody_has_changed_is_named_with_how_to_keep_it() -> None:
    deployed = {**HEALTHY.parameters, "RideEventsShards": "1", "MemoryMb": "512"}

    found = only_problem(stack_with(parameters=deployed))

    assert (found.check, found.severity) == ("parameters", Severity.warning)
    assert "RideEventsShards is 2, deployed as 1; MemoryMb is 1769, deployed as 512" in found.what
    assert "deploy with RideEventsShards=2 MemoryMb=1769" in found.remedy


def test_resource_drift_found_by_cloudformation_is_a_warning() -> None:
    found = only_problem(stack_with(resource_drift="DRIFTED"))
    assert (found.check, found.severity) == ("resources", Severity.warning)
    assert problems(stack_with(resource_drift="IN_SYNC")) == []


@pytest.mark.parametrize(
    ("release", "what"),
    [
        (ReleaseFacts("predictor", "live", "7", "8"), "version 7 serves, and the stack published 8"),
        (ReleaseFacts("predictor", "live", "7", "8", "8", 0.1), "version 8 gets 10% of the batches, 7 the rest"),
    ],
)
def test_version_that_is_not_the_last_published_and_a_rollout_are_warnings(release: ReleaseFacts, what: str) -> None:
    found = only_problem(stack_with(release=release))
    assert (found.check, found.severity, found.what) == ("release", Severity.warning, what)


def test_release_is_good_if_the_stack_lists_no_version() -> None:
    assert problems(stack_with(release=ReleaseFacts("predictor", "live", "7", ""))) == []


def test_rollout_without_alarms_is_a_warning() -> None:
    found = only_problem(stack_with(parameters={"RolloutAlarms": "Ignored"}))
    assert "RolloutAlarms=Watched" in found.remedy
    assert problems(stack_with(parameters={"RolloutAlarms": "Watched"})) == []


def test_building_and_packaging_make_no_difference() -> None:
    here = {
        "Resources": {
            "Predictor": {
                "Type": "AWS::Serverless::Function",
                "Properties": {"CodeUri": "lambda_function/", "Timeout": 60, "Role": {"Fn::GetAtt": ["Role", "Arn"]}},
            }
        }
    }
    deployed = """
Resources:
  Predictor:
    Type: AWS::Serverless::Function
    Metadata: {SamResourceId: Predictor}
    Properties: {CodeUri: "s3://bucket/key", Timeout: "60", Role: {"Fn::GetAtt": Role.Arn}}
"""
    assert diff_templates(here, parse_deployed(deployed)) == ()


@pytest.mark.parametrize(
    ("here", "deployed", "sentence"),
    [
        ({"Default": 1}, {"Default": 2}, "Shards.Default is 1 here, 2 deployed"),
        ({"Default": 1, "MinValue": 1}, {"Default": 1}, "Shards.MinValue is only here"),
        ({"Default": 1}, {"Default": 1, "MinValue": 1}, "Shards.MinValue is only deployed"),
        ({"Description": "a" * 31}, {"Description": "b"}, "Shards.Description differs"),
        ({"AllowedValues": [1]}, {"AllowedValues": [1, 2]}, "Shards.AllowedValues differs"),
        ({"Default": 1, "Type": "a"}, {"Default": 2, "Type": "b"}, "Shards.Default is 1 here, 2 deployed"),
        ({"Default": None}, {}, "Shards.Default is only here"),
    ],
)
def test_difference_names_its_first_place(here: dict[str, Any], deployed: dict[str, Any], sentence: str) -> None:
    found = diff_templates({"Parameters": {"Shards": here}}, {"Parameters": {"Shards": deployed}})
    assert found == (sentence,)


@pytest.mark.parametrize("section", ["Mappings", "Conditions", "Rules", "Globals", "Outputs"])
def test_every_section_is_compared(section: str) -> None:
    assert diff_templates({section: {"A": "x"}}, {}) == ("A is only here",)


def test_deployed_template_with_short_functions_is_refused() -> None:
    with pytest.raises(YAMLError):
        parse_deployed("Resources: {A: !Ref B}")


def described(status: str, outputs: tuple[str, ...] = OUTPUTS) -> DescribedStack:
    listed = [{"OutputKey": name, "OutputValue": name.lower()} for name in outputs]
    stack = {"StackStatus": status, "Outputs": listed}
    return describe_own_stack(SimpleNamespace(describe_stacks=lambda StackName: {"Stacks": [stack]}), "ridecast")  # noqa: N803


def test_own_stack_has_its_outputs() -> None:
    assert described("CREATE_COMPLETE").outputs["BucketName"] == "bucketname"


def test_stack_of_another_project_is_refused_by_the_output_that_it_lacks() -> None:
    with pytest.raises(UserError, match="has no output BucketName, so it is not a ridecast stack"):
        described("UPDATE_COMPLETE", OUTPUTS[:2])


@pytest.mark.parametrize("status", ["CREATE_IN_PROGRESS", "ROLLBACK_COMPLETE", "CREATE_FAILED"])
def test_stack_without_outputs_has_only_its_status(status: str) -> None:
    stack = described(status, ())
    assert (stack.status, stack.outputs) == (status, {})
