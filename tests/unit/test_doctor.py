"""The doctor's judgement: facts in, findings out; and what it calls a drift."""

from dataclasses import replace

import pytest

from infra.doctor.checks import Finding, Severity, check
from infra.doctor.drift import differences, parse_deployed
from infra.doctor.facts import (
    AlarmFacts,
    FunctionFacts,
    MappingFacts,
    ModelFacts,
    QuotaFacts,
    StackFacts,
    StreamFacts,
)

INPUT = StreamFacts("ride-events", "input", n_open_shards=2, peak_records_per_s=100.0, peak_bytes_per_s=20_000.0)
MODEL = ModelFacts("rides", "stable", "green-2021-01-3f2a9c1d0b7e")
FUNCTION = FunctionFacts("predictor", n_records=1000, n_predictions=995, n_rejects=5, max_record_age_s=2.0)
HEALTHY = StackFacts(
    name="ridecast",
    status="UPDATE_COMPLETE",
    window_minutes=60,
    model=MODEL,
    function=FUNCTION,
    mapping=MappingFacts("Enabled", "OK"),
    streams=(INPUT, replace(INPUT, name="ride-predictions", role="output")),
    alarms=(AlarmFacts("errors", "OK"), AlarmFacts("age", "INSUFFICIENT_DATA")),
    quotas=(QuotaFacts("shards of the account", 4, 500),),
    drift=(),
    n_kept={"rejects": 0, "failures": 0},
)


def worst(facts: StackFacts) -> Finding:
    """The one finding that is not good."""
    (found,) = [one for one in check(facts) if one.severity is not Severity.good]
    return found


def test_healthy_stack_has_nothing_but_good_findings_and_needs_no_remedy() -> None:
    findings = check(HEALTHY)

    assert {one.severity for one in findings} == {Severity.good}
    assert not any(one.remedy for one in findings)
    assert {one.check for one in findings} == {
        "stack", "drift", "input stream", "output stream", "mapping", "model", "refresh", "work", "alarm", "quota",
        "rejects", "failures",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("status", "severity"),
    [
        ("CREATE_COMPLETE", Severity.good),
        ("UPDATE_ROLLBACK_COMPLETE", Severity.warning),
        ("UPDATE_IN_PROGRESS", Severity.warning),
        ("ROLLBACK_COMPLETE", Severity.bad),
        ("UPDATE_ROLLBACK_FAILED", Severity.bad),
        ("DELETE_FAILED", Severity.bad),
    ],
)
def test_status_of_the_stack_is_judged(status: str, severity: Severity) -> None:
    assert check(replace(HEALTHY, status=status))[0].severity is severity


def test_channel_without_a_model_that_loads_is_bad_and_says_how_to_publish_one() -> None:
    found = worst(replace(HEALTHY, model=ModelFacts("rides", "stable", problem="there is no such object")))

    assert (found.check, found.severity) == ("model", Severity.bad)
    assert "there is no such object" in found.what
    assert "`ridecast models publish`" in found.remedy


@pytest.mark.parametrize(
    ("change", "check_name", "severity"),
    [
        ({"n_refresh_failures": 1}, "refresh", Severity.bad),
        ({"n_failed_invocations": 3}, "work", Severity.bad),
        ({"n_predictions": 0, "n_rejects": 1000}, "work", Severity.bad),
        ({"n_rejects": 11}, "work", Severity.warning),
        ({"max_record_age_s": 301.0}, "work", Severity.warning),
        ({"settings_problem": "BUCKET is missing"}, "function", Severity.bad),
        ({"state": "Failed"}, "function", Severity.bad),
    ],
)
def test_function_is_judged_by_what_it_did(change: dict[str, object], check_name: str, severity: Severity) -> None:
    found = worst(replace(HEALTHY, function=replace(FUNCTION, **change)))  # type: ignore[arg-type]

    assert (found.check, found.severity) == (check_name, severity)
    assert found.remedy


