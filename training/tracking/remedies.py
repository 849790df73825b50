"""What mends a mirror that has missed something: the command that errors and differences name."""

import shlex


def track_command(bucket: str, model_version: str | None = None) -> str:
    """Returns the command that tells MLflow of one version of a bucket, or of all of them.

    >>> track_command("rides", "green-2021-01-3f2a9c1d0b7e")
    'ridecast models track green-2021-01-3f2a9c1d0b7e --bucket rides'
    >>> track_command("file:my bucket")
    "ridecast models track --all --bucket 'file:my bucket'"
    """
    return shlex.join(["ridecast", "models", "track", model_version or "--all", "--bucket", bucket])


def remedy(bucket: str, model_version: str | None = None) -> str:
    """Returns what to do once MLflow is back.

    >>> remedy("rides", "green-2021-01-3f2a9c1d0b7e")
    'the bundle is saved; run `ridecast models track green-2021-01-3f2a9c1d0b7e --bucket rides` when it is back'
    """
    if model_version:
        return f"the bundle is saved; run `{track_command(bucket, model_version)}` when it is back"
    return f"see that MLFLOW_TRACKING_URI names one that runs; `{track_command(bucket)}` catches up"
