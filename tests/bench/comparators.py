"""Alternative handlers: the bench reports its ratios against these."""

import base64
import gzip
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.pipeline import Pipeline

from lambda_function.core.features import RideColumns, feature_matrix

_CHUNK = 500


def plain_batched(fitted: HistGradientBoostingRegressor, kinesis: Any) -> Callable[[dict[str, Any]], object]:
    """Build the batched handler that most people would write: json, pandas, scikit-learn, put_records.

    It has our features and model, and no checks, rejects or retries.
    """

    def run(event: dict[str, Any]) -> object:
        events = [json.loads(base64.b64decode(record["kinesis"]["data"])) for record in event["Records"]]
        minutes = fitted.predict(feature_matrix(_columns(pd.DataFrame([one["ride"] for one in events]))))
        out = [
            {"Data": json.dumps(_prediction(one["ride_id"], minute)), "PartitionKey": str(one["ride_id"])}
            for one, minute in zip(events, minutes, strict=True)
        ]
        for start in range(0, len(out), _CHUNK):
            kinesis.put_records(StreamName="ride-predictions", Records=out[start : start + _CHUNK])
        return None

    return run


def one_by_one(pipeline: Pipeline, kinesis: Any) -> Callable[[dict[str, Any]], object]:
    """Build the course's handler: it predicts each ride by DictVectorizer and model, and publishes it by a put_record.

    Args:
        pipeline: One of the course's models: `tests.course.course_pipeline`, or the forest of `training.model.course`.
        kinesis: A boto3 client.
    """

    def run(event: dict[str, Any]) -> object:
        predictions = []
        for record in event["Records"]:
            ride_event = json.loads(base64.b64decode(record["kinesis"]["data"]).decode("utf-8"))
            ride, ride_id = ride_event["ride"], ride_event["ride_id"]
            features = {
                "PU_DO": f"{ride['PULocationID']}_{ride['DOLocationID']}",
                "trip_distance": ride["trip_distance"],
            }
            prediction = _prediction(ride_id, pipeline.predict(features)[0])
            kinesis.put_record(StreamName="ride-predictions", Data=json.dumps(prediction), PartitionKey=str(ride_id))
            predictions.append(prediction)
        return {"predictions": predictions}

    return run


def plain_archive(event: dict[str, Any]) -> bytes:
    """Encode a batch's object as most people would write it: json, gzip, no checks."""
    lines = []
    for record in event["Records"]:
        kinesis = record["kinesis"]
        line = {
            "id": record["eventID"],
            "at": kinesis["approximateArrivalTimestamp"],
            "key": kinesis["partitionKey"],
            "data": json.loads(base64.b64decode(kinesis["data"])),
        }
        lines.append(json.dumps(line) + "\n")
    return gzip.compress("".join(lines).encode())


def _columns(frame: pd.DataFrame) -> RideColumns:
    pickup = pd.to_datetime(frame["pickup_datetime"]).to_numpy()
    return RideColumns(
        frame["PULocationID"].to_numpy(),
        frame["DOLocationID"].to_numpy(),
        frame["trip_distance"].to_numpy(),
        pickup.astype("datetime64[m]").astype(np.int64),
    )


def _prediction(ride_id: int | str, minutes: float) -> dict[str, Any]:
    return {
        "model": "ride_duration_prediction_model",
        "version": "123",
        "prediction": {"ride_duration": float(minutes), "ride_id": ride_id},
    }
