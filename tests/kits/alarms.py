"""The alarms of the template: thresholds, and states over a series of values, as CloudWatch evaluates it."""

from collections.abc import Iterable, Mapping
from typing import Any

from infra.local.stack import Stack

Properties = dict[str, Any]
Values = Mapping[str, float | None] | float | None
"""One period: the values of an alarm's metrics by their ids, or of its only metric; None is no data."""


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


def evaluated(alarm: Properties, values: Mapping[str, float | None], timeout_s: int = 60) -> float | None:
    """Return the result of an alarm's metric math for one period; None is no data, as in CloudWatch."""
    (expression,) = [query["Expression"] for query in alarm["Metrics"] if "Expression" in query]
    text = (
        expression["Fn::Sub"].replace("${TimeoutSeconds}", str(timeout_s))
        if isinstance(expression, dict)
        else expression
    )
    functions = {
        "IF": lambda condition, yes, no: yes if condition else no,
        "FILL": lambda value, default: default if value is None else value,
        "MAX": max,
    }
    # IF evaluates both branches here, so a division by zero in either one gives no data.
    for operator in ("AND", "OR"):
        text = text.replace(f" {operator} ", f" {operator.lower()} ")
    try:
        return float(eval(text, {"__builtins__": {}}, {**functions, **values}))  # noqa: S307
    except (TypeError, ZeroDivisionError):
        return None


def sounds(stack: Stack, alarm: Properties, value: float | None) -> bool:
    """Return whether one period's value breaches."""
    if value is None:
        return bool(alarm["TreatMissingData"] == "breaching")
    if alarm["ComparisonOperator"] == "GreaterThanThreshold":
        return value > threshold(stack, alarm)
    assert alarm["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"
    return value >= threshold(stack, alarm)


def states(stack: Stack, alarm: Properties, series: Iterable[Values], state: str = "OK") -> list[str]:
    """Return an alarm's state after each period of a series.

    An alarm sounds if enough of its last periods breach. Where data are missing, `notBreaching` takes them for good
    values, and `ignore` keeps the state unless the other periods decide.
    """
    n_periods = int(alarm["EvaluationPeriods"])
    n_to_alarm = int(alarm.get("DatapointsToAlarm", n_periods))
    is_undecided = alarm["TreatMissingData"] == "ignore"
    recent: list[bool | None] = [False] * n_periods
    found = []
    for values in series:
        value = evaluated(alarm, values) if isinstance(values, Mapping) else values
        missing = None if is_undecided and value is None else sounds(stack, alarm, value)
        recent = [*recent[1:], missing]
        if recent.count(True) >= n_to_alarm:
            state = "ALARM"
        elif recent.count(True) + recent.count(None) < n_to_alarm:
            state = "OK"
        found.append(state)
    return found
