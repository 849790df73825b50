"""Errors of training and of everything above it; a class exists where somebody catches it or reads its attributes."""

from collections.abc import Sequence

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
    """MLflow did not do what it should. Nothing is lost, because a bundle can be tracked at any time.

    Attributes:
        uri: MLflow's address, without a password.
        problem: What went wrong, as in ``failed (timed out)``.
    """

    def __init__(self, uri: str, problem: str, hint: str = "") -> None:
        self.uri = uri
        self.problem = problem
        super().__init__(f"MLflow at {uri} {problem}", hint)


class MonthUnavailableError(UserError):
    """A month that is not on this machine and cannot be downloaded now."""

    def __init__(self, file_name: str, problem: str, hint: str) -> None:
        super().__init__(f"{file_name} is not available because {problem}", hint)


_N_NAMED = 5


def _some(versions: Sequence[str]) -> str:
    """Names versions, the last few of many."""
    more = f"{len(versions) - _N_NAMED} older ones, " if len(versions) > _N_NAMED else ""
    return more + ", ".join(versions[-_N_NAMED:])
