"""Alarms, and the records that were put aside and wait for a person."""

from collections.abc import Iterable, Iterator
from typing import Any

from infra.operate.doctor.facts import AlarmFacts, Finding, StackFacts, bad, good, warning
from infra.operate.redrive.marks import PREFIX as REDRIVEN
from infra.operate.redrive.records import FAILURES, REJECTS
from infra.stack.describe import Resource
from training.registry.bucket import Bucket

_ALARM_TYPES = {"AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm"}
_ALARMS_A_CALL = 100


def look_at_alarms(cloudwatch: Any, resources: Iterable[Resource]) -> tuple[AlarmFacts, ...]:
    """Describes the stack's alarms, in the template's order.

    Raises:
        ClientError: CloudWatch refused.
    """
    alarms = {one.physical_name: one for one in resources if one.type in _ALARM_TYPES}
    names = list(alarms)
    described: dict[str, tuple[dict[str, Any], bool]] = {}
    for start in range(0, len(names), _ALARMS_A_CALL):
        asked = {"AlarmNames": names[start : start + _ALARMS_A_CALL], "AlarmTypes": ["MetricAlarm", "CompositeAlarm"]}
        for page in cloudwatch.get_paginator("describe_alarms").paginate(**asked):
            described |= {alarm["AlarmName"]: (alarm, False) for alarm in page.get("MetricAlarms", ())}
            described |= {alarm["AlarmName"]: (alarm, True) for alarm in page.get("CompositeAlarms", ())}
    return tuple(
        _alarm(one, *described[name]) if name in described else AlarmFacts(name, one.logical_name, "")
        for name, one in alarms.items()
    )


def _alarm(resource: Resource, described: dict[str, Any], is_composite: bool) -> AlarmFacts:
    return AlarmFacts(
        name=described["AlarmName"],
        logical_name=resource.logical_name,
        state=described["StateValue"],
        reason=described.get("StateReason", ""),
        is_muted=bool(described.get("AlarmActions")) and not described["ActionsEnabled"],
        is_composite=is_composite,
    )


def count_told(sns: Any, resources: Iterable[Resource]) -> int | None:
    """Counts who is told of alarms: confirmed subscriptions of the stack's topic; None where it has no topic.

    Raises:
        ClientError: SNS refused.
    """
    topics = [one.physical_name for one in resources if one.type == "AWS::SNS::Topic"]
    attributes = [sns.get_topic_attributes(TopicArn=topic)["Attributes"] for topic in topics]
    return sum(int(one["SubscriptionsConfirmed"]) for one in attributes) if topics else None


def count_kept(s3: Any, bucket_name: str) -> dict[str, int]:
    """Counts objects of rejects and of given-up batches without a mark: one of which a part is redriven has one.

    Raises:
        StoreError: S3 refused.
    """
    bucket = Bucket(s3, bucket_name)
    marked = {key.removeprefix(REDRIVEN) for key in bucket.keys(REDRIVEN)}
    return {kind.name: sum(key not in marked for key in kind.keys(bucket)) for kind in (REJECTS, FAILURES)}


# MERGED FROM infra/doctor/judge/watching.py
# What waits for a person: alarms that sound or can't, and records that nobody has redriven.
def judge_alarms(facts: StackFacts) -> Iterator[Finding]:
    """Judges the stack's alarms, each that sounds by itself."""
    alarms = facts.alarms
    sounding = _without_echo([alarm for alarm in alarms if alarm.state == "ALARM"])
    yield from (_sounding(alarm) for alarm in sounding)
    if missing := [alarm.name for alarm in alarms if not alarm.state]:
        what = f"somebody has deleted {', '.join(missing)}"
        yield bad("alarm", what, "CloudFormation does not notice: deploy once without them, and once with them")
    if muted := [alarm.name for alarm in alarms if alarm.is_muted]:
        what = f"nobody is told of {', '.join(muted)}"
        yield warning("alarm", what, f"`aws cloudwatch enable-alarm-actions --alarm-names {' '.join(muted)}`")
    if facts.n_told == 0:
        remedy = "deploy with AlarmEmail, or subscribe to the stack's AlarmTopicArn, and confirm what AWS then sends"
        yield warning("alarm topic", "it has no confirmed subscription: nobody is told of any alarm", remedy)
    if alarms and not sounding and not missing:
        yield good("alarm", f"none of {len(alarms)} alarms sounds")


def _without_echo(sounding: list[AlarmFacts]) -> list[AlarmFacts]:
    """Leaves out a composite alarm where the one that set it off is here."""
    return [alarm for alarm in sounding if not alarm.is_composite] or sounding


def _sounding(alarm: AlarmFacts) -> Finding:
    section = "" if alarm.is_composite else f"#{alarm.logical_name.lower()}"
    return bad("alarm", f"{alarm.name}: {alarm.reason or 'in alarm'}", f"docs/runbook.md{section} says what to do")


def judge_kept(facts: StackFacts) -> Iterator[Finding]:
    """Judges records that were put aside."""
    for kind, n_objects in facts.n_kept.items():
        what = f"{n_objects:,} objects of {kind} wait in the bucket"
        remedy = f"`ridecast {kind} list`, and `ridecast {kind} redrive` once the cause is gone"
        if not n_objects:
            yield good(kind, f"no {kind} wait")
        elif kind == "failures":
            yield bad(kind, what, f"{remedy}: their rides have no prediction")
        else:
            yield warning(kind, what, remedy)
