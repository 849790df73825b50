"""The doctor's checks of alarms, and of rejects and failed batches that wait."""

from infra.operate.doctor.alarms import count_subscribers
from infra.operate.doctor.doctor import check
from infra.operate.doctor.facts import AlarmFacts, Severity
from infra.stack.describe import Resource
from tests.builders_doctor import only_problem, problems, stack_with

WELL = AlarmFacts("ridecast-errors", "FunctionErrorsAlarm", "OK")
AGE = AlarmFacts("ridecast-age", "IteratorAgeAlarm", "ALARM", "1 datapoint was over 300")
STACK = AlarmFacts("ridecast-all", "StackAlarm", "ALARM", "age is in alarm", is_composite=True)


def test_alarm_is_bad_and_names_its_section_of_the_runbook() -> None:
    found = only_problem(stack_with(alarms=(WELL, AGE)))

    assert (found.check, found.severity) == ("alarm", Severity.bad)
    assert found.what == "ridecast-age: 1 datapoint was over 300"
    assert found.remedy == "docs/runbook.md#iteratoragealarm describes what to do"


def test_composite_alarm_has_a_finding_only_without_its_cause() -> None:
    assert only_problem(stack_with(alarms=(AGE, STACK))).what.startswith("ridecast-age")
    assert only_problem(stack_with(alarms=(WELL, STACK))).remedy == "docs/runbook.md describes what to do"


def test_alarm_with_disabled_actions_is_a_warning() -> None:
    muted = AlarmFacts("ridecast-all", "StackAlarm", "OK", is_muted=True, is_composite=True)
    found = only_problem(stack_with(alarms=(WELL, muted)))

    assert (found.severity, found.what) == (
        Severity.warning,
        "the actions of ridecast-all are disabled: nobody is notified",
    )
    assert found.remedy == "`aws cloudwatch enable-alarm-actions --alarm-names ridecast-all`"


def test_topic_without_subscribers_is_a_warning() -> None:
    found = only_problem(stack_with(n_subscribers=0))

    assert (found.severity, found.check) == (Severity.warning, "alarm topic")
    assert "AlarmEmail" in found.remedy
    assert problems(stack_with(n_subscribers=None)) == []  # unknown


def test_alarm_that_somebody_has_deleted_is_bad() -> None:
    found = only_problem(stack_with(alarms=(WELL, AlarmFacts("ridecast-age", "IteratorAgeAlarm", ""))))
    assert (found.severity, found.what) == (Severity.bad, "somebody has deleted ridecast-age")


def test_good_alarms_have_one_finding() -> None:
    assert [one.what for one in check(stack_with(alarms=(WELL, WELL))) if one.check == "alarm"] == [
        "none of 2 alarms is in alarm"
    ]


def test_failures_that_wait_are_bad_and_rejects_a_warning() -> None:
    failures, rejects = problems(stack_with(n_waiting={"rejects": 2, "failures": 1}))

    assert (rejects.severity, failures.severity) == (Severity.warning, Severity.bad)
    assert "`ridecast records redrive --kind failure`" in failures.remedy


class Topics:
    """SNS topics with confirmed subscriptions, by ARN."""

    def __init__(self, **n_confirmed: int) -> None:
        self._n_confirmed = n_confirmed

    def get_topic_attributes(self, *, TopicArn: str) -> dict[str, dict[str, str]]:  # noqa: N803
        """Return a topic's attributes."""
        return {"Attributes": {"SubscriptionsConfirmed": str(self._n_confirmed[TopicArn]), "SubscriptionsPending": "9"}}


def test_only_confirmed_subscriptions_count() -> None:
    topic, queue = Resource("AlarmTopic", "topic", "AWS::SNS::Topic"), Resource("Queue", "queue", "AWS::SQS::Queue")

    assert count_subscribers(Topics(topic=2), (queue, topic)) == 2
    assert count_subscribers(Topics(topic=0), (topic,)) == 0
    assert count_subscribers(Topics(), (queue,)) is None
