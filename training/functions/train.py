"""The entry point of the trainer: collected rides in, a stored model and the gate's verdict out."""

from collections.abc import Callable
from functools import cache
from typing import Any

from lambda_function.aws.clients import make_kms_client
from lambda_function.aws.invocation import Context
from training.functions.callbacks import Callbacks
from training.functions.settings import TrainSettings
from training.functions.work import TrainTelemetry, Worker, make_clients
from training.registry.bucket import Bucket
from training.registry.signing import signer_of
from training.workflows.loop.requests import Trained, TrainRequest


def lambda_handler(event: dict[str, Any], context: Context) -> dict[str, Any]:
    """Train on the rides of a request, and answer by its callback.

    Args:
        event: A `TrainRequest`.
        context: Lambda's context.

    Returns:
        The answer, a `Trained`, or ``error`` and ``reason``.

    Raises:
        CallbackError: The answer was not sent.
    """
    return _cold_start()(event, context)


def build_trainer(
    settings: TrainSettings, s3: Any, callbacks: Callbacks, make_kms: Callable[[str], Any] = make_kms_client
) -> Worker[TrainRequest]:
    """Build the handler around its clients. `make_kms` makes a KMS client of a region, for signed models only."""
    bucket = Bucket(s3, settings.bucket)
    signer = signer_of(settings.model_signing_key, make_kms)
    telemetry = TrainTelemetry(settings.service_name, settings.metrics_namespace, settings.log_level)

    def train(request: TrainRequest) -> Trained:
        # scikit-learn takes seconds to import: a cold start has ten in all, and the work has fifteen minutes.
        from training.workflows.retrain import retrain  # noqa: PLC0415

        return retrain(bucket, request, signer, telemetry.step)

    return Worker(TrainRequest, train, callbacks, telemetry)


@cache
def _cold_start() -> Worker[TrainRequest]:
    """Read the settings and build the clients, once per execution environment."""
    return build_trainer(TrainSettings.from_env(), *make_clients())
