"""Rollback: to a version that the channel has held before, safe to repeat, and also in another bucket."""

import pytest

from lambda_function.aws.model_store import ModelStore
from lambda_function.core.bundle import FOREST
from lambda_function.errors import BundleError
from tests.builders import small_bundle
from tests.builders_channels import bucket_of_three, move, new_bucket, version, version_of
from tests.fakes import BUCKET, spoil_bundle
from training.errors import UserError
from training.registry.bucket import Bucket
from training.registry.channel_history import read_history
from training.registry.channels import rollback, version_before


@pytest.fixture
def bucket() -> Bucket:
    """A bucket with three bundles, whose channel `stable` has held the first and holds the second."""
    bucket = bucket_of_three()
    move(bucket, seed=2)
    return bucket


def test_rollback_moves_to_the_named_version(bucket: Bucket) -> None:
    assert version_before(bucket, "stable") == version(1)
    moved = rollback(bucket, "stable", version(1))
    assert (moved.now.model_version, moved.now.previous, moved.now.why) == (version(1), version(2), "rollback")
    assert moved.has_moved


def test_repeated_rollback_changes_nothing(bucket: Bucket) -> None:
    rollback(bucket, "stable", version(1))
    again = rollback(bucket, "stable", version(1))
    assert (again.now.model_version, again.has_moved) == (version(1), False)
    assert [entry.why for entry in read_history(bucket, "stable")] == ["publish"] * 2 + ["rollback"]


def test_rollback_reaches_any_version_of_the_history_by_its_beginning(bucket: Bucket) -> None:
    move(bucket, seed=3)
    assert rollback(bucket, "stable", version(1)[:-2]).now.model_version == version(1)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (version(3), f"stable has not held a version '{version(3)}': `ridecast models history --channel stable"),
        ("green", f"'green' is the beginning of several versions: {', '.join(sorted((version(1), version(2))))}"),
    ],
)
def test_rollback_to_a_version_that_the_channel_has_not_held_is_refused(
    bucket: Bucket, name: str, problem: str
) -> None:
    with pytest.raises(UserError) as raised:
        rollback(bucket, "stable", name)
    assert str(raised.value).startswith(problem)
    assert version_of(bucket) == version(2)


@pytest.mark.parametrize(
    ("channel", "problem"),
    [
        ("stable", f"stable has held nothing before {version(1)}, so it cannot be rolled back: promote"),
        ("candidate", "candidate holds nothing, so"),
    ],
)
def test_first_version_has_no_version_before(channel: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        version_before(bucket_of_three(), channel)


def test_version_that_would_not_serve_is_not_rolled_back_to(bucket: Bucket) -> None:
    spoil_bundle(bucket.s3, small_bundle(1), FOREST)
    with pytest.raises(BundleError):
        rollback(bucket, "stable", version(1))
    assert version_of(bucket) == version(2)


def test_models_history_and_channels_can_be_copied_to_another_bucket(bucket: Bucket) -> None:
    # GIVEN two moves, and a stack deployed again with a new bucket (docs/deploy.md)
    other = new_bucket()

    # WHEN one prefix after another is copied
    for prefix in ("models/", "history/", "channels/"):
        other.s3.objects |= {key: data for key, data in bucket.s3.objects.items() if key.startswith(prefix)}

    # THEN nothing is missing, the function serves the same version, and a rollback works
    assert other.s3.objects == bucket.s3.objects
    assert ModelStore(other.s3, BUCKET, "stable", refresh_s=60).refresh().model.model_version == version(2)
    rollback(other, "stable", version(1))
    assert version_of(other) == version(1)
