"""Invoke the function on one event, with models from any bucket: nothing leaves this process."""

import io
import json
import time
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

import msgspec

from infra.local.runtime.http import http_event
from infra.local.runtime.in_process import InProcessRuntime
from infra.local.s3 import MemoryS3
from infra.local.simulation.kinesis import MemoryStream
from infra.operate.lambda_event import lambda_record
from lambda_function.api.handler import build_handler as build_api_handler
from lambda_function.aws.settings import ServingSettings, Settings
from lambda_function.core.channel import ACTIVATION_DELAY_S
from lambda_function.handler import build_handler
from training.errors import UserError
from training.registry.bucket import Bucket

KINESIS, RIDE, HTTP = "Kinesis event", "ride event", "HTTP event"

_INPUT, _OUTPUT, _SHARD = "ride-events", "ride-predictions", "shardId-000000000000"
_STREAM_ARN = f"arn:aws:kinesis:us-east-1:123456789012:stream/{_INPUT}"
_FIRST_SEQUENCE_NUMBER = 49590338271490256608559692538361571095921575989136588898
_OF_HTTP = ("requestContext", "rawPath", "httpMethod")
_TIMEOUT_S, _MEMORY_MB = 60, 1769


@dataclass(frozen=True, slots=True)
class Invoked:
    """What an invocation did.

    Attributes:
        kind: What the event was taken for: KINESIS, RIDE or HTTP.
        filled_in: Fields that Lambda would have given, and the event lacked.
        answer: The function's.
        published: Partition key and data of each record that would be on the output stream.
        rejects: As they would be in the bucket.
    """

    kind: str
    filled_in: tuple[str, ...]
    answer: Mapping[str, Any]
    published: tuple[tuple[str, Any], ...]
    rejects: tuple[Mapping[str, Any], ...]

    @property
    def is_done(self) -> bool:
        """Whether every ride was predicted: none was rejected, and nothing has to come again."""
        is_error = self.answer.get("statusCode", 200) >= 400  # noqa: PLR2004 - HTTP's errors
        return not (is_error or self.rejects or self.answer.get("batchItemFailures"))


def invoke(data: bytes, bucket: Bucket, channel: str) -> Invoked:
    """Give an event to the function of the stream or, if it is an HTTP event, to that of the API.

    Args:
        data: JSON of a Kinesis or HTTP event; anything else is taken for the data of one record on the stream.
        bucket: Has the models. It is only read.
        channel: The channel whose models predict.

    Raises:
        UserError: The event is not one that Lambda delivers.
        PredictorError: The event comes from another source, or no model can be loaded.
    """
    event = _decode(data)
    with redirect_stdout(io.StringIO()):  # the function's log
        if isinstance(event, dict) and any(field in event for field in _OF_HTTP):
            return _invoke_api(event, bucket, channel)
        if isinstance(event, dict) and "Records" in event:
            return _invoke_stream(KINESIS, event, bucket, channel)
        return _invoke_stream(RIDE, {"Records": [{"kinesis": {"data": _base64(data)}}]}, bucket, channel)


def _decode(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):  # a producer may send what is no JSON document, lines for example
        return None


def _invoke_api(event: dict[str, Any], bucket: Bucket, channel: str) -> Invoked:
    handler = build_api_handler(ServingSettings(bucket=bucket.name, model_channel=channel), bucket.s3)
    context = event.get("requestContext")
    if isinstance(context, dict) and isinstance(context.get("http"), dict):  # payload format 2.0
        usual = http_event("POST", "/predictions", {}, b"", time.time())
        event = {**usual, **event, "requestContext": {**usual["requestContext"], **context}}
    answer: Any = InProcessRuntime(handler, _TIMEOUT_S, _MEMORY_MB, "api")(event)
    return Invoked(HTTP, (), answer, (), ())


def _invoke_stream(kind: str, event: dict[str, Any], bucket: Bucket, channel: str) -> Invoked:
    whole, filled_in = _complete(event)
    s3 = _ReadOnlyS3(bucket.s3, MemoryS3())
    stream = MemoryStream(_OUTPUT, 1, time.time)
    settings = Settings(
        bucket=bucket.name,
        model_channel=channel,
        model_activation_delay_s=ACTIVATION_DELAY_S,
        output_stream=_OUTPUT,
    )
    handler = build_handler(settings, s3, stream)
    try:
        answer: Any = InProcessRuntime(handler, _TIMEOUT_S, _MEMORY_MB, "predictor")(whole)
    except (msgspec.ValidationError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"the event is not as Lambda delivers records of Kinesis: {error}") from error
    published = tuple((key, json.loads(record)) for key, record in stream.take())
    rejects = (json.loads(line) for body in s3.written.bodies("rejects/") for line in body.splitlines())
    return Invoked(kind, filled_in if kind == KINESIS else (), answer, published, tuple(rejects))


def _complete(event: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return an event of Kinesis with all fields that Lambda gives, and the names of those that were missing.

    Hand-written test events often hold nothing but the data. Records of other sources stay as they are.
    """
    records = event["Records"]
    if not isinstance(records, list) or not all(_is_of_kinesis(one) for one in records):
        return event, ()
    numbers, missing = count(_FIRST_SEQUENCE_NUMBER), dict[str, None]()
    completed = []
    for record in records:
        number = record["kinesis"].get("sequenceNumber", str(next(numbers)))
        usual = lambda_record(f"{_SHARD}:{number}", "1", number, round(time.time(), 3), b"", _STREAM_ARN)
        envelope = {name: value for name, value in usual["kinesis"].items() if name != "data"}  # the producer's own
        missing |= dict.fromkeys(name for name in usual if name not in record)
        missing |= dict.fromkeys(f"kinesis.{name}" for name in envelope if name not in record["kinesis"])
        completed.append({**usual, **record, "kinesis": {**envelope, **record["kinesis"]}})
    return {**event, "Records": completed}, tuple(missing)


def _is_of_kinesis(record: object) -> bool:
    return isinstance(record, dict) and isinstance(record.get("kinesis"), dict)


def _base64(data: bytes) -> str:
    return lambda_record("", "", "", 0.0, data, _STREAM_ARN)["kinesis"]["data"]


class _GetObject(Protocol):
    def get_object(self, **request: Any) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class _ReadOnlyS3:
    """Reads a bucket, and keeps in memory what is written."""

    real: _GetObject
    written: MemoryS3

    def get_object(self, **request: Any) -> dict[str, Any]:
        return self.real.get_object(**request)

    def put_object(self, **request: Any) -> dict[str, Any]:
        return self.written.put_object(**request)
