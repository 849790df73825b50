"""What the function did, by its own metrics and Lambda's."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from math import ceil
from typing import Any

from infra.doctor.facts import WorkFacts
from infra.doctor.metrics import MINUTE_S, Metric, by_minute
from lambda_function.settings import ServingSettings

RECENT_MINUTES = 10
"""Metrics come late by a minute or two, and the function looks at its channel once a minute unless told otherwise."""

MS_PER_S = 1000

_OURS = ("Records", "Predictions", "Rejects", "FailedInvocations", "ModelRefreshFailures")
_LAMBDAS = ("Errors", "Throttles")


def look_at_work(
    cloudwatch: Any, function: str, settings: ServingSettings, window: tuple[datetime, datetime]
) -> WorkFacts:
    """Sums the metrics up.

    Args:
        cloudwatch: A boto3 client.
        function: The function's name, for Lambda's own metrics.
        settings: The function's own: what its metrics are called, and how often it looks at its channel.
        window: From when to when, aware.

    Raises:
        ClientError: CloudWatch refused.
    """
    namespace, dimension = settings.metrics_namespace, ("service", settings.service_name)
    ours = [Metric(namespace, name, dimension, "Sum") for name in _OURS]
    lambdas = [Metric("AWS/Lambda", name, ("FunctionName", function), "Sum") for name in _LAMBDAS]
    age = Metric(namespace, "RecordAge", dimension, "Maximum")
    *series, ages = by_minute(cloudwatch, window, [*ours, *lambdas, age])
    records, predictions, rejects, exceptions, refresh_failures, errors, throttles = _sums(series)

    recent_minutes = max(RECENT_MINUTES, ceil(2 * settings.model_refresh_s / MINUTE_S))
    recently = window[1] - timedelta(minutes=recent_minutes), window[1]
    recent_records, recent_failures = _sums(by_minute(cloudwatch, recently, [ours[0], ours[-1]]))
    return WorkFacts(
        n_records=records,
        n_predictions=predictions,
        n_rejects=rejects,
        n_exceptions=exceptions,
        n_errors=errors,
        n_throttles=throttles,
        max_record_age_s=max(ages, default=0.0) / MS_PER_S,
        n_refresh_failures=refresh_failures,
        recent_minutes=recent_minutes,
        n_recent_refresh_failures=recent_failures,
        n_recent_records=recent_records,
    )


def _sums(series: Sequence[Sequence[float]]) -> list[int]:
    return [int(sum(values)) for values in series]
