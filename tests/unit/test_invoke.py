"""`ridecast invoke`: one event of any kind through the real functions, and nothing leaves the process."""

import base64
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.local.invoke import HTTP, KINESIS, RIDE, Invoked, invoke
from infra.local.s3 import MemoryS3
from lambda_function.errors import PredictorError
from tests.builders import small_bundle
from tests.fakes import BUCKET, publish_bundle
from tests.kits.cli import Cli
from training.errors import UserError
from training.model.bundle import write_bundle
from training.registry.bucket import Bucket
from training.registry.folder_s3 import FolderS3

RIDE_EVENT = {"ride": {"PULocationID": 130, "DOLocationID": 205, "trip_distance": 3.66}, "ride_id": 256}
DATA = base64.b64encode(json.dumps(RIDE_EVENT).encode()).decode()
COURSE = {
    "kinesis": {
        "kinesisSchemaVersion": "1.0",
        "partitionKey": "1",
        "sequenceNumber": "49630081666084879290581185630324770398608704880802529282",
        "data": DATA,
        "approximateArrivalTimestamp": 1654161514.132,
    },
    "eventSource": "aws:kinesis",
    "eventVersion": "1.0",
    "eventID": "shardId-000000000000:49630081666084879290581185630324770398608704880802529282",
    "eventName": "aws:kinesis:record",
    "invokeIdentityArn": "arn:aws:iam::XXXXXXXXX:role/lambda-kinesis-role",
    "awsRegion": "eu-west-1",
    "eventSourceARN": "arn:aws:kinesis:eu-west-1:XXXXXXXXX:stream/ride_events",
}
REQUEST = {
    "version": "2.0",
    "rawPath": "/predictions",
    "requestContext": {"http": {"method": "POST", "path": "/predictions"}},
    "headers": {"content-type": "application/json"},
    "body": json.dumps(RIDE_EVENT),
}


@pytest.fixture(scope="module")
def bucket() -> Bucket:
    s3 = MemoryS3()
    publish_bundle(s3, small_bundle())
    return Bucket(s3, BUCKET)


def invoked(event: Any, bucket: Bucket) -> Invoked:
    before = dict(bucket.s3.objects)
    result = invoke(event if isinstance(event, bytes) else json.dumps(event).encode(), bucket, "stable")
    assert bucket.s3.objects == before
    return result


def predictions(result: Invoked) -> list[Any]:
    return [data["prediction"]["ride_id"] for _, data in result.published]


def test_kinesis_event_of_the_course_is_taken_as_it_is(bucket: Bucket) -> None:
    result = invoked({"Records": [COURSE]}, bucket)
    assert (result.kind, result.filled_in, result.answer) == (KINESIS, (), {"batchItemFailures": []})
    ((key, data),) = result.published
    assert (key, data["prediction"]["ride_id"], data["prediction_id"]) == ("256", 256, COURSE["eventID"])
    assert result.is_done


@pytest.mark.parametrize("left_out", [name for name in COURSE if name != "kinesis"])
def test_fields_that_lambda_gives_are_filled_in_and_named(bucket: Bucket, left_out: str) -> None:
    record = {name: value for name, value in COURSE.items() if name != left_out}
    result = invoked({"Records": [record]}, bucket)
    assert (result.filled_in, predictions(result)) == ((left_out,), [256])


def test_records_with_nothing_but_data_get_different_ids(bucket: Bucket) -> None:
    result = invoked({"Records": [{"kinesis": {"data": DATA}}] * 2}, bucket)
    assert len({data["prediction_id"] for _, data in result.published}) == 2
    assert {"eventID", "kinesis.sequenceNumber"} <= set(result.filled_in)


@pytest.mark.parametrize(
    ("data", "ids"),
    [
        (json.dumps(RIDE_EVENT).encode(), [256]),
        (json.dumps([RIDE_EVENT, {**RIDE_EVENT, "ride_id": "b"}]).encode(), [256, "b"]),
        (b"\n".join([json.dumps(RIDE_EVENT).encode()] * 2), [256, 256]),
    ],
)
def test_ride_events_are_the_data_of_a_record(bucket: Bucket, data: bytes, ids: list[Any]) -> None:
    result = invoked(data, bucket)
    assert (result.kind, result.filled_in, predictions(result)) == (RIDE, (), ids)


def test_http_event_is_answered_by_the_api(bucket: Bucket) -> None:
    result = invoked(REQUEST, bucket)
    assert (result.kind, result.answer["statusCode"], result.is_done) == (HTTP, 200, True)
    assert json.loads(result.answer["body"])["prediction"]["ride_id"] == 256
    assert not invoked({**REQUEST, "body": "[]"}, bucket).is_done
    assert invoked({"httpMethod": "POST", "path": "/predictions"}, bucket).answer["statusCode"] == 400


def test_reject_is_shown_and_not_stored(bucket: Bucket) -> None:
    result = invoked({"ride_id": 1}, bucket)
    assert [one["reason"] for one in result.rejects] == ["invalid_field"]
    assert not result.is_done


@pytest.mark.parametrize(
    ("event", "sentence"),
    [
        ({"Records": [{"kinesis": {}}]}, "not as Lambda delivers records of Kinesis: .* `data`"),
        ({"Records": [{"eventSource": "aws:s3", "s3": {}}]}, "records of the event source aws:s3"),
        ({"Records": "none"}, "delivers an event with the fields Records"),
    ],
)
def test_other_event_is_one_sentence(bucket: Bucket, event: Any, sentence: str) -> None:
    with pytest.raises((UserError, PredictorError), match=sentence):
        invoked(event, bucket)


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(DATA)
_NAMES = st.sampled_from([*COURSE, *COURSE["kinesis"], *REQUEST, "http", "ride", "ride_id"])
_JSON = st.recursive(_SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_NAMES, inner, max_size=4))


@given(records=_JSON, more=st.dictionaries(_NAMES, _JSON, max_size=3), is_kinesis=st.booleans())
def test_any_event_ends_as_a_result_or_one_sentence(
    bucket: Bucket, records: Any, more: dict[str, Any], *, is_kinesis: bool
) -> None:
    with suppress(UserError, PredictorError):
        invoked({**more, **({"Records": records} if is_kinesis else {})}, bucket)


def test_command_predicts_a_file_with_a_bucket_or_a_bundle(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cli, bundle, event = Cli(monkeypatch, capsys), small_bundle(), tmp_path / "event.json"
    monkeypatch.chdir(tmp_path)
    event.write_text(json.dumps(RIDE_EVENT))

    assert "holds no model: release one" in cli.refuses("invoke", event)
    publish_bundle(FolderS3(tmp_path / "build/bucket"), bundle)
    assert "holds no model: did you mean stable?" in cli.refuses("invoke", event, "--channel", "stabel")

    answers = [cli("invoke", event), cli("invoke", event, "--bundle", write_bundle(bundle, tmp_path))]
    assert {one["published"][0]["data"]["version"] for one in answers} == {bundle.model_version}
    assert '"ride_id": 256' in cli.run("invoke", event)
    event.write_text("{")
    assert "not_json" in cli.run("invoke", event, code=1)
    assert "cannot be read: No such file" in cli.refuses("invoke", "nowhere.json")
    with event.open("wb") as file:
        file.truncate((10 << 20) + 1)
    assert "more than 10 MiB" in cli.refuses("invoke", event)
