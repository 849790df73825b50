"""Channels move under a condition: of two movers one wins and the other gets an error, even if answers are lost.

Promotion needs the gate's verdict against what the channel holds now; a rollback, that it has held the version. If
functions trust a key, a channel moves only to versions with that key's signature: by promotion, force or rollback.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from infra.local.s3 import client_error
from lambda_function.aws.model_store import ModelStore
from lambda_function.core.bundle import FOREST, GOLDEN, MANIFEST, bundle_key
from lambda_function.core.channel import decode_channel
from lambda_function.errors import BundleError, KmsError
from tests.builders import small_bundle
from tests.builders_channels import KEY, bucket_of_three, gate, move, new_bucket, version, version_of
from tests.fakes import BUCKET, damage_bundle
from tests.fakes_kms import KEY as SIGNING_KEY
from tests.fakes_kms import OTHER_KEY, FakeKms
from tests.outcomes import DENIED, NO_ANSWER, AnswerLost, Meanwhile
from training.errors import BucketError, NoSuchVersionError, UserError
from training.registry.bucket import Bucket
from training.registry.channel_history import read_history
from training.registry.channels import Moved, Mover, promote, rollback, this_mover, version_before
from training.registry.signing import Signer, sign_stored
from training.registry.versions import read_channels

BUSY = client_error(409, "ConditionalRequestConflict")
REFUSED = client_error(412, "PreconditionFailed")


@pytest.fixture
def empty() -> Bucket:
    """An empty empty."""
    return new_bucket()


def test_each_move_records_digest_time_and_the_version_before(empty: Bucket) -> None:
    for seed, previous in ((1, None), (2, version(1)), (1, version(2))):
        assert move(empty, seed) == version_of(empty)
        channel = decode_channel(empty.s3.objects[KEY])
        arm = channel.segments[0].arm
        assert (arm.manifest_sha256, channel.previous) == (small_bundle(seed).manifest_sha256, previous)
        assert datetime.fromisoformat(channel.moved_at) <= datetime.now(UTC)


def test_move_to_the_same_version_changes_nothing(empty: Bucket) -> None:
    move(empty)
    move(empty, seed=2)
    before = empty.s3.objects[KEY]
    move(empty, seed=2)
    assert empty.s3.objects[KEY] == before
    assert decode_channel(before).previous == version(1)


@pytest.mark.parametrize("channel_exists", [False, True])
def test_of_two_movers_one_wins_and_the_other_gets_an_error(empty: Bucket, channel_exists: bool) -> None:
    # GIVEN a mover who has read the channel
    if channel_exists:
        move(empty, seed=3)
    # WHEN another one moves it before the first one does
    empty.s3.script = [None, Meanwhile(lambda: move(empty, seed=2))]
    with pytest.raises(BucketError, match=f"moved to {version(2)} meanwhile"):
        move(empty)
    # THEN the channel stays where the other has put it
    assert version_of(empty) == version(2)


def test_two_movers_with_equal_name_time_and_version_are_distinguished(empty: Bucket) -> None:
    mover = Mover("ada@laptop", lambda: datetime(2026, 11, 21, tzinfo=UTC))
    empty.s3.script = [None, Meanwhile(lambda: move(empty, mover=mover))]
    with pytest.raises(BucketError, match="meanwhile by ada@laptop: check that move, then repeat the command"):
        move(empty, mover=mover)


def test_channel_that_vanishes_between_read_and_write_is_an_error(empty: Bucket) -> None:
    move(empty, seed=2)
    empty.s3.script = [None, Meanwhile(lambda: empty.s3.objects.pop(KEY))]
    with pytest.raises(BucketError, match="was moved to nothing meanwhile"):
        move(empty)


@pytest.mark.parametrize("text", [b"", b"hello", b'{"model_version": "7"}', b"\xff"])
def test_object_that_is_not_a_channel_is_not_overwritten(text: bytes) -> None:
    bucket = new_bucket({KEY: text})
    restore = f"`ridecast models restore --channel stable --bucket {BUCKET}`"
    with pytest.raises(BucketError, match=rf"s3://{BUCKET}/{KEY} is damaged: .*; {restore} writes it again"):
        move(bucket)
    assert bucket.s3.objects[KEY] == text


@pytest.mark.parametrize("failure", [NO_ANSWER, REFUSED], ids=["answer lost", "resent and refused"])
def test_move_with_a_lost_answer_is_a_success(empty: Bucket, failure: Exception) -> None:
    empty.s3.script = [None, AnswerLost(failure)]
    assert move(empty) == version_of(empty)


def test_move_with_a_lost_answer_before_another_move_is_a_success() -> None:
    bucket = bucket_of_three()
    # GIVEN a move whose answer is lost, and another mover before the first has read the channel again
    bucket.s3.script = [None, None, None, AnswerLost(REFUSED), Meanwhile(lambda: move(bucket, seed=3))]
    # THEN the first succeeds: the channel was there
    assert move(bucket, seed=2) == version(2)
    assert version_of(bucket) == version(3)
    assert [entry.model_version for entry in read_history(bucket, "stable")] == [version(n) for n in (1, 2, 3)]


def test_mover_is_user_and_machine() -> None:
    user, _, machine = this_mover().name.partition("@")
    assert user
    assert machine
    assert this_mover().clock().utcoffset() is not None


# Promotion and rollback -----------------------------------------------------------------------------------------------

FILES = (FOREST, GOLDEN, MANIFEST)
TRUSTED = Signer(FakeKms(), SIGNING_KEY)
ANOTHER = Signer(FakeKms(), OTHER_KEY)
SIGN = f"run `ridecast models sign {{version}} --signing-key {SIGNING_KEY} --bucket {BUCKET}"


@pytest.fixture
def bucket() -> Bucket:
    """A bucket with three bundles, whose channel `stable` points at the first."""
    return bucket_of_three()


def test_version_with_a_passing_verdict_is_promoted(bucket: Bucket) -> None:
    gate(bucket, 2, against=1)
    moved = promote(bucket, "stable", version(2))
    assert moved.has_moved
    assert (moved.now.model_version, moved.now.previous, moved.now.why) == (version(2), version(1), "promote")
    assert version_of(bucket) == version(2)


def test_first_version_of_a_channel_is_gated_against_nothing(bucket: Bucket) -> None:
    gate(bucket, 2, against=None, channel="candidate")
    assert promote(bucket, "candidate", version(2)).now.previous is None


@pytest.mark.parametrize(
    ("verdict", "problem"),
    [
        ({}, "has no verdict of the gate"),
        ({"against": 3}, f"was gated against {version(3)}"),
        ({"against": None}, "was gated against nothing"),
        ({"against": 1, "passed": False}, "did not pass the gate"),
        ({"against": 1, "channel": "candidate"}, "has no verdict of the gate"),
    ],
)
def test_version_without_a_passing_verdict_against_the_champion_is_refused(
    bucket: Bucket, verdict: dict[str, object], problem: str
) -> None:
    if verdict:
        gate(bucket, 2, **verdict)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=f"it {problem}: run `ridecast models .*{version(2)}.*--bucket {BUCKET}`"):
        promote(bucket, "stable", version(2))
    assert version_of(bucket) == version(1)


def test_channel_that_moves_after_the_verdict_was_read_is_not_moved(bucket: Bucket) -> None:
    gate(bucket, 2, against=1)
    key = bundle_key(version(2), "gate-stable.json")
    copy = new_bucket(dict(bucket.s3.objects))
    promote(copy, "stable", version(2))
    n_calls_before = copy.s3.calls.index(("get", key))
    bucket.s3.script = [*[None] * n_calls_before, Meanwhile(lambda: move(bucket, seed=3))]
    with pytest.raises(BucketError, match=f"was moved to {version(3)} meanwhile"):
        promote(bucket, "stable", version(2))
    assert version_of(bucket) == version(3)


def test_version_that_has_served_needs_no_verdict(bucket: Bucket) -> None:
    move(bucket, seed=2)
    assert promote(bucket, "stable", version(1)).now.previous == version(2)


def test_having_served_in_another_channel_does_not_count(bucket: Bucket) -> None:
    move(bucket, seed=2, channel="candidate")
    with pytest.raises(UserError, match="has no verdict"):
        promote(bucket, "stable", version(2))


def test_promoting_the_present_version_moves_nothing(bucket: Bucket) -> None:
    before = bucket.s3.objects[KEY]
    assert not promote(bucket, "stable", version(1)).has_moved
    assert bucket.s3.objects[KEY] == before
    assert len(read_history(bucket, "stable")) == 1


def test_only_the_candidate_channel_takes_a_version_by_force(bucket: Bucket) -> None:
    moved = promote(bucket, "candidate", version(2), force=True)
    assert (moved.now.model_version, moved.now.why) == (version(2), "force")
    with pytest.raises(UserError, match="stable takes no version by force, only candidate does: leave out --force"):
        promote(bucket, "stable", version(2), force=True)
    assert version_of(bucket) == version(1)


@pytest.mark.parametrize("file", FILES)
def test_damaged_bundle_is_not_promoted(bucket: Bucket, file: str) -> None:
    gate(bucket, 2, against=1)
    damage_bundle(bucket.s3, small_bundle(2), file)
    if file == MANIFEST:
        bucket.s3.objects[bundle_key(version(2), file)] = b"{"
    with pytest.raises(BundleError, match=file):
        promote(bucket, "stable", version(2))
    assert version_of(bucket) == version(1)


def test_incomplete_bundle_is_not_a_version(bucket: Bucket) -> None:
    del bucket.s3.objects[bundle_key(version(2), MANIFEST)]
    with pytest.raises(NoSuchVersionError, match=f"'{version(2)}'"):
        promote(bucket, "stable", version(2))


# Signatures ---------------------------------------------------------------------------------------------------------


def promoted(bucket: Bucket, signer: Signer | None) -> Moved:
    """Move `stable` from version 1 to version 2 by a verdict."""
    gate(bucket, 2, against=1)
    return promote(bucket, "stable", version(2), signer=signer)


def forced(bucket: Bucket, signer: Signer | None) -> Moved:
    """Move `candidate` from version 1 to version 2 by force."""
    move(bucket, seed=1, channel="candidate")
    return promote(bucket, "candidate", version(2), force=True, signer=signer)


def rolled_back(bucket: Bucket, signer: Signer | None) -> Moved:
    """Move `stable` from version 1 back to version 2."""
    move(bucket, seed=2)
    move(bucket, seed=1)
    return rollback(bucket, "stable", version(2), signer=signer)


ToSecond = Callable[[Bucket, Signer | None], Moved]
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
def test_version_without_the_keys_signature_moves_no_channel(
    bucket: Bucket, to_second: ToSecond, signed_by: Signer | None, problem: str
) -> None:
    if signed_by:
        sign_stored(bucket, version(2), signed_by)
    with pytest.raises(BucketError, match=re.escape(problem.format(version=version(2)))):
        to_second(bucket, TRUSTED)
    assert {one.model_version for one in read_channels(bucket).values()} == {version(1)}


@MOVES
@pytest.mark.parametrize("signer", [TRUSTED, None], ids=["signed", "no key"])
def test_signed_version_or_any_version_without_a_key_is_moved_to(
    bucket: Bucket, to_second: ToSecond, signer: Signer | None
) -> None:
    if signer:
        sign_stored(bucket, version(2), signer)
    assert to_second(bucket, signer).now.model_version == version(2)


def test_signature_that_kms_does_not_check_moves_no_channel(bucket: Bucket) -> None:
    sign_stored(bucket, version(2), TRUSTED)
    with pytest.raises(KmsError, match=f"cannot verify with the KMS key {SIGNING_KEY}"):
        promoted(bucket, Signer(FakeKms([DENIED]), SIGNING_KEY))
    assert version_of(bucket) == version(1)


# Rollback -------------------------------------------------------------------------------------------------------------


def test_rollback_moves_to_the_named_version(bucket: Bucket) -> None:
    move(bucket, seed=2)
    assert version_before(bucket, "stable") == version(1)
    moved = rollback(bucket, "stable", version(1))
    assert (moved.now.model_version, moved.now.previous, moved.now.why) == (version(1), version(2), "rollback")
    assert moved.has_moved


def test_repeated_rollback_changes_nothing(bucket: Bucket) -> None:
    move(bucket, seed=2)
    rollback(bucket, "stable", version(1))
    again = rollback(bucket, "stable", version(1))
    assert (again.now.model_version, again.has_moved) == (version(1), False)
    assert [entry.why for entry in read_history(bucket, "stable")] == ["publish"] * 2 + ["rollback"]


def test_rollback_reaches_any_version_of_the_history_by_its_beginning(bucket: Bucket) -> None:
    move(bucket, seed=2)
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
    move(bucket, seed=2)
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
    move(bucket, seed=2)
    damage_bundle(bucket.s3, small_bundle(1), FOREST)
    with pytest.raises(BundleError):
        rollback(bucket, "stable", version(1))
    assert version_of(bucket) == version(2)


def test_models_history_and_channels_can_be_copied_to_another_bucket(bucket: Bucket) -> None:
    move(bucket, seed=2)
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
