"""The channel's model, loaded as the function loads it."""

from collections.abc import Callable
from typing import Any

from infra.operate.doctor.facts import Finding, good
from infra.operate.doctor.faults import found
from infra.operate.doctor.reading import is_denied
from lambda_function.aws.model_store import DamagedChannelError, ModelStore, NoModelYetError
from lambda_function.aws.settings import ServingSettings
from lambda_function.errors import CalibrationError, PredictorError, StoreError, TransientError
from training.errors import BucketError
from training.registry.bucket import Bucket
from training.registry.channel_history import StoredChannel, is_lost


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
    except NoModelYetError:
        return _no_model(where, channel, Bucket(client("s3"), bucket))
    except PredictorError as error:
        return _problem(where, channel, bucket, error)
    versions = refreshed.models[0].served_versions
    version, loads = " and ".join(versions), "it loads" if len(versions) == 1 else "both load"
    if refreshed.error:
        return _problem(
            f"{where}; a function that starts serves {version} in its place", channel, bucket, refreshed.error
        )
    return good("model", f"{where} holds {version}, and {loads}")


def _no_model(where: str, channel: str, bucket: Bucket) -> Finding:
    """Tell a new channel from a lost one, of which the history is left."""
    try:
        if is_lost(bucket, StoredChannel(channel, None, None)):
            return found("channel-lost", f"{where} is gone, and has a history", channel=channel, bucket=bucket.name)
    except BucketError as error:
        return found("denied" if is_denied(error.__cause__) else "not-read", f"{where}: {error}", check="model")
    return found("no-model", f"{where} holds no model yet: rides wait in the stream", bucket=bucket.name)


def _problem(where: str, channel: str, bucket: str, error: PredictorError) -> Finding:
    if isinstance(error, DamagedChannelError):
        return found("channel-damaged", f"{where}: {error.__cause__}", channel=channel, bucket=bucket)
    what = f"{where}: {error}"
    if isinstance(error, TransientError) and not (isinstance(error, StoreError) and error.action == "use"):
        return found("denied" if is_denied(error.__cause__) else "not-read", what, check="model")
    fault = "calibration-damaged" if isinstance(error, CalibrationError) else "model-damaged"
    return found(fault, what, channel=channel, bucket=bucket)
