"""CloudWatch metrics by minute."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

MINUTE_S = 60


class Metric(NamedTuple):
    """A metric with its one dimension, name and value; `statistic` is CloudWatch's name."""

    namespace: str
    name: str
    dimension: tuple[str, str]
    statistic: str


def by_minute(cloudwatch: Any, window: tuple[datetime, datetime], wanted: Sequence[Metric]) -> list[list[float]]:
    """Return the values of each metric, one for each minute that has any.

    Args:
        cloudwatch: A boto3 client.
        window: Start and end, aware.
        wanted: At most 500.
    """
    queries = [_query(f"m{number}", metric) for number, metric in enumerate(wanted)]
    start, end = window
    pages = cloudwatch.get_paginator("get_metric_data").paginate(
        MetricDataQueries=queries, StartTime=start, EndTime=end
    )
    values: dict[str, list[float]] = {query["Id"]: [] for query in queries}
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
