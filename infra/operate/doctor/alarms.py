"""Alarms, and the rejects and failed batches that wait for somebody to redrive them."""

from collections.abc import Iterable, Iterator
from itertools import batched
from typing import Any

from infra.operate.doctor.facts import AlarmFacts, Finding, StackFacts, counted, good
from infra.operate.doctor.faults import found
from infra.operate.doctor.reading import Reading
from infra.operate.redrive.marks import PREFIX as REDRIVEN
from infra.operate.redrive.selection import FAILURES, REJECTS
from infra.stack.describe import Resource
from training.registry.bucket import Bucket

_ALARM_TYPES = {"AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm"}
_ALARMS_A_CALL = 100


def read(reading: Reading) -> dict[str, Any]:
    """Read the alarms, who is notified of them, and what waits for a redrive."""
    cloudwatch, sns, s3 = map(reading.client, ("cloudwatch", "sns", "s3"))
    bucket = reading.stack.outputs["BucketName"]
    no_topic = found("topic-missing", "the topic that alarms notify does not exist")
    return {
        "alarms": reading.part("alarms", (), lambda: probe_alarms(cloudwatch, reading.resources)),
        "n_subscribers": reading.part("alarm topic", None, lambda: count_subscribers(sns, reading.resources), no_topic),
        "n_waiting": {}
        if "bucket" in reading.missing
        else reading.part("rejects and failures", {}, lambda: count_waiting(s3, bucket)),
    }


def probe_alarms(cloudwatch: Any, resources: Iterable[Resource]) -> tuple[AlarmFacts, ...]:
    """Describe the stack's alarms, in the template's order."""
    alarms = {one.physical_name: one for one in resources if one.type in _ALARM_TYPES}
    described: dict[str, dict[str, Any]] = {}
    for names in batched(alarms, _ALARMS_A_CALL, strict=False):
        wanted = {"AlarmNames": names, "AlarmTypes": ["MetricAlarm", "CompositeAlarm"]}
        for page in cloudwatch.get_paginator("describe_alarms").paginate(**wanted):
            for alarm in (*page.get("MetricAlarms", ()), *page.get("CompositeAlarms", ())):
                described[alarm["AlarmName"]] = alarm
    return tuple(_alarm(resource, described.get(name, {})) for name, resource in alarms.items())


def _alarm(resource: Resource, described: dict[str, Any]) -> AlarmFacts:
    return AlarmFacts(
        name=resource.physical_name,
        logical_name=resource.logical_name,
        state=described.get("StateValue", ""),
        reason=described.get("StateReason", ""),
        is_muted=bool(described.get("AlarmActions")) and not described["ActionsEnabled"],
        is_composite=resource.type == "AWS::CloudWatch::CompositeAlarm",
    )


def count_subscribers(sns: Any, resources: Iterable[Resource]) -> int | None:
    """Count confirmed subscriptions to the stack's alarm topic; None if it has no topic."""
    topics = [one.physical_name for one in resources if one.type == "AWS::SNS::Topic"]
    attributes = [sns.get_topic_attributes(TopicArn=topic)["Attributes"] for topic in topics]
    return sum(int(one["SubscriptionsConfirmed"]) for one in attributes) if topics else None


def count_waiting(s3: Any, bucket_name: str) -> dict[str, int]:
    """Count objects of rejects and of failed batches without a redrive mark; one redriven in part has a mark.

    Raises:
        BucketError: S3 refused.
    """
    bucket = Bucket(s3, bucket_name)
    marked = {key.removeprefix(REDRIVEN) for key in bucket.keys(REDRIVEN)}
    return {kind.name: sum(key not in marked for key in kind.keys(bucket)) for kind in (REJECTS, FAILURES)}


def check_alarms(facts: StackFacts) -> Iterator[Finding]:
    """Check the stack's alarms: a finding for each in alarm; a composite one only if none of its causes is there."""
    alarms = facts.alarms
    in_alarm = [alarm for alarm in alarms if alarm.state == "ALARM"]
    causes = [alarm for alarm in in_alarm if not alarm.is_composite] or in_alarm
    for alarm in causes:
        section = "" if alarm.is_composite else f"#{alarm.logical_name.lower()}"
        yield found("alarm-sounds", f"{alarm.name}: {alarm.reason or 'in alarm'}", section=section)
    if missing := [alarm.name for alarm in alarms if not alarm.state]:
        yield found("alarm-deleted", f"somebody has deleted {', '.join(missing)}")
    if muted := [alarm.name for alarm in alarms if alarm.is_muted]:
        what = f"the actions of {', '.join(muted)} are disabled: nobody is notified"
        yield found("alarm-muted", what, names=" ".join(muted))
    if facts.n_subscribers == 0:
        what = "it has no confirmed subscription: nobody is notified of any alarm"
        yield found("nobody-subscribed", what)
    if alarms and not in_alarm and not missing:
        yield good("alarm", f"none of {len(alarms)} alarms is in alarm")


def check_waiting(facts: StackFacts) -> Iterator[Finding]:
    """Check for rejects and failed batches that nobody has redriven."""
    for kind, n_objects in facts.n_waiting.items():
        what = f"{counted(n_objects, 'object')} of {kind} {'waits' if n_objects == 1 else 'wait'} in the bucket"
        yield found(f"{kind}-waiting", what, stack=facts.name) if n_objects else good(kind, f"no {kind} wait")
