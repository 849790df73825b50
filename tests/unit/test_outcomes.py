"""Outcomes: what decodes, what is rejected, and how long a ride took, across changes of the clock too."""

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from math import isfinite
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from lambda_function.core.kpl import pack
from lambda_function.core.outcomes import (
    MAX_OUTCOME_MINUTES,
    Outcome,
    decode_outcome,
    decode_outcomes,
    elapsed_minutes,
    encode_outcome,
    outcome_minutes,
    ride_key,
)
from lambda_function.core.parts import MAX_BAD_PARTS
from lambda_function.core.pickup_time import pickup_minute
from lambda_function.errors import RejectError
from tests.builders import event_id, kinesis_records

NEW_YORK = ZoneInfo("America/New_York")
RIDE_IDS = st.integers() | st.text(max_size=30)
TIMES = st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1))  # noqa: DTZ001 - naive ones
OFFSETS = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)


def outcome_bytes(ride_id: object = 256, **fields: object) -> bytes:
    """An outcome as a producer writes it."""
    return json.dumps({"ride_id": ride_id, "outcome": fields}).encode()


# Decoding -----------------------------------------------------------------------------------------------------------


@given(RIDE_IDS, st.floats(0, MAX_OUTCOME_MINUTES, exclude_min=True))
def test_duration_is_decoded_as_it_was_encoded(ride_id: int | str, minutes: float) -> None:
    outcome = Outcome(ride_id, minutes)
    assert decode_outcome(encode_outcome(outcome)) == outcome


@pytest.mark.parametrize("pickup", [None, "2021-01-05T08:15:00"])
def test_times_are_decoded_as_they_were_encoded(pickup: str | None) -> None:
    outcome = Outcome("a-7", None, "2021-01-05T08:33:00", pickup)
    assert decode_outcome(encode_outcome(outcome)) == outcome


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        (b"\xef\xbb\xbf" + outcome_bytes(ride_duration=17.4), Outcome(256, 17.4)),
        (b"\xef\xbb\xbf" + outcome_bytes(256.0, ride_duration="17.4"), Outcome(256, 17.4)),
        (outcome_bytes(256.0, ride_duration=17), Outcome(256, 17.0)),
        (outcome_bytes(ride_duration="17.4"), Outcome(256, 17.4)),
        (outcome_bytes(ride_duration=17.4, fare=12, later={}), Outcome(256, 17.4)),
        (outcome_bytes(ride_duration=17.4, dropoff_datetime=None), Outcome(256, 17.4)),
        (outcome_bytes(ride_duration=17.4, dropoff_datetime="soon"), Outcome(256, 17.4, "soon")),
    ],
)
def test_unusual_spelling_with_one_meaning_is_read(data: bytes, outcome: Outcome) -> None:
    assert decode_outcome(data) == outcome


@pytest.mark.parametrize(
    ("data", "reason", "detail"),
    [
        (outcome_bytes(), "invalid_field", "at `$.outcome`"),
        (outcome_bytes(pickup_datetime="2021-01-05T08:15:00"), "invalid_field", "at `$.outcome`"),
        (outcome_bytes(ride_duration=0), "invalid_field", "at `$.outcome.ride_duration`"),
        (outcome_bytes(ride_duration=-3), "invalid_field", "at `$.outcome.ride_duration`"),
        (outcome_bytes(ride_duration=1440.01), "invalid_field", "at most 1,440 minutes"),
        (outcome_bytes(ride_duration=10_000), "invalid_field", "at most 1,440 minutes - at `$.outcome.ride_duration`"),
        (outcome_bytes(ride_duration=True), "invalid_field", "at `$.outcome.ride_duration`"),
        (outcome_bytes(ride_duration="long"), "invalid_field", "at `$.outcome.ride_duration`"),
        (outcome_bytes(ride_duration=float("nan")), "invalid_field", "a finite number - at `$.outcome.ride_duration`"),
        (b'{"ride_id":1,"outcome":{"ride_duration":1e999}}', "invalid_field", "at `$.outcome.ride_duration`"),
        (outcome_bytes(dropoff_datetime="soon"), "invalid_field", "ISO 8601 - at `$.outcome.dropoff_datetime`"),
        (outcome_bytes(dropoff_datetime=""), "invalid_field", "ISO 8601 - at `$.outcome.dropoff_datetime`"),
        (outcome_bytes(dropoff_datetime="2021-01-05"), "invalid_field", "after the date - at `$.outcome.dropoff_da"),
        (outcome_bytes(dropoff_datetime="0001-01-01T00:00+09:00"), "invalid_field", "range - at `$.outcome.dropoff_da"),
        (
            outcome_bytes(dropoff_datetime="2021-01-05T08:15", pickup_datetime="2021-01-05T08:15"),
            "invalid_field",
            "above 0 and of at most 1,440 minutes - at `$.outcome.dropoff_datetime`",
        ),
        (
            outcome_bytes(dropoff_datetime="2021-01-05T08:15", pickup_datetime="8 o'clock"),
            "invalid_field",
            "at `$.outcome.pickup_datetime`",
        ),
        (b'{"ride_id":256,"outcome":17.4}', "invalid_field", "at `$.outcome`"),
        (b'{"ride_id":256}', "invalid_field", "`outcome`"),
        (b'{"outcome":{"ride_duration":17.4}}', "invalid_field", "`ride_id`"),
        (b"garbage", "not_json", ""),
        (b'{"detail":{"ride_id":1,"outcome":{}}}', "invalid_field", "the outcome is under `$.detail`"),
        (b'{"later":' + b"[" * 100_000, "too_deep", "any outcome"),
    ],
)
def test_bad_outcome_is_rejected_and_the_field_named(data: bytes, reason: str, detail: str) -> None:
    with pytest.raises(RejectError) as rejected:
        decode_outcome(data)
    assert (rejected.value.reason, detail in rejected.value.detail) == (reason, True), rejected.value


