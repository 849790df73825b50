"""The doctor's probes: what they take from AWS's answers, and how two templates are compared."""

from types import SimpleNamespace
from typing import Any

import pytest
from yaml import YAMLError

from infra.operate.doctor.alarms import count_subscribers
from infra.operate.doctor.function import function_facts, probe_mapping, probe_release
from infra.operate.doctor.stack import describe_own_stack
from infra.operate.doctor.template_diff import diff_templates, parse_deployed
from infra.stack.describe import DescribedStack, Resource
from training.errors import UserError

OUTPUTS = (
    "FunctionName", "FunctionAliasArn", "BucketName", "RideEventsStream", "RideEventsArn", "RidePredictionsStream",
)  # fmt: skip
CONFIGURATION = {
    "FunctionName": "predictor",
    "MemorySize": 1769,
    "Timeout": 60,
    "Environment": {"Variables": {"BUCKET": "rides", "MODEL_CHANNEL": "stable", "OUTPUT_STREAM": "ride-predictions"}},
}
ALIAS = "arn:aws:lambda:us-east-1:123456789012:function:predictor:live"


def test_settings_become_parameters() -> None:
    facts = function_facts(CONFIGURATION)
    assert facts.settings_problem == ""
    assert facts.parameters == {"MemoryMb": "1769", "TimeoutSeconds": "60", "ModelChannel": "stable"}


def test_function_without_an_environment_lacks_its_settings() -> None:
    without = {name: value for name, value in CONFIGURATION.items() if name != "Environment"}
    assert "OUTPUT_STREAM, BUCKET, MODEL_CHANNEL" in function_facts(without).settings_problem


def version(function: str, number: int) -> Resource:
    arn = f"arn:aws:lambda:us-east-1:123456789012:function:{function}:{number}"
    return Resource(f"Version{number}", arn, "AWS::Lambda::Version")


def lambda_with_alias_at(serving: str, **more: Any) -> Any:
    return SimpleNamespace(get_alias=lambda **_: {"FunctionVersion": serving, **more})


def test_mapping_from_another_stream_to_the_same_alias_is_ignored() -> None:
    mappings = {(ALIAS, "other"): "Enabled", (ALIAS, "rides"): "Disabled"}

    def list_event_source_mappings(**request: str) -> dict[str, Any]:
        state = mappings.get((request["FunctionName"], request["EventSourceArn"]))
        return {"EventSourceMappings": [{"State": state, "BatchSize": 1}] if state else []}

    aws_lambda = SimpleNamespace(list_event_source_mappings=list_event_source_mappings)
    assert probe_mapping(aws_lambda, ALIAS, "rides").state == "Disabled"
    assert probe_mapping(aws_lambda, ALIAS, "gone").state == ""


def test_published_version_is_the_functions_latest_and_not_another_functions() -> None:
    resources = [version("predictor", 9), version("predictor", 10), version("other", 11), version("my-predictor", 12)]

    release = probe_release(lambda_with_alias_at("9", RoutingConfig=None), "predictor", ALIAS, resources)

    assert (release.alias, release.serving, release.published, release.next_version) == ("live", "9", "10", "")


def test_stack_whose_resources_are_unknown_has_no_published_version() -> None:
    assert probe_release(lambda_with_alias_at("9"), "predictor", ALIAS, ()).published == ""


@pytest.mark.parametrize("n_confirmed", [0, 2])
def test_only_confirmed_subscriptions_count(n_confirmed: int) -> None:
    topic, queue = Resource("AlarmTopic", "topic", "AWS::SNS::Topic"), Resource("Queue", "queue", "AWS::SQS::Queue")
    attributes = {"SubscriptionsConfirmed": str(n_confirmed), "SubscriptionsPending": "9"}
    sns = SimpleNamespace(get_topic_attributes=lambda TopicArn: {"Attributes": attributes})  # noqa: N803

    assert count_subscribers(sns, (queue, topic)) == n_confirmed
    assert count_subscribers(sns, (queue,)) is None


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
