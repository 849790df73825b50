"""The channel's model, loaded as the function loads it."""

from collections.abc import Callable, Iterator
from typing import Any

from infra.operate.doctor.facts import Finding, ModelFacts, ModelTrouble, StackFacts, bad, good
from lambda_function.aws.model_store import ModelStore, NoModelYetError
from lambda_function.aws.settings import ServingSettings
from lambda_function.errors import PredictorError, StoreError, TransientError


def probe_model(client: Callable[[str], Any], settings: ServingSettings) -> ModelFacts:
    """Load the model with all checks that the function makes, the signature's included if it wants one."""
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


def check_model(facts: StackFacts) -> Iterator[Finding]:
    """Check that the channel's model loads."""
    model = facts.model
    if model is None:
        return
    where, option = f"channel {model.channel} of s3://{model.bucket}", f"--bucket {model.bucket}"
    match model.trouble:
        case ModelTrouble.none:
            yield good("model", f"{where} holds {model.model_version}, and it loads")
        case ModelTrouble.missing:
            release = f"`ridecast models release build/bundles/<version> {option}`"
            remedy = f"train a first one with `ridecast train`, then {release}"
            yield bad("model", f"{where} holds no model yet: rides wait in the stream", remedy)
        case ModelTrouble.unfit:
            remedy = f"`ridecast models rollback VERSION {option}`, or release another; running functions keep theirs"
            yield bad("model", f"{where}: {model.problem}", remedy)
        case _:
            remedy = "the model itself was not read: check that you have DoctorPolicy, and that its key is enabled"
            yield bad("model", f"{where}: {model.problem}", remedy)
