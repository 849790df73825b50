"""A function with a bug, stricter than it may be: it rejects rides of five miles and more, and predicts the others."""

import importlib
import json
import os
from typing import Any

import boto3

import lambda_function.handler
from lambda_function.aws.rejects import RejectStore
from lambda_function.core.events import INVALID_FIELD
from lambda_function.core.records import build_reject, decode_records, stream_name
from lambda_function.core.replay import is_replay, replay_result
from lambda_function.errors import RejectError

LIMIT_MILES = 5.0

_real = importlib.reload(lambda_function.handler)  # its clients belong to the environment of now


def lambda_handler(event: dict[str, Any], context: Any) -> object:
    """Handles a batch, and rejects too much of it."""
    pairs = list(zip(event["Records"], decode_records(event), strict=True))
    is_long = [json.loads(record.data())["ride"]["trip_distance"] >= LIMIT_MILES for _, record in pairs]
    error = RejectError(INVALID_FIELD, "too far for us - at `$.ride.trip_distance`")
    rejects = [build_reject(record, error) for (_, record), long in zip(pairs, is_long, strict=True) if long]
    if rejects:
        s3: Any = boto3.client("s3")
        RejectStore(s3, os.environ["BUCKET"]).store(stream_name(event), rejects, lambda: 1.0)
    short = [record for (record, _), long in zip(pairs, is_long, strict=True) if not long]
    answer = _real.lambda_handler({**event, "Records": short}, context)
    return answer | replay_result([record for _, record in pairs], rejects) if is_replay(event) else answer
