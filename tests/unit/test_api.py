"""Rides over HTTP: the stream's own bytes for one or many, and an error in a body names its field."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.local.runtime.http import http_event
from lambda_function.api.openapi import openapi_json
from lambda_function.api.rides import MAX_BODY_BYTES, MAX_RIDES, prediction_id
from lambda_function.aws.settings import ServingSettings
from lambda_function.core.events import REJECT_REASONS
from lambda_function.core.processor import process
from lambda_function.errors import ConfigurationError
from tests.builders import (
    ARRIVAL_TIME_S,
    event_id,
    interval_bundle,
    invocation,
    kinesis_records,
    raw_ride_bytes,
    ride_bytes,
    ride_event,
    small_bundle,
)
from tests.builders_calibrations import AS_OF, calibration_bytes, calibration_of
from tests.fakes import BUCKET, EARLY, FakeFunction, damage_bundle, publish_bundle
from tests.fakes_api import JSON, PROBLEM, FakeApi, assert_is_problem, rides_bytes
from tests.fuzz.inputs import as_json, values
from tests.outcomes import DENIED, SERVICE_DOWN
from training.model.bundle import ExportedBundle
from training.registry.bucket import Bucket
from training.registry.channels import Mover, calibrate_channel

TOO_DEEP = b"[" * 200_000


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


def streams_prediction(bundle: ExportedBundle, event: bytes) -> bytes:
    """Return the stream function's prediction for an event, with the API's id."""
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


def test_clock_replaces_a_missing_arrival_time(api: FakeApi) -> None:
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
def test_refusal_of_a_body_names_the_field(
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


bodies = st.binary(max_size=60) | values.map(as_json)
events = st.builds(ride_bytes, values, trip_distance=values, PULocationID=values, pickup_datetime=values)


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


@pytest.mark.parametrize("content_type", [None, "", "text/plain", "application/x-ndjson", "application/jsonx"])
def test_other_content_types_are_refused(api: FakeApi, content_type: str | None) -> None:
    response = api.ask("POST", "/predictions", ride_bytes(), content_type)

    assert_is_problem(response, 415)
    assert response.headers["Accept"] == JSON


@pytest.mark.parametrize("content_type", ["Application/JSON", "application/json; charset=utf-8"])
def test_json_is_taken_however_it_is_spelt(api: FakeApi, content_type: str) -> None:
    assert api.ask("POST", "/predictions", ride_bytes(), content_type).status == 200


def test_body_is_taken_up_to_its_limit_and_not_beyond(api: FakeApi) -> None:
    longest = ride_bytes().ljust(MAX_BODY_BYTES)

    assert api.predict(longest).status == 200
    assert_is_problem(api.predict(longest + b" "), 413)


@pytest.mark.parametrize("path", ["/", "/nothing", "/predictions/1", "/openapiXjson", "/model/", "//model"])
def test_unknown_path_is_not_found(api: FakeApi, path: str) -> None:
    assert_is_problem(api.ask("GET", path), 404)


ALLOWED = dict.fromkeys(("/model", "/health", "/openapi.json"), "GET, HEAD, OPTIONS") | {
    "/predictions": "POST, OPTIONS"
}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "BREW")


@pytest.mark.parametrize(
    ("path", "method"), [(path, one) for path, allowed in ALLOWED.items() for one in METHODS if one not in allowed]
)
def test_refusal_of_another_method_names_the_allowed_ones(api: FakeApi, path: str, method: str) -> None:
    response = api.ask(method, path)

    assert (response.status, response.headers["Allow"]) == (405, ALLOWED[path])
    if method != "HEAD":
        assert_is_problem(response, 405)


@pytest.mark.parametrize("path", ["/model", "/health", "/openapi.json"])
@pytest.mark.parametrize("bundle", [small_bundle(), None], ids=["model", "no model"])
def test_head_has_the_status_and_headers_of_get_and_no_body(path: str, bundle: ExportedBundle | None) -> None:
    api = FakeApi(bundle)
    got, head = api.ask("GET", path), api.ask("HEAD", path)

    assert (head.status, head.headers, head.body) == (got.status, got.headers, b"")


@pytest.mark.parametrize("path", ALLOWED)
def test_options_says_which_methods_a_path_takes_without_a_model(path: str) -> None:
    api = FakeApi(bundle=None)
    response = api.ask("OPTIONS", path)

    assert (response.status, response.headers["Allow"], response.body) == (204, ALLOWED[path], b"")
    assert api.s3.calls == []


@pytest.mark.parametrize("headers", [None, {}, {"content-type": None}, "none", [], 5])
def test_request_without_headers_is_answered(api: FakeApi, headers: Any) -> None:
    for method, path, status in (("GET", "/model", 200), ("POST", "/predictions", 415), ("GET", "/nothing", 404)):
        event = {**http_event(method, path, {}, b"", ARRIVAL_TIME_S), "headers": headers}
        assert api.take(event).status == status


@pytest.mark.parametrize(
    ("event", "name"),
    [
        ({"version": "1.0", "httpMethod": "GET", "path": "/model", "headers": None}, "a REST API's event"),
        ({"httpMethod": "POST", "requestContext": {"elb": {}}}, "an Application Load Balancer's event"),
        ({"Records": []}, "no HTTP request"),
        ({"rawPath": "/model", "requestContext": None}, "no HTTP request"),
        (None, "no HTTP request"),
    ],
)
def test_event_of_another_source_is_refused_by_name(api: FakeApi, event: Any, name: str) -> None:
    response = api.take(event)

    assert_is_problem(response, 400)
    assert name in response.json["detail"]
    assert "payload format 2.0" in response.json["detail"]


@pytest.mark.parametrize("body", [b"", b" \n", b"[]", b"[" + ride_bytes() + b"]", ride_bytes() + b"\n" + ride_bytes()])
def test_body_of_another_form_is_refused_with_the_right_one(api: FakeApi, body: bytes) -> None:
    response = api.predict(body)

    assert_is_problem(response, response.status, "$")
    assert 'send a ride event, or {"rides": [...]} for several' in response.json["detail"]


def test_document_is_served_as_it_is_generated(api: FakeApi) -> None:
    response = api.ask("GET", "/openapi.json")

    assert (response.status, response.headers["Content-Type"]) == (200, JSON)
    assert response.body == openapi_json()


def logged(out: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the last request's log line and metrics."""
    lines = [json.loads(line) for line in out.splitlines()]
    return [line for line in lines if "request" in line][-1], [line for line in lines if "Requests" in line][-1]


