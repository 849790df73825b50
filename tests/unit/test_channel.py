"""A record's model is that of the newest segment that begins no later than the record's arrival."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_function.aws.model_store import MAX_BYTES
from lambda_function.core.channel import (
    BEGINNING,
    MAX_SEGMENTS,
    Arm,
    CalibrationRef,
    Channel,
    Segment,
    decode_channel,
    encode_channel,
    salvage_channel,
)
from lambda_function.errors import ChannelError
from training.registry.segments import trimmed

VERSIONS = [f"green-2021-01-{digit * 12}" for digit in "abc"]
SHA256 = "ab" * 32
MOVED_AT = "2026-11-29T10:00:00.000000+00:00"
DAMAGED = (b"", b"{}", b"null", b"[]", b'"stable"', b"7", b"\xff", b"[" * 1000, b'{"more": ' + b"[" * 100_000)
"""Objects that are not channels: empty, without fields, of another type, not UTF-8, and nested a thousand deep."""


def segment(effective_from: str = BEGINNING, version: int = 0) -> Segment:
    return Segment(effective_from, (Arm(VERSIONS[version], SHA256),))


def encoded(*segments: Any, **fields: Any) -> bytes:
    """Return the bytes of a channel, whose segments may be damaged."""
    return json.dumps({"segments": msgspec.to_builtins(segments), "moved_at": MOVED_AT, **fields}).encode()


THREE = (segment("2026-11-29T10:02:30Z", 2), segment("2026-11-29T09:00:00Z", 1), segment())


@pytest.mark.parametrize(
    ("arrival", "version"),
    [
        ("2026-11-29T10:02:30.001Z", 2),
        ("2026-11-29T10:02:30.000Z", 2),
        ("2026-11-29T10:02:29.999Z", 1),
        ("2026-11-29T09:00:00.000Z", 1),
        ("2026-11-29T08:59:59.999Z", 0),
        ("1970-01-01T00:00:00.000Z", 0),
        ("1900-01-01T00:00:00.000Z", 0),
    ],
)
def test_record_belongs_to_the_newest_segment_that_has_begun_at_its_arrival(arrival: str, version: int) -> None:
    at_s = datetime.fromisoformat(arrival).timestamp()
    assert decode_channel(encoded(*THREE)).segment_at(at_s).model_version == VERSIONS[version]


@given(
    st.lists(st.integers(0, 2_000_000_000_000), min_size=1, max_size=8, unique=True),
    st.lists(st.integers(0, 2_000_000_000_000), min_size=1, max_size=8),
)
def test_segments_of_a_batch_are_those_of_its_records_newest_first(
    starts_ms: list[int], arrivals_ms: list[int]
) -> None:
    segments = tuple(segment(_text(start)) for start in sorted(starts_ms, reverse=True))
    channel = Channel(segments=segments, moved_at=MOVED_AT)
    arrivals_s = [ms / 1000 for ms in arrivals_ms]
    found = channel.segments_of(arrivals_s)
    assert {channel.segment_at(one) for one in arrivals_s} == set(found)
    assert list(found) == sorted(found, key=lambda one: one.effective_from_s, reverse=True)


def _text(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")


def test_channel_is_read_as_it_is_written() -> None:
    channel = Channel(segments=THREE, withdrawn=VERSIONS[1], moved_at=MOVED_AT, moved_by="ada", why="x", move_id="y")
    assert decode_channel(encode_channel(channel)) == channel


def test_no_wrong_bit_makes_another_segment() -> None:
    data = encode_channel(Channel(segments=THREE, moved_at=MOVED_AT))
    for place in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[place // 8] ^= 1 << place % 8
        with suppress(ChannelError):
            assert decode_channel(bytes(damaged)).segments == THREE


@pytest.mark.parametrize("data", DAMAGED, ids=lambda data: repr(data[:20]))
def test_object_that_is_no_channel_is_one_short_error(data: bytes) -> None:
    for decode in (decode_channel, salvage_channel):
        with pytest.raises(ChannelError, match=r"\Athe channel is damaged: .{1,200}\Z") as raised:
            decode(data)
        assert not raised.value.is_too_new


GOOD = segment()


@pytest.mark.parametrize(
    "bad",
    [
        {"effective_from": "soon", "arms": msgspec.to_builtins(GOOD.arms)},
        {"effective_from": "2026-11-29T10:02:30", "arms": msgspec.to_builtins(GOOD.arms)},
        {"effective_from": "0001-01-01T00:00:00+23:59", "arms": msgspec.to_builtins(GOOD.arms)},
        {"effective_from": "2026-11-29T10:02:30Z", "arms": [{"model_version": "../../x", "manifest_sha256": SHA256}]},
        {"effective_from": "2026-11-29T10:02:30Z"},
        {"effective_from": "2026-11-29T10:02:30Z", "arms": []},
        None,
        [],
    ],
)
def test_one_damaged_segment_is_an_error_and_the_others_can_be_salvaged(bad: object) -> None:
    data = encoded(bad, GOOD)
    with pytest.raises(ChannelError, match="is damaged"):
        decode_channel(data)
    assert salvage_channel(data).segments == (GOOD,)


@pytest.mark.parametrize("segments", [(), (GOOD, GOOD), (GOOD, THREE[0])], ids=["none", "equal", "oldest first"])
def test_channel_without_segments_in_order_is_damaged(segments: tuple[Segment, ...]) -> None:
    for decode in (decode_channel, salvage_channel):
        with pytest.raises(ChannelError, match="is damaged"):
            decode(encoded(*segments))


ARM = msgspec.to_builtins(GOOD.arms[0])
OTHER = {**ARM, "model_version": VERSIONS[2]}
SPLIT = [{**ARM, "buckets": [5000, 10000]}, {**OTHER, "buckets": [0, 5000]}]
REFERENCE = {"as_of": "2026-11-29T05", "sha256": SHA256}


@pytest.mark.parametrize(
    "newer",
    [
        {"arms": [{**ARM, "buckets": [0, 5000]}, {**ARM, "buckets": [5000, 10000]}]},
        {"arms": [{**ARM, "buckets": [0, 5000]}]},
        {"arms": [{**ARM, "buckets": [0, 5000]}, {**OTHER, "buckets": [5000, 10000]}]},
        {"arms": [{**ARM, "buckets": [5000, 10000]}, {**OTHER, "buckets": [0, 4000]}]},
        {"arms": [{**ARM, "buckets": [0, 10000]}, {**OTHER, "buckets": [0, 0]}]},
        {"arms": [*SPLIT, {**OTHER, "buckets": [0, 10]}]},
        {"arms": SPLIT, "calibration": REFERENCE},
        {"arms": [{**ARM, "calibration": REFERENCE}]},
        {"arms": [SPLIT[0], {**SPLIT[1], "calibration": {"w": [0.1]}}]},
        {"arms": [ARM], "calibration": {"w": [0.1]}},
    ],
    ids=[
        "two arms of a model",
        "some buckets",
        "arms in another order",
        "a gap",
        "a candidate without buckets",
        "three arms",
        "a split's calibration",
        "an arm's calibration",
        "an arm's calibration of another form",
        "calibration of another form",
    ],
)
def test_segment_of_a_later_version_is_refused_and_never_left_out(newer: dict[str, Any]) -> None:
    data = encoded({"effective_from": "2026-11-29T10:02:30Z", **newer}, GOOD)
    for decode in (decode_channel, salvage_channel):
        with pytest.raises(ChannelError, match="cannot serve") as raised:
            decode(data)
        assert raised.value.is_too_new


def test_fields_of_later_versions_are_ignored() -> None:
    assert decode_channel(encoded(GOOD, salt="x")).segments == (GOOD,)
    assert decode_channel(encoded({"effective_from": "2026-11-29T10:02:30Z", "arms": SPLIT}, GOOD)).segments[1] == GOOD


def test_longest_channel_is_read_by_the_function() -> None:
    second = (segment(_text(1000 * n), n % 3) for n in range(MAX_SEGMENTS, 0, -1))
    data = msgspec.json.encode(Channel(segments=tuple(second), withdrawn=VERSIONS[0], moved_at=MOVED_AT))
    assert len(data) < MAX_BYTES["channel"] / 1.5
    assert len(decode_channel(data).segments) == MAX_SEGMENTS


def test_longest_channel_of_splits_is_read_by_the_function() -> None:
    reference = CalibrationRef("2026-11-29T05", SHA256)
    arms = tuple(Arm(one, SHA256, part, reference) for one, part in ((VERSIONS[0], (1, 10_000)), (VERSIONS[1], (0, 1))))
    splits = [Segment(_text(1000 * n), arms, salt="x" * 100) for n in range(MAX_SEGMENTS, 0, -1)]
    channel = Channel(segments=trimmed(splits, datetime.fromtimestamp(1000, UTC)), moved_at=MOVED_AT)
    assert len(channel.segments) == MAX_SEGMENTS / 2
    assert len(encode_channel(channel)) < MAX_BYTES["channel"]