@pytest.mark.parametrize("ride_id", [256.5, True, None, [256], {}])
def test_ride_id_is_a_whole_number_or_a_text(ride_id: object) -> None:
    with pytest.raises(RejectError, match=r"at `\$\.ride_id`"):
        decode_outcome(outcome_bytes(ride_id, ride_duration=17.4))


def test_ids_match_by_their_json_form_as_text() -> None:
    assert ride_key(256) == ride_key("256") == "256"
    assert ride_key("256.0") != ride_key(256)
    assert ride_key(10**30) == "1" + "0" * 30


# Several outcomes in one record ---------------------------------------------------------------------------------------

GOOD = encode_outcome(Outcome(1, 17.4))


@pytest.mark.parametrize("data", [GOOD + b"\n" + GOOD, b"[" + GOOD + b"," + GOOD + b"]", GOOD + GOOD])
def test_documents_of_a_record_are_outcomes(data: bytes) -> None:
    outcomes, rejects = decode_outcomes(kinesis_records(data)[0])
    assert [(record.event_id, outcome) for record, outcome in outcomes] == [
        (f"{event_id(0)}:{index}", Outcome(1, 17.4)) for index in range(2)
    ]
    assert rejects == []


def test_sub_records_are_outcomes_and_rejects() -> None:
    (packed,) = pack([("1", GOOD), ("2", b"garbage"), ("3", GOOD)], n_groups=1)
    outcomes, rejects = decode_outcomes(kinesis_records(packed.data)[0])
    assert [record.sub_index for record, _ in outcomes] == [0, 2]
    assert [(reject.event_id, reject.reason) for reject in rejects] == [(f"{event_id(0)}:1", "not_json")]


@pytest.mark.parametrize(("n_bad", "n_rejects"), [(MAX_BAD_PARTS, MAX_BAD_PARTS), (MAX_BAD_PARTS + 1, 1)])
def test_many_bad_parts_are_one_reject(n_bad: int, n_rejects: int) -> None:
    data = GOOD + b"\n" + b"\n".join([b'{"ride_id":1,"outcome":{"ride_duration":-1.2345}}'] * n_bad)
    outcomes, rejects = decode_outcomes(kinesis_records(data)[0])
    assert (len(outcomes), len(rejects)) == (1, n_rejects)


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"garbage", "not_json"), ("not base64!", "not_base64"), (bytes.fromhex("f3899ac2"), "damaged_aggregate")],
)
def test_bad_record_is_one_reject(data: bytes | str, reason: str) -> None:
    outcomes, rejects = decode_outcomes(kinesis_records(data)[0])
    assert (outcomes, [reject.reason for reject in rejects]) == ([], [reason])


@given(st.binary(max_size=200))
def test_any_bytes_end_as_outcomes_or_rejects(data: bytes) -> None:
    outcomes, rejects = decode_outcomes(kinesis_records(data)[0])
    assert outcomes or rejects


# Minutes ------------------------------------------------------------------------------------------------------------


@given(TIMES, OFFSETS, TIMES, OFFSETS)
def test_elapsed_minutes_of_times_with_offsets_are_real(
    pickup: datetime, pickup_zone: timezone, dropoff: datetime, dropoff_zone: timezone
) -> None:
    start, end = pickup.replace(tzinfo=pickup_zone), dropoff.replace(tzinfo=dropoff_zone)
    assert elapsed_minutes(start.isoformat(), end.isoformat()) == (end - start) / timedelta(minutes=1)


AFTER_A_CHANGE = [datetime(2021, 3, 14, 7, 10, tzinfo=UTC), datetime(2021, 11, 7, 6, 10, tzinfo=UTC)]


