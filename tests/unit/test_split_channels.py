"""A split gives a candidate a share of the rides; its range only grows, and a rollback takes the candidate out again.

Whatever moves: a record that comes again has the version that it had, unless a move withdrew that one.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambda_function.core.calibration import split_version
from lambda_function.core.channel import (
    ACTIVATION_DELAY_S,
    N_BUCKETS,
    Channel,
    Segment,
    bucket_of,
    decode_channel,
    encode_channel,
)
from tests.builders import small_bundle
from tests.builders_calibrations import AS_OF, LATER, calibrate, calibration_bytes, calibration_of
from tests.builders_channels import KEY, bucket_of_three, gate, version
from tests.fakes_kms import KEY as SIGNING_KEY
from tests.fakes_kms import FakeKms
from training.errors import BucketError, UserError
from training.registry.bucket import Bucket
from training.registry.channel_history import read_channel, read_history, read_moves, withdrawn_versions
from training.registry.channels import (
    Moved,
    Mover,
    calibrate_channel,
    end_split,
    promote,
    restore,
    rollback,
    split_channel,
    stop_calibration,
    version_before,
)
from training.registry.signing import Signer

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
RIDE_IDS = range(200)


@pytest.fixture
def bucket() -> Bucket:
    """A bucket whose channel `stable` holds the first of three bundles; the second one has passed its gate."""
    bucket = bucket_of_three()
    gate(bucket, 2, against=1)
    return bucket


def state_of(bucket: Bucket) -> Channel:
    state = read_channel(bucket, "stable").state
    assert state is not None
    return state


def split(bucket: Bucket, share: float = 0.2, seed: int = 2, salt: str = "one", mover: Mover | None = None) -> Moved:
    return split_channel(bucket, "stable", version(seed), share, salt, mover=mover)


def promote_second(bucket: Bucket) -> None:
    promote(bucket, "stable", version(2))


def arms(segment: Segment) -> list[tuple[str, int]]:
    """Return the served version of each arm, and how many buckets it has."""
    return [
        (segment.served_version_of_arm(arm), arm.buckets[1] - arm.buckets[0]) for arm in segment.arms
    ]  # fmt: skip


def all_arms(bucket: Bucket) -> list[list[tuple[str, int]]]:
    return [arms(segment) for segment in state_of(bucket).segments]


def calibrated(seed: int, as_of: str = AS_OF) -> str:
    return f"{version(seed)}+{as_of}"


def calibrate_both(bucket: Bucket, as_of: str) -> Moved:
    models = [small_bundle(seed).model for seed in (1, 2)]
    return calibrate_channel(bucket, "stable", *(calibration_bytes(calibration_of(one, as_of)) for one in models))


ALONE_1, ALONE_2 = [(version(1), N_BUCKETS)], [(version(2), N_BUCKETS)]


# Splits ---------------------------------------------------------------------------------------------------------------


def test_split_begins_after_the_activation_delay_and_serves_its_share(bucket: Bucket) -> None:
    moved = split(bucket, mover=Mover("loop/1", lambda: NOW))
    newest, before = state_of(bucket).segments
    assert (moved.has_moved, moved.now.why, moved.now.moved_by) == (True, "split", "loop/1")
    assert newest.effective_from_s == NOW.timestamp() + ACTIVATION_DELAY_S
    assert arms(newest) == [(version(1), 8000), (version(2), 2000)]
    assert arms(before) == ALONE_1
    assert (moved.now.model_version, moved.now.previous, moved.now.withdrawn) == (version(1), version(1), None)
    # THEN the ride's bucket decides, by the id as text
    for ride_id in RIDE_IDS:
        served = version(2) if bucket_of("one", ride_id) < 2000 else version(1)
        assert newest.served_version_of(ride_id) == newest.served_version_of(str(ride_id)) == served
        assert before.served_version_of(ride_id) == version(1)


def test_share_grows_and_each_ride_of_the_candidate_stays_with_it(bucket: Bucket) -> None:
    split(bucket)
    assert not split(bucket).has_moved
    assert split(bucket, 0.5).has_moved
    newer, older = state_of(bucket).segments[:2]
    before, after = (
        {ride_id for ride_id in RIDE_IDS if segment.served_version_of(ride_id) == version(2)}
        for segment in (older, newer)
    )
    assert before < after


@pytest.mark.parametrize(
    ("again", "why"),
    [
        (lambda b: split(b, 0.1), r"serves 20.00% of the rides of stable, and a share only grows: end the split"),
        (lambda b: split(b, 0.3, salt="two"), "is split between .* already: end that split"),
        (lambda b: split(b, 0.3, seed=3), "is split between .* already: end that split"),
        (lambda b: split(b, 0.3, seed=1), "holds .* already: split it with another version"),
        (lambda b: split(b, 1.0), "a share of 1 is not between"),
        (lambda b: split(b, 0.3, salt="x" * 101), "a salt of 101 bytes is too long: use at most 100"),
        (lambda b: split(b, 0.00004), "a share of 4e-05 is not between"),
        (lambda b: split_channel(b, "other", version(2), 0.1, ""), "other holds nothing, so it cannot be split"),
    ],
)
def test_split_that_does_not_go_on_from_the_channel_is_refused(
    bucket: Bucket, again: Callable[[Bucket], object], why: str
) -> None:
    split(bucket)
    before = bucket.s3.objects[KEY]
    with pytest.raises(UserError, match=why):
        again(bucket)
    assert bucket.s3.objects[KEY] == before


def test_candidate_needs_a_verdict_against_the_champion_and_the_keys_signature(bucket: Bucket) -> None:
    with pytest.raises(UserError, match=f"{version(3)} may not go to stable, .* has no verdict"):
        split(bucket, seed=3)
    gate(bucket, 3, against=1, passed=False)
    with pytest.raises(UserError, match="did not pass the gate"):
        split(bucket, seed=3)
    with pytest.raises(BucketError, match=r"manifest\.sig is missing"):
        split_channel(bucket, "stable", version(2), 0.2, "one", signer=Signer(FakeKms(), SIGNING_KEY))
    assert all_arms(bucket) == [ALONE_1]


def test_split_ends_with_the_champion_alone(bucket: Bucket) -> None:
    assert not end_split(bucket, "stable").has_moved
    calibrate(bucket)
    split(bucket)
    moved = end_split(bucket, "stable")
    assert (moved.now.why, moved.now.withdrawn) == ("split ended", None)
    assert [len(one) for one in all_arms(bucket)] == [1, 2, 1, 1]
    assert moved.now.served_version == calibrated(1)
    assert not end_split(bucket, "stable").has_moved
    with pytest.raises(UserError, match="other holds nothing, so it has no split: release a model first"):
        end_split(bucket, "other")


@pytest.mark.parametrize("seed", [1, 2])
def test_promotion_of_an_arms_version_ends_the_split_and_keeps_its_calibration(bucket: Bucket, seed: int) -> None:
    split(bucket)
    calibrate_both(bucket, AS_OF)
    moved = promote(bucket, "stable", version(seed))
    assert (moved.now.why, arms(moved.now.segments[0])) == ("promote", [(calibrated(seed), N_BUCKETS)])
    assert not promote(bucket, "stable", version(seed)).has_moved


# Calibrations ---------------------------------------------------------------------------------------------------------


def test_both_arms_are_calibrated_in_one_move(bucket: Bucket) -> None:
    split(bucket)
    calibrate_both(bucket, AS_OF)
    assert all_arms(bucket)[0] == [(calibrated(1), 8000), (calibrated(2), 2000)]
    assert not calibrate_both(bucket, AS_OF).has_moved
    # AND one of them alone, while the other keeps its own
    calibrate(bucket, seed=2, as_of=LATER)
    split(bucket, 0.4)
    assert all_arms(bucket)[0] == [(calibrated(1), 6000), (calibrated(2, LATER), 4000)]
    with pytest.raises(UserError, match=f"stable holds {version(1)}, and not {version(3)}"):
        calibrate(bucket, seed=3)
    with pytest.raises(UserError, match="a later calibration"):
        calibrate(bucket, seed=2)


def test_stop_takes_the_calibrations_of_both_arms_and_lasts_while_the_split_goes_on(bucket: Bucket) -> None:
    split(bucket)
    calibrate_both(bucket, AS_OF)
    calibrate_both(bucket, LATER)
    moved = stop_calibration(bucket, "stable")
    assert all_arms(bucket)[:2] == [
        [(version(1), 8000), (version(2), 2000)],
        [(calibrated(1), 8000), (calibrated(2), 2000)],
    ]
    assert moved.now.all_withdrawn == (calibrated(1, LATER), calibrated(2, LATER))
    assert split(bucket, 0.3).now.calibration_is_off
    assert end_split(bucket, "stable").now.calibration_is_off
    with pytest.raises(UserError, match="was stopped by"):
        calibrate(bucket, as_of="2026-12-01T05")


# Rollbacks ------------------------------------------------------------------------------------------------------------


def test_rollback_to_the_champion_takes_the_candidate_out_from_its_beginning(bucket: Bucket) -> None:
    calibrate(bucket)
    split(bucket)
    begins = state_of(bucket).segments[0].effective_from
    split(bucket, 0.3)
    calibrate_both(bucket, LATER)
    assert version_before(bucket, "stable") == version(1)
    moved = rollback(bucket, "stable", version(1))
    alone = [[(calibrated(1, LATER), N_BUCKETS)], *2 * [[(calibrated(1), N_BUCKETS)]], ALONE_1]
    assert all_arms(bucket) == alone
    assert (moved.now.all_withdrawn, moved.now.withdrawn_from) == ((version(2),), begins)
    assert moved.now.segments[1].effective_from == begins
    withdrawn = withdrawn_versions(bucket, "stable")
    assert version(2) in withdrawn
    assert calibrated(2, LATER) in withdrawn
    assert calibrated(1, LATER) not in withdrawn
    assert not rollback(bucket, "stable", version(1)).has_moved


def test_rollback_of_a_split_to_an_earlier_calibration_withdraws_the_later_one_and_the_candidate(
    bucket: Bucket,
) -> None:
    calibrate(bucket)
    calibrate(bucket, as_of=LATER)
    split(bucket)
    split(bucket, 0.3)
    moved = rollback(bucket, "stable", calibrated(1))
    assert all_arms(bucket)[:3] == [[(one, N_BUCKETS)] for one in (calibrated(1), *2 * [calibrated(1, LATER)])]
    assert moved.now.all_withdrawn == (calibrated(1, LATER), version(2))


def test_rollback_of_a_promoted_candidate_takes_its_arms_out_of_the_split_before(bucket: Bucket) -> None:
    split(bucket)
    begins = state_of(bucket).segments[0].effective_from
    calibrate_both(bucket, AS_OF)
    promote_second(bucket)
    calibrate(bucket, 2, LATER)
    moved = rollback(bucket, "stable", version(1))
    # THEN the champion keeps the calibration of each time, and the candidate's rides are as if it had served them
    assert all_arms(bucket) == [[(calibrated(1), N_BUCKETS)], ALONE_1, ALONE_1]
    assert (moved.now.all_withdrawn, moved.now.withdrawn_from) == ((version(2),), begins)


def test_rollback_to_a_candidate_that_has_been_the_champion_keeps_its_arms(bucket: Bucket) -> None:
    promote_second(bucket)
    split(bucket, seed=1)
    calibrate_both(bucket, AS_OF)
    moved = rollback(bucket, "stable", version(1))
    good = [(calibrated(1), N_BUCKETS)]
    assert all_arms(bucket) == [good, ALONE_1, good, ALONE_1]
    assert moved.now.all_withdrawn == (version(2),)


def test_rollback_from_a_split_to_another_version_withdraws_both_arms(bucket: Bucket) -> None:
    promote_second(bucket)
    begins = state_of(bucket).segments[0].effective_from
    gate(bucket, 3, against=2)
    split(bucket, seed=3)
    moved = rollback(bucket, "stable", version(1))
    assert all_arms(bucket) == [ALONE_1, ALONE_1]
    assert (moved.now.all_withdrawn, moved.now.withdrawn_from) == ((version(2), version(3)), None)
    assert moved.now.segments[0].effective_from == begins
    assert version(3) in withdrawn_versions(bucket, "stable")


def test_rollback_of_a_rollback_leaves_what_served_before_the_first_of_both_moves(bucket: Bucket) -> None:
    promote_second(bucket)
    rollback(bucket, "stable", version(1))
    calibrate(bucket)
    rollback(bucket, "stable", version(2))
    assert all_arms(bucket) == [ALONE_2, ALONE_1]


# Any moves ------------------------------------------------------------------------------------------------------------


def champion_of(bucket: Bucket) -> int:
    """Return the seed of the newest segment's champion."""
    return next(seed for seed in (1, 2, 3) if version(seed) == state_of(bucket).model_version)


