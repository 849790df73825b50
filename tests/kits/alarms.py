"""The alarms of the template and their thresholds."""

from typing import Any

from infra.local.stack import Stack

Properties = dict[str, Any]


def alarms_of(stack: Stack) -> dict[str, Properties]:
    """Return the properties of every alarm on a metric, by logical id, without the composite alarm."""
    resources = stack.template["Resources"].items()
    return {name: one["Properties"] for name, one in resources if one["Type"] == "AWS::CloudWatch::Alarm"}


def threshold(stack: Stack, alarm: Properties) -> float:
    """Return an alarm's threshold in its metric's unit; for a parameter, its default."""
    value = alarm["Threshold"]
    return float(stack.parameters[value["Ref"]] if isinstance(value, dict) else value)


def metrics(alarm: Properties) -> list[Properties]:
    """Return the metrics of an alarm, each as namespace, name and dimensions."""
    if "MetricName" in alarm:
        return [alarm]
    return [query["MetricStat"]["Metric"] for query in alarm["Metrics"] if "MetricStat" in query]
