"""The doctor's judgement of what is deployed: its status, its drift, its release; and of what it could not see."""

import pytest

from infra.operate.doctor.doctor import check
from infra.operate.doctor.facts import ReleaseFacts, Severity, StackFacts
from tests.builders_doctor import HEALTHY, ill, only_ill, stack_with


def test_healthy_stack_has_nothing_but_good_findings_and_needs_no_remedy() -> None:
    findings = check(HEALTHY)

    assert {one.severity for one in findings} == {Severity.good}
    assert not any(one.remedy for one in findings)
    assert [one.check for one in findings] == [
        "stack", "drift", "parameters", "release", "input stream", "output stream", "mapping", "concurrency", "model",
        "function", "refresh", "work", "alarm", "quota", "rejects", "failures",
    ]  # fmt: skip


def test_worst_findings_come_first_and_else_in_the_order_of_a_rides_way() -> None:
    findings = check(stack_with(status="UPDATE_ROLLBACK_COMPLETE", mapping=None, n_kept={"rejects": 2, "failures": 1}))

    assert [one.check for one in findings][:4] == ["failures", "stack", "rejects", "drift"]
    assert [one.severity for one in findings] == sorted((one.severity for one in findings), key=list(Severity).index)


@pytest.mark.parametrize(
    ("status", "severity", "remedy"),
    [
        ("CREATE_COMPLETE", Severity.good, ""),
        ("UPDATE_COMPLETE", Severity.good, ""),
        ("UPDATE_ROLLBACK_COMPLETE", Severity.warning, "put back|describe-stack-events"),
        ("UPDATE_IN_PROGRESS", Severity.warning, "look again"),
        ("REVIEW_IN_PROGRESS", Severity.warning, "change set"),
        ("ROLLBACK_COMPLETE", Severity.bad, "delete it and deploy again"),
        ("UPDATE_ROLLBACK_FAILED", Severity.bad, "continue-update-rollback"),
        ("DELETE_FAILED", Severity.bad, "delete it again"),
    ],
)
def test_status_of_the_stack_is_judged(status: str, severity: Severity, remedy: str) -> None:
    (found,) = [one for one in check(stack_with(status=status)) if one.check == "stack"]

    assert found.severity is severity
    assert any(part in found.remedy for part in remedy.split("|"))


def test_stack_of_which_nothing_but_its_status_is_known_has_that_one_finding() -> None:
    assert [one.check for one in check(StackFacts("ridecast", "CREATE_IN_PROGRESS", 60))] == ["stack"]


def test_drift_is_a_warning_that_names_three_and_counts_the_rest() -> None:
    found = only_ill(stack_with(drift=tuple(f"{name} differs" for name in "ABCDE")))
    assert found.what.endswith("A differs; B differs; C differs and 2 more")


def test_template_that_was_not_compared_is_not_judged() -> None:
    assert "drift" not in {one.check for one in check(stack_with(drift=None))}


def test_parameter_that_somebody_has_changed_since_is_named_with_how_to_keep_it() -> None:
    deployed = {**HEALTHY.parameters, "RideEventsShards": "1", "MemoryMb": "512"}

    found = only_ill(stack_with(parameters=deployed))

    assert (found.check, found.severity) == ("parameters", Severity.warning)
    assert "RideEventsShards is 2, deployed as 1; MemoryMb is 1769, deployed as 512" in found.what
    assert "deploy with RideEventsShards=2 MemoryMb=1769" in found.remedy


def test_drift_that_cloudformation_has_found_is_a_warning() -> None:
    found = only_ill(stack_with(resource_drift="DRIFTED"))
    assert (found.check, found.severity) == ("resources", Severity.warning)
    assert ill(stack_with(resource_drift="IN_SYNC")) == []


@pytest.mark.parametrize(
    ("release", "what"),
    [
        (ReleaseFacts("predictor", "live", "7", "8"), "version 7 serves, and the stack published 8"),
        (ReleaseFacts("predictor", "live", "7", "8", "8", 0.1), "version 8 gets 10% of the batches, 7 the rest"),
    ],
)
def test_version_that_is_not_the_last_published_and_a_rollout_are_warnings(release: ReleaseFacts, what: str) -> None:
    found = only_ill(stack_with(release=release))
    assert (found.check, found.severity, found.what) == ("release", Severity.warning, what)


def test_stack_that_lists_no_version_is_not_accused_of_serving_another() -> None:
    facts = stack_with(release=ReleaseFacts("predictor", "live", "7", ""))
    (found,) = [one for one in check(facts) if one.check == "release"]
    assert (found.severity, found.what) == (Severity.good, "version 7 serves, of the stack's own nothing is known")


def test_rollout_that_no_alarm_stops_is_a_warning() -> None:
    found = only_ill(stack_with(parameters={"RolloutAlarms": "Ignored"}))
    assert "RolloutAlarms=Watched" in found.remedy
    assert ill(stack_with(parameters={"RolloutAlarms": "Watched"})) == []


def test_what_may_not_be_looked_at_is_a_warning_that_names_the_policy() -> None:
    unseen = {"alarms": "AccessDenied", "drift": "it is no YAML"}
    alarms, drift = ill(stack_with(alarms=(), drift=None, unseen=unseen, denied=frozenset({"alarms"})))

    assert (alarms.check, alarms.severity) == ("alarms", Severity.warning)
    assert "DoctorPolicy" in alarms.remedy
    assert "it is no YAML" in drift.what
    assert "DoctorPolicy" not in drift.remedy
