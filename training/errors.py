"""Errors of training and of everything above it; a class exists where somebody catches it or reads its attributes."""

from collections.abc import Sequence
from pathlib import Path

FOLDER_PREFIX = "file:"
"""How a bucket's name begins that is a folder on this machine."""


def bucket_address(bucket: str) -> str:
    """Returns how a person writes a bucket.

    >>> bucket_address("rides"), bucket_address("file:build/bucket")
    ('s3://rides', 'file:build/bucket')
    """
    return bucket if bucket.startswith(FOLDER_PREFIX) else f"s3://{bucket}"


class UserError(Exception):
    """A problem that the user can solve.

    Attributes:
        sentence: What is wrong, and with what.
        hint: What to do about it; "" where the sentence says it.
    """

    def __init__(self, sentence: str, hint: str = "") -> None:
        self.sentence = sentence
        self.hint = hint
        super().__init__(f"{sentence}: {hint}" if hint else sentence)


class BucketError(UserError):
    """S3 failed, or an object in a bucket is not what it should be."""

    def __init__(self, bucket: str, key: str, problem: str) -> None:
        super().__init__(f"{bucket_address(bucket)}/{key} {problem}")


class NoSuchVersionError(BucketError):
    """No version in the bucket is called so, or several are.

    Attributes:
        name: What was asked for: a version, the beginning of one, or a channel.
        versions: Those that it may mean, where there are several; else all that there are.
    """

    def __init__(self, bucket: str, name: str, versions: Sequence[str], *, is_ambiguous: bool = False) -> None:
        self.name = name
        self.versions = tuple(versions)
        if is_ambiguous:
            problem = f"holds several versions called {name}: {_some(versions)}; give more of the one"
        elif versions:
            problem = f"holds no version and no channel {name!r}; there is {_some(versions)}"
        else:
            problem = f"holds no version yet, {name!r} neither: train one, then `ridecast models publish <its folder>`"
        super().__init__(bucket, "models", problem)


class NotGatedError(UserError):
    """The gate has not let a version through, and the channel has never held it.

    Attributes:
        against: What the channel holds now; None for nothing.
        problem: What is wrong with the verdict, as in ``has no verdict``.
    """

    def __init__(self, bucket: str, model_version: str, channel: str, against: str | None, problem: str) -> None:
        self.model_version = model_version
        self.channel = channel
        self.against = against
        self.problem = problem
        super().__init__(
            f"{model_version} may not go to {channel}, which holds {against or 'nothing'}, for it {problem}:"
            f" run `ridecast models gate {model_version} --channel {channel} --bucket {bucket}`"
        )


class ForceRefusedError(UserError):
    """A version was to be forced into a channel that takes none by force."""

    def __init__(self, channel: str, forced_channel: str) -> None:
        self.channel = channel
        self.forced_channel = forced_channel
        super().__init__(f"nothing is forced into {channel}, only into {forced_channel}: leave out --force")


class NoWayBackError(UserError):
    """A channel that has held nothing before cannot be rolled back.

    Attributes:
        model_version: What it holds; None for nothing.
    """

    def __init__(self, channel: str, model_version: str | None) -> None:
        self.channel = channel
        self.model_version = model_version
        held = f"has held nothing before {model_version}" if model_version else "holds nothing"
        super().__init__(f"{channel} {held}, so there is no way back: promote a version instead")


class TrackingError(UserError):
    """MLflow did not take or tell what it was asked. Nothing is lost by that: a bundle can be tracked at any time.

    Attributes:
        uri: Where MLflow was looked for; without a password.
        problem: What went wrong, as in ``does not do its part (timed out)``.
        model_version: The version that was being tracked; None for none.
    """

    def __init__(self, uri: str, problem: str, model_version: str | None = None, remedy: str | None = None) -> None:
        self.uri = uri
        self.problem = problem
        self.model_version = model_version
        if remedy is None and model_version:
            remedy = f"the bundle is saved; run `ridecast models track {model_version}` when it is back"
        elif remedy is None:
            remedy = "see that MLFLOW_TRACKING_URI names one that runs; `ridecast models track --all` catches up"
        super().__init__(f"MLflow at {uri} {problem}: {remedy}")


class TrackingUnavailableError(TrackingError):
    """MLflow is not installed: it is an extra."""

    def __init__(self, uri: str) -> None:
        remedy = "run `uv sync --inexact --extra tracking`, then `ridecast models track --all`"
        super().__init__(uri, "cannot be told, for mlflow is not installed", remedy=remedy)


class ConfigError(UserError):
    """A run that cannot be meant: an unknown setting, a value that is none, months that don't follow each other."""

    def __init__(self, what: str, problem: str, remedy: str) -> None:
        self.what = what
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{what} {problem}: {remedy}")


class ZonesFileError(UserError):
    """A file that should hold the outlines of TLC's zones, and does not."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"{path} holds no outlines of zones: name a GeoJSON file of TLC's taxi zones, or leave it out")


class MonthUnavailableError(UserError):
    """A month that is not on this machine and cannot be downloaded now."""

    def __init__(self, file_name: str, problem: str, hint: str) -> None:
        super().__init__(f"{file_name} is not available because {problem}", hint)


_N_NAMED = 5


def _some(versions: Sequence[str]) -> str:
    """Names versions, the last few of many."""
    more = f"{len(versions) - _N_NAMED} older ones, " if len(versions) > _N_NAMED else ""
    return more + ", ".join(versions[-_N_NAMED:])
