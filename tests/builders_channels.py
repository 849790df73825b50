"""A bucket whose channels point at small bundles: move them, store verdicts, and read where they point."""

import json
from collections.abc import Sequence

from lambda_function.core.channel import channel_key, decode_channel
from tests.builders import small_bundle
from tests.fakes import BUCKET, FakeS3
from tests.outcomes import S3Outcome
from training.registry.bucket import Bucket
from training.registry.channel_history import read_channel
from training.registry.channels import Moved, Mover, move_channel, split_channel, store_bundle
from training.registry.versions import put_artifact

KEY = channel_key("stable")


def new_bucket(
    objects: dict[str, bytes] | None = None, script: Sequence[S3Outcome] = (), keys_per_page: int = 1000
) -> Bucket:
    """A bucket in memory."""
    return Bucket(FakeS3(objects if objects is not None else {}, list(script), keys_per_page=keys_per_page), BUCKET)


def bucket_of_three() -> Bucket:
    """A bucket with the small bundles of seeds 1 to 3, whose channel `stable` points at the first; no calls yet."""
    bucket = new_bucket()
    for seed in (1, 2, 3):
        store_bundle(bucket, small_bundle(seed))
    move(bucket)
    bucket.s3.calls.clear()
    return bucket


def move(bucket: Bucket, seed: int = 1, channel: str = "stable", mover: Mover | None = None) -> str:
    """Move a channel to the small bundle of a seed and return its version."""
    bundle = small_bundle(seed)
    return move_channel(bucket, channel, bundle.model_version, bundle.manifest_sha256, mover=mover).model_version


def gate(bucket: Bucket, seed: int, against: int | str | None, channel: str = "stable", *, passed: bool = True) -> None:
    """Store the gate's report beside a small bundle, with more fields than moving a channel needs."""
    report = {
        "model_version": version(seed),
        "against": version(against) if isinstance(against, int) else against,
        "channel": channel,
        "passed": passed,
        "rules": [{"name": "better", "passed": passed}],
    }
    put_artifact(bucket, version(seed), f"gate-{channel}.json", json.dumps(report).encode())


def split(
    bucket: Bucket,
    share: float = 0.5,
    seed: int = 2,
    salt: str = "one",
    mover: Mover | None = None,
    channel: str = "stable",
) -> Moved:
    """Split a channel with the small bundle of a seed, which is stored and has passed the gate."""
    store_bundle(bucket, small_bundle(seed))
    gate(bucket, seed, read_channel(bucket, channel).model_version, channel)
    return split_channel(bucket, channel, version(seed), share, salt, mover=mover)


def version(seed: int) -> str:
    """The version of the small bundle of a seed."""
    return small_bundle(seed).model_version


def version_of(bucket: Bucket) -> str:
    """The version that the channel `stable` points at."""
    return decode_channel(bucket.s3.objects[KEY]).model_version
