"""Forgetting a ride of hours that are joined: labelled rides, summaries and audits stay consistent."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.operate.forget.forget import Forget
from infra.operate.forget.without import RideSearch
from lambda_function.aws.rejects import RejectStore
from lambda_function.core.processor import process
from tests.builders_archive import HOUR, ArchivedStreams
from training.monitoring.join.join import join_hour, labelled_key
from training.monitoring.join.options import JoinOptions
from training.monitoring.summary import HourSummary
from training.registry.bucket import Bucket

MODEL = ArchivedStreams().model


def rides_of_an_hour(*, has_anna: bool = True) -> Bucket:
    """The archive of an hour: ids in both types, one used twice, a ride without outcome, one that is rejected."""
    streams = ArchivedStreams(MODEL)
    for minute, ride in enumerate(("anna", 256, "bert", 257, "anna")):
        streams.ride(ride, minute)
        if ride != 257:
            streams.outcome(ride, minute + 20)
    streams.ride("anna", 59, is_predicted=False, data=b'{"ride_id": "anna"}')
    if not has_anna:
        for records in (streams.rides, streams.predictions, streams.outcomes):
            records[:] = [one for one in records if b'"anna"' not in one.envelope.data]
    bucket = streams.store()
    if rejects := [reject for _, reject in process(streams.rides, MODEL).rejects]:
        RejectStore(bucket.s3, bucket.name).store("ride-events", rejects, lambda: 60.0)
    return bucket


def join(bucket: Bucket) -> HourSummary:
    return join_hour(bucket, HOUR, JoinOptions(), load=lambda _: MODEL)


def forget(bucket: Bucket, ride_id: str = "anna") -> None:
    run = Forget(bucket, RideSearch(ride_id))
    run.run(run.objects())


def stored(bucket: Bucket, prefix: str) -> dict[str, bytes]:
    return {one.key: one.body for one in bucket.read_all(bucket.keys(prefix))}


def labelled_rides(bucket: Bucket) -> pa.Table:
    return pq.read_table(io.BytesIO(stored(bucket, "labelled/")[labelled_key(HOUR)]))


def test_hour_that_is_joined_again_is_what_it_was_without_the_ride() -> None:
    bucket, expected = rides_of_an_hour(), rides_of_an_hour(has_anna=False)
    before = join(bucket)
    assert (before.n_labelled, before.n_ride_events, before.n_rejected) == (3, 6, 1)
    forget(bucket)
    again = join(bucket)
    assert (again.n_labelled, again.n_ride_events, again.n_rejected) == (2, 3, 0)
    assert (again.n_lost, again.n_conflicting, again.n_skewed, again.n_outcomes_unmatched) == (0, 0, 0, 0)
    assert again == join(expected)
    for prefix in ("archive/", "labelled/", "monitor/", "rejects/"):
        assert stored(bucket, prefix) == stored(expected, prefix)


def test_labelled_rides_are_those_of_a_join_without_the_ride_and_the_summary_stays() -> None:
    bucket, expected = rides_of_an_hour(), rides_of_an_hour(has_anna=False)
    join(bucket)
    summary = stored(bucket, "monitor/")
    forget(bucket)
    join(expected)
    assert stored(bucket, "labelled/") == stored(expected, "labelled/")
    assert stored(bucket, "monitor/") == summary


@pytest.mark.parametrize("ride_id", ["256", "257", "anna", "nobody"])
def test_audit_stays_0_whichever_ride_is_forgotten(ride_id: str) -> None:
    bucket = rides_of_an_hour()
    join(bucket)
    forget(bucket, ride_id)
    assert ride_id not in labelled_rides(bucket)["ride_id"].to_pylist()
    after = join(bucket)
    assert (after.n_lost, after.n_conflicting, after.n_skewed, after.n_outcomes_unmatched) == (0, 0, 0, 0)


def test_labelled_rides_have_the_same_schema_in_hours_with_nulls_and_without() -> None:
    full, empty = ArchivedStreams(MODEL), ArchivedStreams(MODEL)
    full.ride(1, 0)
    full.outcome(1, 20)
    empty.ride(2, 0, is_predicted=False)
    schemas = []
    for streams in (full, empty):
        bucket = streams.store()
        join(bucket)
        schemas.append(labelled_rides(bucket).schema)
    assert schemas[0] == schemas[1]
    assert {column.nullable for column in schemas[0]} == {True}
