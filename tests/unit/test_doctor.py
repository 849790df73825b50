"""All checks of the doctor together: their order, and parts that could not be read."""

from infra.operate.doctor.doctor import check
from infra.operate.doctor.facts import Severity, StackFacts
from tests.builders_doctor import HEALTHY, problems, stack_with


def test_healthy_stack_has_only_good_findings_without_a_remedy() -> None:
    findings = check(HEALTHY)

    assert {one.severity for one in findings} == {Severity.good}
    assert not any(one.remedy for one in findings)
    assert [one.check for one in findings] == [
        "stack", "template diff", "parameters", "release", "input stream", "output stream", "mapping", "concurrency",
        "model", "function", "refresh", "work", "alarm", "quota", "rejects", "failures",
    ]  # fmt: skip


def test_worst_findings_come_first() -> None:
    findings = check(
        stack_with(status="UPDATE_ROLLBACK_COMPLETE", mapping=None, n_waiting={"rejects": 2, "failures": 1})
    )

    assert [one.check for one in findings][:4] == ["failures", "stack", "rejects", "template diff"]
    assert [one.severity for one in findings] == sorted((one.severity for one in findings), key=list(Severity).index)


def test_stack_of_which_only_the_status_is_known_has_one_finding() -> None:
    assert [one.check for one in check(StackFacts("ridecast", "CREATE_IN_PROGRESS", 60))] == ["stack"]


def test_part_that_may_not_be_read_is_a_warning_that_names_the_policy() -> None:
    unread = {"alarms": "AccessDenied", "template diff": "it is not YAML"}
    alarms, template = problems(stack_with(alarms=(), template_diff=None, unread=unread, denied=frozenset({"alarms"})))

    assert (alarms.check, alarms.severity) == ("alarms", Severity.warning)
    assert "DoctorPolicy" in alarms.remedy
    assert "it is not YAML" in template.what
    assert "DoctorPolicy" not in template.remedy
