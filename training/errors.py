"""Errors of training and infra. A subclass exists if somebody catches it by type or reads its attributes."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

FOLDER_PREFIX = "file:"
"""The prefix of a bucket's name that is a folder on this machine."""


def bucket_address(bucket: str) -> str:
    """Return the address of a bucket for messages.

    >>> bucket_address("rides"), bucket_address("file:build/bucket")
    ('s3://rides', 'file:build/bucket')
    """
    return bucket if bucket.startswith(FOLDER_PREFIX) else f"s3://{bucket}"


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return a question that names what a mistyped name may mean; "" if nothing is like it.

    >>> did_you_mean("stabel", ["candidate", "stable"]), did_you_mean("x", ["stable"])
    ('did you mean stable?', '')
    """
    near = get_close_matches(name, list(names), n=2, cutoff=0.7)
    return f"did you mean {' or '.join(near)}?" if near else ""


class UserError(Exception):
    """A problem that the user can solve.

    Attributes:
        sentence: What is wrong, and with what.
        hint: What to do about it; "" if the sentence says it.
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
    """A name that is not a version, the beginning of exactly one, or a channel.

    `versions` are those that it may mean if it is ambiguous, else all versions of the bucket; `channels` are its
    channels.
    """

    def __init__(
        self,
        bucket: str,
        name: str,
        versions: Sequence[str],
        channels: Sequence[str] = (),
        *,
        is_ambiguous: bool = False,
    ) -> None:
        if is_ambiguous:
            problem = f"holds several versions called {name}: {_some(versions)}; give more of the one"
        elif versions:
            meant = did_you_mean(name, [*channels, *versions]) or f"there is {_some(versions)}"
            problem = f"holds no version and no channel {name!r}; {meant}"
        else:
            problem = f"holds no version yet, {name!r} neither: train one, then `ridecast models release <its folder>`"
        super().__init__(bucket, "models", problem)


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
    """A month that is not on this machine and cannot be downloaded now.

    Attributes:
        file_name: TLC's name of the month's file.
        problem: Why it is not available.
    """

    def __init__(self, file_name: str, problem: str, hint: str) -> None:
        self.file_name = file_name
        self.problem = problem
        super().__init__(f"{file_name} is not available because {problem}", hint)


_N_NAMED = 5


def _some(versions: Sequence[str]) -> str:
    """List versions, only the last few of many."""
    more = f"{len(versions) - _N_NAMED} older ones, " if len(versions) > _N_NAMED else ""
    return more + ", ".join(versions[-_N_NAMED:])
