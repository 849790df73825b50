"""The channel's model, loaded as the function loads it."""

from collections.abc import Callable, Iterator
from typing import Any

from infra.operate.doctor.facts import Finding, ModelFacts, ModelTrouble, StackFacts, bad, good
from lambda_function.aws.model_store import ModelStore, NoModelYetError
from lambda_function.aws.settings import ServingSettings
from lambda_function.errors import PredictorError, StoreError, TransientError


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


# MERGED FROM infra/doctor/judge/model.py
# Whether the channel holds a model that a function could serve.
def judge_model(facts: StackFacts) -> Iterator[Finding]:
    """Judges what came of loading the model as the function does."""
    model = facts.model
    if model is None:
        return
    where = f"channel {model.channel} of s3://{model.bucket}"
    if model.trouble is ModelTrouble.none:
        yield good("model", f"{where} holds {model.model_version}, and it loads")
    elif model.trouble is ModelTrouble.missing:
        yield bad("model", f"{where} holds no model yet: rides wait in the stream", _remedy(model))
    else:
        yield bad("model", f"{where}: {model.problem}", _remedy(model))


def _remedy(model: ModelFacts) -> str:
    bucket = f"--bucket {model.bucket}"
    match model.trouble:
        case ModelTrouble.missing:
            publish = f"`ridecast models publish build/bundles/<version> {bucket}`"
            return f"train a first one with `ridecast train`, then {publish}"
        case ModelTrouble.unfit:
            return f"`ridecast models rollback {bucket}`, or publish another; functions that run keep what they have"
        case _:
            return "nothing is known of the model itself: see that you have DoctorPolicy, and that its key is enabled"
