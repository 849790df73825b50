"""A rehearsal: a version of the function predicts the golden rides and returns the predictions without publishing.

An invocation with ``"rehearsal": true`` beside its ``Records`` is a rehearsal. Only a caller that may invoke the
function can write that: Lambda builds the invocations of the stream, and a producer controls only `data` (in base64)
and the partition key. A rehearsal writes to no stream, no bucket and no metric.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from lambda_function.core.bundle import GoldenRide, Manifest, golden_columns
from lambda_function.core.calibration import Calibration, CalibrationTable, ride_cells
from lambda_function.core.events import DURATION_DECIMALS, Prediction, decode_prediction
from lambda_function.core.features import feature_matrix
from lambda_function.core.intervals import IntervalTables
from lambda_function.core.processor import ModelFrom, process
from lambda_function.core.records import KinesisRecord

_MARK = "rehearsal"
_SHARD_ID = "shardId-000000000000"
_STREAM = "rehearsal"

TOLERANCE_MINUTES = 0.5 * 10**-DURATION_DECIMALS + 1e-9
"""Half of the rounding step of a published prediction, plus `bundle.PARITY_MINUTES`; golden minutes are not rounded."""


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A version's answer: its model's served version, the predictions as it would publish them, and the rejects.

    In a split, the champion predicts the golden rides. The candidate has loaded, and with that predicted its own.
    """

    model_version: str
    predictions: tuple[str, ...]
    rejects: tuple[str, ...]
    candidate_version: str | None = None


def is_rehearsal(event: Mapping[str, Any]) -> bool:
    """Return whether an invocation is a rehearsal."""
    return event.get(_MARK) is True


def rehearse(records: Sequence[KinesisRecord], models: ModelFrom) -> dict[str, Any]:
    """Predict as for the stream and return an `Answer` as JSON values."""
    batch = process(records, models.model)
    answer = Answer(
        model_version=models.model.served_version,
        candidate_version=models.candidate_version,
        predictions=tuple(data.decode() for _, data in batch.entries),
        rejects=tuple(f"{reject.sequence_number}: {reject.detail}" for _, reject in batch.rejects),
    )
    built: dict[str, Any] = msgspec.to_builtins(answer)
    return built


def rehearsal_event(golden: Sequence[GoldenRide]) -> dict[str, Any]:
    """Build the invocation: golden rides in Lambda's envelope, with their index as sequence number.

    They arrive at the epoch: `bundle.py` takes that as the start of a golden ride without a pickup time.
    """
    return {_MARK: True, "Records": [_record(place, ride) for place, ride in enumerate(golden)]}


def _record(place: int, ride: GoldenRide) -> dict[str, Any]:
    return {
        "eventID": f"{_SHARD_ID}:{place}",
        "eventSourceARN": f"arn:aws:kinesis:::stream/{_STREAM}",
        "kinesis": {
            "partitionKey": str(place),
            "sequenceNumber": str(place),
            "approximateArrivalTimestamp": 0.0,
            "data": base64.b64encode(bytes(ride.event)).decode(),
        },
    }


def decode_answer(payload: bytes) -> Answer:
    """Decode a version's answer.

    Raises:
        msgspec.MsgspecError: The payload is no answer to a rehearsal.
    """
    return msgspec.json.decode(payload, type=Answer)


def served_golden_rides(
    golden: Sequence[GoldenRide], manifest: Manifest, calibration: Calibration | None
) -> list[GoldenRide]:
    """Return golden rides with the minutes and the interval that their model serves with a calibration.

    They are computed from the exported minutes, without the forest. Without a calibration they stay as they are.
    """
    if calibration is None:
        return list(golden)
    rides, range_minutes = golden_columns(golden), manifest.duration_range_minutes
    matrix = feature_matrix(rides)
    raw = np.array([one.duration_minutes for one in golden])
    minutes = CalibrationTable.of(calibration, range_minutes).minutes(raw, ride_cells(rides, matrix))
    intervals: list[tuple[float, float] | None] = [None] * len(golden)
    if manifest.interval:
        tables = IntervalTables.of(manifest.interval, range_minutes, calibration.interval_scale)
        low, high = (ends.tolist() for ends in tables.bounds(minutes, matrix))
        intervals = list(zip(low, high, strict=True))
    return [
        GoldenRide(one.event, served, interval)
        for one, served, interval in zip(golden, minutes.tolist(), intervals, strict=True)
    ]


def problem_with(answer: Answer, golden: Sequence[GoldenRide]) -> str:
    """Return the first problem of an answer to these golden rides, which are as they are served, or ""."""
    if answer.rejects:
        return f"it rejects {len(answer.rejects)} golden rides, the first is {answer.rejects[0]}"
    if len(answer.predictions) != len(golden):
        return f"it predicts {len(answer.predictions)} of {len(golden)} golden rides"
    for place, (text, ride) in enumerate(zip(answer.predictions, golden, strict=True)):
        try:
            prediction = decode_prediction(text)
        except msgspec.MsgspecError as error:
            return f"its prediction of golden ride {place} does not decode: {error}"
        if problem := _problem(prediction, ride, place, answer.model_version):
            return f"golden ride {place} {problem}"
    return ""


def _problem(prediction: Prediction, ride: GoldenRide, place: int, model_version: str) -> str:
    got = (prediction.prediction_id, prediction.version)
    wanted = (f"{_SHARD_ID}:{place}", model_version)
    if got != wanted:
        return f"is answered as {got}, where {wanted} is asked"
    minutes = prediction.prediction.ride_duration
    if not math.isclose(minutes, ride.duration_minutes, rel_tol=0, abs_tol=TOLERANCE_MINUTES):
        return f"is predicted to take {minutes} minutes, and takes {ride.duration_minutes:.4f}"
    if prediction.interval != ride.interval:
        return f"has the interval {prediction.interval}, where {ride.interval} is right"
    return ""
