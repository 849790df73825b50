"""The channel's model, loaded as the function loads it."""

from collections.abc import Callable
from typing import Any

from infra.doctor.facts import ModelFacts, ModelTrouble
from lambda_function.errors import PredictorError, StoreError, TransientError
from lambda_function.model_store import ModelStore, NoModelYetError
from lambda_function.settings import ServingSettings


def look_at_model(client: Callable[[str], Any], settings: ServingSettings) -> ModelFacts:
    """Loads the model with every check that the function makes; the signature's too, where it wants one."""
    bucket, channel = settings.bucket, settings.model_channel
    store = ModelStore(
        client("s3"),
        bucket,
        channel,
        settings.model_refresh_s,
        signing_key=settings.model_signing_key,
        make_kms=lambda _: client("kms"),
    )
    try:
        version = store.refresh().model.model_version
    except PredictorError as error:
        return ModelFacts(bucket, channel, None, str(error), _trouble(error))
    return ModelFacts(bucket, channel, version)


def _trouble(error: PredictorError) -> ModelTrouble:
    if isinstance(error, NoModelYetError):
        return ModelTrouble.missing
    is_read = not isinstance(error, TransientError) or (isinstance(error, StoreError) and error.action == "use")
    return ModelTrouble.unfit if is_read else ModelTrouble.unread
