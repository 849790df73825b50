"""Bundles are stored once and for ever, channels move by condition: of two movers one wins and the other is told."""

import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from lambda_function.errors import BundleError, KmsError
from lambda_function.model import FOREST, GOLDEN, MANIFEST, bundle_key, channel_key, decode_channel, load_bundle, sha256
from lambda_function.model_store import ModelStore
from tests.builders import small_bundle, vouched
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
    spoil_bundle,
    timed_out,
)
from tests.fakes_kms import KEY as SIGNING_KEY
from tests.fakes_kms import OTHER_KEY, FakeKms
from training.errors import (
    ChannelMovedError,
    ForceRefusedError,
    NoSuchVersionError,
    NotGatedError,
    NoWayBackError,
    PublishError,
)
from training.publish import Moved, Mover, move_channel, promote, rollback, store_bundle, this_mover
from training.registry.bundle import ExportedBundle
from training.registry.history import read_history
from training.registry.signing import Signer, sign_stored
from training.registry.versions import channels, put_paper

KEY = channel_key("stable")
FILES = (FOREST, GOLDEN, MANIFEST)
BUSY = client_error(409, "ConditionalRequestConflict")


def move(s3: FakeS3, seed: int = 1, channel: str = "stable", mover: Mover | None = None) -> str:
    """Moves a channel to the small bundle of a seed and returns its version."""
    bundle = small_bundle(seed)
    target = (bundle.model_version, bundle.manifest_sha256)
    return move_channel(s3, BUCKET, channel, *target, mover=mover).model_version


def version_of(s3: FakeS3) -> str:
    return decode_channel(s3.objects[KEY]).model_version


def version(seed: int) -> str:
    return small_bundle(seed).model_version


def gate(s3: FakeS3, seed: int, against: int | None, channel: str = "stable", *, passed: bool = True) -> None:
    """Lays the gate's report beside a small bundle, with more in it than moving a channel needs."""
    report = {
        "model_version": version(seed),
        "against": against if against is None else version(against),
        "channel": channel,
        "passed": passed,
        "rules": [{"name": "better", "passed": passed}],
    }
    put_paper(s3, BUCKET, version(seed), f"gate-{channel}.json", json.dumps(report).encode())


@pytest.fixture
def world() -> ListingS3:
    """A bucket with three bundles, whose channel `stable` points at the first."""
    s3 = ListingS3()
    for seed in (1, 2, 3):
        store_bundle(s3, BUCKET, small_bundle(seed))
    move(s3)
    s3.calls.clear()
    return s3


def keys_of_bundle(seed: int = 1) -> dict[str, str]:
    return {file: bundle_key(small_bundle(seed).model_version, file) for file in FILES}


# Bundles ------------------------------------------------------------------------------------------------------------


def test_bundle_is_stored_file_by_file_and_the_manifest_last() -> None:
    s3, keys = FakeS3(), keys_of_bundle()
    store_bundle(s3, BUCKET, small_bundle())
    assert s3.calls == [("put", keys[FOREST]), ("put", keys[GOLDEN]), ("put", keys[MANIFEST])]
    assert s3.objects == {keys[file]: small_bundle().files[file] for file in FILES}


def test_every_file_that_the_manifest_lists_is_stored() -> None:
    files = vouched({**small_bundle().files, "evaluation.json": b"{}"})
    bundle = ExportedBundle(files, load_bundle(small_bundle().model_version, sha256(files[MANIFEST]), files))
    s3 = FakeS3()
    store_bundle(s3, BUCKET, bundle)
    assert s3.objects == {bundle_key(bundle.model_version, name): data for name, data in files.items()}
    assert s3.calls[-1] == ("put", bundle_key(bundle.model_version, MANIFEST))


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
    s3.script = [None, None, None, BUSY]
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
    found = decode_channel(s3.objects[KEY])
    assert (channel.model_version, channel.manifest_sha256) == (found.model_version, found.manifest_sha256)
    assert bundle_key(channel.model_version, MANIFEST) in s3.objects


def test_of_two_movers_alike_one_wins_and_the_other_is_told() -> None:
    # GIVEN two movers who cannot be told apart: one name, one moment, one version
    s3, mover = FakeS3(), Mover("ada@laptop", lambda: datetime(2026, 11, 21, tzinfo=UTC))
    s3.script = [None, Meanwhile(lambda: move(s3, mover=mover))]
    # WHEN the second moves between the first one's look and move
    with pytest.raises(ChannelMovedError, match="meanwhile by ada@laptop: look at it, then move it again") as raised:
        move(s3, mover=mover)
    # THEN the first knows that it was not its own move
    assert raised.value.moved_by == "ada@laptop"


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
    assert [line.model_version for line in read_history(world, BUCKET, "stable")] == [version(n) for n in (1, 2, 3)]


