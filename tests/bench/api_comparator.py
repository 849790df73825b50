"""A handler as most people would deploy it behind an HTTP API: json, scikit-learn, and its model unpickled from S3.

It runs as a package of its own, this file alone, with the whole environment's site-packages beside it.
"""

import json
import os
import pickle
from functools import cache
from typing import Any

import boto3
from sklearn.ensemble import HistGradientBoostingRegressor

s3: Any = boto3.client("s3")


@cache
def _model() -> HistGradientBoostingRegressor:
    body = s3.get_object(Bucket=os.environ["BUCKET"], Key=os.environ["MODEL_KEY"])["Body"]
    return pickle.loads(body.read())  # noqa: S301 - what the comparison is with


def lambda_handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Predicts one ride; of the features it fills in the distance only, which costs it nothing, and checks nothing."""
    ride_event = json.loads(event["body"])
    row = [ride_event["ride"]["trip_distance"]] + [0.0] * (_model().n_features_in_ - 1)
    minutes = float(_model().predict([row])[0])
    prediction = {"model": "ride_duration_prediction_model", "version": "123"}
    prediction["prediction"] = {"ride_duration": minutes, "ride_id": ride_event["ride_id"]}  # type: ignore[assignment]
    return {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": json.dumps(prediction)}
