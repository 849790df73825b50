"""Channels move under a condition: of two movers one wins and the other gets an error, even if answers are lost.

Promotion needs the gate's verdict against what the channel holds now; a rollback, that it has held the version. If
functions trust a key, a channel moves only to versions with that key's signature: by promotion, force or rollback.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import msgspec
import pytest

from lambda_function.aws.model_store import ModelStore
from lambda_function.core.bundle import FOREST, GOLDEN, MANIFEST, bundle_key
from lambda_function.core.channel import ACTIVATION_DELAY_S, MAX_SEGMENTS, decode_channel
from lambda_function.errors import BundleError, KmsError
from tests.builders import small_bundle
from tests.builders_channels import KEY, bucket_of_three, gate, move, new_bucket, version, version_of
from tests.fakes import BUCKET, FakeClock, damage_bundle
from tests.fakes_kms import KEY as SIGNING_KEY
from tests.fakes_kms import OTHER_KEY, FakeKms
from tests.outcomes import DENIED, NO_ANSWER, AnswerLost, Meanwhile
from tests.unit.test_channel import DAMAGED
from training.errors import BucketError, NoSuchVersionError, UserError
from training.registry.bucket import Bucket
from training.registry.channel_history import read_channel, read_history
from training.registry.channels import Moved, Mover, promote, restore, rollback, this_mover, version_before
from training.registry.folder_s3 import client_error
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
    with pytest.raises(BucketError, match=rf"s3://{BUCKET}/{KEY} is damaged: .*: write it again .* with {restore}"):
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


# Segments -------------------------------------------------------------------------------------------------------------

NOW = datetime(2026, 11, 29, 10, tzinfo=UTC)


def at(*, seconds: float = 0, days: float = 0) -> Mover:
    return Mover("ada", lambda: NOW + timedelta(seconds=seconds, days=days))


def segments(bucket: Bucket) -> list[tuple[str, float]]:
    """Return the versions of `stable`'s segments, newest first, and when they begin in seconds after NOW."""
    state = read_channel(bucket, "stable").state
    assert state
    return [(one.model_version, round(one.effective_from_s - NOW.timestamp(), 6)) for one in state.segments]


FROM_THE_BEGINNING = -NOW.timestamp()


def test_first_version_serves_all_rides_and_the_next_those_after_the_activation_delay(bucket: Bucket) -> None:
    move(bucket, seed=2, mover=at())
    assert segments(bucket) == [(version(2), ACTIVATION_DELAY_S), (version(1), FROM_THE_BEGINNING)]


def test_promotion_takes_the_delay_that_it_is_given(bucket: Bucket) -> None:
    gate(bucket, 2, against=1)
    promote(bucket, "stable", version(2), mover=at(), activation_delay_s=7210)
    assert segments(bucket)[0] == (version(2), 7210)


@pytest.mark.parametrize(("seconds", "begins"), [(10.0, 160.0), (-3600.0, 150.000001)], ids=["pending", "slow clock"])
def test_segment_begins_after_the_newest_one_even_by_a_slow_clock(
    bucket: Bucket, seconds: float, begins: float
) -> None:
    move(bucket, seed=2, mover=at())
    move(bucket, seed=3, mover=at(seconds=seconds))
    assert segments(bucket)[:2] == [(version(3), begins), (version(2), 150)]


@pytest.mark.parametrize("after_s", [10, 10_000], ids=["before it serves", "while it serves"])
def test_rollback_replaces_the_newest_segment_from_its_beginning_and_names_what_it_withdrew(
    bucket: Bucket, after_s: float
) -> None:
    move(bucket, seed=2, mover=at())
    moved = rollback(bucket, "stable", version(1), mover=at(seconds=after_s))
    assert segments(bucket) == [(version(1), 150), (version(1), FROM_THE_BEGINNING)]
    entry = read_history(bucket, "stable")[-1]
    assert (entry.withdrawn, entry.why) == (moved.now.withdrawn, "rollback") == (version(2), "rollback")
    assert entry.segments[0].effective_from_s == NOW.timestamp() + 150


def test_segments_that_ended_more_than_a_year_ago_are_dropped(bucket: Bucket) -> None:
    for seed, days in ((2, 0), (3, 1), (1, 366.99), (2, 367.01)):
        move(bucket, seed, mover=at(days=days))
    # THEN the segment that ended on day 1 is dropped, and the one that began then now serves all before
    assert [one for one, _ in segments(bucket)] == [version(2), version(1), version(3)]


def test_oldest_segments_beyond_the_limit_are_dropped(bucket: Bucket) -> None:
    state = read_channel(bucket, "stable").state
    assert state
    many = [
        msgspec.structs.replace(state.segments[0], effective_from=(NOW - timedelta(seconds=n)).isoformat())
        for n in range(MAX_SEGMENTS)
    ]
    bucket.s3.objects[KEY] = msgspec.json.encode(msgspec.structs.replace(state, segments=tuple(many)))
    move(bucket, seed=2, mover=at())
    assert len(segments(bucket)) == MAX_SEGMENTS
    assert segments(bucket)[0] == (version(2), 150)


