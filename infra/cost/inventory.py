"""What the stack has that is paid by the month, ride or no ride: counted in the template."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

EVENT_COUNT_METRICS = 6
"""What a Kinesis mapping writes with `EventCount`: polled, filtered out, invoked, failed, dropped, and put aside.
https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
Counted as custom metrics, as all that one opts in to; that they are billed so was not found."""

Resource = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Inventory:
    """Counts of what stands there.

    Attributes:
        n_snapshots: Functions that start from a snapshot. Old versions are deleted, so each has one.
        n_alarm_metrics: Of all alarms together: one that calculates is billed for each metric that goes in.
        n_mapping_metrics: What Lambda tells of the mapping.
    """

    n_snapshots: int = 0
    n_alarm_metrics: int = 0
    n_composite_alarms: int = 0
    n_dashboards: int = 0
    n_keys: int = 0
    n_mapping_metrics: int = 0


EMPTY = Inventory()


def inventory_of(template: Mapping[str, Any]) -> Inventory:
    """Counts what a template has, as it stands: nothing of it may be conditional, and defaults decide.

    Args:
        template: A SAM template, as `infra.template.transform.read_template` gives it.
    """
    of = _Resources(template)
    return Inventory(
        n_snapshots=sum(of.is_snapshotted(one) for one in of.type("AWS::Serverless::Function")),
        n_alarm_metrics=sum(map(_n_metrics, of.type("AWS::CloudWatch::Alarm"))),
        n_composite_alarms=of.count("AWS::CloudWatch::CompositeAlarm"),
        n_dashboards=of.count("AWS::CloudWatch::Dashboard"),
        n_keys=of.count("AWS::KMS::Key"),
        n_mapping_metrics=EVENT_COUNT_METRICS * sum(map(_n_counted_mappings, of.type("AWS::Serverless::Function"))),
    )


class _Resources:
    def __init__(self, template: Mapping[str, Any]) -> None:
        self._resources: Mapping[str, Resource] = template["Resources"]
        self._parameters: Mapping[str, Any] = template.get("Parameters", {})

    def type(self, kind: str) -> Iterator[Resource]:
        """Yields the properties of the resources of a type."""
        return (one.get("Properties", {}) for one in self._resources.values() if one["Type"] == kind)

    def count(self, kind: str) -> int:
        return sum(1 for _ in self.type(kind))

    def is_snapshotted(self, function: Resource) -> bool:
        applies = function.get("SnapStart", {}).get("ApplyOn")
        if isinstance(applies, dict):
            applies = self._parameters[applies["Ref"]]["Default"]
        return bool(applies == "PublishedVersions")


def _n_metrics(alarm: Resource) -> int:
    """Returns an alarm's metrics: its only one, or those that its expression is made of."""
    return sum("MetricStat" in query for query in alarm["Metrics"]) if "Metrics" in alarm else 1


def _n_counted_mappings(function: Resource) -> int:
    events = (event["Properties"] for event in function.get("Events", {}).values())
    return sum("EventCount" in event.get("MetricsConfig", {}).get("Metrics", ()) for event in events)
