"""The template as Python reads it: short forms, translation by SAM, conditions."""

import re
from pathlib import Path
from typing import Any

import pytest

from infra.stack.conditions import decide
from infra.stack.template import read_template, transform
from training.errors import UserError


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