def test_each_request_is_a_log_line_and_a_set_of_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    api = FakeApi()
    api.predict(rides_bytes(ride_bytes(), ride_bytes(trip_distance=-1)))

    log, metrics = logged(capsys.readouterr().out)

    assert log["request"]["route"] == "POST /predictions"
    assert (log["request"]["status"], log["request"]["model_version"]) == (207, small_bundle().model_version)
    assert (metrics["Requests"], metrics["Predictions"], metrics["Rejects"]) == ([1.0], [1.0], [1.0])
    assert metrics["ModelSwitches"] == [1.0]


def test_nothing_that_a_caller_sends_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    api = FakeApi()
    api.predict(json.dumps(ride_event("needle", trip_distance="needle")).encode())
    api.ask("needle", "/needle", b"needle", "needle")

    assert "needle" not in capsys.readouterr().out.lower()


def test_unexpected_error_is_a_problem_without_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    api = FakeApi()
    api.s3.script = [RuntimeError("secret")]

    response = api.predict(ride_bytes())

    assert_is_problem(response, 500)
    assert not {"secret", "RuntimeError", "Traceback"} & set(response.json["detail"].split())
    assert "secret" in (log := capsys.readouterr().out)
    assert '"FailedInvocations"' in log
    assert api.predict(ride_bytes()).status == 200


def publish_new_model(api: FakeApi) -> ExportedBundle:
    """Move the channel to another model."""
    other = small_bundle(seed=2)
    publish_bundle(api.s3, other)
    return other


def test_model_route_describes_the_served_model(api: FakeApi) -> None:
    api = FakeApi(interval_bundle())
    manifest = interval_bundle().model.manifest

    response = api.ask("GET", "/model")

    assert (response.status, response.headers["Content-Type"]) == (200, JSON)
    assert response.json == {
        "model_version": manifest.model_version,
        "service": "green",
        "train_months": ["2021-01"],
        "validate_months": ["2021-02"],
        "validate_metrics": {"rmse_minutes": 5.0},
        "feature_names": list(manifest.feature_names),
        "duration_range_minutes": list(manifest.duration_range_minutes),
        "interval_level": 0.8,
        "loaded_at": "2021-01-05T08:15:10+00:00",
        "served_version": manifest.model_version,
    }


