"""The join of an hour: which outcome belongs to which ride, and what a damaged or odd archive does to it."""

import io
from typing import Any

import pyarrow.parquet as pq

from tests.builders import interval_bundle
from tests.builders_archive import HOUR, ArchivedStreams
from training.monitoring.join import join_hour, labelled_key
from training.monitoring.options import JoinOptions
from training.monitoring.summary import HourSummary, load_summary
from training.registry.bucket import Bucket

OPTIONS = JoinOptions(threads=1)


def load(_: str) -> Any:
    return interval_bundle().model


def join(bucket: Bucket, pass_number: int = 1, **options: Any) -> HourSummary:
    """Join HOUR."""
    return join_hour(bucket, HOUR, JoinOptions(**{"threads": 1, **options}), pass_number, load)


def rides(bucket: Bucket) -> list[dict[str, Any]]:
    """The labelled rides of HOUR, in their order."""
    return read_parquet(bucket.s3.objects[labelled_key(HOUR)])


def read_parquet(body: bytes) -> list[dict[str, Any]]:

    found: list[dict[str, Any]] = pq.read_table(io.BytesIO(body)).to_pylist()
    return found


def durations(bucket: Bucket) -> list[float | None]:
    return [ride["duration_minutes"] for ride in rides(bucket)]


def test_ride_with_prediction_and_outcome_is_labelled() -> None:
    streams = ArchivedStreams()
    event_id = streams.ride(256, 5)
    outcome_id = streams.outcome(256, 25, 17.4)
    bucket = streams.store()
    summary = join(bucket)
    [ride] = rides(bucket)
    assert (ride["event_id"], ride["ride_id"], ride["outcome_id"]) == (event_id, "256", outcome_id)
    assert (ride["duration_minutes"], ride["predicted_minutes"], ride["status"]) == (17.4, 17.98, "labelled")
    assert (summary.n_ride_events, summary.n_labelled, summary.n_recomputed, summary.n_skewed) == (1, 1, 1, 0)
    assert summary == load_summary(bucket, HOUR)
