"""What is timed: a model of full size, a full batch as Lambda brings it, and the handler with nothing behind it."""

import io
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

import boto3
import msgspec
import numpy as np
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

from infra.local.lambda_event import lambda_records
from infra.replay import Replay
from lambda_function.features import feature_matrix
from lambda_function.handler import build_handler
from lambda_function.model import Channel, bundle_key, channel_key
from lambda_function.settings import JSON, Settings
from training.baseline import Baseline, fit_baseline
from training.dataset import Rides
from training.export import ExportedBundle, TrainingFacts, export_bundle
from training.fit import PARAMETERS, fit_forest
from training.months import Month
from training.synthetic import synthetic_rides

N_TRAIN_RIDES = 60_000
N_ENGINE_RIDES = 10_000
N_BATCH_RIDES = 9_400
"""About what Lambda's 6 MB let through in one batch."""

_MONTH, _NEXT_MONTH = Month(2021, 1), Month(2021, 2)
_FIRST_SEQUENCE_NUMBER = 49590338271490256608559692538361571095921575989136588898
_STREAM_ARN = "arn:aws:kinesis:us-east-1:123456789012:stream/ride-events"


@dataclass(frozen=True, slots=True)
class Subject:
    """A model with `fit.PARAMETERS`, in both its forms, the baseline, and rides that neither has seen.

    Attributes:
        matrix: float64 (10,000, 8), rows in no order.
        event: An invocation with 9,400 ride events.
    """

    fitted: HistGradientBoostingRegressor
    bundle: ExportedBundle
    baseline: Baseline
    matrix: NDArray[np.float64]
    event: dict[str, Any]


def build_subject() -> Subject:
    """Fits on made-up rides, so that the bench needs no data and times the same trees everywhere."""
    rides = synthetic_rides(_MONTH, N_TRAIN_RIDES, seed=1)
    fitted = fit_forest(rides, PARAMETERS)
    facts = TrainingFacts(
        service="green", train_months=(_MONTH,), validate_months=(), parameters=PARAMETERS, metrics={}
    )
    fresh = synthetic_rides(_NEXT_MONTH, N_TRAIN_RIDES, seed=2)
    shuffled = fresh.take(np.random.default_rng(3).permutation(len(fresh)))
    matrix = feature_matrix(shuffled.head(N_ENGINE_RIDES).columns)
    bundle = export_bundle(fitted, rides, facts)
    return Subject(fitted, bundle, fit_baseline(rides), matrix, invocation(fresh.head(N_BATCH_RIDES)))


def invocation(rides: Rides) -> dict[str, Any]:
    """Builds the event with which Lambda would bring these rides."""
    arrival = datetime(2021, 2, 1, tzinfo=UTC)
    records = [
        {
            "PartitionKey": key,
            "SequenceNumber": str(_FIRST_SEQUENCE_NUMBER + number),
            "Data": data,
            "ApproximateArrivalTimestamp": arrival,
        }
        for number, (key, data) in enumerate(Replay(rides, n_malformed=0).entries())
    ]
    return {"Records": lambda_records(records, "shardId-000000000000", _STREAM_ARN)}


def ours(bundle: ExportedBundle, kinesis: Any, output_format: str = JSON) -> Callable[[dict[str, Any]], object]:
    """Builds the function around a bucket in memory."""
    settings = Settings(
        output_stream="ride-predictions",
        bucket="bucket",
        model_channel="stable",
        output_format=output_format,
        log_level="ERROR",
    )
    bucket: Any = _BucketWith(bundle)
    with redirect_stdout(io.StringIO()) as sink:
        handler = build_handler(settings, bucket, kinesis)

    def run(event: dict[str, Any]) -> object:
        with redirect_stdout(sink):
            return handler(event, _Context())

    return run


def kinesis_without_socket(*, parameter_validation: bool) -> Any:
    """Makes a boto3 client that builds and signs each request, and is answered before it would leave."""
    client: Any = boto3.client(
        "kinesis",
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",  # noqa: S106 - nothing is sent
        config=Config(parameter_validation=parameter_validation),
    )
    client.meta.events.register("before-send.kinesis.PutRecords", _all_taken)
    client.meta.events.register("before-send.kinesis.PutRecord", _taken)
    return client


def _all_taken(request: Any, **_: object) -> AWSResponse:
    headers = HTTPHeaders.from_dict({"content-type": "application/x-amz-json-1.1"})
    return AWSResponse(
        request.url, 200, headers, _Raw(_answer(request.body.count(b'"PartitionKey"', 0, _MAX_COUNTED_BYTES)))
    )


# The bodies of aggregates are long, and looking through them would be timed: a few hundred results more or less in an
# answer make no difference to them.
_MAX_COUNTED_BYTES = 250_000


def _taken(request: Any, **_: object) -> AWSResponse:
    headers = HTTPHeaders.from_dict({"content-type": "application/x-amz-json-1.1"})
    return AWSResponse(request.url, 200, headers, _Raw(b'{"SequenceNumber":"1","ShardId":"shardId-000000000000"}'))


@cache
def _answer(n_records: int) -> bytes:
    """Returns Kinesis's answer to a request of so many records: made once, as it is not ours to time."""
    record = {"SequenceNumber": str(_FIRST_SEQUENCE_NUMBER), "ShardId": "shardId-000000000000"}
    return msgspec.json.encode({"FailedRecordCount": 0, "Records": [record] * n_records})


class _Raw(io.BytesIO):
    """As much of urllib3's answer as botocore reads."""

    def stream(self, **_: object) -> list[bytes]:
        return [self.getvalue()]


class _BucketWith:
    """A bucket in memory with one bundle and a channel onto it."""

    def __init__(self, bundle: ExportedBundle) -> None:
        channel = Channel(bundle.model_version, bundle.manifest_sha256, None, "2021-02-01T00:00:00+00:00")
        self._objects: Mapping[str, bytes] = {
            channel_key("stable"): msgspec.json.encode(channel),
            **{bundle_key(bundle.model_version, name): data for name, data in bundle.files.items()},
        }

    def get_object(self, *, Bucket: str, Key: str, **_: str) -> dict[str, object]:  # noqa: ARG002, N803
        return {"Body": io.BytesIO(self._objects[Key]), "ETag": '"etag"'}


class _Context:
    def get_remaining_time_in_millis(self) -> int:
        return 60_000
