"""Channels move by condition: of two movers one wins and the other is told, whatever answer gets lost."""

from datetime import UTC, datetime

import pytest

from lambda_function.core.bundle import MANIFEST, bundle_key, channel_key, decode_channel
from tests.builders import small_bundle
from tests.builders_channels import KEY, bucket_of_three, move, version, version_of
from tests.builders_kept import ListingS3
from tests.fakes import (
    BUCKET,
    DENIED,
    SERVICE_DOWN,
    AfterAccepting,
    FakeS3,
    Meanwhile,
    S3Outcome,
    client_error,
    point_channel,
    publish_bundle,
    timed_out,
)
from training.errors import BucketError
from training.registry.bucket import Bucket
from training.registry.channel_history import read_history
from training.registry.channels import Mover, this_mover

BUSY = client_error(409, "ConditionalRequestConflict")


@pytest.fixture
def world() -> ListingS3:
    """A bucket with three bundles, whose channel `stable` points at the first."""
    return bucket_of_three()


def test_first_move_makes_the_channel() -> None:
    s3 = FakeS3()
    version = move(s3)
    channel = decode_channel(s3.objects[KEY])
    assert channel.model_version == version
    assert channel.manifest_sha256 == small_bundle().manifest_sha256
    assert channel.previous is None
    assert abs(datetime.fromisoformat(channel.moved_at) - datetime.now(UTC)).total_seconds() < 60


def test_next_move_remembers_the_version_before() -> None:
    s3 = FakeS3()
    first, second = move(s3), move(s3, seed=2)
    assert decode_channel(s3.objects[KEY]).model_version == second
    assert decode_channel(s3.objects[KEY]).previous == first


def test_rolling_back_is_moving_back() -> None:
    s3 = FakeS3()
    first, second, again = move(s3), move(s3, seed=2), move(s3)
    assert again == first
    assert decode_channel(s3.objects[KEY]).previous == second


def test_move_to_where_the_channel_points_keeps_the_way_back() -> None:
    s3 = FakeS3()
    first = move(s3)
    move(s3, seed=2)
    before = s3.objects[KEY]
    move(s3, seed=2)
    assert s3.objects[KEY] == before
    assert decode_channel(before).previous == first


def test_channels_move_by_themselves() -> None:
    s3 = FakeS3()
    first, second = move(s3), move(s3, seed=2, channel="candidate")
    assert version_of(s3) == first
    assert decode_channel(s3.objects[channel_key("candidate")]).model_version == second


@pytest.mark.parametrize("channel_exists", [False, True])
def test_of_two_movers_one_wins_and_the_other_is_told(channel_exists: bool) -> None:
    # GIVEN a mover who has looked at the channel
    s3 = FakeS3()
    if channel_exists:
        move(s3, seed=3)
    # WHEN another one moves it before the first one does
    s3.script = [None, Meanwhile(lambda: move(s3, seed=2))]
    with pytest.raises(BucketError, match=f"moved to {small_bundle(2).model_version} meanwhile"):
        move(s3)
    # THEN the channel stays where the other has put it
    assert version_of(s3) == small_bundle(2).model_version


def test_mover_who_meets_another_in_the_act_is_told() -> None:
    s3 = FakeS3()
    move(s3, seed=2)
    s3.script = [None, None, None, BUSY]
    with pytest.raises(BucketError):
        move(s3)
    assert version_of(s3) == small_bundle(2).model_version


def test_channel_that_vanishes_between_look_and_move_is_told() -> None:
    s3 = FakeS3()
    move(s3, seed=2)
    s3.script = [None, Meanwhile(lambda: s3.objects.pop(KEY))]
    with pytest.raises(BucketError, match="was moved to nothing meanwhile"):
        move(s3)


@pytest.mark.parametrize("script", [[SERVICE_DOWN], [DENIED], [timed_out()]], ids=str)
def test_channel_that_cannot_be_read_is_told_with_its_key(script: list[S3Outcome]) -> None:
    with pytest.raises(BucketError, match=rf"s3://{BUCKET}/{KEY} cannot be read: "):
        move(FakeS3({KEY: b""}, script=script))


@pytest.mark.parametrize("failure", [SERVICE_DOWN, DENIED, timed_out()], ids=str)
def test_channel_that_cannot_be_written_is_told_with_its_key(failure: Exception) -> None:
    with pytest.raises(BucketError, match=rf"s3://{BUCKET}/{KEY} cannot be written: "):
        move(FakeS3(script=[None, failure]))


@pytest.mark.parametrize("text", [b"", b"hello", b'{"model_version": "7"}', b"\xff"])
def test_something_else_in_place_of_a_channel_is_not_overwritten(text: bytes) -> None:
    s3 = FakeS3()
    point_channel(s3, text)
    with pytest.raises(BucketError, match=rf"s3://{BUCKET}/{KEY} holds no channel: "):
        move(s3)
    assert s3.objects[KEY] == text


def test_published_bundle_is_what_the_channel_names() -> None:
    s3 = FakeS3()
    channel = publish_bundle(s3, small_bundle())
    found = decode_channel(s3.objects[KEY])
    assert (channel.model_version, channel.manifest_sha256) == (found.model_version, found.manifest_sha256)
    assert bundle_key(channel.model_version, MANIFEST) in s3.objects


def test_of_two_movers_alike_one_wins_and_the_other_is_told() -> None:
    # GIVEN two movers who cannot be told apart: one name, one moment, one version
    s3, mover = FakeS3(), Mover("ada@laptop", lambda: datetime(2026, 11, 21, tzinfo=UTC))
    s3.script = [None, Meanwhile(lambda: move(s3, mover=mover))]
    # WHEN the second moves between the first one's look and move
    with pytest.raises(BucketError, match="meanwhile by ada@laptop: check that move, then repeat"):
        move(s3, mover=mover)


def test_lost_answer_of_a_move_that_went_through_is_a_success() -> None:
    s3 = FakeS3(script=[None, AfterAccepting(timed_out())])
    assert move(s3) == version_of(s3)


def test_move_that_was_sent_again_and_refused_because_of_itself_is_a_success() -> None:
    s3 = FakeS3(script=[None, AfterAccepting(client_error(412, "PreconditionFailed"))])
    assert move(s3) == version_of(s3)


def test_move_that_went_through_and_was_moved_on_from_is_a_success(world: ListingS3) -> None:
    lost = AfterAccepting(client_error(412, "PreconditionFailed"))
    # GIVEN a move whose answer is lost, and another mover before the first has looked again
    world.script = [None, None, None, lost, Meanwhile(lambda: move(world, seed=3))]
    # THEN the first is not told that it lost: the channel was there
    assert move(world, seed=2) == version(2)
    assert version_of(world) == version(3)
    assert [line.model_version for line in read_history(Bucket(world, BUCKET), "stable")] == [
        version(n) for n in (1, 2, 3)
    ]


def test_who_moves_is_named_by_user_and_machine() -> None:
    user, _, machine = this_mover().name.partition("@")
    assert user
    assert machine
    assert this_mover().clock().utcoffset() is not None
