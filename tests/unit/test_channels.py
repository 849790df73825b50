"""Channels move under a condition: of two movers one wins and the other gets an error, even if answers are lost."""

from datetime import UTC, datetime

import pytest

from infra.local.s3 import client_error
from lambda_function.core.bundle import decode_channel
from tests.builders import small_bundle
from tests.builders_channels import KEY, bucket_of_three, move, new_bucket, version, version_of
from tests.fakes import BUCKET, AfterAccepting, Meanwhile, timed_out
from training.errors import BucketError
from training.registry.bucket import Bucket
from training.registry.channel_history import read_history
from training.registry.channels import Mover, this_mover

BUSY = client_error(409, "ConditionalRequestConflict")
REFUSED = client_error(412, "PreconditionFailed")


@pytest.fixture
def bucket() -> Bucket:
    """An empty bucket."""
    return new_bucket()


def test_each_move_records_digest_time_and_the_version_before(bucket: Bucket) -> None:
    for seed, previous in ((1, None), (2, version(1)), (1, version(2))):
        assert move(bucket, seed) == version_of(bucket)
        channel = decode_channel(bucket.s3.objects[KEY])
        assert (channel.manifest_sha256, channel.previous) == (small_bundle(seed).manifest_sha256, previous)
        assert datetime.fromisoformat(channel.moved_at) <= datetime.now(UTC)


def test_move_to_the_same_version_changes_nothing(bucket: Bucket) -> None:
    move(bucket)
    move(bucket, seed=2)
    before = bucket.s3.objects[KEY]
    move(bucket, seed=2)
    assert bucket.s3.objects[KEY] == before
    assert decode_channel(before).previous == version(1)


@pytest.mark.parametrize("channel_exists", [False, True])
def test_of_two_movers_one_wins_and_the_other_gets_an_error(bucket: Bucket, channel_exists: bool) -> None:
    # GIVEN a mover who has read the channel
    if channel_exists:
        move(bucket, seed=3)
    # WHEN another one moves it before the first one does
    bucket.s3.script = [None, Meanwhile(lambda: move(bucket, seed=2))]
    with pytest.raises(BucketError, match=f"moved to {version(2)} meanwhile"):
        move(bucket)
    # THEN the channel stays where the other has put it
    assert version_of(bucket) == version(2)


def test_two_movers_with_equal_name_time_and_version_are_distinguished(bucket: Bucket) -> None:
    mover = Mover("ada@laptop", lambda: datetime(2026, 11, 21, tzinfo=UTC))
    bucket.s3.script = [None, Meanwhile(lambda: move(bucket, mover=mover))]
    with pytest.raises(BucketError, match="meanwhile by ada@laptop: check that move, then repeat the command"):
        move(bucket, mover=mover)


def test_channel_that_vanishes_between_read_and_write_is_an_error(bucket: Bucket) -> None:
    move(bucket, seed=2)
    bucket.s3.script = [None, Meanwhile(lambda: bucket.s3.objects.pop(KEY))]
    with pytest.raises(BucketError, match="was moved to nothing meanwhile"):
        move(bucket)


@pytest.mark.parametrize("text", [b"", b"hello", b'{"model_version": "7"}', b"\xff"])
def test_object_that_is_not_a_channel_is_not_overwritten(text: bytes) -> None:
    bucket = new_bucket({KEY: text})
    with pytest.raises(BucketError, match=rf"s3://{BUCKET}/{KEY} holds no channel: "):
        move(bucket)
    assert bucket.s3.objects[KEY] == text


@pytest.mark.parametrize("failure", [timed_out(), REFUSED], ids=["answer lost", "resent and refused"])
def test_move_with_a_lost_answer_is_a_success(bucket: Bucket, failure: Exception) -> None:
    bucket.s3.script = [None, AfterAccepting(failure)]
    assert move(bucket) == version_of(bucket)


def test_move_with_a_lost_answer_before_another_move_is_a_success() -> None:
    bucket = bucket_of_three()
    # GIVEN a move whose answer is lost, and another mover before the first has read the channel again
    bucket.s3.script = [None, None, None, AfterAccepting(REFUSED), Meanwhile(lambda: move(bucket, seed=3))]
    # THEN the first succeeds: the channel was there
    assert move(bucket, seed=2) == version(2)
    assert version_of(bucket) == version(3)
    assert [entry.model_version for entry in read_history(bucket, "stable")] == [version(n) for n in (1, 2, 3)]


def test_mover_is_user_and_machine() -> None:
    user, _, machine = this_mover().name.partition("@")
    assert user
    assert machine
    assert this_mover().clock().utcoffset() is not None
