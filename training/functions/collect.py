"""The entry point of the collector: a year of labelled rides as one object, for the function that trains."""

from functools import cache
from typing import Any

from lambda_function.aws.invocation import Context
from lambda_function.aws.settings import CommonSettings
from training.functions.callbacks import Callbacks
from training.functions.work import CollectTelemetry, Worker, make_clients
from training.registry.bucket import Bucket
from training.workflows.collected import collect
from training.workflows.loop.requests import CollectRequest


def lambda_handler(event: dict[str, Any], context: Context) -> dict[str, Any]:
    """Collect the rides of a request, and answer by its callback.

    Args:
        event: A `CollectRequest`.
        context: Lambda's context.

    Returns:
        The answer, a `Collected`, or ``error`` and ``reason``.

    Raises:
        CallbackError: The answer was not sent.
    """
    return _cold_start()(event, context)


def build_collector(settings: CommonSettings, s3: Any, callbacks: Callbacks) -> Worker[CollectRequest]:
    """Build the handler around its clients."""
    bucket = Bucket(s3, settings.bucket)
    telemetry = CollectTelemetry(settings.service_name, settings.metrics_namespace, settings.log_level)
    return Worker(CollectRequest, lambda request: collect(bucket, request, telemetry.step), callbacks, telemetry)


@cache
def _cold_start() -> Worker[CollectRequest]:
    """Read the settings and build the clients, once per execution environment."""
    return build_collector(CommonSettings.from_env(), *make_clients())
