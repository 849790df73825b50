"""A calibration moves a channel as every other move does; rollbacks, restores and the history know of calibrations."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambda_function.aws.model_store import MAX_BYTES
from lambda_function.core.bundle import sha256
from lambda_function.core.channel import (
    ACTIVATION_DELAY_S,
    MAX_SEGMENTS,
    Channel,
    Segment,
    aware_time,
    channel_key,
    decode_channel,
    encode_channel,
    salvage_channel,
)
from lambda_function.errors import CalibrationError, ChannelError
from tests.builders_calibrations import (
    AS_OF,
    HALF,
    LATER,
    SOME,
    calibrate,
    calibration_bytes,
    calibration_of,
    key_of,
    reference_of,
)
from tests.builders_channels import bucket_of_three, gate, move, new_bucket, version
from tests.outcomes import NO_ANSWER, AnswerLost, Meanwhile
from training.errors import BucketError, UserError
from training.registry.bucket import Bucket
from training.registry.channel_history import (
    Moves,
    history_key,
    read_channel,
    read_history,
    read_moves,
    served_versions,
    time_text,
    withdrawn_versions,
)
from training.registry.channels import (
    Mover,
    calibrate_channel,
    promote,
    restore,
    rollback,
    stop_calibration,
    version_before,
)

KEY = channel_key("stable")
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


@pytest.fixture
def bucket() -> Bucket:
    """A bucket with three bundles, whose channel `stable` points at the first."""
    return bucket_of_three()


def state_of(bucket: Bucket) -> Channel:
    state = read_channel(bucket, "stable").state
    assert state is not None
    return state


def served(bucket: Bucket) -> list[str]:
    """Return the served versions of the segments, newest first."""
    return [segment.served_version for segment in state_of(bucket).segments]


def calibrated(seed: int = 1, as_of: str = AS_OF) -> str:
    return f"{version(seed)}+{as_of}"


EVERY = [one for seed in (1, 2) for one in (version(seed), calibrated(seed), calibrated(seed, LATER))]


def publish(bucket: Bucket, seed: int) -> None:
    """Promote the small bundle of a seed."""
    gate(bucket, seed, against=next(n for n in (1, 2, 3) if version(n) == state_of(bucket).model_version))
    promote(bucket, "stable", version(seed))


# Calibrations ---------------------------------------------------------------------------------------------------------


def test_calibration_is_stored_and_serves_the_same_model_after_the_activation_delay(bucket: Bucket) -> None:
    moved = calibrate(bucket, mover=Mover("monitor", lambda: NOW), activation_delay_s=150.0)
    assert moved.has_moved
    state = state_of(bucket)
    assert state == moved.now
    assert (state.why, state.moved_by, state.withdrawn) == ("calibration", "monitor", None)
    newest, older = state.segments
    data = bucket.s3.objects[key_of()]
    assert (newest.arm, newest.calibration) == (older.arm, reference_of(data))
    assert newest.effective_from_s == NOW.timestamp() + 150
    assert (state.model_version, state.served_version, state.previous) == (version(1), calibrated(), version(1))


def test_same_calibration_again_changes_nothing(bucket: Bucket) -> None:
    calibrate(bucket)
    before = dict(bucket.s3.objects)
    assert not calibrate(bucket).has_moved
    assert bucket.s3.objects == before


def test_calibration_whose_object_is_stored_already_moves_the_channel(bucket: Bucket) -> None:
    """As after a crash between the two."""
    bucket.write_once(key_of(), calibration_bytes(calibration_of()))
    assert calibrate(bucket).has_moved


def test_calibration_is_never_changed(bucket: Bucket) -> None:
    calibrate(bucket)
    before = dict(bucket.s3.objects)
    with pytest.raises(BucketError, match=r"05\.json holds other bytes already, and a calibration is never changed"):
        calibrate(bucket, weights=HALF)
    assert bucket.s3.objects == before


def refused_moves() -> dict[str, tuple[Callable[[Bucket], object], str]]:
    return {
        "another model": (lambda b: calibrate(b, seed=2), f"holds {version(1)}, and not {version(2)}"),
        "an empty channel": (lambda b: calibrate(b, channel="candidate"), "candidate holds nothing, and not"),
        "an earlier hour": (
            lambda b: calibrate(b, as_of="2026-11-29T04"),
            f"holds {calibrated()}, a later calibration than 2026-11-29T04",
        ),
    }


@pytest.mark.parametrize("case", refused_moves())
def test_calibration_that_does_not_fit_the_channel_is_refused_and_not_stored(bucket: Bucket, case: str) -> None:
    calibrate(bucket)
    before = dict(bucket.s3.objects)
    act, message = refused_moves()[case]
    with pytest.raises(UserError, match=message.replace("+", r"\+")):
        act(bucket)
    assert bucket.s3.objects == before


@pytest.mark.parametrize("data", [b"", b"{}", calibration_bytes(calibration_of(weights=SOME[1:]))])
def test_what_cannot_serve_is_not_stored(bucket: Bucket, data: bytes) -> None:
    before = dict(bucket.s3.objects)
    with pytest.raises(CalibrationError):
        calibrate_channel(bucket, "stable", data)
    assert bucket.s3.objects == before


def test_calibration_with_a_lost_answer_is_a_success(bucket: Bucket) -> None:
    bucket.s3.script = [None, None, None, AnswerLost(NO_ANSWER)]  # channel, calibration, entry, channel
    assert calibrate(bucket).has_moved
    assert served(bucket) == [calibrated(), version(1)]


def test_of_two_equal_calibrations_at_once_both_succeed_and_one_moves(bucket: Bucket) -> None:
    bucket.s3.script = [None, None, None, Meanwhile(lambda: calibrate(bucket))]
    assert not calibrate(bucket).has_moved
    assert served(bucket) == [calibrated(), version(1)]
    assert [entry.why for entry in read_history(bucket, "stable")] == ["publish", "calibration"]


def test_of_two_different_moves_at_once_one_wins(bucket: Bucket) -> None:
    bucket.s3.script = [None, None, None, Meanwhile(lambda: move(bucket, seed=2))]
    with pytest.raises(BucketError, match=f"was moved to {version(2)} meanwhile"):
        calibrate(bucket)
    assert served(bucket) == [version(2), version(1)]


# Promotion ------------------------------------------------------------------------------------------------------------


def test_new_version_starts_without_a_calibration(bucket: Bucket) -> None:
    calibrate(bucket)
    publish(bucket, 2)
    assert served(bucket) == [version(2), calibrated(), version(1)]
    assert state_of(bucket).previous == calibrated()


def test_promotion_of_the_version_that_is_calibrated_changes_nothing(bucket: Bucket) -> None:
    calibrate(bucket)
    assert not promote(bucket, "stable", version(1)).has_moved
    assert served(bucket) == [calibrated(), version(1)]


# Rollback -------------------------------------------------------------------------------------------------------------


def test_rollback_withdraws_the_model_with_all_its_calibrations_and_takes_the_earlier_models_latest_one(
    bucket: Bucket,
) -> None:
    calibrate(bucket)
    calibrate(bucket, as_of=LATER)
    publish(bucket, 2)
    begins = state_of(bucket).segments[0].effective_from
    calibrate(bucket, seed=2)
    calibrate(bucket, seed=2, as_of=LATER)
    # THEN the good version serves from the beginning of the bad model's first segment
    moved = rollback(bucket, "stable", version(1))
    assert served(bucket) == [calibrated(as_of=LATER), calibrated(as_of=LATER), calibrated(), version(1)]
    assert (moved.now.withdrawn, moved.now.segments[0].effective_from) == (version(2), begins)
    withdrawn = withdrawn_versions(bucket, "stable")
    assert {version(2), calibrated(2), calibrated(2, LATER)} == {one for one in EVERY if one in withdrawn}
    assert read_history(bucket, "stable")[-1].withdrawn == version(2)
    # AND an older rollback, which names one calibration, withdrew that alone
    assert not msgspec.structs.replace(moved.now, withdrawn=calibrated(2)).has_withdrawn(version(2))


def test_rollback_to_a_version_without_a_calibration_serves_the_model_alone(bucket: Bucket) -> None:
    publish(bucket, 2)
    calibrate(bucket, seed=2)
    rollback(bucket, "stable", version(1))
    assert served(bucket)[0] == version(1)


@pytest.mark.parametrize(
    "damage", [lambda b: b.s3.objects.pop(key_of()), lambda b: b.s3.objects.update({key_of(): b"x"})]
)
def test_rollback_does_not_take_a_damaged_calibration(bucket: Bucket, damage: Callable[[Bucket], object]) -> None:
    calibrate(bucket)
    publish(bucket, 2)
    damage(bucket)
    with pytest.raises(CalibrationError, match="put the right object back"):
        rollback(bucket, "stable", calibrated())
    rollback(bucket, "stable", version(1))
    assert served(bucket)[0] == version(1)


def test_rollback_goes_back_to_the_calibration_of_an_hour(bucket: Bucket) -> None:
    calibrate(bucket)
    calibrate(bucket, as_of=LATER)
    moved = rollback(bucket, "stable", calibrated())
    assert served(bucket) == [calibrated(), calibrated(), version(1)]
    assert (moved.now.withdrawn, moved.now.model_version) == (calibrated(as_of=LATER), version(1))
    assert not rollback(bucket, "stable", calibrated()).has_moved
    with pytest.raises(UserError, match=r"has no segment of .* with the calibration of 2020-01-01T00"):
        rollback(bucket, "stable", calibrated(as_of="2020-01-01T00"))


def test_calibration_that_was_withdrawn_does_not_come_back_by_itself(bucket: Bucket) -> None:
    calibrate(bucket)
    calibrate(bucket, as_of=LATER)
    rollback(bucket, "stable", calibrated())
    with pytest.raises(UserError, match="was withdrawn from stable by"):
        calibrate(bucket, as_of=LATER)
    assert calibrate(bucket, as_of=LATER, resume=True).has_moved


def test_rollback_to_the_newest_model_leaves_its_calibration(bucket: Bucket) -> None:
    calibrate(bucket)
    assert not rollback(bucket, "stable", version(1)).has_moved


def test_only_model_of_a_channel_has_its_calibration_to_go_back_from(bucket: Bucket) -> None:
    calibrate(bucket)
    with pytest.raises(UserError, match="has held nothing before") as raised:
        version_before(bucket, "stable")
    assert "stop its calibration with `ridecast models calibrate --off`" in str(raised.value)


def test_version_before_is_a_model_that_was_not_withdrawn(bucket: Bucket) -> None:
    calibrate(bucket)
    publish(bucket, 2)
    calibrate(bucket, seed=2)
    calibrate(bucket, seed=2, as_of=LATER)
    assert version_before(bucket, "stable") == version(1)
    # GIVEN the second model is withdrawn
    rollback(bucket, "stable", version(1))
    publish(bucket, 3)
    assert version_before(bucket, "stable") == version(1)
    # WHEN it is promoted after all
    promote(bucket, "stable", version(2))
    publish(bucket, 3)
    assert version_before(bucket, "stable") == version(2)


def test_model_whose_calibration_was_withdrawn_can_be_rolled_back_to(bucket: Bucket) -> None:
    calibrate(bucket)
    calibrate(bucket, as_of=LATER)
    rollback(bucket, "stable", calibrated())
    stop_calibration(bucket, "stable")
    publish(bucket, 2)
    assert version_before(bucket, "stable") == version(1)


# Stop -----------------------------------------------------------------------------------------------------------------


def test_stop_puts_the_model_alone_in_place_of_the_newest_segment(bucket: Bucket) -> None:
    calibrate(bucket)
    calibrate(bucket, as_of=LATER)
    begins = state_of(bucket).segments[0].effective_from
    moved = stop_calibration(bucket, "stable", Mover("ada", lambda: NOW))
    assert moved.has_moved
    assert served(bucket) == [version(1), calibrated(), version(1)]
    assert (moved.now.withdrawn, moved.now.why, moved.now.moved_by) == (
        calibrated(as_of=LATER),
        "calibration off",
        "ada",
    )
    assert moved.now.segments[0].effective_from == begins
    assert [one for one in EVERY if one in withdrawn_versions(bucket, "stable")] == [calibrated(as_of=LATER)]
    assert not stop_calibration(bucket, "stable").has_moved


def test_stop_lasts_until_it_is_resumed(bucket: Bucket) -> None:
    stop_calibration(bucket, "stable")  # before the first calibration
    assert served(bucket) == [version(1)]
    with pytest.raises(
        UserError, match=r"the calibration of stable was stopped by .*: start it again with .* --resume"
    ):
        calibrate(bucket)
    assert calibrate(bucket, resume=True).has_moved
    assert calibrate(bucket, as_of=LATER).has_moved


@pytest.mark.parametrize("act", [lambda b: publish(b, 2), lambda b: rollback(b, "stable", version(2))])
def test_stop_ends_with_another_model(bucket: Bucket, act: Callable[[Bucket], object]) -> None:
    publish(bucket, 2)
    move(bucket)
    stop_calibration(bucket, "stable")
    assert state_of(bucket).calibration_is_off
    act(bucket)
    assert not state_of(bucket).calibration_is_off
    assert calibrate(bucket, seed=2).has_moved


def test_stop_of_an_empty_or_lost_channel_is_refused(bucket: Bucket) -> None:
    with pytest.raises(UserError, match="holds nothing, so it has no calibration"):
        stop_calibration(new_bucket(), "stable")
    del bucket.s3.objects[KEY]
    read = f"write it again from its history with `ridecast models restore --channel stable --bucket {bucket.name}`"
    with pytest.raises(UserError, match="is lost") as raised:
        stop_calibration(bucket, "stable")
    assert read in str(raised.value)


def test_calibration_that_was_withdrawn_does_not_come_back_after_a_restore(bucket: Bucket) -> None:
    calibrate(bucket)
    calibrate(bucket, as_of=LATER)
    rollback(bucket, "stable", calibrated())
    bucket.s3.objects[KEY] = b"{}"
    assert restore(bucket, "stable").withdrawn == calibrated(as_of=LATER)
    with pytest.raises(UserError, match="was withdrawn"):
        calibrate(bucket, as_of=LATER)


def test_restored_channel_has_its_calibrations_and_stays_stopped(bucket: Bucket) -> None:
    calibrate(bucket)
    calibrate(bucket, as_of=LATER)
    before = served(bucket)
    bucket.s3.objects[KEY] = b"{}"
    assert [segment.served_version for segment in restore(bucket, "stable").segments] == before
    assert not state_of(bucket).calibration_is_off
    stop_calibration(bucket, "stable")
    bucket.s3.objects[KEY] = b"{}"
    assert restore(bucket, "stable").why == "restore, calibration off"
    assert state_of(bucket).calibration_is_off
    bucket.s3.objects[KEY] = b"{}"
    restore(bucket, "stable")
    with pytest.raises(UserError, match="was stopped"):
        calibrate(bucket, as_of="2026-12-01T05")


# The channel's object -------------------------------------------------------------------------------------------------


def test_channel_with_calibrations_is_read_as_it_is_written(bucket: Bucket) -> None:
    calibrate(bucket)
    calibrate(bucket, as_of=LATER)
    stop_calibration(bucket, "stable")
    state = state_of(bucket)
    assert decode_channel(encode_channel(state)) == state
    assert salvage_channel(encode_channel(state)) == state
    stored = msgspec.json.decode(bucket.s3.objects[KEY])
    assert (stored["withdrawn"], stored["withdrawn_as_of"]) == (version(1), LATER)  # as older code decodes it


def test_channel_with_the_most_segments_fits_into_what_the_function_reads(bucket: Bucket) -> None:
    (newest,) = state_of(bucket).segments
    reference = reference_of(calibration_bytes(calibration_of()))
    times = [time_text(NOW - timedelta(hours=n)) for n in range(MAX_SEGMENTS)]
    segments = tuple(Segment(time, newest.arms, reference) for time in times)
    assert len(encode_channel(Channel(segments=segments, moved_at=times[0]))) < 0.75 * MAX_BYTES["channel"]


@pytest.mark.parametrize(
    "calibration",
    [
        {"as_of": AS_OF},
        {"as_of": "yesterday", "sha256": "ab" * 32},
        {"as_of": AS_OF, "sha256": "ab"},
        {"cells": []},
        [],
        7,
        "x",
    ],
    ids=str,
)
def test_calibration_of_a_foreign_form_is_too_new_and_in_a_damaged_channel_damage(
    bucket: Bucket, calibration: object
) -> None:
    move(bucket, seed=2)
    stored = msgspec.json.decode(bucket.s3.objects[KEY])
    stored["segments"][0]["calibration"] = calibration
    data = msgspec.json.encode(stored)
    with pytest.raises(ChannelError, match="do not have their digest"):
        decode_channel(data)
    assert salvage_channel(data).served_version == version(1)
    texts = [msgspec.json.encode(segment) for segment in stored["segments"]]
    stored["segments_sha256"] = sha256(b",".join(texts))
    for decode in (decode_channel, salvage_channel):
        with pytest.raises(ChannelError, match="that this version of ridecast cannot serve") as raised:
            decode(msgspec.json.encode(stored))
        assert raised.value.is_too_new


# The history ----------------------------------------------------------------------------------------------------------


def test_key_of_an_entry_names_the_served_version(bucket: Bucket) -> None:
    calibrate(bucket, mover=Mover("ada", lambda: NOW + timedelta(days=365)))
    assert history_key("stable", state_of(bucket)) == f"history/stable/20271129T120000.000000Z-{calibrated()}.json"
    assert served_versions(bucket, read_channel(bucket, "stable")) == {version(1)}


def test_calibrations_in_a_row_are_one_line_of_which_two_entries_are_read(bucket: Bucket) -> None:
    for day in range(1, 8):
        calibrate(bucket, as_of=f"2026-11-{day:02d}T05")
    publish(bucket, 2)
    bucket.s3.calls.clear()
    moves = read_moves(bucket, "stable")
    assert [(one.n_moves, one.first.served_version, one.last.served_version) for one in moves] == [
        (1, version(1), version(1)),
        (7, calibrated(as_of="2026-11-01T05"), calibrated(as_of="2026-11-07T05")),
        (1, version(2), version(2)),
    ]
    assert len([key for operation, key in bucket.s3.calls if operation == "get" and key != KEY]) <= 4 + 1


def test_rollbacks_to_later_and_later_calibrations_are_no_calibrations_in_a_row(bucket: Bucket) -> None:
    calibrate(bucket)
    calibrate(bucket, as_of=LATER)
    move(bucket, 2)
    rollback(bucket, "stable", calibrated())
    rollback(bucket, "stable", calibrated(as_of=LATER))
    calibrate(bucket, as_of="2026-12-01T05")
    history = read_history(bucket, "stable")
    last = [Moves(one, one) for one in history[-3:]]
    assert [one.first.why for one in last] == ["rollback", "rollback", "calibration"]
    assert list(read_moves(bucket, "stable")[-3:]) == last
    withdrawn = withdrawn_versions(bucket, "stable")
    assert [one for one in EVERY if one in withdrawn] == [calibrated(), version(2), calibrated(2), calibrated(2, LATER)]
    from_s = aware_time(history[-2].moved_at).timestamp() + ACTIVATION_DELAY_S
    later = withdrawn_versions(bucket, "stable", from_s=from_s)
    assert [one for one in EVERY if one in later] == [calibrated()]


def test_history_after_an_entry_is_read_without_the_entries_before(bucket: Bucket) -> None:
    for day in range(1, 8):
        calibrate(bucket, as_of=f"2026-11-{day:02d}T05")
    history = read_history(bucket, "stable")
    after = history_key("stable", history[5])
    bucket.s3.calls.clear()
    assert read_history(bucket, "stable", after) == history[6:]
    assert len([key for operation, key in bucket.s3.calls if operation == "get" and key.startswith("history/")]) == 2
    assert read_history(bucket, "stable", history_key("stable", history[-1])) == ()


ACTS = st.lists(
    st.sampled_from(["calibrate", "calibrate", "calibrate", "resume", "stop", "publish", "back", "back to", "restore"]),
    max_size=14,
)


def act(bucket: Bucket, name: str, n: int) -> None:
    """Move the channel; n numbers the moves."""
    state = state_of(bucket)
    seed = next(one for one in (1, 2, 3) if version(one) == state.model_version)
    match name:
        case "calibrate" | "resume":
            if name == "resume" or not state.calibration_is_off:
                calibrate(bucket, seed, f"2026-11-{n + 1:02d}T05", resume=True)
        case "stop":
            stop_calibration(bucket, "stable")
        case "publish":
            move(bucket, seed=seed % 3 + 1)
        case "back":
            held = sorted(served_versions(bucket, read_channel(bucket, "stable")))
            rollback(bucket, "stable", held[n % len(held)])
        case "back to":
            rollback(bucket, "stable", state.segments[n % len(state.segments)].served_version)
        case "restore":
            bucket.s3.objects[KEY] = b"{}"
            restore(bucket, "stable")


@settings(max_examples=50)
@given(ACTS)
def test_any_moves_keep_the_promises_of_channels_and_of_their_history(acts: list[str]) -> None:
    bucket = bucket_of_three()
    for n, name in enumerate(acts):
        before = state_of(bucket)
        act(bucket, name, n)
        now = state_of(bucket)
        assert decode_channel(encode_channel(now)) == now
        # A record that arrived before the newest segment has the version that it had before.
        begins_s = now.segments[0].effective_from_s
        assert now.segment_at(begins_s - 1e-6).served_version == before.segment_at(begins_s - 1e-6).served_version
        if name == "restore":
            assert now.withdrawn == before.withdrawn
        elif now.withdrawn and now != before:
            assert now.has_withdrawn(before.segments[0].served_version)
    history = read_history(bucket, "stable")
    moves = read_moves(bucket, "stable")
    assert history[-1].served_version == state_of(bucket).served_version
    assert sum(one.n_moves for one in moves) == len(history)
    rest = list(history)
    for one in moves:
        run, rest = rest[: one.n_moves], rest[one.n_moves :]
        assert one == Moves(run[0], run[-1], len(run))
        assert len(run) == 1 or {(entry.why, entry.model_version) for entry in run} == {
            ("calibration", run[0].model_version)
        }