def gated(bucket: Bucket, n: int) -> int:
    """Return the seed of another version, which has passed the gate."""
    champion = champion_of(bucket)
    other = (champion + n % 2) % 3 + 1
    gate(bucket, other, against=champion)
    return other


def begin_or_grow(bucket: Bucket, n: int) -> None:
    newest = state_of(bucket).segments[0]
    if newest.candidate is None:
        split(bucket, 0.1 + 0.02 * (n % 5), gated(bucket, n), f"salt {n}")
    else:
        share = min(0.9, newest.candidate.buckets[1] / N_BUCKETS + 0.15)
        split_channel(bucket, "stable", newest.candidate.model_version, share, newest.salt)


def promote_candidate(bucket: Bucket, _: int) -> None:
    candidate = state_of(bucket).segments[0].candidate
    if candidate:
        promote(bucket, "stable", candidate.model_version)


def roll_back(bucket: Bucket, _: int) -> None:
    with suppress(UserError):  # there is no version before
        rollback(bucket, "stable", version_before(bucket, "stable"))


def roll_back_to(bucket: Bucket, n: int) -> None:
    segments = state_of(bucket).segments
    rollback(bucket, "stable", segments[n % len(segments)].served_version)


def calibrate_one_or_both(bucket: Bucket, n: int) -> None:
    versions = {arm.model_version for arm in state_of(bucket).segments[0].arms}
    models = [small_bundle(seed).model for seed in (1, 2, 3) if version(seed) in versions][: 1 + n % 2]
    datas = [calibration_bytes(calibration_of(model, f"2026-11-{n + 1:02d}T05")) for model in models]
    calibrate_channel(bucket, "stable", *datas, resume=True)