@given(
    st.one_of(TIMES, st.sampled_from(AFTER_A_CHANGE)).map(lambda time: time.replace(tzinfo=UTC)),
    st.floats(1, 60).map(lambda minutes: timedelta(seconds=round(minutes * 60))),
)
@example(AFTER_A_CHANGE[0], timedelta(minutes=-30))
@example(AFTER_A_CHANGE[1], timedelta(minutes=30))
@example(AFTER_A_CHANGE[1] - timedelta(minutes=30), timedelta(minutes=60))
def test_rides_of_1_to_60_minutes_by_new_yorks_clock_have_their_real_minutes(end: datetime, took: timedelta) -> None:
    took = abs(took)
    start = end - took
    pickup, dropoff = (time.astimezone(NEW_YORK).replace(tzinfo=None).isoformat() for time in (start, end))
    assert elapsed_minutes(pickup, dropoff) == took / timedelta(minutes=1)


@pytest.mark.parametrize(
    ("pickup", "dropoff", "minutes"),
    [
        ("2021-11-07T00:50:00", "2021-11-07T01:10:00", 20.0),  # in the first of the two hours
        ("2021-11-07T01:50:00", "2021-11-07T01:10:00", 20.0),  # the pickup in the first, the drop-off in the second
        ("2021-11-07T01:50:00", "2021-11-07T02:10:00", 20.0),  # the pickup in the second
        ("2021-11-07T01:30:00", "2021-11-07T02:30:00", 60.0),  # the longest of usual minutes
        ("2021-11-07T01:59:00", "2021-11-07T01:00:00", 1.0),  # the shortest
        ("2021-11-07T01:10:00", "2021-11-07T01:30:00", 20.0),  # both in the same
        ("2021-11-07T00:50:00", "2021-11-07T04:00:00", 250.0),  # nothing to choose
        ("2021-11-07T01:30:00", "2021-11-07T04:00:00", 210.0),  # none is usual: the first hour
        ("2021-11-07T00:50:00-04:00", "2021-11-07T01:10:00-05:00", 80.0),  # offsets leave no choice
        ("2021-11-07T05:50:00Z", "2021-11-07T01:10:00", 20.0),  # a drop-off of the second hour after a pickup in UTC
        ("2021-03-14T01:50:00", "2021-03-14T03:10:00", 20.0),  # over the skipped hour
        ("2021-03-14T01:50:00", "2021-03-14T02:10:00", 20.0),  # a clock that was not changed
        ("2021-03-14T02:50:00", "2021-03-14T03:10:00", 20.0),  # a clock that was changed early
        ("2021-01-05T08:15:00", "2021-01-05T08:14:00", -1.0),
        ("2021-01-05T08:15:00", "2021-01-06T08:16:30", 1441.5),
    ],
)
def test_elapsed_minutes_across_changes_of_the_clock(pickup: str, dropoff: str, minutes: float) -> None:
    assert elapsed_minutes(pickup, dropoff) == minutes


@pytest.mark.parametrize("bad", ["soon", "2021-01-05", "0001-01-01T00:00:00+05:00", ""])
def test_elapsed_minutes_of_no_time_is_an_error(bad: str) -> None:
    with pytest.raises(RejectError, match=r"\$\.outcome\.pickup_datetime"):
        elapsed_minutes(bad, "2021-01-05T08:15:00")
    with pytest.raises(RejectError, match=r"\$\.outcome\.dropoff_datetime"):
        elapsed_minutes("2021-01-05T08:15:00", bad)


DROPOFF = "2021-01-05T08:33:00"
ARRIVAL_S = datetime(2021, 1, 5, 13, 13, 30, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("outcome", "pickup", "minutes"),
    [
        (Outcome(1, 5.5, DROPOFF, "2021-01-05T08:20:00"), "2021-01-05T08:15:00", 5.5),
        (Outcome(1, None, DROPOFF, "2021-01-05T08:20:00"), "2021-01-05T08:15:00", 13.0),
        (Outcome(1, None, DROPOFF), "2021-01-05T08:15:00", 18.0),
        (Outcome(1, None, DROPOFF), None, 19.5),
    ],
)
def test_minutes_are_of_the_outcome_else_from_its_pickup_else_from_the_events_else_from_its_arrival(
    outcome: Outcome, pickup: str | None, minutes: float
) -> None:
    assert outcome_minutes(outcome, pickup, ARRIVAL_S) == minutes


def test_drop_off_before_the_pickup_of_its_ride_event_is_no_duration() -> None:
    with pytest.raises(RejectError, match="above 0"):
        outcome_minutes(Outcome(1, None, DROPOFF), "2021-01-05T08:34:00", ARRIVAL_S)


@given(st.text(max_size=30), st.text(max_size=30))
@example("9999-12-31T23:59:59", "0001-01-01T00:00:00")
def test_any_texts_make_minutes_or_a_reject(pickup: str, dropoff: str) -> None:
    with suppress(RejectError):
        assert isfinite(elapsed_minutes(pickup, dropoff))


@given(TIMES.map(datetime.isoformat))
def test_texts_that_are_a_pickup_of_a_ride_event_are_one_here(text: str) -> None:
    assume(pickup_minute(text, 0.0) > 0)
    assert elapsed_minutes(text, text) == 0.0 or 1 <= elapsed_minutes(text, text) <= 60
