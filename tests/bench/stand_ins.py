"""The function with a bucket in memory and Kinesis clients without a socket.

It imports only what the function imports, so that a process that measures memory contains nothing else.
"""

import io
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from functools import cache
from typing import Any

import boto3
import msgspec
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config

from lambda_function.aws.fast_kinesis import speed_up_put_records
from lambda_function.aws.settings import JSON, Settings
from lambda_function.handler import build_handler

_SEQUENCE_NUMBER = "49590338271490256608559692538361571095921575989136588898"


def function_around(
    objects: Mapping[str, bytes], kinesis: Any, output_format: str = JSON
) -> Callable[[dict[str, Any]], object]:
    """Build the function with a bucket that contains these objects; its output is discarded."""
    settings = Settings(
        output_stream="ride-predictions",
        bucket="bucket",
        model_channel="stable",
        output_format=output_format,
        log_level="ERROR",
    )
    bucket: Any = _Bucket(objects)
    sink = Nowhere()
    with redirect_stdout(sink):
        handler = build_handler(settings, bucket, kinesis)

    def run(event: dict[str, Any]) -> object:
        with redirect_stdout(sink):
            return handler(event, Context())

    return run


def fast_kinesis() -> Any:
    """Make the client as the function's cold start does, without a socket."""
    client = kinesis_without_socket(parameter_validation=False)
    speed_up_put_records(client)
    return client


def kinesis_without_socket(*, parameter_validation: bool) -> Any:
    """Make a boto3 client that builds and signs each request, and gets its answer before it would send it."""
    client: Any = boto3.client(
        "kinesis",
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",  # noqa: S106 - nothing is sent
        config=Config(parameter_validation=parameter_validation),
    )
    answers = _Answers()
    client.meta.events.register_first("provide-client-params.kinesis.PutRecords", answers.count)
    client.meta.events.register("before-send.kinesis.PutRecords", answers.all_taken)
    client.meta.events.register("before-send.kinesis.PutRecord", _taken)
    return client


class _Answers:
    """Kinesis' answers to one client's requests. Counting the records in a body would add to the measured time."""

    _n_records = 0

    def count(self, params: dict[str, Any], **_: object) -> None:
        self._n_records = len(params["Records"])

    def all_taken(self, request: Any, **_: object) -> AWSResponse:
        headers = HTTPHeaders.from_dict({"content-type": "application/x-amz-json-1.1"})
        return AWSResponse(request.url, 200, headers, _Raw(_answer(self._n_records)))


def _taken(request: Any, **_: object) -> AWSResponse:
    headers = HTTPHeaders.from_dict({"content-type": "application/x-amz-json-1.1"})
    return AWSResponse(request.url, 200, headers, _Raw(b'{"SequenceNumber":"1","ShardId":"shardId-000000000000"}'))


@cache
def _answer(n_records: int) -> bytes:
    """Return Kinesis's answer to a request of n records; cached, so that it does not add to the measured time."""
    record = {"SequenceNumber": _SEQUENCE_NUMBER, "ShardId": "shardId-000000000000"}
    return msgspec.json.encode({"FailedRecordCount": 0, "Records": [record] * n_records})


class _Raw(io.BytesIO):
    """The part of urllib3's answer that botocore reads."""

    def stream(self, **_: object) -> list[bytes]:
        return [self.getvalue()]


class Nowhere(io.TextIOBase):
    """A text file that keeps nothing."""

    def write(self, text: str) -> int:
        """Discard a text."""
        return len(text)


class _Bucket:
    def __init__(self, objects: Mapping[str, bytes]) -> None:
        self._objects = objects

    def get_object(self, *, Bucket: str, Key: str, **_: str) -> dict[str, object]:  # noqa: N803
        return {"Body": io.BytesIO(self._objects[Key]), "ETag": '"etag"'}


class Context:
    """Lambda's context, with time left."""

    def get_remaining_time_in_millis(self) -> int:
        """Return a minute."""
        return 60_000
