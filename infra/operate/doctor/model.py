"""The channel's model, loaded as the function loads it."""

from collections.abc import Callable
from typing import Any

from infra.operate.doctor.facts import Finding, good
from infra.operate.doctor.faults import found
from infra.operate.doctor.reading import is_denied
from lambda_function.aws.model_store import ModelStore, NoModelYetError
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
        version = store.refresh().model.model_version
    except NoModelYetError:
        return found("no-model", f"{where} holds no model yet: rides wait in the stream", bucket=bucket)
    except PredictorError as error:
        if _is_read(error):
            return found("model-damaged", f"{where}: {error}", bucket=bucket)
        fault = "denied" if is_denied(error.__cause__) else "not-read"
        return found(fault, f"{where}: {error}", check="model")
    return good("model", f"{where} holds {version}, and it loads")


def _is_read(error: PredictorError) -> bool:
    """Return whether the model was read and must not be served; else S3 or KMS refused, and it may be good."""
    return not isinstance(error, TransientError) or (isinstance(error, StoreError) and error.action == "use")
