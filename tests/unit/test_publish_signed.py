"""Where functions trust a key, no channel moves to a version that it has not signed: by verdict, force or back."""

import re
from collections.abc import Callable

import pytest

from lambda_function.errors import KmsError
from tests.builders_channels import bucket_of_three, gate, move, version, version_of
from tests.builders_kept import ListingS3
from tests.fakes import BUCKET, DENIED, FakeS3
from tests.fakes_kms import KEY as SIGNING_KEY
from tests.fakes_kms import OTHER_KEY, FakeKms
from training.errors import BucketError
from training.registry.bucket import Bucket
from training.registry.channels import Moved, promote, rollback
from training.registry.signing import Signer, sign_stored
from training.registry.versions import read_channels

TRUSTED = Signer(FakeKms(), SIGNING_KEY)
ANOTHER = Signer(FakeKms(), OTHER_KEY)
SIGN = f"run `ridecast models sign {{version}} --signing-key {SIGNING_KEY} --bucket {BUCKET}"


@pytest.fixture
def world() -> ListingS3:
    """A bucket with three bundles, whose channel `stable` points at the first."""
    return bucket_of_three()


def promoted(s3: FakeS3, signer: Signer | None) -> Moved:
    """Moves `stable` from the first small bundle to the second, which the gate let through."""
    gate(s3, 2, against=1)
    return promote(Bucket(s3, BUCKET), "stable", version(2), signer=signer)


def forced(s3: FakeS3, signer: Signer | None) -> Moved:
    """Moves `candidate` from the first small bundle to the second, whatever the gate says."""
    move(s3, seed=1, channel="candidate")
    return promote(Bucket(s3, BUCKET), "candidate", version(2), force=True, signer=signer)


def rolled_back(s3: FakeS3, signer: Signer | None) -> Moved:
    """Moves `stable` from the first small bundle back to the second."""
    move(s3, seed=2)
    move(s3, seed=1)
    return rollback(Bucket(s3, BUCKET), "stable", signer=signer)


ToSecond = Callable[[FakeS3, Signer | None], Moved]
MOVES = pytest.mark.parametrize("to_second", [promoted, forced, rolled_back])


@MOVES
@pytest.mark.parametrize(
    ("signed_by", "problem"),
    [
        (None, f"is missing, and functions that trust {SIGNING_KEY} take no version without: {SIGN}`"),
        (ANOTHER, f"is not by {SIGNING_KEY}: check which key signed it, then {SIGN} --replace`"),
    ],
    ids=["unsigned", "by another key"],
)
def test_version_that_is_not_signed_with_the_key_moves_no_channel(
    world: ListingS3, to_second: ToSecond, signed_by: Signer | None, problem: str
) -> None:
    if signed_by:
        sign_stored(Bucket(world, BUCKET), version(2), signed_by)
    with pytest.raises(BucketError, match=re.escape(problem.format(version=version(2)))):
        to_second(world, TRUSTED)
    assert {one.model_version for one in read_channels(Bucket(world, BUCKET)).values()} == {version(1)}


@MOVES
def test_version_that_is_signed_with_the_key_is_moved_to(world: ListingS3, to_second: ToSecond) -> None:
    sign_stored(Bucket(world, BUCKET), version(2), TRUSTED)
    assert to_second(world, TRUSTED).now.model_version == version(2)


@MOVES
def test_nobody_looks_at_signatures_without_a_key(world: ListingS3, to_second: ToSecond) -> None:
    assert to_second(world, None).now.model_version == version(2)


def test_signature_that_kms_does_not_vouch_for_moves_no_channel(world: ListingS3) -> None:
    sign_stored(Bucket(world, BUCKET), version(2), TRUSTED)
    with pytest.raises(KmsError, match=f"cannot verify with the KMS key {SIGNING_KEY}"):
        promoted(world, Signer(FakeKms([DENIED]), SIGNING_KEY))
    assert version_of(world) == version(1)
