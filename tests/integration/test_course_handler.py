"""docs/examples/course_handler.py does what the course's tests and test events expect of its function."""

import json
import runpy
from collections.abc import Callable
from typing import Any

import pytest

from infra.local.aws import LocalAws
from infra.stack.template import ROOT
from tests.builders import small_bundle
from tests.kits.streams import read_stream
from training.registry.bucket import Bucket
from training.registry.channels import store_bundle

pytestmark = pytest.mark.slow

EXAMPLE = ROOT / "docs/examples/course_handler.py"
BUCKET, OUTPUT = "mlflow-models", "ride_predictions"
WHOLE: dict[str, Any] = json.loads((ROOT / "tests/contract/golden/course_invocation.json").read_text(encoding="utf-8"))
ONLY_DATA = {"Records": [{"kinesis": {"data": WHOLE["Records"][0]["kinesis"]["data"]}}]}
"""Events as the course's function gets them: from Lambda, and in a unit test."""

Handler = Callable[[dict[str, Any], None], dict[str, Any]]


@pytest.fixture(scope="module")
def run_id(aws: LocalAws) -> str:
    """The version of a model in the bucket; the stream of predictions exists, too."""
    aws.client("kinesis").create_stream(StreamName=OUTPUT, ShardCount=1)
    aws.client("s3").create_bucket(Bucket=BUCKET)
    bundle = small_bundle()
    store_bundle(Bucket(aws.client("s3"), BUCKET), bundle)
    return bundle.model_version


@pytest.fixture
def handler(aws: LocalAws, run_id: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Handler]:
    """Return a function that starts the handler with the course's environment variables, and others."""

    def start(**variables: str) -> Handler:
        local = {**aws.environment, "AWS_ENDPOINT_URL_S3": aws.endpoint_url, "KINESIS_ENDPOINT_URL": aws.endpoint_url}
        del local["AWS_ENDPOINT_URL"]
        for name, value in {**local, "RUN_ID": run_id, "MODEL_BUCKET": BUCKET, **variables}.items():
            monkeypatch.setenv(name, value)
        found: Handler = runpy.run_path(str(EXAMPLE))["lambda_handler"]
        return found

    return start


@pytest.mark.parametrize("event", [ONLY_DATA, WHOLE], ids=["only data", "from Lambda"])
def test_answer_has_the_courses_fields_and_a_test_run_publishes_nothing(
    aws: LocalAws, handler: Callable[..., Handler], run_id: str, event: dict[str, Any]
) -> None:
    before = len(read_stream(aws.client("kinesis"), OUTPUT))
    answer = handler(TEST_RUN="True")(event, None)

    minutes = answer["predictions"][0]["prediction"]["ride_duration"]
    assert answer == {
        "predictions": [
            {
                "model": "ride_duration_prediction_model",
                "version": run_id,
                "prediction": {"ride_duration": minutes, "ride_id": 256},
            }
        ]
    }
    assert isinstance(minutes, float)
    assert 1 <= minutes <= 60
    assert json.loads(json.dumps(answer)) == answer
    assert len(read_stream(aws.client("kinesis"), OUTPUT)) == before


def test_predictions_are_on_the_stream_of_the_courses_variables_under_the_rides_id(
    aws: LocalAws, handler: Callable[..., Handler]
) -> None:
    answer = handler(PREDICTIONS_STREAM_NAME=OUTPUT)(WHOLE, None)

    (record,) = read_stream(aws.client("kinesis"), OUTPUT)
    published = json.loads(record.data)
    assert record.partition_key == "256"
    assert published["prediction_id"] == WHOLE["Records"][0]["eventID"]
    assert {name: published[name] for name in answer["predictions"][0]} == answer["predictions"][0]


def test_bad_record_and_a_missing_stream_fail_the_batch(handler: Callable[..., Handler]) -> None:
    with pytest.raises(ValueError, match="ride"):
        handler(TEST_RUN="True")({"Records": [{"kinesis": {"data": "e30="}}]}, None)
    with pytest.raises(RuntimeError, match="1 predictions are not on nowhere"):
        handler(TEST_RUN="False", PREDICTIONS_STREAM_NAME="nowhere")(WHOLE, None)


def test_example_is_short() -> None:
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) < 40
