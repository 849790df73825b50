"""The template with its parameters resolved, and its event source mapping as the local mapping's configuration."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from infra.local.event_source.config import MappingConfig
from infra.local.stack import Stack, mapping_config
from infra.stack.conditions import decide
from infra.stack.template import read_template
from infra.stack.translate import transform
from training.errors import UserError

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  Batch: { Type: Number, Default: 7 }
  Needed: { Type: String }
Resources:
  Rides: { Type: AWS::Kinesis::Stream, Properties: { Name: rides } }
  Code:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: somewhere/
      Handler: a.b
      Runtime: python3.13
      Role: arn:aws:iam::123456789012:role/r
      Events:
        Rides:
          Type: Kinesis
          Properties: { Stream: !GetAtt Rides.Arn, StartingPosition: LATEST, BatchSize: !Ref Batch }
"""
OTHER_FUNCTION = """
  Results: { Type: AWS::Kinesis::Stream, Properties: { Name: results } }
  Other:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: somewhere/
      Handler: a.c
      Runtime: python3.13
      Role: arn:aws:iam::123456789012:role/r
      Events:
        Rides: { Type: Kinesis, Properties: { Stream: !GetAtt Rides.Arn, StartingPosition: LATEST } }
        Results: { Type: Kinesis, Properties: { Stream: !GetAtt Results.Arn, StartingPosition: LATEST } }
"""
NAMES = {"Rides": "rides", "Code": "code"}
REQUIRED = {"EventSourceArn": "rides", "FunctionName": "predictor", "StartingPosition": "LATEST"}


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "template.yaml"
    path.write_text(TEMPLATE, encoding="utf-8")
    return path


def test_translation_does_not_use_the_users_aws_settings(template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)

    assert Stack(template, {"Needed": "x"}).only("AWS::Lambda::EventSourceMapping")["StartingPosition"] == "LATEST"


def test_given_parameters_replace_defaults(template: Path) -> None:
    assert Stack(template, {"Needed": "x", "Batch": 9}).parameters == {"Needed": "x", "Batch": "9"}
    assert Stack(template, {"Needed": "x"}).parameters == {"Needed": "x", "Batch": "7"}


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({}, r"Parameters: \[Needed\] must have values"),
        ({"Needed": "x", "Other": 1}, r"Parameters: \[Other\] do not exist in the template"),
    ],
)
def test_missing_and_unknown_parameters_are_named(template: Path, parameters: dict[str, object], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        Stack(template, parameters)


def test_mapping_has_the_parameters_values_and_lambdas_defaults(template: Path) -> None:
    mapping = Stack(template, {"Needed": "x", "Batch": 9}).event_source_mapping(NAMES, "Code")

    assert mapping == MappingConfig(
        stream_name="rides",
        batch_size=9,
        batching_window_s=0,
        starting_position="LATEST",
        parallelization_factor=1,
        bisect_on_error=False,
        maximum_retry_attempts=-1,
        maximum_record_age_s=-1,
        on_failure_bucket=None,
        report_batch_item_failures=False,
        function_name="code",
    )


def test_mapping_of_a_stream_without_a_physical_name_is_refused(template: Path) -> None:
    with pytest.raises(UserError, match=r"refers to (Code|Rides), which has no value here"):
        Stack(template, {"Needed": "x"}).event_source_mapping({}, "Code")


def test_function_without_a_mapping_is_refused(template: Path) -> None:
    with pytest.raises(UserError, match=r"Other in template\.yaml has 0 event source mappings, not one"):
        Stack(template, {"Needed": "x"}).event_source_mapping(NAMES, "Other")


def test_each_function_has_its_own_mappings_behind_an_alias_or_not(template: Path) -> None:
    template.write_text(TEMPLATE.replace("      Role:", "      AutoPublishAlias: live\n      Role:") + OTHER_FUNCTION)
    stack = Stack(template, {"Needed": "x"})
    names = {"Rides": "rides", "CodeAliaslive": "code:live", "Other": "other", "Results": "results"}

    assert stack.event_source_mapping(names, "Code").function_name == "code:live"
    mappings = stack.event_source_mappings(names, "Other")
    assert sorted(one.stream_name for one in mappings.values()) == ["results", "rides"]
    assert {one.function_name for one in mappings.values()} == {"other"}


def config(**properties: Any) -> MappingConfig:
    return mapping_config(REQUIRED | properties)


def test_every_supported_property_is_converted() -> None:
    converted = config(
        BatchSize=7,
        MaximumBatchingWindowInSeconds=2,
        ParallelizationFactor=10,
        BisectBatchOnFunctionError=True,
        MaximumRetryAttempts=3,
        MaximumRecordAgeInSeconds=60,
        DestinationConfig={"OnFailure": {"Destination": "arn:aws:s3:::failures"}},
        FunctionResponseTypes=["ReportBatchItemFailures"],
        FunctionName="arn:aws:lambda:us-east-1:123456789012:function:predictor:live",
        MetricsConfig={"Metrics": ["EventCount"]},
    )

    assert converted == MappingConfig(
        stream_name="rides",
        batch_size=7,
        batching_window_s=2,
        starting_position="LATEST",
        parallelization_factor=10,
        bisect_on_error=True,
        maximum_retry_attempts=3,
        maximum_record_age_s=60,
        on_failure_bucket="failures",
        report_batch_item_failures=True,
        function_name="predictor:live",
    )


def test_reading_may_start_at_a_time() -> None:
    converted = config(StartingPosition="AT_TIMESTAMP", StartingPositionTimestamp=1_609_834_500)

    assert converted.starting_position == datetime(2021, 1, 5, 8, 15, tzinfo=UTC)


@pytest.mark.parametrize("name", ["FilterCriteria", "TumblingWindowInSeconds"])
def test_property_that_is_not_supported_is_refused_by_name(name: str) -> None:
    with pytest.raises(UserError, match=f"the event source mapping has {name}, which is not supported locally"):
        config(**{name: {"Filters": []}})


def test_failure_destination_other_than_s3_is_refused() -> None:
    with pytest.raises(UserError, match="only an S3 bucket is supported"):
        config(DestinationConfig={"OnFailure": {"Destination": "arn:aws:sqs:eu-west-1:123456789012:failures"}})


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "template.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("!Ref a", {"Ref": "a"}),
        ("!GetAtt a.B.C", {"Fn::GetAtt": ["a", "B.C"]}),
        ("!GetAtt [a, B]", {"Fn::GetAtt": ["a", "B"]}),
        ("!Sub '${a}/x'", {"Fn::Sub": "${a}/x"}),
        ("!Join ['', [!Ref a, b]]", {"Fn::Join": ["", [{"Ref": "a"}, "b"]]}),
        ("!If [c, !Ref a, {x: 1}]", {"Fn::If": ["c", {"Ref": "a"}, {"x": 1}]}),
        ("!Condition c", {"Condition": "c"}),
        ("!Transform {Name: n}", {"Fn::Transform": {"Name": "n"}}),
    ],
)
def test_short_forms_of_functions_are_read(tmp_path: Path, short: str, long: dict[str, Any]) -> None:
    path = write(tmp_path, f"Resources: {{ R: {short} }}")

    assert read_template(path)["Resources"]["R"] == long


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [", "is not YAML"),
        ("- a", "is not a template: it has no Resources"),
        ("Resources: !!python/object/apply:os.getcwd []", "is not YAML"),
    ],
)
def test_text_that_is_not_a_template_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(UserError, match=f"^template.yaml {problem}"):
        read_template(write(tmp_path, text))


