"""The wire: what decodes and what is encoded. tests/unit/test_bad_input.py holds what is rejected."""

import json
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lambda_function.core.events import (
    REJECT_REASONS,
    Reject,
    Ride,
    RideDuration,
    decode_prediction,
    decode_reject,
    decode_ride_event,
    encode_predictions,
    encode_reject,
    partition_key,
    ride_columns,
)
from lambda_function.core.pickup_time import pickup_minute, pickup_seconds, usual_pickup_minutes
from lambda_function.errors import RejectError
from tests.builders import decoded_ride, ride_bytes, ride_event

NEW_YORK = ZoneInfo("America/New_York")
TEXT = st.text(max_size=30)
RIDE_IDS = st.one_of(st.integers(), TEXT)
ZONES = st.one_of(st.integers(1, 265), st.integers(1, 265).map(str))
RIDES = st.fixed_dictionaries(
    {
        "PULocationID": ZONES,
        "DOLocationID": ZONES,
        "trip_distance": st.floats(0, allow_nan=False, allow_infinity=False) | st.integers(0, 10**12),
    },
    optional={"pickup_datetime": st.none() | TEXT},
)


@given(RIDES, RIDE_IDS)
def test_ride_event_is_decoded_as_it_was_sent(ride: dict[str, object], ride_id: int | str) -> None:
    event = decode_ride_event(json.dumps({"ride": ride, "ride_id": ride_id}).encode())
    assert event.ride_id == ride_id
    assert type(event.ride_id) is type(ride_id)
    assert event.ride == Ride(
        ride["PULocationID"],  # type: ignore[arg-type]
        ride["DOLocationID"],  # type: ignore[arg-type]
        ride["trip_distance"],  # type: ignore[arg-type]
        ride.get("pickup_datetime"),  # type: ignore[arg-type]
    )


@given(st.floats(allow_nan=False, allow_infinity=False), RIDE_IDS, TEXT, TEXT)
def test_prediction_is_decoded_as_it_was_encoded(
    minutes: float, ride_id: int | str, version: str, event_id: str
) -> None:
    prediction = decode_prediction(encode_predictions(version, [minutes], [ride_id], [event_id])[0])
    assert prediction.version == version
    assert prediction.prediction == RideDuration(minutes, ride_id)
    assert type(prediction.prediction.ride_id) is type(ride_id)
    assert prediction.prediction_id == event_id


@given(st.floats(1, 60), st.floats(1, 60), RIDE_IDS)
def test_interval_is_decoded_as_it_was_encoded(low: float, high: float, ride_id: int | str) -> None:
    interval = msgspec.Raw(msgspec.json.encode((low, high)))
    prediction = decode_prediction(encode_predictions("v", [5.0], [ride_id], ["id"], [interval])[0])
    assert prediction.interval == (low, high)
    assert prediction.prediction == RideDuration(5.0, ride_id)


def test_prediction_without_an_interval_has_no_such_field() -> None:
    (data,) = encode_predictions("v", [5.0], [1], ["id"])
    assert b"interval" not in data
    assert decode_prediction(data).interval is None


def test_as_many_intervals_as_predictions_are_encoded() -> None:
    with pytest.raises(ValueError, match="zip"):
        encode_predictions("v", [5.0, 6.0], [1, 2], ["a", "b"], [msgspec.Raw(b"[1,2]")])


@given(st.builds(Reject, *[TEXT] * 7))
def test_reject_is_decoded_as_it_was_encoded(reject: Reject) -> None:
    line = encode_reject(reject)
    assert b"\n" not in line
    assert decode_reject(line) == reject


def test_unknown_fields_are_ignored() -> None:
    known = decode_ride_event(ride_bytes())
    event = {**ride_event(tip=1.5), "source": {"app": "x"}}
    assert decode_ride_event(json.dumps(event).encode()) == known


def test_reasons_are_few_and_fit_a_metric() -> None:
    assert len(REJECT_REASONS) == len(set(REJECT_REASONS)) <= 10
    assert all(reason.isidentifier() and reason.islower() for reason in REJECT_REASONS)


# Pickup times -------------------------------------------------------------------------------------------------------


def wall_clock(minute: int) -> str:
    """New York minutes as the local time that they encode."""
    return str(np.datetime64(minute, "m"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2021-01-05T08:15:00", "2021-01-05T08:15"),
        ("2021-01-05 08:15:59.999", "2021-01-05T08:15"),
        ("20210105T0815", "2021-01-05T08:15"),
        ("2021-01-05T13:15:00Z", "2021-01-05T08:15"),
        ("2021-07-05T13:15:00Z", "2021-07-05T09:15"),
        ("2021-01-05T14:15:00+01:00", "2021-01-05T08:15"),
        ("2021-01-01T02:00:00+00:00", "2020-12-31T21:00"),
        # the hour that is skipped in spring, and the one that comes twice in autumn, as they are written
        ("2021-03-14T02:30:00", "2021-03-14T02:30"),
        ("2021-11-07T01:30:00", "2021-11-07T01:30"),
        ("2021-03-14T06:59:00Z", "2021-03-14T01:59"),
        ("2021-03-14T07:00:00Z", "2021-03-14T03:00"),
        ("2021-11-07T05:30:00Z", "2021-11-07T01:30"),
        ("2021-11-07T06:30:00Z", "2021-11-07T01:30"),
        ("0001-01-01T00:00:00", "0001-01-01T00:00"),
        ("1969-12-31T23:59:59", "1969-12-31T23:59"),
        ("9999-12-31T23:59:59", "9999-12-31T23:59"),
    ],
)
def test_pickup_is_taken_in_new_york_wall_clock_time(text: str, expected: str) -> None:
    minute = pickup_minute(text, arrival_time_s=0.0)
    assert wall_clock(minute) == expected


