"""The template as Python sees it: read, translated, parameters resolved, cut down for moto."""

import re
from pathlib import Path
from typing import Any

import pytest

from infra.errors import TemplateError
from infra.local.stack import Stack
from infra.stack.template import read_template, transform

ONE_MAPPING = """
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
  Alarm: { Type: AWS::CloudWatch::Alarm, Properties: { Namespace: !Sub "${Rides}" } }
Outputs:
  Stream: { Value: !Ref Rides }
  Alarm: { Value: !Ref Alarm }
  AlarmArn: { Value: !GetAtt Alarm.Arn }
  Mapping: { Value: !Ref CodeRides }
"""


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "template.yaml"
    path.write_text(ONE_MAPPING, encoding="utf-8")
    return path


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
        ("- a", "has no Resources"),
        ("Resources: !!python/object/apply:os.getcwd []", "is not YAML"),
    ],
)
def test_what_is_not_a_template_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(TemplateError, match=f"^template.yaml {problem}"):
        read_template(write(tmp_path, text))


def test_missing_template_is_named(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match=r"nowhere\.yaml can't be read: No such file"):
        read_template(tmp_path / "nowhere.yaml")


def test_translators_refusal_names_the_resource(tmp_path: Path) -> None:
    path = write(tmp_path, "Resources: { Code: { Type: AWS::Serverless::Function, Properties: { Runtime: 3 } } }")

    with pytest.raises(TemplateError, match=r"is refused by the SAM translator: .*Code"):
        transform(path)


def test_translation_asks_nothing_of_the_users_aws_settings(template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)

    assert transform(template)["Resources"]["CodeRides"]["Type"] == "AWS::Lambda::EventSourceMapping"


def test_parameters_are_the_given_values_over_the_defaults(template: Path) -> None:
    assert Stack(template, {"Needed": "x", "Batch": 9}).parameters == {"Needed": "x", "Batch": "9"}
    assert Stack(template, {"Needed": "x"}).parameters == {"Needed": "x", "Batch": "7"}


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [({}, "needs a value for Needed"), ({"Needed": "x", "Other": 1}, "has no parameter Other")],
)
def test_parameters_that_do_not_fit_are_named(template: Path, parameters: dict[str, object], problem: str) -> None:
    with pytest.raises(TemplateError, match=problem):
        Stack(template, parameters)


def test_moto_gets_what_it_can_create_and_no_output_of_the_rest(template: Path) -> None:
    cut = Stack(template, {"Needed": "x"}).for_moto()

    assert sorted(cut["Resources"]) == ["Code", "Rides"]
    assert list(cut["Outputs"]) == ["Stream"]
    assert "ZipFile" in cut["Resources"]["Code"]["Properties"]["Code"]


CONDITIONAL = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  Size: { Type: String, Default: small }
  Name: { Type: String, Default: "" }
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
def test_conditions_decide_what_there_is(
    tmp_path: Path, parameters: dict[str, object], stream: dict[str, Any], n_resources: int
) -> None:
    decided = Stack(write(tmp_path, CONDITIONAL), parameters).decided

    assert decided["Resources"]["Rides"]["Properties"].items() >= stream.items()
    assert ("Name" in decided["Resources"]["Rides"]["Properties"]) == ("Name" in parameters)
    assert (len(decided["Resources"]), len(decided["Outputs"])) == (n_resources, n_resources - 1)
    assert "Conditions" not in decided


@pytest.mark.parametrize(
    ("conditions", "problem"),
    [
        ("{ IsBig: !Condition IsBig }", "has the condition IsBig, which depends on itself"),
        ("{ IsBig: !Equals [!Ref Other, a] }", "decides a condition by {'Ref': 'Other'}, which is no parameter"),
        ("{ IsBig: !Contains [[a], a] }", "decides a condition by Fn::Contains, which is not known locally"),
        ("{ Other: !Equals [a, a] }", "has no condition IsBig"),
    ],
)
def test_condition_that_cannot_be_decided_is_named(tmp_path: Path, conditions: str, problem: str) -> None:
    stream = "{ Type: AWS::Kinesis::Stream, Condition: IsBig, Properties: { ShardCount: 1 } }"
    path = write(tmp_path, f"Conditions: {conditions}\nResources: {{ Rides: {stream} }}")

    with pytest.raises(TemplateError, match=re.escape(problem)):
        Stack(path)


WITH_ALIAS = ONE_MAPPING.replace("      Role:", "      AutoPublishAlias: live\n      Role:").replace(
    "  Alarm: {",
    """  Telling:
    Type: AWS::Lambda::Function
    Properties:
      Runtime: python3.13
      Handler: a.b
      Role: !Sub "arn:aws:iam::${AWS::AccountId}:role/${Alarm}-${Alarm.Arn}-${Rides}"
      Code: { ZipFile: a }
      Environment: { Variables: { VERSION: !Ref Code.Version, ALARM: !GetAtt Alarm.Arn, STREAM: !Ref Rides } }
  Alarm: {""",
)


def test_names_stand_in_for_what_moto_cannot_create(tmp_path: Path) -> None:
    telling = Stack(write(tmp_path, WITH_ALIAS), {"Needed": "x"}).for_moto()["Resources"]["Telling"]["Properties"]

    assert telling["Environment"]["Variables"]["VERSION"].startswith("CodeVersion")
    assert telling["Environment"]["Variables"]["ALARM"] == "Alarm"
    assert telling["Environment"]["Variables"]["STREAM"] == {"Ref": "Rides"}
    assert telling["Role"] == {"Fn::Sub": "arn:aws:iam::${AWS::AccountId}:role/Alarm-Alarm-${Rides}"}


def test_mapping_of_an_alias_is_of_the_function_by_that_name(tmp_path: Path) -> None:
    stack = Stack(write(tmp_path, WITH_ALIAS), {"Needed": "x"})

    assert stack.event_source_mapping({"Rides": "rides", "Code": "code"}).function_name == "code:live"


def test_mapping_takes_parameters_and_lambdas_defaults(template: Path) -> None:
    mapping = Stack(template, {"Needed": "x", "Batch": 9}).event_source_mapping({"Rides": "rides", "Code": "code"})

    assert (mapping.stream_name, mapping.batch_size, mapping.starting_position) == ("rides", 9, "LATEST")
    assert (mapping.batching_window_s, mapping.parallelization_factor, mapping.bisect_on_error) == (0, 1, False)
    assert (mapping.maximum_retry_attempts, mapping.maximum_record_age_s) == (-1, -1)
    assert mapping.on_failure_bucket is None
    assert not mapping.report_batch_item_failures


def test_mapping_of_a_stream_without_a_physical_name_is_refused(template: Path) -> None:
    with pytest.raises(TemplateError, match=r"refers to (Code|Rides), which has no value here"):
        Stack(template, {"Needed": "x"}).event_source_mapping({})


def test_template_without_a_mapping_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "Resources: { Rides: { Type: AWS::Kinesis::Stream, Properties: { ShardCount: 1 } } }")

    with pytest.raises(TemplateError, match="has 0 resources of type AWS::Lambda::EventSourceMapping, not one"):
        Stack(path).event_source_mapping({})