@pytest.mark.parametrize(("ahead_s", "side"), [(31, "ahead of"), (-3600, "behind")])
def test_machine_whose_clock_is_wrong_promotes_nothing(bucket: Bucket, ahead_s: float, side: str) -> None:
    gate(bucket, 2, against=1)
    before = bucket.s3.objects[KEY]
    wrong = Bucket(DatedS3(bucket.s3, ahead_s), BUCKET)
    with pytest.raises(
        UserError, match=rf"this machine's clock is \d+ s {side} S3's, so stable was not moved: set the"
    ):
        promote(wrong, "stable", version(2))
    assert bucket.s3.objects[KEY] == before
    assert promote(Bucket(DatedS3(bucket.s3, 20), BUCKET), "stable", version(2)).has_moved


def move_slowly(bucket: Bucket, took_s: float) -> None:
    """Move a channel while time passes before its object is written."""
    clock = FakeClock(NOW.timestamp())
    bucket.s3.script = [None, None, Meanwhile(lambda: clock.advance(took_s))]
    move(bucket, seed=2, mover=Mover("tests", lambda: datetime.fromtimestamp(clock(), UTC)))


def test_move_that_functions_may_read_too_late_names_the_rides_to_bring_again(bucket: Bucket) -> None:
    with pytest.raises(UserError, match=r"stable was moved to .*, but that took 31 s.*rides replay --from 2026-11-29T"):
        move_slowly(bucket, took_s=31)
    assert segments(bucket)[0] == (version(2), 150)


def test_move_that_takes_no_longer_than_the_margin_is_in_time(bucket: Bucket) -> None:
    move_slowly(bucket, took_s=30)
    assert segments(bucket)[0] == (version(2), 150)


@dataclass
class DatedS3:
    """A bucket whose answers have a date, as of a clock that this machine's is ahead of."""

    s3: Any
    ahead_s: float

    def get_object(self, **request: Any) -> Any:
        """Read an object."""
        date = format_datetime(datetime.now(UTC) - timedelta(seconds=self.ahead_s), usegmt=True)
        return {**self.s3.get_object(**request), "ResponseMetadata": {"HTTPHeaders": {"date": date}}}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.s3, name)


# Restoring ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [*DAMAGED, None], ids=lambda data: repr(data)[:20])
def test_damaged_or_lost_channel_is_restored_as_its_history_has_it(bucket: Bucket, data: bytes | None) -> None:
    move(bucket, seed=2, mover=at())
    before = segments(bucket)
    bucket.s3.objects.pop(KEY) if data is None else bucket.s3.objects.update({KEY: data})
    now = restore(bucket, "stable", at(seconds=60))
    assert segments(bucket) == before
    assert (now.why, now.moved_by) == ("restore", "ada")
    assert [entry.why for entry in read_history(bucket, "stable")] == ["publish", "publish", "restore"]
    rollback(bucket, "stable", version(1), mover=at(seconds=120))


def test_lost_channel_is_not_begun_again_by_a_move(bucket: Bucket) -> None:
    gate(bucket, 2, against=None)
    del bucket.s3.objects[KEY]
    lost = f"stable has a history in s3://{BUCKET} and is lost: write it again .* `ridecast models restore --channel st"
    for attempt in (
        lambda: promote(bucket, "stable", version(2)),
        lambda: rollback(bucket, "stable", version(1)),
        lambda: version_before(bucket, "stable"),
        lambda: move(bucket, seed=2),
    ):
        with pytest.raises(UserError, match=lost):
            attempt()
    assert KEY not in bucket.s3.objects


def test_old_history_restores_a_channel_as_one_segment(bucket: Bucket) -> None:
    entry = {"channel": "stable", "model_version": version(2), "manifest_sha256": small_bundle(2).manifest_sha256}
    entry |= {"previous": version(1), "moved_at": "2026-11-21T22:00:00+00:00", "moved_by": "ada", "why": "promote"}
    bucket.s3.objects = {f"history/stable/20261121T220000.000000Z-{version(2)}.json": json.dumps(entry).encode()}
    restore(bucket, "stable", at())
    assert segments(bucket) == [(version(2), FROM_THE_BEGINNING)]


def test_channel_that_is_not_damaged_is_not_restored(bucket: Bucket) -> None:
    before = bucket.s3.objects[KEY]
    with pytest.raises(UserError, match=f"stable is not damaged: it holds {version(1)}: `ridecast models rollback`"):
        restore(bucket, "stable")
    assert bucket.s3.objects[KEY] == before


def test_channel_of_a_later_version_is_not_restored(bucket: Bucket) -> None:
    state = msgspec.json.decode(bucket.s3.objects[KEY])
    state["segments"][0]["calibration"] = {}
    del state["segments_sha256"]
    bucket.s3.objects[KEY] = newer = msgspec.json.encode(state)
    with pytest.raises(BucketError, match="cannot serve: deploy, or run, the version"):
        restore(bucket, "stable")
    assert bucket.s3.objects[KEY] == newer


def test_channel_without_a_history_is_not_restored(bucket: Bucket) -> None:
    with pytest.raises(UserError, match=f"candidate has no history in s3://{BUCKET}: release a model"):
        restore(bucket, "candidate")


def test_two_who_restore_a_channel_do_not_overwrite_each_other(bucket: Bucket) -> None:
    bucket.s3.objects[KEY] = b""
    move_on = Meanwhile(lambda: (restore(bucket, "stable", at()), move(bucket, seed=2, mover=at(seconds=1))))
    reads_before_the_write = [None] * 3
    bucket.s3.script = [*reads_before_the_write, move_on]
    with pytest.raises(BucketError, match=f"was moved to {version(2)} meanwhile by ada"):
        restore(bucket, "stable", at())
    assert segments(bucket)[0] == (version(2), 151)


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
