"""The channel's model, loaded as the function loads it."""

from collections.abc import Callable
from typing import Any

from infra.operate.doctor.facts import Finding, bad, good
from lambda_function.aws.model_store import ModelStore, NoModelYetError
from lambda_function.aws.settings import ServingSettings
from lambda_function.errors import PredictorError, StoreError, TransientError


def check_model(client: Callable[[str], Any], settings: ServingSettings) -> Finding:
    """Check that the channel's model loads, and that it is signed if the settings name a key."""
    bucket, channel = settings.bucket, settings.model_channel
    store = ModelStore(
        client("s3"),
        bucket,
        channel,
        settings.model_refresh_s,
        signing_key=settings.model_signing_key,
        make_kms=lambda _: client("kms"),
    )
    where, option = f"channel {channel} of s3://{bucket}", f"--bucket {bucket}"
    try:
        version = store.refresh().model.model_version
    except NoModelYetError:
        release = f"`ridecast models release build/bundles/<version> {option}`"
        remedy = f"train a first one with `ridecast train`, then {release}"
        return bad("model", f"{where} holds no model yet: rides wait in the stream", remedy)
    except PredictorError as error:
        if _is_read(error):
            remedy = f"`ridecast models rollback VERSION {option}`, or release another; running functions keep theirs"
        else:
            remedy = "the model itself was not read: check that you have DoctorPolicy, and that its key is enabled"
        return bad("model", f"{where}: {error}", remedy)
    return good("model", f"{where} holds {version}, and it loads")


def _is_read(error: PredictorError) -> bool:
    """Return whether the model was read and must not be served; else S3 or KMS refused, and it may be good."""
    return not isinstance(error, TransientError) or (isinstance(error, StoreError) and error.action == "use")
