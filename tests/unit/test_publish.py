"""Bundles are stored once and for ever, channels move by condition: of two movers one wins and the other is told."""

from datetime import UTC, datetime

import pytest

from lambda_function.model import FOREST, GOLDEN, MANIFEST, bundle_key, channel_key, decode_channel
from tests.builders import small_bundle
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
from training.errors import ChannelMovedError, PublishError
from training.publish import move_channel, store_bundle

KEY = channel_key("stable")
FILES = (FOREST, GOLDEN, MANIFEST)
BUSY = client_error(409, "ConditionalRequestConflict")


def move(s3: FakeS3, seed: int = 1, channel: str = "stable") -> str:
    """Moves a channel to the small bundle of a seed and returns its version."""
    bundle = small_bundle(seed)
    return move_channel(s3, BUCKET, channel, bundle.model_version, bundle.manifest_sha256).model_version


def version_of(s3: FakeS3) -> str:
    return decode_channel(s3.objects[KEY]).model_version


def keys_of_bundle(seed: int = 1) -> dict[str, str]:
    return {file: bundle_key(small_bundle(seed).model_version, file) for file in FILES}


# Bundles ------------------------------------------------------------------------------------------------------------


def test_bundle_is_stored_file_by_file_and_the_manifest_last() -> None:
    s3, keys = FakeS3(), keys_of_bundle()
    store_bundle(s3, BUCKET, small_bundle())
    assert s3.calls == [("put", keys[FOREST]), ("put", keys[GOLDEN]), ("put", keys[MANIFEST])]
    assert s3.objects == {keys[file]: small_bundle().files[file] for file in FILES}


def test_bundle_that_is_there_already_is_left_as_it_is() -> None:
    s3 = FakeS3()
    store_bundle(s3, BUCKET, small_bundle())
    before = dict(s3.objects)
    store_bundle(s3, BUCKET, small_bundle())
    assert s3.objects == before


def test_half_stored_bundle_is_completed() -> None:
    s3 = FakeS3(script=[None, SERVICE_DOWN])
    with pytest.raises(PublishError, match=r"golden\.json cannot be written: .*ServiceUnavailable"):
        store_bundle(s3, BUCKET, small_bundle())
    assert keys_of_bundle()[MANIFEST] not in s3.objects
    store_bundle(s3, BUCKET, small_bundle())
    assert set(s3.objects) == set(keys_of_bundle().values())


@pytest.mark.parametrize("file", FILES)
def test_other_bytes_by_the_same_name_are_never_overwritten(file: str) -> None:
    key = keys_of_bundle()[file]
    s3 = FakeS3({key: b"something else"})
    with pytest.raises(PublishError, match="holds other bytes already, and a bundle is never changed") as raised:
        store_bundle(s3, BUCKET, small_bundle())
    assert raised.value.key == key
    assert s3.objects[key] == b"something else"
    assert (keys_of_bundle()[MANIFEST] in s3.objects) == (file == MANIFEST)


def test_bundle_whose_storing_had_no_answer_is_stored_at_the_next_try() -> None:
    s3 = FakeS3(script=[AfterAccepting(timed_out())])
    with pytest.raises(PublishError, match="cannot be written"):
        store_bundle(s3, BUCKET, small_bundle())
    store_bundle(s3, BUCKET, small_bundle())
    assert set(s3.objects) == set(keys_of_bundle().values())


def test_bundle_that_somebody_else_is_storing_now_is_told_as_that() -> None:
    s3 = FakeS3(script=[BUSY])
    with pytest.raises(PublishError, match=r"forest\.npz is being written by somebody else"):
        store_bundle(s3, BUCKET, small_bundle())


def test_bundle_that_somebody_else_has_just_stored_is_as_good() -> None:
    s3 = FakeS3()
    s3.script = [Meanwhile(lambda: store_bundle(s3, BUCKET, small_bundle()))]
    store_bundle(s3, BUCKET, small_bundle())
    assert set(s3.objects) == set(keys_of_bundle().values())


# Channels -----------------------------------------------------------------------------------------------------------


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
    with pytest.raises(ChannelMovedError, match=f"moved to {small_bundle(2).model_version} meanwhile") as raised:
        move(s3)
    # THEN the channel stays where the other has put it
    assert raised.value.model_version == version_of(s3) == small_bundle(2).model_version


def test_mover_who_meets_another_in_the_act_is_told() -> None:
    s3 = FakeS3()
    move(s3, seed=2)
    s3.script = [None, BUSY]
    with pytest.raises(ChannelMovedError):
        move(s3)
    assert version_of(s3) == small_bundle(2).model_version


def test_channel_that_vanishes_between_look_and_move_is_told() -> None:
    s3 = FakeS3()
    move(s3, seed=2)
    s3.script = [None, Meanwhile(lambda: s3.objects.pop(KEY))]
    with pytest.raises(ChannelMovedError, match="was moved to nothing meanwhile"):
        move(s3)


@pytest.mark.parametrize("script", [[SERVICE_DOWN], [DENIED], [timed_out()]], ids=str)
def test_channel_that_cannot_be_read_is_told_with_its_key(script: list[S3Outcome]) -> None:
    with pytest.raises(PublishError, match=rf"s3://{BUCKET}/{KEY} cannot be read: "):
        move(FakeS3({KEY: b""}, script=script))


@pytest.mark.parametrize("failure", [SERVICE_DOWN, DENIED, timed_out()], ids=str)
def test_channel_that_cannot_be_written_is_told_with_its_key(failure: Exception) -> None:
    with pytest.raises(PublishError, match=rf"s3://{BUCKET}/{KEY} cannot be written: "):
        move(FakeS3(script=[None, failure]))


@pytest.mark.parametrize("text", [b"", b"hello", b'{"model_version": "7"}', b"\xff"])
def test_something_else_in_place_of_a_channel_is_not_overwritten(text: bytes) -> None:
    s3 = FakeS3()
    point_channel(s3, text)
    with pytest.raises(PublishError, match=rf"s3://{BUCKET}/{KEY} holds no channel: "):
        move(s3)
    assert s3.objects[KEY] == text


def test_published_bundle_is_what_the_channel_names() -> None:
    s3 = FakeS3()
    channel = publish_bundle(s3, small_bundle())
    assert channel == decode_channel(s3.objects[KEY])
    assert bundle_key(channel.model_version, MANIFEST) in s3.objects
