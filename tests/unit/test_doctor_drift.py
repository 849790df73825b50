"""What the doctor calls a drift of templates, and what a stack is for it."""

from types import SimpleNamespace
from typing import Any

import pytest
from yaml import YAMLError

from infra.operate.doctor.stack import describe_own_stack, differences, parse_deployed
from infra.stack.describe import DescribedStack
from training.errors import UserError

OUTPUTS = (
    "FunctionName", "FunctionAliasArn", "BucketName", "RideEventsStream", "RideEventsArn", "RidePredictionsStream",
)  # fmt: skip


def test_building_and_packaging_are_no_drift() -> None:
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
    assert differences(here, parse_deployed(deployed)) == ()


@pytest.mark.parametrize(
    ("here", "deployed", "sentence"),
    [
        ({"Default": 1}, {"Default": 2}, "Shards.Default is 1 here, 2 deployed"),
        ({"Default": 1, "MinValue": 1}, {"Default": 1}, "Shards.MinValue is only here"),
        ({"Default": 1}, {"Default": 1, "MinValue": 1}, "Shards.MinValue is only deployed"),
        ({"Description": "a" * 31}, {"Description": "b"}, "Shards.Description differs"),
        ({"AllowedValues": [1]}, {"AllowedValues": [1, 2]}, "Shards.AllowedValues differs"),
        ({"Default": 1, "Type": "a"}, {"Default": 2, "Type": "b"}, "Shards.Default is 1 here, 2 deployed"),
    ],
)
def test_difference_says_where_it_first_is(here: dict[str, Any], deployed: dict[str, Any], sentence: str) -> None:
    found = differences({"Parameters": {"Shards": here}}, {"Parameters": {"Shards": deployed}})
    assert found == (sentence,)


@pytest.mark.parametrize("section", ["Mappings", "Conditions", "Rules", "Globals", "Outputs"])
def test_every_section_is_compared(section: str) -> None:
    assert differences({section: {"A": "x"}}, {}) == ("A is only here",)


def test_deployed_template_with_short_functions_is_refused_and_not_guessed_at() -> None:
    with pytest.raises(YAMLError):
        parse_deployed("Resources: {A: !Ref B}")


def described(status: str, outputs: tuple[str, ...] = OUTPUTS, **more: object) -> DescribedStack:
    stack = {
        "StackStatus": status,
        "Outputs": [{"OutputKey": name, "OutputValue": name.lower()} for name in outputs],
        "Parameters": [{"ParameterKey": "MemoryMb", "ParameterValue": "1769"}],
        **more,
    }
    return describe_own_stack(SimpleNamespace(describe_stacks=lambda StackName: {"Stacks": [stack]}), "ridecast")  # noqa: N803


def test_stack_is_described_by_its_outputs_and_parameters() -> None:
    stack = described("CREATE_COMPLETE")
    assert (stack.outputs["BucketName"], stack.parameters, stack.resource_drift) == (
        "bucketname",
        {"MemoryMb": "1769"},
        "",
    )


@pytest.mark.parametrize(("told", "known"), [("DRIFTED", "DRIFTED"), ("IN_SYNC", "IN_SYNC"), ("NOT_CHECKED", "")])
def test_drift_that_cloudformation_was_asked_for_is_remembered(told: str, known: str) -> None:
    assert described("CREATE_COMPLETE", DriftInformation={"StackDriftStatus": told}).resource_drift == known


def test_stack_of_another_project_is_refused_by_the_output_that_it_lacks() -> None:
    with pytest.raises(UserError, match="has no output BucketName, so it is not a ridecast stack"):
        described("UPDATE_COMPLETE", OUTPUTS[:2])


@pytest.mark.parametrize("status", ["CREATE_IN_PROGRESS", "ROLLBACK_COMPLETE", "CREATE_FAILED"])
def test_stack_that_has_no_outputs_yet_is_known_by_its_status(status: str) -> None:
    stack = described(status, ())
    assert (stack.status, stack.outputs) == (status, {})
