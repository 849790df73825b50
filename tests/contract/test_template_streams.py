"""Streams that exist already: the stack uses them as its own, by exactly these ARNs, and makes and deletes none."""

import re
from typing import Any

import pytest

from infra.stack.conditions import broken_rules
from tests.kits.template import EXISTING_STREAMS as ARNS
from tests.kits.template import KEYS_OF_STREAMS as KEYS
from tests.kits.template import STREAMS, as_list, of_type, properties, stack, statements

THROUGH_KINESIS = {"StringEquals": {"kms:ViaService": {"Fn::Sub": "kinesis.${AWS::Region}.${AWS::URLSuffix}"}}}
MAPPINGS = {"PredictorRides": "RideEvents", "ArchiverRides": "RideEvents", "ArchiverPredictions": "RidePredictions"}
MAPPINGS |= {"ArchiverOutcomes": "RideOutcomes"}
WORK = ("PredictorRole", "ArchiverRole", "PreTrafficRole", "OperatorPolicy", "DoctorPolicy")
"""Roles and policies with permissions on streams."""


def named(node: Any) -> set[str]:
    """Return all logical names and parameters that a part of the decided template refers to."""
    if isinstance(node, list):
        return set().union(*map(named, node))
    if isinstance(node, dict):
        found = set(re.findall(r"\$\{([\w:]+)", node["Fn::Sub"])) if isinstance(node.get("Fn::Sub"), str) else set()
        found |= {node["Ref"]} if isinstance(node.get("Ref"), str) else set()
        found |= {as_list(node["Fn::GetAtt"])[0]} if "Fn::GetAtt" in node else set()
        return found.union(*(named(value) for value in node.values()))
    return set()


def kinesis_calls(name: str, **parameters: str) -> set[tuple[str, str]]:
    """Return the actions on streams that a role or policy allows, with the stream as a name of STREAMS."""
    found = set()
    for statement in statements(name, **parameters).values():
        for action in as_list(statement["Action"]):
            for target in as_list(statement["Resource"]):
                if action.startswith("kinesis:") and target != "*":
                    (stream,) = named(target)
                    found.add((action, stream.removesuffix("Arn")))
    return found


@pytest.mark.parametrize("streams", [(), *((name,) for name in STREAMS), STREAMS], ids=str)
def test_stack_makes_only_the_streams_that_do_not_exist(streams: tuple[str, ...]) -> None:
    parameters = {f"{name}Arn": ARNS[f"{name}Arn"] for name in streams}
    decided = stack(**parameters).decided

    assert of_type("AWS::Kinesis::Stream", **parameters).keys() == set(STREAMS) - set(streams)
    assert named([*decided["Resources"].values(), decided["Outputs"]]) & set(STREAMS) == set(STREAMS) - set(streams)


@pytest.mark.parametrize(("mapping", "stream"), MAPPINGS.items())
def test_mapping_reads_a_stream_that_exists_as_the_stacks_own_but_gives_a_batch_up_within_a_days_retention(
    mapping: str, stream: str
) -> None:
    own, existing = properties(mapping), properties(mapping, **ARNS)

    assert own["StartingPosition"] == "TRIM_HORIZON"  # whatever the parameter says
    assert existing == {
        **own,
        "EventSourceArn": {"Ref": f"{stream}Arn"},
        "StartingPosition": {"Ref": "StartingPosition"},
        "MaximumRecordAgeInSeconds": 43_200,  # a stream keeps records for 24 hours, unless its owner pays for more
    }
    at_a_time = properties(mapping, StartingPosition="AT_TIMESTAMP", StartingPositionTimestamp=1_700_000_000, **ARNS)
    assert at_a_time == {**existing, "StartingPositionTimestamp": {"Ref": "StartingPositionTimestamp"}}
    assert properties(mapping, StartingPosition="AT_TIMESTAMP", StartingPositionTimestamp=1_700_000_000) == own


def broken(**parameters: str) -> list[str]:
    given = stack(**parameters)
    return broken_rules(given.template, given.parameters)


