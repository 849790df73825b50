"""Handlers as most people would deploy them: json, scikit-learn, and its model unpickled from S3.

They run as a package of their own, this file only, with all site-packages of the environment beside it. Of the features
they fill in the distance only, which saves them time, and they check nothing.
"""

import base64
import json
import os
import pickle
from functools import cache
from typing import Any

import boto3
from sklearn.ensemble import HistGradientBoostingRegressor

s3: Any = boto3.client("s3")
kinesis: Any = boto3.client("kinesis")


@cache
def _model() -> HistGradientBoostingRegressor:
    body = s3.get_object(Bucket=os.environ["BUCKET"], Key=os.environ["MODEL_KEY"])["Body"]
    return pickle.loads(body.read())  # noqa: S301 - part of the comparison


def _minutes(ride_events: list[dict[str, Any]]) -> list[float]:
    rows = [[one["ride"]["trip_distance"]] + [0.0] * (_model().n_features_in_ - 1) for one in ride_events]
    minutes: list[float] = _model().predict(rows).tolist()
    return minutes


def stream_handler(event: dict[str, Any], context: object) -> None:
    """Predict and publish the rides of a batch."""
    events = [json.loads(base64.b64decode(record["kinesis"]["data"])) for record in event["Records"]]
    records = [
        {"Data": json.dumps({"ride_duration": minutes, "ride_id": one["ride_id"]}), "PartitionKey": str(one["ride_id"])}
        for one, minutes in zip(events, _minutes(events), strict=True)
    ]
    kinesis.put_records(StreamName=os.environ["OUTPUT_STREAM"], Records=records)


def api_handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Predict the ride of one HTTP request."""
    ride_event = json.loads(event["body"])
    (minutes,) = _minutes([ride_event])
    prediction = {
        "model": "ride_duration_prediction_model",
        "version": "123",
        "prediction": {"ride_duration": minutes, "ride_id": ride_event["ride_id"]},
    }
    return {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": json.dumps(prediction)}