def test_missing_template_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.yaml cannot be read: No such file"):
        read_template(tmp_path / "nowhere.yaml")


def test_translators_refusal_names_the_resource(tmp_path: Path) -> None:
    path = write(tmp_path, "Resources: { Code: { Type: AWS::Serverless::Function, Properties: { Runtime: 3 } } }")

    with pytest.raises(UserError, match=r"the SAM translator refuses the template: .*Code"):
        transform(path)


CONDITIONAL = """
Conditions:
  IsBig: !Equals [!Ref Size, big]
  IsNamed: !Not [!Equals [!Ref Name, ""]]
  IsBigAndNamed: !And [!Condition IsBig, !Condition IsNamed]
  IsEither: !Or [!Condition IsBig, !Condition IsNamed]
Resources:
  Rides:
    Type: AWS::Kinesis::Stream
    Properties:
      Name: !If [IsNamed, !Ref Name, !Ref AWS::NoValue]
      ShardCount: !If [IsBig, !If [IsNamed, 9, 8], 1]
      Tags: [!If [IsEither, { Key: either, Value: is }, !Ref AWS::NoValue], { Key: always, Value: is }]
  Second: { Type: AWS::Kinesis::Stream, Condition: IsBigAndNamed, Properties: { ShardCount: 1 } }
Outputs:
  Second: { Condition: IsBigAndNamed, Value: !Ref Second }
"""


@pytest.mark.parametrize(
    ("parameters", "stream", "n_resources"),
    [
        ({}, {"ShardCount": 1, "Tags": [{"Key": "always", "Value": "is"}]}, 1),
        ({"Size": "big"}, {"ShardCount": 8}, 1),
        ({"Size": "big", "Name": "rides"}, {"ShardCount": 9, "Name": {"Ref": "Name"}}, 2),
    ],
    ids=["neither", "big", "big and named"],
)
def test_conditions_decide_which_resources_exist(
    tmp_path: Path, parameters: dict[str, str], stream: dict[str, Any], n_resources: int
) -> None:
    template = read_template(write(tmp_path, CONDITIONAL))

    decided = decide(template, {"Size": "small", "Name": "", **parameters})

    assert decided["Resources"]["Rides"]["Properties"].items() >= stream.items()
    assert ("Name" in decided["Resources"]["Rides"]["Properties"]) == ("Name" in parameters)
    assert (len(decided["Resources"]), len(decided["Outputs"])) == (n_resources, n_resources - 1)
    assert "Conditions" not in decided


@pytest.mark.parametrize(
    ("conditions", "problem"),
    [
        ("{ IsBig: !Condition IsBig }", "condition IsBig depends on itself"),
        ("{ IsBig: !Equals [!Ref Other, a] }", "condition on {'Ref': 'Other'}, which is not a parameter"),
        ("{ IsBig: !Contains [[a], a] }", "condition with Fn::Contains, which is not supported locally"),
        ("{ Other: !Equals [a, a] }", "has no condition IsBig"),
    ],
)
def test_condition_that_cannot_be_decided_is_named(tmp_path: Path, conditions: str, problem: str) -> None:
    stream = "{ Type: AWS::Kinesis::Stream, Condition: IsBig, Properties: { ShardCount: 1 } }"
    path = write(tmp_path, f"Conditions: {conditions}\nResources: {{ Rides: {stream} }}")

    with pytest.raises(UserError, match=re.escape(problem)):
        decide(read_template(path), {})