def damage_and_restore(bucket: Bucket, _: int) -> None:
    bucket.s3.objects[KEY] = b"{}"
    restore(bucket, "stable")


Act = Callable[[Bucket, int], object]
ACTS: list[Act] = [
    *4 * [begin_or_grow],
    *2 * [calibrate_one_or_both],
    promote_candidate,
    lambda bucket, _: end_split(bucket, "stable"),
    lambda bucket, n: promote(bucket, "stable", version(gated(bucket, n))),
    roll_back,
    roll_back_to,
    lambda bucket, _: stop_calibration(bucket, "stable"),
    damage_and_restore,
]


@settings(max_examples=50)
@given(st.lists(st.sampled_from(ACTS), max_size=14))
def test_a_record_has_the_version_that_it_had_unless_a_move_withdrew_it(acts: list[Act]) -> None:
    bucket = bucket_of_three()
    for n, act in enumerate(acts):
        before = state_of(bucket)
        act(bucket, n)
        now = state_of(bucket)
        assert decode_channel(encode_channel(now)) == now
        begins_s = [one.effective_from_s for one in (*before.segments, *now.segments)]
        since_s = decode_time_s(now.withdrawn_from or now.segments[0].effective_from)
        for arrival_s in {at for one in begins_s for at in (one, one - 1e-6)}:
            for ride_id in range(12):
                was, is_ = (one.segment_at(arrival_s).served_version_of(ride_id) for one in (before, now))
                if was == is_:
                    continue
                assert arrival_s >= since_s
                if now.withdrawn:
                    assert now.has_withdrawn(was)
                    # A calibration that was taken out of the newest segment may be left in an older one.
                    assert not now.has_withdrawn(is_) or split_version(is_)[0] == now.model_version
    history, moves = read_history(bucket, "stable"), read_moves(bucket, "stable")
    assert sum(one.n_moves for one in moves) == len(history)
    rest = list(history)
    for one in moves:
        run, rest = rest[: one.n_moves], rest[one.n_moves :]
        assert (one.first, one.last) == (run[0], run[-1])
        assert len(run) == 1 or {(entry.why, entry.model_version) for entry in run} == {
            ("calibration", run[0].model_version)
        }


def decode_time_s(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
