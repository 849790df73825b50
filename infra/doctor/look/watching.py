"""Alarms, and the records that were put aside and wait for a person."""

from collections.abc import Iterable
from typing import Any

from infra.bucket import Bucket
from infra.doctor.facts import AlarmFacts
from infra.doctor.look.stack import Resource
from infra.kept.bucket import FAILURES, REJECTS
from infra.kept.marks import PREFIX as REDRIVEN

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
