"""Which model answers the API, how it follows its channel, and what callers are told where there is none."""

import pytest

from lambda_function.aws.settings import ServingSettings
from lambda_function.errors import ConfigurationError
from tests.builders import interval_bundle, ride_bytes, small_bundle
from tests.fakes import BUCKET, DENIED, SERVICE_DOWN, publish_bundle, spoil_bundle
from tests.fakes_api import JSON, FakeApi, assert_is_problem
from training.model.bundle import ExportedBundle


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


def publish_new_model(api: FakeApi) -> ExportedBundle:
    """Moves the channel to another model."""
    other = small_bundle(seed=2)
    publish_bundle(api.s3, other)
    return other


def test_model_tells_what_answers(api: FakeApi) -> None:
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
    }


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


def test_health_is_ok_with_a_model(api: FakeApi) -> None:
    response = api.ask("GET", "/health")

    assert response.status == 200
    assert response.json == {"status": "ok", "model_version": small_bundle().model_version}


def test_health_is_stale_where_the_new_model_is_damaged_and_the_old_one_goes_on(api: FakeApi) -> None:
    before = api.predict(ride_bytes()).body
    spoil_bundle(api.s3, publish_new_model(api))
    api.clock.sleep(60)

    assert api.ask("GET", "/health").json == {"status": "stale", "model_version": small_bundle().model_version}
    assert api.predict(ride_bytes()).body == before


@pytest.mark.parametrize(("method", "path"), [("POST", "/predictions"), ("GET", "/model"), ("GET", "/health")])
def test_without_a_model_callers_are_asked_to_come_again(method: str, path: str) -> None:
    api = FakeApi(bundle=None)

    response = api.ask(method, path, ride_bytes())

    assert_is_problem(response, 503)
    assert int(response.headers["Retry-After"]) > 0
    publish_bundle(api.s3, small_bundle())
    assert api.ask(method, path, ride_bytes()).status == 200


@pytest.mark.parametrize("error", [DENIED, SERVICE_DOWN])
def test_callers_are_not_told_what_is_behind(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
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