def test_calibrated_channel_is_served_with_the_bytes_of_its_calibrated_model() -> None:
    api, model = FakeApi(interval_bundle()), interval_bundle().model
    calibration = calibration_of(model)
    calibrate_channel(Bucket(api.s3, BUCKET), "stable", calibration_bytes(calibration), mover=EARLY)

    found = api.predict(ride_bytes()).json

    assert found["version"] == f"{model.model_version}+{AS_OF}"
    ((_, data),) = process(kinesis_records(ride_bytes()), model.calibrated(calibration)).entries
    assert {**found, "prediction_id": ""} == {**json.loads(data), "prediction_id": ""}
    facts = api.ask("GET", "/model").json
    assert (facts["model_version"], facts["served_version"]) == (model.model_version, found["version"])


def test_model_without_intervals_has_no_level(api: FakeApi) -> None:
    assert api.ask("GET", "/model").json["interval_level"] is None


def test_moved_channel_is_followed_and_the_time_of_loading_with_it(api: FakeApi) -> None:
    before = api.ask("GET", "/model").json
    other = publish_new_model(api)
    api.clock.sleep(59)
    assert api.ask("GET", "/model").json == before

    api.clock.sleep(1)
    after = api.ask("GET", "/model").json

    assert after["model_version"] == other.model_version != before["model_version"]
    assert after["loaded_at"] == "2021-01-05T08:16:10+00:00"
    assert api.predict(ride_bytes()).json["version"] == other.model_version


def test_request_is_answered_by_the_model_of_its_arrival(api: FakeApi) -> None:
    other, first = small_bundle(seed=2), small_bundle()
    promoted_at = datetime.fromtimestamp(ARRIVAL_TIME_S, UTC)
    begins = publish_bundle(api.s3, other, mover=Mover("ada", lambda: promoted_at)).segments[0].effective_from_s

    versions = []
    for arrival_s in (begins - 0.001, begins):
        response = api.take(http_event("POST", "/predictions", {"Content-Type": JSON}, ride_bytes(), arrival_s))
        versions.append(response.json["version"])

    assert versions == [first.model_version, other.model_version]


def test_health_is_ok_with_a_model(api: FakeApi) -> None:
    response = api.ask("GET", "/health")

    assert response.status == 200
    assert response.json == {"status": "ok", "model_version": small_bundle().model_version}


def test_health_is_stale_if_the_new_model_is_damaged_and_the_old_one_serves(api: FakeApi) -> None:
    before = api.predict(ride_bytes()).body
    damage_bundle(api.s3, publish_new_model(api))
    api.clock.sleep(60)

    assert api.ask("GET", "/health").json == {"status": "stale", "model_version": small_bundle().model_version}
    assert api.predict(ride_bytes()).body == before


@pytest.mark.parametrize(("method", "path"), [("POST", "/predictions"), ("GET", "/model"), ("GET", "/health")])
def test_without_a_model_callers_get_a_retry_after(method: str, path: str) -> None:
    api = FakeApi(bundle=None)

    response = api.ask(method, path, ride_bytes())

    assert_is_problem(response, 503)
    assert int(response.headers["Retry-After"]) > 0
    publish_bundle(api.s3, small_bundle())
    assert api.ask(method, path, ride_bytes()).status == 200


@pytest.mark.parametrize("error", [DENIED, SERVICE_DOWN])
def test_problems_hold_nothing_internal(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    api = FakeApi()
    api.s3.script = [error]

    response = api.predict(ride_bytes())

    assert_is_problem(response, 503)
    assert BUCKET.encode() not in response.body
    assert BUCKET in capsys.readouterr().out


def test_bad_request_is_refused_before_a_model_is_asked_for() -> None:
    api = FakeApi(bundle=None)

    assert api.predict(b"{").status == 400
    assert api.s3.calls == []


def test_settings_of_this_function_need_no_stream() -> None:
    settings = ServingSettings.from_env({"BUCKET": "bucket", "MODEL_CHANNEL": "stable", "LOG_LEVEL": "warning"})

    assert settings == ServingSettings(bucket="bucket", model_channel="stable", log_level="WARNING")
    with pytest.raises(ConfigurationError, match="setting BUCKET, MODEL_CHANNEL is missing"):
        ServingSettings.from_env({})