@pytest.mark.parametrize(
    ("arrival", "expected"),
    [
        ("2021-01-05T13:15:59.9Z", "2021-01-05T08:15"),
        ("2021-03-14T06:59:59Z", "2021-03-14T01:59"),
        ("2021-03-14T07:00:00Z", "2021-03-14T03:00"),
        ("2021-11-07T05:59:59Z", "2021-11-07T01:59"),
        ("2021-11-07T06:00:00Z", "2021-11-07T01:00"),
    ],
)
def test_arrival_time_replaces_a_missing_pickup_time(arrival: str, expected: str) -> None:
    ride = decoded_ride(pickup_datetime=None).ride
    assert wall_clock(pickup_minute(ride.pickup_datetime, datetime.fromisoformat(arrival).timestamp())) == expected


@given(st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_arrival_time_and_the_same_time_in_the_event_give_the_same_minute(moment: datetime) -> None:
    in_event = decoded_ride(pickup_datetime=moment.isoformat()).ride
    missing = decoded_ride(pickup_datetime=None).ride
    minute = pickup_minute(missing.pickup_datetime, moment.timestamp())
    assert minute == pickup_minute(in_event.pickup_datetime, 0.0)
    assert wall_clock(minute) == moment.astimezone(NEW_YORK).strftime("%Y-%m-%dT%H:%M")


def test_columns_hold_rides_in_order() -> None:
    rides = [decoded_ride(PULocationID="7", trip_distance=0).ride, decoded_ride(DOLocationID=265).ride]
    columns = ride_columns(rides, np.array([5, 6]))
    assert columns.pickup_zone.tolist() == [7, 130]
    assert columns.dropoff_zone.tolist() == [205, 265]
    assert columns.trip_distance_miles.tolist() == [0.0, 3.66]
    assert columns.pickup_minute.tolist() == [5, 6]


# Partition keys -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ride_id", [0, -7, 256, 2**70, "256", "x" * 256, "é" * 256, "🚕" * 128, " ", "\u0000"])
def test_partition_key_is_the_ride_id_as_text(ride_id: int | str) -> None:
    assert partition_key(ride_id) == str(ride_id)


@pytest.mark.parametrize("ride_id", ["", "x" * 257, "é" * 257, "🚕" * 129, 10**256])
def test_ride_id_that_kinesis_would_not_take_has_its_digest_as_key(ride_id: int | str) -> None:
    assert len(partition_key(ride_id)) == 64
    assert partition_key(ride_id) != partition_key("y" * 257)


@given(st.text() | st.integers())
def test_partition_key_is_always_valid_for_kinesis(ride_id: int | str) -> None:
    assert 1 <= len(partition_key(ride_id).encode("utf-16-le")) // 2 <= 256


DIGITS = st.text("0123456789", min_size=14, max_size=14)
USUAL = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59)).map(  # noqa: DTZ001
    lambda moment: moment.replace(microsecond=0).isoformat()
)


@given(st.lists(USUAL, min_size=1, max_size=20))
def test_usual_times_have_the_minutes_that_each_has_alone(texts: list[str]) -> None:
    minutes = usual_pickup_minutes(texts)
    assert minutes is not None
    assert minutes.tolist() == [pickup_minute(text, 0.0) for text in texts]


@given(DIGITS)
@example("00000101000000")
@example("20210105240000")
@example("20210105235960")
@example("20210229000000")
def test_digits_in_their_places_are_a_time_in_bulk_only_if_they_are_one_alone(digits: str) -> None:
    text = "{}{}{}{}-{}{}-{}{}T{}{}:{}{}:{}{}".format(*digits)
    try:
        expected = [pickup_minute(text, 0.0)]
    except RejectError:
        assert usual_pickup_minutes([text]) is None
    else:
        minutes = usual_pickup_minutes([text])
        assert minutes is not None
        assert minutes.tolist() == expected


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "2021-01-05",
        "2021-01-05 08:15:00",
        "2021-01-05T08:15+05",
        "2021-01-05T08:15:0Z",
        "-021-01-05T08:15:00",
        " 2021-01-5T08:15:00",
        "2021-W01-2T08:15:00",
        "2021-01-05T08:15:\u0661\u0661",
        "2021-01-05T08:15:00Z",
        "2021-01-05T08:15:\ud8000",
    ],
)
def test_unusual_time_is_left_to_the_slower_way(text: str | None) -> None:
    assert usual_pickup_minutes(["2021-01-05T08:15:00", text]) is None
    assert usual_pickup_minutes([text]) is None


def test_no_times_are_left_to_the_slower_way() -> None:
    assert usual_pickup_minutes([]) is None


@given(st.lists(USUAL | st.none() | st.sampled_from(["2021-01-05T08:15:59.99Z", "2021-07-05T08:15+02:00"]), max_size=9))
def test_seconds_of_a_pickup_are_within_its_minute(texts: list[str | None]) -> None:
    arrival_times_s = [1_625_487_300.75 + row for row in range(len(texts))]
    seconds = pickup_seconds(texts, arrival_times_s)
    assert (seconds // 60).tolist() == list(map(pickup_minute, texts, arrival_times_s))


def test_seconds_of_a_pickup_are_exact() -> None:
    texts = ["2021-01-05T08:15:42", "2021-01-05T13:15:59.9Z", None]
    seconds = pickup_seconds(texts, [0.0, 0.0, 1_609_852_500.75])
    assert (seconds - 26830575 * 60).tolist() == [42, 59, 0]
    assert pickup_seconds(texts[:1], [0.0]).tolist() == seconds.tolist()[:1]
    with pytest.raises(RejectError):
        pickup_seconds(["soon"], [0.0])
