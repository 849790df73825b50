"""The way back: to the version before, if it would serve; it stays open when the models move to another bucket."""

import pytest

from lambda_function.aws.model_store import ModelStore
from lambda_function.core.bundle import FOREST
from lambda_function.errors import BundleError
from tests.builders import small_bundle
from tests.builders_channels import bucket_of_three, move, new_bucket, version, version_of
from tests.fakes import BUCKET, spoil_bundle
from training.errors import NoWayBackError
from training.registry.bucket import Bucket
from training.registry.channel_history import read_history
from training.registry.channels import rollback


@pytest.fixture
def world() -> Bucket:
    """A bucket with three bundles, whose channel `stable` points at the first."""
    return bucket_of_three()


def test_rolling_back_is_moving_to_the_version_before(world: Bucket) -> None:
    move(world, seed=2)
    moved = rollback(world, "stable")
    assert (moved.now.model_version, moved.now.previous, moved.now.why) == (version(1), version(2), "rollback")


def test_rolling_back_twice_is_where_it_began(world: Bucket) -> None:
    move(world, seed=2)
    rollback(world, "stable")
    assert rollback(world, "stable").now.model_version == version(2)
    assert [line.why for line in read_history(world, "stable")] == ["publish"] * 2 + ["rollback"] * 2


@pytest.mark.parametrize(("channel", "held"), [("stable", version(1)), ("candidate", None)])
def test_there_is_no_way_back_from_the_first_version(world: Bucket, channel: str, held: str | None) -> None:
    with pytest.raises(NoWayBackError, match="so there is no way back: promote a version instead") as raised:
        rollback(world, channel)
    assert raised.value.model_version == held


def test_version_that_would_not_serve_is_not_rolled_back_to(world: Bucket) -> None:
    move(world, seed=2)
    spoil_bundle(world.s3, small_bundle(1), FOREST)
    with pytest.raises(BundleError):
        rollback(world, "stable")
    assert version_of(world) == version(2)


def test_models_live_on_in_another_bucket_that_gets_models_history_and_then_channels(world: Bucket) -> None:
    # GIVEN two moves, and a stack deployed again, whose bucket is a new one (docs/deploy.md)
    move(world, seed=2)
    other = new_bucket()

    # WHEN one prefix after another is copied
    for prefix in ("models/", "history/", "channels/"):
        other.s3.objects |= {key: data for key, data in world.s3.objects.items() if key.startswith(prefix)}

    # THEN nothing was left behind, the function serves what it served, and the way back is open
    assert other.s3.objects == world.s3.objects
    assert ModelStore(other.s3, BUCKET, "stable", refresh_s=60).refresh().model.model_version == version(2)
    rollback(other, "stable")
    assert version_of(other) == version(1)
