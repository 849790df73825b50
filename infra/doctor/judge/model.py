"""Whether the channel holds a model that a function could serve."""

from collections.abc import Iterator

from infra.doctor.facts import ModelFacts, ModelTrouble, StackFacts
from infra.doctor.finding import Finding, bad, good


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
