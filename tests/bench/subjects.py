"""The subject of the benches: models of full size, and a full batch as Lambda brings it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.pipeline import Pipeline

from infra.local.demo.replay import Replay
from infra.operate.lambda_event import lambda_records
from lambda_function.aws.settings import JSON
from lambda_function.core.bundle import bundle_key
from lambda_function.core.channel import BEGINNING, Arm, Channel, Segment, channel_key
from lambda_function.core.features import RideColumns, feature_matrix
from tests.bench.stand_ins import function_around
from tests.course import course_pipeline
from training.data.months import Month
from training.data.rides import Rides
from training.data.synthetic import synthetic_rides
from training.model.bundle import ExportedBundle
from training.model.calibrate import calibrate
from training.model.course import fit_course_forest
from training.model.export import TrainingFacts, export_bundle
from training.model.fit import fit_forest
from training.model.parameters import PARAMETERS

N_TRAIN_RIDES = 60_000
N_ENGINE_RIDES = 10_000
N_BATCH_RIDES = 9_400
"""Nearly the largest batch of Lambda's 6 MB."""

_MONTH, _NEXT_MONTH = Month(2021, 1), Month(2021, 2)
FIRST_SEQUENCE_NUMBER = 49590338271490256608559692538361571095921575989136588898
_STREAM_ARN = "arn:aws:kinesis:us-east-1:123456789012:stream/ride-events"


@dataclass(frozen=True, slots=True)
class Subject:
    """Our model with `PARAMETERS`, fitted and exported, the course's two models, and rides that no model has seen."""

    fitted: HistGradientBoostingRegressor
    bundle: ExportedBundle
    with_intervals: ExportedBundle  # the same model with prediction intervals
    course_linear: Pipeline  # the linear model of the course's lessons
    course_forest: Pipeline  # the forest of the course's streaming lambda
    rides: RideColumns  # 10,000 rides, shuffled
    matrix: NDArray[np.float64]  # their features, float64 (10,000, n_features)
    event: dict[str, Any]  # an invocation with 9,400 ride events


def build_subject() -> Subject:
    """Fit on made-up rides, so that the bench needs no data and times the same trees everywhere."""
    rides = synthetic_rides(_MONTH, N_TRAIN_RIDES, seed=1)
    fitted = fit_forest(rides, PARAMETERS)
    facts = TrainingFacts(
        service="green", train_months=(_MONTH,), validate_months=(), parameters=PARAMETERS, metrics={}
    )
    fresh = synthetic_rides(_NEXT_MONTH, N_TRAIN_RIDES, seed=2)
    shuffled = fresh.take(np.random.default_rng(3).permutation(len(fresh)))
    columns = shuffled.head(N_ENGINE_RIDES).columns
    bundle = export_bundle(fitted, rides, facts)
    interval = calibrate(bundle.model.predict(feature_matrix(shuffled.columns)), shuffled, rides)
    with_intervals = export_bundle(fitted, rides, facts, interval)
    event = invocation(fresh.head(N_BATCH_RIDES))
    linear, forest = course_pipeline(rides), fit_course_forest(rides)
    return Subject(fitted, bundle, with_intervals, linear, forest, columns, feature_matrix(columns), event)


def invocation(rides: Rides) -> dict[str, Any]:
    """Build the event with which Lambda would bring these rides."""
    arrival = datetime(2021, 2, 1, tzinfo=UTC)
    records = [
        {
            "PartitionKey": key,
            "SequenceNumber": str(FIRST_SEQUENCE_NUMBER + number),
            "Data": data,
            "ApproximateArrivalTimestamp": arrival,
        }
        for number, (key, data) in enumerate(Replay(rides, n_malformed=0).entries())
    ]
    return {"Records": lambda_records(records, "shardId-000000000000", _STREAM_ARN)}


def ours(bundle: ExportedBundle, kinesis: Any, output_format: str = JSON) -> Callable[[dict[str, Any]], object]:
    """Build the function with a bucket in memory that contains this bundle."""
    return function_around(bucket_objects(bundle), kinesis, output_format)


def bucket_objects(bundle: ExportedBundle) -> dict[str, bytes]:
    """Return the objects of a bucket with a channel that points at this bundle."""
    segment = Segment(BEGINNING, (Arm(bundle.model_version, bundle.manifest_sha256),))
    channel = Channel(segments=(segment,), moved_at="2021-02-01T00:00:00+00:00")
    return {
        channel_key("stable"): msgspec.json.encode(channel),
        **{bundle_key(bundle.model_version, name): data for name, data in bundle.files.items()},
    }
