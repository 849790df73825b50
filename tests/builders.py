"""Builders with defaults: ride events, Kinesis records, invocations, bundles, matrices."""

import base64
import io
import json
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from lambda_function.core.bundle import FOREST, GOLDEN, MANIFEST, FileDigest, Manifest, sha256
from lambda_function.core.events import Ride, RideEvent
from lambda_function.core.features import RideColumns, feature_matrix
from lambda_function.core.intervals import KINDS, Interval
from lambda_function.core.records import KinesisRecord, decode_records
from training.data.months import Month
from training.data.rides import Rides
from training.data.synthetic import synthetic_rides
from training.model.bundle import ExportedBundle
from training.model.export import TrainingFacts, export_bundle
from training.model.fit import fit_forest

STREAM = "ride-events"
STREAM_ARN = f"arn:aws:kinesis:us-east-1:123456789012:stream/{STREAM}"
SHARD_ID = "shardId-000000000000"
FIRST_SEQUENCE_NUMBER = 49590338271490256608559692538361571095921575989136588898
ARRIVAL_TIME_S = 1_609_834_500.25  # 2021-01-05T08:15:00.25Z
PICKUP = "2021-01-05T08:15:00"

JANUARY, FEBRUARY = Month(2021, 1), Month(2021, 2)
SMALL_PARAMETERS: dict[str, Any] = {
    "max_iter": 20,
    "max_leaf_nodes": 31,
    "min_samples_leaf": 5,
    "learning_rate": 0.3,
    "random_state": 1,
}

Arrays = dict[str, NDArray[Any]]


def ride_event(ride_id: object = 256, **ride: object) -> dict[str, Any]:
    """Return a ride event; keyword arguments are the ride's fields, None leaves a field out."""
    fields = {
        "PULocationID": 130,
        "DOLocationID": 205,
        "trip_distance": 3.66,
        "pickup_datetime": PICKUP,
        **ride,
    }
    return {"ride": {name: value for name, value in fields.items() if value is not None}, "ride_id": ride_id}


def ride_bytes(ride_id: object = 256, **ride: object) -> bytes:
    """Return a ride event as a producer sends it."""
    return json.dumps(ride_event(ride_id, **ride)).encode()


def raw_ride_bytes(ride_id: str = "256", *, extra: str = "", **ride: str) -> bytes:
    """Return a ride event whose values are JSON texts that an encoder may not write; `extra` follows the last field."""
    fields = {"PULocationID": "130", "DOLocationID": "205", "trip_distance": "3.66", **ride}
    inside = ",".join(f'"{name}":{text}' for name, text in fields.items())
    return f'{{"ride":{{{inside}}},"ride_id":{ride_id}{extra}}}'.encode("utf-8", "surrogatepass")


def sequence_number(position: int) -> str:
    """Return the sequence number of the n-th record of the stream."""
    return str(FIRST_SEQUENCE_NUMBER + position)


def event_id(position: int) -> str:
    """Return the id of the n-th record of the stream and of its prediction."""
    return f"{SHARD_ID}:{sequence_number(position)}"


def lambda_record(data: bytes | str, position: int = 0) -> dict[str, Any]:
    """Return a record in Lambda's format; data that is a string is not encoded as base64."""
    return {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": "1",
            "sequenceNumber": sequence_number(position),
            "data": data if isinstance(data, str) else base64.b64encode(data).decode(),
            "approximateArrivalTimestamp": ARRIVAL_TIME_S + position,
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": event_id(position),
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": "arn:aws:iam::123456789012:role/lambda-role",
        "awsRegion": "us-east-1",
        "eventSourceARN": STREAM_ARN,
    }


def lambda_records(datas: Iterable[bytes | str]) -> list[dict[str, Any]]:
    """Return the stream's first records in Lambda's format."""
    return [lambda_record(data, position) for position, data in enumerate(datas)]


def invocation(*datas: bytes | str) -> dict[str, Any]:
    """Return an invocation with the stream's first records."""
    return {"Records": lambda_records(datas)}


def kinesis_records(*datas: bytes | str) -> list[KinesisRecord]:
    """Return the stream's first records, decoded."""
    return decode_records(invocation(*datas))


def ride_columns_of(n: int = 1, **columns: Iterable[float]) -> RideColumns:
    """Return the columns of n equal rides, with the given columns instead of the defaults."""
    defaults: dict[str, Iterable[float]] = {
        "pickup_zone": [130] * n,
        "dropoff_zone": [205] * n,
        "trip_distance_miles": [3.66] * n,
        "pickup_minute": [26_830_575] * n,
    }
    lists = {name: list(values) for name, values in {**defaults, **columns}.items()}
    return RideColumns(
        pickup_zone=np.array(lists["pickup_zone"], np.int64),
        dropoff_zone=np.array(lists["dropoff_zone"], np.int64),
        trip_distance_miles=np.array(lists["trip_distance_miles"], np.float64),
        pickup_minute=np.array(lists["pickup_minute"], np.int64),
    )