@pytest.mark.parametrize("name", STREAMS)
def test_one_stream_for_two_kinds_and_a_key_without_a_stream_are_refused(name: str) -> None:
    others = [f"{one}Arn" for one in STREAMS if one != name]
    for other in others:
        (sentence,) = broken(**{f"{name}Arn": ARNS[f"{name}Arn"], other: ARNS[f"{name}Arn"]})
        assert sentence.endswith("must be two streams.")
    key = {f"{name}KeyArn": KEYS[f"{name}KeyArn"]}
    assert broken(**key) == [f"{name}KeyArn is the key of {name}Arn, and needs it."]
    assert broken(**{one: ARNS[one] for one in others}, **key) == broken(**key)
    assert broken() == broken(**ARNS) == broken(**ARNS, **KEYS) == []


@pytest.mark.parametrize("name", WORK)
def test_role_may_do_the_same_on_exactly_the_streams_that_exist(name: str) -> None:
    assert kinesis_calls(name)
    assert kinesis_calls(name, **ARNS) == kinesis_calls(name)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("PredictorRole", {("kms:Decrypt", "RideEvents"), ("kms:GenerateDataKey", "RidePredictions")}),
        ("ArchiverRole", {("kms:Decrypt", name) for name in STREAMS}),
        (
            "OperatorPolicy",
            {(f"kms:{use}", name) for use, names in {
                "Decrypt": ("RideEvents", "RidePredictions"), "GenerateDataKey": ("RideEvents", "RideOutcomes"),
            }.items() for name in names},
        ),
    ],
)  # fmt: skip
def test_role_uses_the_key_of_a_stream_that_exists_only_as_it_uses_the_stream(
    name: str, keys: set[tuple[str, str]]
) -> None:
    added = [one for sid, one in statements(name, **ARNS, **KEYS).items() if sid not in statements(name, **ARNS)]
    found = {
        (action, target["Ref"].removesuffix("KeyArn"))
        for statement in added
        for action in as_list(statement["Action"])
        for target in as_list(statement["Resource"])
    }

    assert found == keys
    assert all(statement["Condition"] == THROUGH_KINESIS for statement in added)


def test_hook_before_traffic_looks_at_the_key_of_the_output_stream_if_there_is_one() -> None:
    looks = {
        "own": statements("PreTrafficRole").get("LookAtItsKey"),
        "with a key": statements("PreTrafficRole", **ARNS, **KEYS).get("LookAtItsKey"),
        "without": statements("PreTrafficRole", **ARNS).get("LookAtItsKey"),
    }

    assert {name: one and one["Resource"] for name, one in looks.items()} == {
        "own": {"Fn::GetAtt": ["Key", "Arn"]},
        "with a key": {"Ref": "RidePredictionsKeyArn"},
        "without": None,
    }


def test_keys_without_their_streams_allow_nothing() -> None:
    for name in WORK:
        assert statements(name, **KEYS) == statements(name)


@pytest.mark.parametrize(
    "arn",
    [
        "ride-events",
        "arn:aws:kinesis:eu-west-1:123456789012:stream/rides/consumer/name:1700000000",
        "arn:aws:kinesis:eu-west-1:123456789012:stream/*",
        "arn:aws:kinesis:eu-west-1::stream/rides",
        "arn:aws:firehose:eu-west-1:123456789012:stream/rides",
    ],
)
@pytest.mark.parametrize("name", STREAMS)
def test_what_is_no_streams_arn_is_refused(name: str, arn: str) -> None:
    allowed = stack().template["Parameters"][f"{name}Arn"]["AllowedPattern"]

    assert not re.fullmatch(allowed, arn)
    assert re.fullmatch(allowed, ARNS[f"{name}Arn"])
    assert re.fullmatch(allowed, "arn:aws-cn:kinesis:cn-north-1:123456789012:stream/rides")


def test_a_time_to_begin_with_is_required_only_to_begin_at_a_time() -> None:
    template, defaults = stack().template, stack().parameters

    (problem,) = broken_rules(template, {**defaults, "StartingPosition": "AT_TIMESTAMP"})
    assert "StartingPositionTimestamp" in problem
    at_a_time = {"StartingPosition": "AT_TIMESTAMP", "StartingPositionTimestamp": "1700000000"}
    for given in ({}, {"StartingPosition": "LATEST"}, at_a_time):
        assert broken_rules(template, {**defaults, **given}) == []
