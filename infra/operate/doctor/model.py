"""The channel's model, loaded as the function loads it."""

from collections.abc import Callable
from typing import Any

from infra.operate.doctor.facts import Finding, good
from infra.operate.doctor.faults import found
from infra.operate.doctor.reading import is_denied
from lambda_function.aws.model_store import DamagedChannelError, ModelStore, NoModelYetError
from lambda_function.aws.settings import ServingSettings
from lambda_function.errors import PredictorError, StoreError, TransientError


def check_model(client: Callable[[str], Any], settings: ServingSettings, bucket: str) -> Finding:
    """Check that the channel's model loads, and that it is signed if the settings name a key.

    `bucket` is the stack's: a function that reads another one is a finding of its settings.
    """
    channel = settings.model_channel
    store = ModelStore(
        client("s3"),
        bucket,
        channel,
        settings.model_refresh_s,
        signing_key=settings.model_signing_key,
        make_kms=lambda _: client("kms"),
    )
    where = f"channel {channel} of s3://{bucket}"
    try:
        refreshed = store.refresh()
    except PredictorError as error:
        return _finding(error, where, channel, bucket)
    if refreshed.error:  # the model of another segment loads
        return _finding(refreshed.error, where, channel, bucket)
    return good("model", f"{where} holds {refreshed.model.model_version}, and it loads")


def _finding(error: PredictorError, where: str, channel: str, bucket: str) -> Finding:
    if isinstance(error, NoModelYetError):
        return found("no-model", f"{where} holds no model yet: rides wait in the stream", bucket=bucket)
    if isinstance(error, DamagedChannelError):
        return found("channel-damaged", f"{where}: {error.__cause__}", channel=channel, bucket=bucket)
    if _is_read(error):
        return found("model-damaged", f"{where}: {error}", bucket=bucket)
    fault = "denied" if is_denied(error.__cause__) else "not-read"
    return found(fault, f"{where}: {error}", check="model")


def _is_read(error: PredictorError) -> bool:
    """Return whether the model was read and must not be served; else S3 or KMS refused, and it may be good."""
    return not isinstance(error, TransientError) or (isinstance(error, StoreError) and error.action == "use")