def random_matrix(n: int, seed: int = 0, missing_share: float = 0.1) -> NDArray[np.float64]:
    """Return a feature matrix of made-up rides with a share of missing values."""
    matrix = feature_matrix(synthetic_rides(JANUARY, n, seed).columns)
    rng = np.random.default_rng(seed)
    rng.shuffle(matrix)  # the rides were in order of pickup
    matrix[rng.random(matrix.shape) < missing_share] = np.nan
    return matrix


def stump_arrays(
    threshold: float = 2.0, left: float = 10.0, right: float = 20.0, *, feature: int = 0, missing_right: bool = False
) -> Arrays:
    """Return the arrays of a forest of one tree with one split and two leaves, base 0."""
    leaf_minutes = np.zeros((1, 32))
    leaf_minutes[0, :2] = left, right
    return {
        "split_feature": np.array([feature], np.uint8),
        "split_threshold": np.array([threshold]),
        "split_tree": np.array([0], np.uint16),
        "split_mask": np.array([0xFFFFFFFE], np.uint32),
        "split_missing_right": np.array([missing_right]),
        "leaf_minutes": leaf_minutes,
        "base_minutes": np.array(0.0),
    }


@cache
def small_rides() -> Rides:
    """Return two thousand made-up rides of 2021-01."""
    return synthetic_rides(JANUARY, 2000, seed=7)


@cache
def small_bundle(seed: int = 1) -> ExportedBundle:
    """Return a bundle of twenty trees, fitted once a session; another seed gives another version."""
    parameters = {**SMALL_PARAMETERS, "max_features": 0.5, "random_state": seed}
    return export_bundle(fit_forest(small_rides(), parameters), small_rides(), training_facts(parameters))


def small_interval(**changes: Any) -> Interval:
    """Return an interval of three steps that is wider from kind to kind, for rides from the builders' zone."""
    half_minutes: dict[str, tuple[float, ...]] = {
        kind: (1.25 + number, 2.5 + number, 5.25 + number) for number, kind in enumerate(KINDS)
    }
    interval = Interval(0.8, (74, 130), (8.0, 20.0), half_minutes)
    return msgspec.structs.replace(interval, **changes)


@cache
def interval_bundle() -> ExportedBundle:
    """Return the small bundle with intervals."""
    parameters = {**SMALL_PARAMETERS, "max_features": 0.5, "random_state": 1}
    fitted = fit_forest(small_rides(), parameters)
    return export_bundle(fitted, small_rides(), training_facts(parameters), small_interval())


def training_facts(parameters: dict[str, Any] | None = None) -> TrainingFacts:
    """Return the training facts of the small bundle."""
    return TrainingFacts(
        service="green",
        train_months=(JANUARY,),
        validate_months=(FEBRUARY,),
        parameters=SMALL_PARAMETERS if parameters is None else parameters,
        metrics={"validate": {"rmse_minutes": 5.0}},
    )


def pack(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return arrays as an .npz; arrays of objects are pickled."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=True, **arrays)
    return buffer.getvalue()


def forest_arrays_of(bundle: ExportedBundle) -> Arrays:
    """Return the arrays of a bundle's forest."""
    with np.load(io.BytesIO(bundle.files[FOREST])) as arrays:
        return dict(arrays)


def golden_of(bundle: ExportedBundle) -> list[dict[str, Any]]:
    """Return the golden rides of a bundle."""
    golden: list[dict[str, Any]] = json.loads(bundle.files[GOLDEN])
    return golden


def vouched(files: Mapping[str, bytes], **manifest: object) -> dict[str, bytes]:
    """Return the files of a bundle with a manifest that has their digests and these changes."""
    old = msgspec.json.decode(files[MANIFEST], type=Manifest)
    digests = {name: FileDigest(len(data), sha256(data)) for name, data in files.items() if name != MANIFEST}
    new = msgspec.structs.replace(old, **{"files": digests, **manifest})
    return {**files, MANIFEST: msgspec.json.encode(new)}


def decoded_ride(ride_id: int | str = 256, **ride: Any) -> RideEvent:
    """Return a decoded ride event."""
    event = ride_event(ride_id, **ride)
    return RideEvent(msgspec.convert(event["ride"], Ride), ride_id)
