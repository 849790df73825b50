"""CloudWatch's metrics by the minute."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

MINUTE_S = 60


class Metric(NamedTuple):
    """A metric with its one dimension, name and value; `statistic` as CloudWatch calls it."""

    namespace: str
    name: str
    dimension: tuple[str, str]
    statistic: str


def by_minute(cloudwatch: Any, window: tuple[datetime, datetime], wanted: Sequence[Metric]) -> list[list[float]]:
    """Returns the values of each metric that is wanted, one a minute that has any.

    Args:
        cloudwatch: A boto3 client.
        window: From when to when, aware.
        wanted: At most 500.

    Raises:
        ClientError: CloudWatch refused.
    """
    queries = [_query(f"m{number}", metric) for number, metric in enumerate(wanted)]
    start, end = window
    pages = cloudwatch.get_paginator("get_metric_data").paginate(
        MetricDataQueries=queries, StartTime=start, EndTime=end
    )
    values: dict[str, list[float]] = {f"m{number}": [] for number in range(len(wanted))}
    for page in pages:
        for result in page["MetricDataResults"]:
            values[result["Id"]] += result["Values"]
    return list(values.values())


def _query(query_id: str, metric: Metric) -> dict[str, Any]:
    name, value = metric.dimension
    described = {
        "Namespace": metric.namespace,
        "MetricName": metric.name,
        "Dimensions": [{"Name": name, "Value": value}],
    }
    return {"Id": query_id, "MetricStat": {"Metric": described, "Period": MINUTE_S, "Stat": metric.statistic}}
