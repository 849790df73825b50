"""Rides asked over HTTP: the stream's own bytes for one or many, and what is wrong with a body told by field."""

import base64
import json
from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.local.runtime.http import http_event
from lambda_function.api.rides import MAX_RIDES, prediction_id
from lambda_function.core.events import REJECT_REASONS
from tests.builders import (
    ARRIVAL_TIME_S,
    event_id,
    interval_bundle,
    invocation,
    raw_ride_bytes,
    ride_bytes,
    small_bundle,
)
from tests.fakes import FakeFunction
from tests.fakes_api import JSON, PROBLEM, FakeApi, assert_is_problem, rides_bytes
from training.model.bundle import ExportedBundle

TOO_DEEP = b"[" * 200_000


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


def streams_prediction(bundle: ExportedBundle, event: bytes) -> bytes:
    """What the function on the stream publishes for an event, with the id that the API gives it."""
    function = FakeFunction(bundle)
    assert function.invoke(invocation(event)) == ""
    ((_, data),) = function.kinesis.taken
    return data.replace(event_id(0).encode(), prediction_id(event).encode())


@pytest.mark.parametrize("make_bundle", [small_bundle, interval_bundle])
@pytest.mark.parametrize(
    "event",
    [
        ride_bytes(),
        ride_bytes('é " \\ \n'),
        ride_bytes(7**40, PULocationID="264", trip_distance=0, pickup_datetime="2021-07-04T23:59:59-11:00"),
        ride_bytes(pickup_datetime=None),
        raw_ride_bytes(extra=',"rides":[1],"more":{"x":null}'),
    ],
    ids=["usual", "odd id", "odd ride", "without a pickup time", "unknown fields"],
)
def test_prediction_has_the_bytes_that_the_stream_gives(
    make_bundle: Callable[[], ExportedBundle], event: bytes
) -> None:
    bundle = make_bundle()
    api = FakeApi(bundle)

    alone, in_a_list = api.predict(event), api.predict(rides_bytes(event))

    assert (alone.status, alone.headers["Content-Type"]) == (200, JSON)
    assert alone.body == streams_prediction(bundle, event)
    assert in_a_list.body == b'{"results":[' + alone.body + b"]}"


def test_same_event_has_the_same_id_whenever_and_however_it_is_asked(api: FakeApi) -> None:
    one, other = ride_bytes(1), ride_bytes(2)

    ids = [api.predict(body).json["prediction_id"] for body in (one, b" " + one + b"\r\n\t", other)]

    assert ids[0] == ids[1] == prediction_id(one) != ids[2]


def test_body_in_base64_is_the_same_body(api: FakeApi) -> None:
    event = http_event("POST", "/predictions", {"content-type": JSON}, ride_bytes(), ARRIVAL_TIME_S)
    encoded = {**event, "body": base64.b64encode(ride_bytes()).decode(), "isBase64Encoded": True}

    assert api.take(encoded) == api.take(event)


def test_text_that_is_no_utf_8_is_a_problem(api: FakeApi) -> None:
    event = http_event("POST", "/predictions", {"content-type": JSON}, ride_bytes(), ARRIVAL_TIME_S)

    assert_is_problem(
        api.take({**event, "body": raw_ride_bytes('"\ud800"').decode("utf-8", "surrogatepass")}), 422, "$.ride_id"
    )


def test_without_an_arrival_time_the_clock_stands_in(api: FakeApi) -> None:
    event = http_event("POST", "/predictions", {"content-type": JSON}, ride_bytes(pickup_datetime=None), 0.0)
    del event["requestContext"]["timeEpoch"]
    api.clock.now_s = ARRIVAL_TIME_S

    assert api.take(event).body == streams_prediction(small_bundle(), ride_bytes(pickup_datetime=None))


@pytest.mark.parametrize(
    ("body", "status", "path", "reason"),
    [
        (b"", 400, "$", "not_json"),
        (b"{", 400, "$", "not_json"),
        (b"\xf3\x89\x9a\xc2\x0a", 400, "$", "not_json"),
        (b"[]", 422, "$", "invalid_field"),
        (b"null", 422, "$", "invalid_field"),
        (b"{}", 422, "$", "invalid_field"),
        (ride_bytes(trip_distance=-1), 422, "$.ride.trip_distance", "invalid_field"),
        (ride_bytes(pickup_datetime="soon"), 422, "$.ride.pickup_datetime", "invalid_field"),
        (raw_ride_bytes(trip_distance="NaN"), 422, "$.ride.trip_distance", "invalid_field"),
        (raw_ride_bytes(ride_id='"\\ud800"'), 422, "$.ride_id", "invalid_field"),
        (b'{"ride": ' + TOO_DEEP, 422, "$", "too_deep"),
        (b'{"rides": ' + TOO_DEEP, 422, "$", "too_deep"),
        (b'{"rides": {}}', 422, "$.rides", "invalid_field"),
        (b'{"rides": []}', 422, "$.rides", "invalid_field"),
        (rides_bytes(*[b"1"] * (MAX_RIDES + 1)), 422, "$.rides", "invalid_field"),
        (rides_bytes(ride_bytes(), raw_ride_bytes(trip_distance="NaN")), 422, "$.rides[1].ride.trip_distance", None),
        (b'{"\\ud800": NaN}', 422, "$.\\ud800", "invalid_field"),
    ],
)
def test_body_that_cannot_be_answered_is_told_by_field(
    api: FakeApi, body: bytes, status: int, path: str, reason: str | None
) -> None:
    response = api.predict(body)

    assert_is_problem(response, status, path)
    assert response.json["reason"] in ([reason] if reason else REJECT_REASONS)


def test_bad_ride_of_a_list_has_a_problem_in_its_place(api: FakeApi) -> None:
    good, bad = ride_bytes(1), ride_bytes(2, trip_distance=-1)

    response = api.predict(rides_bytes(good, bad, b"5", good))

    assert (response.status, response.headers["Content-Type"]) == (207, JSON)
    first, second, third, last = response.json["results"]
    assert first == last == api.predict(good).json
    assert (second["status"], second["path"]) == (422, "$.rides[1].ride.trip_distance")
    assert (third["status"], third["path"]) == (422, "$.rides[2]")


def test_as_many_rides_as_may_be_are_answered_in_order(api: FakeApi) -> None:
    response = api.predict(rides_bytes(*(ride_bytes(number) for number in range(MAX_RIDES))))

    assert response.status == 200
    assert [one["prediction"]["ride_id"] for one in response.json["results"]] == list(range(MAX_RIDES))


values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
oddities = st.recursive(
    values, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
bodies = st.binary(max_size=60) | st.builds(lambda value: json.dumps(value).encode(), oddities)
events = st.builds(ride_bytes, oddities, trip_distance=oddities, PULocationID=oddities, pickup_datetime=oddities)


@given(st.one_of(bodies, events, st.lists(bodies | events, max_size=4).map(lambda items: rides_bytes(*items))))
def test_any_body_ends_as_predictions_or_as_problems(body: bytes) -> None:
    response = shared_api().predict(body)

    assert response.status in {200, 207, 400, 422}
    assert (response.headers["Content-Type"] == PROBLEM) == (response.status >= 400)
    results = response.json.get("results", [response.json])
    assert all(("prediction" in one) != ("detail" in one) for one in results)


@cache
def shared_api() -> FakeApi:
    return FakeApi()