def test_who_moves_is_named_by_user_and_machine() -> None:
    user, _, machine = this_mover().name.partition("@")
    assert user
    assert machine
    assert this_mover().clock().utcoffset() is not None


# Promote ------------------------------------------------------------------------------------------------------------


def test_version_with_a_passing_verdict_is_promoted(world: ListingS3) -> None:
    gate(world, 2, against=1)
    moved = promote(world, BUCKET, "stable", version(2))
    assert moved.has_moved
    assert (moved.now.model_version, moved.now.previous, moved.now.why) == (version(2), version(1), "promote")
    assert version_of(world) == version(2)


def test_first_version_of_a_channel_is_gated_against_nothing(world: ListingS3) -> None:
    gate(world, 2, against=None, channel="candidate")
    assert promote(world, BUCKET, "candidate", version(2)).now.previous is None


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
        promote(world, BUCKET, "stable", version(2))
    assert raised.value.problem == problem
    assert str(raised.value).endswith(f"run `ridecast models gate {version(2)} --channel stable --bucket {BUCKET}`")
    assert version_of(world) == version(1)


def test_verdict_does_not_outlive_the_rival(world: ListingS3) -> None:
    # GIVEN a verdict against what the channel held, and a channel that somebody moves before we look at it
    gate(world, 2, against=1)
    move(world, seed=3)
    with pytest.raises(NotGatedError, match=f"stable, which holds {version(3)}, for it was gated against {version(1)}"):
        promote(world, BUCKET, "stable", version(2))


def test_channel_that_moves_after_the_verdict_was_read_is_not_moved(world: ListingS3) -> None:
    gate(world, 2, against=1)
    key = bundle_key(version(2), "gate-stable.json")
    world.script = [*[None] * n_calls_before_reading(world, key), Meanwhile(lambda: move(world, seed=3))]
    with pytest.raises(ChannelMovedError) as raised:
        promote(world, BUCKET, "stable", version(2))
    assert raised.value.model_version == version_of(world) == version(3)


def n_calls_before_reading(s3: ListingS3, key: str) -> int:
    """How many calls a promotion makes before it reads a key, on a copy of the bucket."""
    copy = ListingS3(dict(s3.objects))
    promote(copy, BUCKET, "stable", version(2))
    return copy.calls.index(("get", key))


def test_version_that_has_served_needs_no_verdict(world: ListingS3) -> None:
    move(world, seed=2)
    assert promote(world, BUCKET, "stable", version(1)).now.previous == version(2)


def test_having_served_in_another_channel_does_not_count(world: ListingS3) -> None:
    move(world, seed=2, channel="candidate")
    with pytest.raises(NotGatedError):
        promote(world, BUCKET, "stable", version(2))


def test_promoting_what_is_there_moves_nothing(world: ListingS3) -> None:
    before = world.objects[KEY]
    assert not promote(world, BUCKET, "stable", version(1)).has_moved
    assert world.objects[KEY] == before
    assert len(read_history(world, BUCKET, "stable")) == 1


def test_force_goes_to_the_candidate_channel_only(world: ListingS3) -> None:
    moved = promote(world, BUCKET, "candidate", version(2), force=True)
    assert (moved.now.model_version, moved.now.why) == (version(2), "force")
    with pytest.raises(ForceRefusedError, match="nothing is forced into stable, only into candidate"):
        promote(world, BUCKET, "stable", version(2), force=True)
    assert version_of(world) == version(1)


@pytest.mark.parametrize("file", FILES)
def test_bundle_that_would_not_serve_is_not_promoted(world: ListingS3, file: str) -> None:
    gate(world, 2, against=1)
    spoil_bundle(world, small_bundle(2), file)
    if file == MANIFEST:
        world.objects[bundle_key(version(2), file)] = b"{"
    with pytest.raises(BundleError) as raised:
        promote(world, BUCKET, "stable", version(2))
    assert raised.value.file == file
    assert version_of(world) == version(1)


def test_half_stored_bundle_is_no_version(world: ListingS3) -> None:
    del world.objects[bundle_key(version(2), MANIFEST)]
    with pytest.raises(NoSuchVersionError, match=f"holds no version and no channel '{version(2)}'"):
        promote(world, BUCKET, "stable", version(2))


def test_promotion_is_in_the_history_with_its_mover(world: ListingS3) -> None:
    gate(world, 2, against=1)
    promote(world, BUCKET, "stable", version(2), mover=Mover("ada@laptop", lambda: datetime(2030, 1, 1, tzinfo=UTC)))
    *_, line = read_history(world, BUCKET, "stable")
    assert (line.moved_by, line.moved_at) == ("ada@laptop", "2030-01-01T00:00:00.000000+00:00")


# Roll back ----------------------------------------------------------------------------------------------------------


def test_rolling_back_is_moving_to_the_version_before(world: ListingS3) -> None:
    move(world, seed=2)
    moved = rollback(world, BUCKET, "stable")
    assert (moved.now.model_version, moved.now.previous, moved.now.why) == (version(1), version(2), "rollback")


