"""The alarms of the template, by name, and where each begins to sound."""

from typing import Any

from infra.local.stack import Stack

Properties = dict[str, Any]


def alarms_of(stack: Stack) -> dict[str, Properties]:
    """The properties of every alarm on a metric; the one that sounds for all is none of them."""
    resources = stack.template["Resources"].items()
    return {name: one["Properties"] for name, one in resources if one["Type"] == "AWS::CloudWatch::Alarm"}


def threshold(stack: Stack, alarm: Properties) -> float:
    """An alarm's threshold, a parameter's default where it is one, in its metric's unit."""
    value = alarm["Threshold"]
    return float(stack.parameters[value["Ref"]] if isinstance(value, dict) else value)
