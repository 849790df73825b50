"""Months of rides that are sent as events with outcomes, archived, joined and read again give their own model again."""

import numpy as np
import pytest

from infra.local.demo.replay import ride_events
from infra.local.s3 import MemoryS3
from infra.operate.outcomes import outcome_entries
from lambda_function.core.bundle import MANIFEST
from lambda_function.core.records import OUTCOMES, PREDICTIONS, RIDES
from tests.builders import FEBRUARY, JANUARY, SMALL_PARAMETERS, interval_bundle
from tests.builders_archive import HOUR, archive, archived_record, predictions_of
from tests.builders_tlc import real_rides
from training.data.months import Month
from training.data.rides import Rides, concat_rides
from training.data.synthetic import synthetic_rides
from training.monitoring.join.join import join_hour
from training.monitoring.join.options import JoinOptions
from training.registry.bucket import Bucket
from training.workflows.pipeline import train
from training.workflows.ride_source import labelled_source

N_SHARDS = 3
PARAMETERS = {**SMALL_PARAMETERS, "max_iter": 10}


def joined_bucket(rides: Rides) -> Bucket:
    """Send rides and their outcomes over three shards within an hour, predict, archive and join them."""
    model, bucket = interval_bundle().model, Bucket(MemoryS3(), "b", n_threads=1)
    spacing_s = 3599 / len(rides)
    datas = ride_events(rides, range(len(rides)))
    for shard in range(N_SHARDS):
        name, places = f"shardId-{shard:012d}", range(shard, len(rides), N_SHARDS)
        records = [
            archived_record(datas[place], round(HOUR.start_s + place * spacing_s, 3), place, key=str(place), shard=name)
            for place in places
        ]
        archive(bucket.s3, RIDES, records)
        archive(bucket.s3, PREDICTIONS, predictions_of(records, model))
    outcomes = [
        archived_record(data, round((HOUR + 1).start_s + place * spacing_s, 3), place, key=key)
        for place, (key, data) in enumerate(outcome_entries(rides))
    ]
    archive(bucket.s3, OUTCOMES, outcomes)
    summary = join_hour(bucket, HOUR, JoinOptions(threads=1), load=lambda _: model)
    assert (summary.n_labelled, summary.n_skewed) == (len(rides), 0)
    return bucket


def assert_same_model(sent: tuple[Rides, Rides], months: tuple[Month, Month]) -> None:
    source = labelled_source(joined_bucket(concat_rides(sent)))
    again = source.load(months[:1]), source.load(months[1:])
    for before, after in zip(sent, again, strict=True):
        assert np.array_equal(before.pickup_time, after.pickup_time)
        assert np.array_equal(before.duration_minutes, after.duration_minutes)
    direct, labelled = (train("green", *rides, PARAMETERS).bundle for rides in (sent, again))
    assert {name for name in direct.files if direct.files[name] != labelled.files[name]} == {MANIFEST}
    assert direct.model.manifest.interval == labelled.model.manifest.interval
    assert direct.model.manifest.metrics == labelled.model.manifest.metrics


def test_made_up_months_give_the_same_model_again() -> None:
    sent = synthetic_rides(JANUARY, 1500, seed=7), synthetic_rides(FEBRUARY, 500, seed=7)
    assert_same_model(sent, (JANUARY, FEBRUARY))


@pytest.mark.slow
def test_real_months_give_the_same_model_again() -> None:
    sent = real_rides("2021-01").head(20_000), real_rides("2021-02").head(3_000)
    assert_same_model(sent, (JANUARY, FEBRUARY))
