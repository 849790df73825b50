"""A bucket whose channels point at small bundles: moving them, the gate's verdicts, and where they are."""

import json

from lambda_function.core.bundle import channel_key, decode_channel
from tests.builders import small_bundle
from tests.builders_kept import ListingS3
from tests.fakes import BUCKET, FakeS3
from training.registry.bucket import Bucket
from training.registry.channels import Mover, move_channel, store_bundle
from training.registry.versions import put_artifact

KEY = channel_key("stable")


def bucket_of_three() -> ListingS3:
    """A bucket with the small bundles of seeds 1 to 3, whose channel `stable` points at the first; no call is noted."""
    s3 = ListingS3()
    for seed in (1, 2, 3):
        store_bundle(Bucket(s3, BUCKET), small_bundle(seed))
    move(s3)
    s3.calls.clear()
    return s3


def move(s3: FakeS3, seed: int = 1, channel: str = "stable", mover: Mover | None = None) -> str:
    """Moves a channel to the small bundle of a seed and returns its version."""
    bundle = small_bundle(seed)
    target = (bundle.model_version, bundle.manifest_sha256)
    return move_channel(Bucket(s3, BUCKET), channel, *target, mover=mover).model_version


def gate(s3: FakeS3, seed: int, against: int | None, channel: str = "stable", *, passed: bool = True) -> None:
    """Lays the gate's report beside a small bundle, with more in it than moving a channel needs."""
    report = {
        "model_version": version(seed),
        "against": against if against is None else version(against),
        "channel": channel,
        "passed": passed,
        "rules": [{"name": "better", "passed": passed}],
    }
    put_artifact(Bucket(s3, BUCKET), version(seed), f"gate-{channel}.json", json.dumps(report).encode())


def version(seed: int) -> str:
    """The version of the small bundle of a seed."""
    return small_bundle(seed).model_version


def version_of(s3: FakeS3) -> str:
    """The version that the channel `stable` points at."""
    return decode_channel(s3.objects[KEY]).model_version
