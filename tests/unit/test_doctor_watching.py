"""The doctor's judgement of alarms, and of records that were put aside."""

from infra.operate.doctor.doctor import check
from infra.operate.doctor.facts import AlarmFacts, Severity
from tests.builders_doctor import ill, only_ill, stack_with

WELL = AlarmFacts("ridecast-errors", "FunctionErrorsAlarm", "OK")
AGE = AlarmFacts("ridecast-age", "IteratorAgeAlarm", "ALARM", "1 datapoint was over 300")
STACK = AlarmFacts("ridecast-all", "StackAlarm", "ALARM", "age sounds", is_composite=True)


def test_alarm_that_sounds_is_bad_and_names_its_section_of_the_runbook() -> None:
    found = only_ill(stack_with(alarms=(WELL, AGE)))

    assert (found.check, found.severity) == ("alarm", Severity.bad)
    assert found.what == "ridecast-age: 1 datapoint was over 300"
    assert found.remedy == "docs/runbook.md#iteratoragealarm says what to do"


def test_composite_alarm_is_told_of_only_where_what_set_it_off_is_not() -> None:
    assert only_ill(stack_with(alarms=(AGE, STACK))).what.startswith("ridecast-age")
    assert only_ill(stack_with(alarms=(WELL, STACK))).remedy == "docs/runbook.md says what to do"


def test_alarm_that_tells_nobody_is_a_warning() -> None:
    muted = AlarmFacts("ridecast-all", "StackAlarm", "OK", is_muted=True, is_composite=True)
    found = only_ill(stack_with(alarms=(WELL, muted)))

    assert (found.severity, found.what) == (Severity.warning, "nobody is told of ridecast-all")
    assert found.remedy == "`aws cloudwatch enable-alarm-actions --alarm-names ridecast-all`"


def test_alarms_that_tell_nobody_at_all_are_a_warning() -> None:
    found = only_ill(stack_with(n_told=0))

    assert (found.severity, found.check) == (Severity.warning, "alarm topic")
    assert "AlarmEmail" in found.remedy
    assert ill(stack_with(n_told=None)) == []  # not known


def test_alarm_that_somebody_has_deleted_is_bad() -> None:
    found = only_ill(stack_with(alarms=(WELL, AlarmFacts("ridecast-age", "IteratorAgeAlarm", ""))))
    assert (found.severity, found.what) == (Severity.bad, "somebody has deleted ridecast-age")


def test_quiet_alarms_are_counted_in_one_finding() -> None:
    assert [one.what for one in check(stack_with(alarms=(WELL, WELL))) if one.check == "alarm"] == [
        "none of 2 alarms sounds"
    ]


def test_failures_that_wait_are_bad_and_rejects_a_warning() -> None:
    failures, rejects = ill(stack_with(n_kept={"rejects": 2, "failures": 1}))

    assert (rejects.severity, failures.severity) == (Severity.warning, Severity.bad)
    assert "`ridecast failures redrive`" in failures.remedy