def test_function_without_rides_is_not_ill() -> None:
    idle = FunctionFacts("predictor")

    assert {one.severity for one in check(replace(HEALTHY, function=idle))} == {Severity.good}


@pytest.mark.parametrize(
    ("change", "severity"),
    [
        ({"peak_records_per_s": 1400.0}, Severity.good),
        ({"peak_records_per_s": 1401.0}, Severity.warning),
        ({"peak_bytes_per_s": 1.5 * 1024 * 1024}, Severity.warning),
        ({"peak_records_per_s": 9000.0, "is_on_demand": True}, Severity.good),
        ({"n_throttled": 1}, Severity.bad),
        ({"n_throttled": 1, "is_on_demand": True}, Severity.bad),
    ],
)
def test_shards_are_held_against_traffic(change: dict[str, object], severity: Severity) -> None:
    stream = replace(INPUT, **change)  # type: ignore[arg-type]
    (found,) = [one for one in check(replace(HEALTHY, streams=(stream,))) if one.check == "input stream"]

    assert found.severity is severity
    assert bool(found.remedy) == (severity is not Severity.good)
    if severity is not Severity.good and not stream.is_on_demand:
        assert "RideEventsShards=4" in found.remedy


@pytest.mark.parametrize(
    ("mapping", "severity"),
    [
        (MappingFacts("Enabled", "No records processed"), Severity.good),
        (MappingFacts("Enabled", "PROBLEM: Function call failed"), Severity.bad),
        (MappingFacts("Disabled", "OK"), Severity.bad),
        (MappingFacts("not there", ""), Severity.bad),
    ],
)
def test_mapping_that_is_off_or_fails_is_bad(mapping: MappingFacts, severity: Severity) -> None:
    (found,) = [one for one in check(replace(HEALTHY, mapping=mapping)) if one.check == "mapping"]
    assert found.severity is severity


def test_alarm_that_rings_is_bad_and_one_that_tells_nobody_is_a_warning() -> None:
    alarms = (AlarmFacts("age", "ALARM", "1 datapoint was over 300"), AlarmFacts("errors", "OK", actions_enabled=False))
    ringing, silent = [one for one in check(replace(HEALTHY, alarms=alarms)) if one.check == "alarm"]

    assert (ringing.severity, ringing.what) == (Severity.bad, "age: 1 datapoint was over 300")
    assert ringing.remedy == "see docs/runbook.md"
    assert (silent.severity, silent.what) == (Severity.warning, "nobody is told of errors")


def test_quota_nearly_taken_is_a_warning() -> None:
    found = worst(replace(HEALTHY, quotas=(QuotaFacts("shards of the account", 451, 500),)))
    assert (found.check, found.severity) == ("quota", Severity.warning)


def test_failures_that_wait_are_bad_and_rejects_a_warning() -> None:
    kept = {"rejects": 2, "failures": 1}
    rejects, failures = [one for one in check(replace(HEALTHY, n_kept=kept)) if one.severity is not Severity.good]

    assert (rejects.severity, failures.severity) == (Severity.warning, Severity.bad)
    assert "`ridecast failures redrive`" in failures.remedy


def test_what_may_not_be_looked_at_is_a_warning_that_names_the_policy() -> None:
    found = worst(replace(HEALTHY, alarms=(), unseen={"alarms": "AccessDenied"}))

    assert (found.check, found.severity) == ("alarms", Severity.warning)
    assert "DoctorPolicy" in found.remedy


def test_drift_is_a_warning_that_names_three_and_counts_the_rest() -> None:
    found = worst(replace(HEALTHY, drift=tuple(f"{name} differs" for name in "ABCDE")))
    assert found.what.endswith("A differs; B differs; C differs and 2 more")


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


def test_changed_property_is_a_drift() -> None:
    here = {"Parameters": {"Shards": {"Default": 1}}, "Resources": {}}
    assert differences(here, parse_deployed({"Parameters": {"Shards": {"Default": 2}}})) == ("Shards differs",)