def test_rolling_back_twice_is_where_it_began(world: ListingS3) -> None:
    move(world, seed=2)
    rollback(world, BUCKET, "stable")
    assert rollback(world, BUCKET, "stable").now.model_version == version(2)
    assert [line.why for line in read_history(world, BUCKET, "stable")] == ["publish"] * 2 + ["rollback"] * 2


@pytest.mark.parametrize(("channel", "held"), [("stable", version(1)), ("candidate", None)])
def test_there_is_no_way_back_from_the_first_version(world: ListingS3, channel: str, held: str | None) -> None:
    with pytest.raises(NoWayBackError, match="so there is no way back: promote a version instead") as raised:
        rollback(world, BUCKET, channel)
    assert raised.value.model_version == held


def test_version_that_would_not_serve_is_not_rolled_back_to(world: ListingS3) -> None:
    move(world, seed=2)
    spoil_bundle(world, small_bundle(1), FOREST)
    with pytest.raises(BundleError):
        rollback(world, BUCKET, "stable")
    assert version_of(world) == version(2)


# Signed versions only ------------------------------------------------------------------------------------------------

TRUSTED = Signer(FakeKms(), SIGNING_KEY)
ANOTHER = Signer(FakeKms(), OTHER_KEY)
SIGN = f"run `ridecast models sign {{version}} --signing-key {SIGNING_KEY} --bucket {BUCKET}"


def promoted(s3: FakeS3, signer: Signer | None) -> Moved:
    """Moves `stable` from the first small bundle to the second, which the gate let through."""
    gate(s3, 2, against=1)
    return promote(s3, BUCKET, "stable", version(2), signer=signer)


def forced(s3: FakeS3, signer: Signer | None) -> Moved:
    """Moves `candidate` from the first small bundle to the second, whatever the gate says."""
    move(s3, seed=1, channel="candidate")
    return promote(s3, BUCKET, "candidate", version(2), force=True, signer=signer)


def rolled_back(s3: FakeS3, signer: Signer | None) -> Moved:
    """Moves `stable` from the first small bundle back to the second."""
    move(s3, seed=2)
    move(s3, seed=1)
    return rollback(s3, BUCKET, "stable", signer=signer)


ToSecond = Callable[[FakeS3, Signer | None], Moved]
MOVES = pytest.mark.parametrize("to_second", [promoted, forced, rolled_back])


@MOVES
@pytest.mark.parametrize(
    ("signed_by", "problem"),
    [
        (None, f"is missing, and functions that trust {SIGNING_KEY} take no other: {SIGN}`"),
        (ANOTHER, f"is not by {SIGNING_KEY}: look whose it is, then {SIGN} --replace`"),
    ],
    ids=["unsigned", "by another key"],
)
def test_version_that_is_not_signed_with_the_key_moves_no_channel(
    world: ListingS3, to_second: ToSecond, signed_by: Signer | None, problem: str
) -> None:
    if signed_by:
        sign_stored(world, BUCKET, version(2), signed_by)
    with pytest.raises(PublishError) as raised:
        to_second(world, TRUSTED)
    assert raised.value.problem == problem.format(version=version(2))
    assert {one.model_version for one in channels(world, BUCKET).values()} == {version(1)}


@MOVES
def test_version_that_is_signed_with_the_key_is_moved_to(world: ListingS3, to_second: ToSecond) -> None:
    sign_stored(world, BUCKET, version(2), TRUSTED)
    assert to_second(world, TRUSTED).now.model_version == version(2)


@MOVES
def test_nobody_looks_at_signatures_without_a_key(world: ListingS3, to_second: ToSecond) -> None:
    assert to_second(world, None).now.model_version == version(2)


def test_signature_that_kms_does_not_vouch_for_moves_no_channel(world: ListingS3) -> None:
    sign_stored(world, BUCKET, version(2), TRUSTED)
    with pytest.raises(KmsError, match=f"cannot verify with the KMS key {SIGNING_KEY}"):
        promoted(world, Signer(FakeKms([DENIED]), SIGNING_KEY))
    assert version_of(world) == version(1)


def test_models_live_on_in_another_bucket_that_gets_models_history_and_then_channels(world: ListingS3) -> None:
    # GIVEN two moves, and a stack deployed again, whose bucket is a new one (docs/deploy.md)
    move(world, seed=2)
    other = ListingS3()

    # WHEN one prefix after another is copied
    for prefix in ("models/", "history/", "channels/"):
        other.objects |= {key: data for key, data in world.objects.items() if key.startswith(prefix)}

    # THEN nothing was left behind, the function serves what it served, and the way back is open
    assert other.objects == world.objects
    assert ModelStore(other, BUCKET, "stable", refresh_s=60).refresh().model.model_version == version(2)
    rollback(other, BUCKET, "stable")
    assert version_of(other) == version(1)
