"""Answers of a run's workers, each stored once: asked again with the same run, a worker gives the same answer."""

from collections.abc import Callable
from typing import TypeVar

import msgspec

from training.errors import BucketError
from training.registry.bucket import Bucket

ANSWERS = "loop/answers"
"""The folder of the answers, ``loop/answers/<run id>/<work>.json``."""

T = TypeVar("T", bound=msgspec.Struct)


def answer_once(bucket: Bucket, run_id: str, work: str, kind: type[T], do: Callable[[], T]) -> T:
    """Return the stored answer of a run's work; if there is none, do the work and store the answer.

    Of two that work at the same time, both return the answer that was stored first.

    Raises:
        BucketError: S3 failed, or the stored answer does not decode.
    """
    key = f"{ANSWERS}/{run_id}/{work}.json"
    stored = bucket.read(key)
    body = stored.body if stored else bucket.write_once(key, msgspec.json.encode(do()) + b"\n")
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BucketError(
            bucket.name, key, f"holds no answer ({error}): delete it, and the work is done again"
        ) from error
