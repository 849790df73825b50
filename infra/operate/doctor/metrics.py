"""CloudWatch metrics by minute."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

MINUTE_S = 60


def by_minute(
    cloudwatch: Any,
    window: tuple[datetime, datetime],
    namespace: str,
    dimension: tuple[str, str],
    statistics: Mapping[str, str],
) -> dict[str, list[float]]:
    """Return the values of each metric, one for each minute that has any.

    `window` is its start and end, aware; `dimension` its name and value; `statistics` has CloudWatch's by metric.
    """
    names = {f"m{number}": name for number, name in enumerate(statistics)}
    dimensions = [{"Name": dimension[0], "Value": dimension[1]}]
    queries = [
        {
            "Id": query_id,
            "MetricStat": {
                "Metric": {"Namespace": namespace, "MetricName": name, "Dimensions": dimensions},
                "Period": MINUTE_S,
                "Stat": statistics[name],
            },
        }
        for query_id, name in names.items()
    ]
    values: dict[str, list[float]] = {name: [] for name in statistics}
    request = {"MetricDataQueries": queries, "StartTime": window[0], "EndTime": window[1]}
    for page in cloudwatch.get_paginator("get_metric_data").paginate(**request):
        for result in page["MetricDataResults"]:
            values[names[result["Id"]]] += result["Values"]
    return values
