"""Promotion: the gate's verdict against what the channel holds now lets a version in, and so does having served."""

from datetime import UTC, datetime

import pytest

from lambda_function.core.bundle import FOREST, GOLDEN, MANIFEST, bundle_key
from lambda_function.errors import BundleError
from tests.builders import small_bundle
from tests.builders_channels import KEY, bucket_of_three, gate, move, version, version_of
from tests.builders_kept import ListingS3
from tests.fakes import BUCKET, Meanwhile, spoil_bundle
from training.errors import BucketError, ForceRefusedError, NoSuchVersionError, NotGatedError
from training.registry.bucket import Bucket
from training.registry.channel_history import read_history
from training.registry.channels import Mover, promote

FILES = (FOREST, GOLDEN, MANIFEST)


@pytest.fixture
def world() -> ListingS3:
    """A bucket with three bundles, whose channel `stable` points at the first."""
    return bucket_of_three()


def test_version_with_a_passing_verdict_is_promoted(world: ListingS3) -> None:
    gate(world, 2, against=1)
    moved = promote(Bucket(world, BUCKET), "stable", version(2))
    assert moved.has_moved
    assert (moved.now.model_version, moved.now.previous, moved.now.why) == (version(2), version(1), "promote")
    assert version_of(world) == version(2)


def test_first_version_of_a_channel_is_gated_against_nothing(world: ListingS3) -> None:
    gate(world, 2, against=None, channel="candidate")
    assert promote(Bucket(world, BUCKET), "candidate", version(2)).now.previous is None


@pytest.mark.parametrize(
    ("verdict", "problem"),
    [
        ({}, "has no verdict of the gate"),
        ({"against": 3}, f"was gated against {small_bundle(3).model_version}"),
        ({"against": None}, "was gated against nothing"),
        ({"against": 1, "passed": False}, "did not pass the gate"),
        ({"against": 1, "channel": "candidate"}, "has no verdict of the gate"),
    ],
)
def test_version_without_a_passing_verdict_against_what_is_there_stays_out(
    world: ListingS3, verdict: dict[str, object], problem: str
) -> None:
    if verdict:
        gate(world, 2, **verdict)  # type: ignore[arg-type]
    with pytest.raises(NotGatedError) as raised:
        promote(Bucket(world, BUCKET), "stable", version(2))
    assert raised.value.problem == problem
    assert str(raised.value).endswith(f"run `ridecast models gate {version(2)} --channel stable --bucket {BUCKET}`")
    assert version_of(world) == version(1)


def test_verdict_does_not_outlive_the_rival(world: ListingS3) -> None:
    # GIVEN a verdict against what the channel held, and a channel that somebody moves before we look at it
    gate(world, 2, against=1)
    move(world, seed=3)
    with pytest.raises(NotGatedError, match=f"stable, which holds {version(3)}, for it was gated against {version(1)}"):
        promote(Bucket(world, BUCKET), "stable", version(2))


def test_channel_that_moves_after_the_verdict_was_read_is_not_moved(world: ListingS3) -> None:
    gate(world, 2, against=1)
    key = bundle_key(version(2), "gate-stable.json")
    world.script = [*[None] * n_calls_before_reading(world, key), Meanwhile(lambda: move(world, seed=3))]
    with pytest.raises(BucketError, match=f"was moved to {version(3)} meanwhile"):
        promote(Bucket(world, BUCKET), "stable", version(2))
    assert version_of(world) == version(3)


def n_calls_before_reading(s3: ListingS3, key: str) -> int:
    """How many calls a promotion makes before it reads a key, on a copy of the bucket."""
    copy = ListingS3(dict(s3.objects))
    promote(Bucket(copy, BUCKET), "stable", version(2))
    return copy.calls.index(("get", key))


def test_version_that_has_served_needs_no_verdict(world: ListingS3) -> None:
    move(world, seed=2)
    assert promote(Bucket(world, BUCKET), "stable", version(1)).now.previous == version(2)


def test_having_served_in_another_channel_does_not_count(world: ListingS3) -> None:
    move(world, seed=2, channel="candidate")
    with pytest.raises(NotGatedError):
        promote(Bucket(world, BUCKET), "stable", version(2))


def test_promoting_what_is_there_moves_nothing(world: ListingS3) -> None:
    before = world.objects[KEY]
    assert not promote(Bucket(world, BUCKET), "stable", version(1)).has_moved
    assert world.objects[KEY] == before
    assert len(read_history(Bucket(world, BUCKET), "stable")) == 1


def test_force_goes_to_the_candidate_channel_only(world: ListingS3) -> None:
    moved = promote(Bucket(world, BUCKET), "candidate", version(2), force=True)
    assert (moved.now.model_version, moved.now.why) == (version(2), "force")
    with pytest.raises(ForceRefusedError, match="nothing is forced into stable, only into candidate"):
        promote(Bucket(world, BUCKET), "stable", version(2), force=True)
    assert version_of(world) == version(1)


@pytest.mark.parametrize("file", FILES)
def test_bundle_that_would_not_serve_is_not_promoted(world: ListingS3, file: str) -> None:
    gate(world, 2, against=1)
    spoil_bundle(world, small_bundle(2), file)
    if file == MANIFEST:
        world.objects[bundle_key(version(2), file)] = b"{"
    with pytest.raises(BundleError) as raised:
        promote(Bucket(world, BUCKET), "stable", version(2))
    assert raised.value.file == file
    assert version_of(world) == version(1)


def test_half_stored_bundle_is_no_version(world: ListingS3) -> None:
    del world.objects[bundle_key(version(2), MANIFEST)]
    with pytest.raises(NoSuchVersionError, match=f"holds no version and no channel '{version(2)}'"):
        promote(Bucket(world, BUCKET), "stable", version(2))


def test_promotion_is_in_the_history_with_its_mover(world: ListingS3) -> None:
    gate(world, 2, against=1)
    promote(
        Bucket(world, BUCKET), "stable", version(2), mover=Mover("ada@laptop", lambda: datetime(2030, 1, 1, tzinfo=UTC))
    )
    *_, line = read_history(Bucket(world, BUCKET), "stable")
    assert (line.moved_by, line.moved_at) == ("ada@laptop", "2030-01-01T00:00:00.000000+00:00")
