"""The join of an hour: which outcome belongs to which ride, and what a damaged or odd archive does to it."""

import gzip
import io
from collections.abc import Sequence
from typing import Any

import duckdb
import msgspec
import pyarrow.parquet as pq
import pytest

from infra.local.s3 import MemoryS3
from lambda_function.core.events import decode_reject
from lambda_function.core.outcomes import decode_outcomes
from lambda_function.core.records import OUTCOMES, PREDICTIONS, RIDES, KinesisRecord
from tests.builders import interval_bundle, ride_bytes
from tests.builders_archive import HOUR, ArchivedStreams, archive, predictions_of
from training.data.labelled import COLUMNS
from training.errors import BucketError, UserError
from training.monitoring.hours import FIRST, SECOND
from training.monitoring.join.join import join_hour, labelled_key
from training.monitoring.join.options import JoinOptions
from training.monitoring.summary import HourSummary, encode_summary, load_summary, summary_key
from training.registry.bucket import Bucket


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


def test_ride_without_outcome_keeps_its_prediction() -> None:
    streams = ArchivedStreams()
    streams.ride(256, 5)
    bucket = streams.store()
    assert join(bucket).n_without_outcome == 1
    [ride] = rides(bucket)
    assert (ride["status"], ride["duration_minutes"], ride["outcome_time"]) == ("no_outcome", None, None)


def test_hour_without_any_object_is_an_empty_hour() -> None:
    bucket = ArchivedStreams().store()
    summary = join(bucket)
    assert (summary.n_ride_events, summary.rmse_minutes, summary.damaged_objects) == (0, None, ())
    assert rides(bucket) == []
    assert summary_key(HOUR) in bucket.s3.objects


def test_columns_have_the_types_of_labelled_rides() -> None:
    bucket = ArchivedStreams().store()
    join(bucket)
    with duckdb.connect() as connection:
        stored = pq.read_table(io.BytesIO(bucket.s3.objects[labelled_key(HOUR)]))  # noqa: F841 - DuckDB finds it
        found = connection.execute("describe select * from stored").fetchall()
    assert [(name, kind) for name, kind, *_ in found] == [(column.name, column.duckdb) for column in COLUMNS]


@pytest.mark.parametrize(
    ("ride_id", "outcome_id", "is_same"),
    [(256, "256", True), ("256", 256, True), ("0256", 256, False), (10**30, str(10**30), True), ("a\n", "a\n", True)],
)
def test_ids_match_by_their_text(ride_id: object, outcome_id: object, is_same: bool) -> None:
    streams = ArchivedStreams()
    streams.ride(ride_id, 5)
    streams.outcome(outcome_id, 25)
    bucket = streams.store()
    assert join(bucket).n_labelled == is_same


def test_outcome_before_its_ride_event_is_unmatched() -> None:
    streams = ArchivedStreams()
    streams.ride(256, 5)
    streams.outcome(256, 4.9)
    summary = join(streams.store())
    assert (summary.n_labelled, summary.n_outcomes, summary.n_outcomes_unmatched) == (0, 1, 1)


def test_outcome_of_an_unknown_id_is_unmatched_and_that_of_an_earlier_hour_is_not() -> None:
    streams = ArchivedStreams()
    streams.ride("earlier", -30)
    streams.ride("much earlier", -200)
    for ride_id in ("earlier", "much earlier", "unknown"):
        streams.outcome(ride_id, 10)
    summary = join(streams.store())
    assert (summary.n_ride_events, summary.n_outcomes, summary.n_outcomes_unmatched) == (0, 3, 2)


def test_each_outcome_goes_to_the_last_ride_event_with_its_id() -> None:
    streams = ArchivedStreams()
    for minute in (0, 20, 40):
        streams.ride(256, minute)
        streams.outcome(256, minute + 15, 10.0 + minute)
    bucket = streams.store()
    join(bucket)
    assert durations(bucket) == [10.0, 30.0, 50.0]


def test_ride_event_of_a_later_hour_takes_the_outcome_and_one_of_an_earlier_hour_does_not() -> None:
    streams = ArchivedStreams()
    streams.ride("again", 50)
    streams.ride("before", 50)
    streams.ride("again", 70)
    streams.ride("before", -20)
    streams.outcome("again", 80)
    streams.outcome("before", 80)
    bucket = streams.store()
    join(bucket)
    assert [(ride["ride_id"], ride["status"]) for ride in rides(bucket)] == [
        ("again", "no_outcome"),
        ("before", "labelled"),
    ]


def test_ride_event_of_a_later_hour_takes_the_outcome_of_the_same_millisecond() -> None:
    streams = ArchivedStreams()
    for minute in (50, 60):
        streams.ride(256, minute)
    streams.outcome(256, 60)
    assert join(streams.store()).n_labelled == 0


def test_first_outcome_that_arrived_counts_and_another_duration_is_contradicting() -> None:
    streams = ArchivedStreams()
    streams.ride("same", 5)
    streams.ride("other", 5)
    for ride_id, minute, duration in (("same", 20, 9.0), ("same", 21, 9.0), ("other", 31, 8.0), ("other", 30, 7.0)):
        streams.outcome(ride_id, minute, duration)
    bucket = streams.store()
    assert join(bucket).n_contradicting == 1
    assert {ride["ride_id"]: (ride["duration_minutes"], ride["contradicting"]) for ride in rides(bucket)} == {
        "same": (9.0, False),
        "other": (7.0, True),
    }


def test_outcome_with_a_drop_off_alone_lasts_from_the_pickup_of_its_ride_event() -> None:
    streams = ArchivedStreams()
    streams.ride("event", 5, pickup_datetime="2026-08-01T05:00:00")
    streams.ride("outcome", 6, pickup_datetime="2026-08-01T05:00:00")
    streams.ride("arrival", 7, pickup_datetime=None)
    streams.outcome("event", 30, dropoff_datetime="2026-08-01T05:18:00")
    streams.outcome("outcome", 30, dropoff_datetime="2026-08-01T05:18:00", pickup_datetime="2026-08-01T05:01:00")
    streams.outcome("arrival", 30, dropoff_datetime="2026-08-01T09:18:00Z")
    bucket = streams.store()
    join(bucket)
    assert durations(bucket) == [18.0, 17.0, 11.0]
    assert [ride["has_pickup_time"] for ride in rides(bucket)] == [True, True, False]


def test_drop_off_before_the_pickup_gives_no_duration_and_the_next_outcome_counts() -> None:
    streams = ArchivedStreams()
    streams.ride(256, 5, pickup_datetime="2026-08-01T05:00:00")
    streams.outcome(256, 30, dropoff_datetime="2026-08-01T04:18:00")
    streams.outcome(256, 31, 12.0)
    bucket = streams.store()
    summary = join(bucket)
    assert (summary.n_outcomes_unusable, summary.n_contradicting) == (1, 0)
    assert durations(bucket) == [12.0]


@pytest.mark.parametrize("duration", [-1, 0, 10_000, None, "long"])
def test_outcome_that_is_none_becomes_a_reject_of_its_stream(duration: object) -> None:
    streams = ArchivedStreams()
    streams.ride(256, 5)
    bad = streams.outcome(256, 25, duration)
    bucket = streams.store()
    summary = join(bucket)
    assert (summary.n_outcomes, summary.n_outcomes_rejected, summary.n_without_outcome) == (0, 1, 1)
    [key] = bucket.keys("rejects/ride-outcomes/")
    assert decode_reject(bucket.s3.objects[key]).event_id == bad
    join(bucket)
    assert list(bucket.keys("rejects/ride-outcomes/")) == [key]


@pytest.mark.parametrize(
    "data",
    [
        b'{"ride_id":256,\n"outcome":{"ride_duration":9}}',
        b'{"ride_id":256,"outcome":{"ride_duration":9},"note":"\xff"}',
        b'{"ride_id":256,"outcome":{"ride_duration":9},"note":' + b"[" * 2000 + b"]" * 2000 + b"}",
        b'{"ride_id":256,"outcome":{"ride_duration":9},"note":1e999}',
        b'{"ride_id":1,"outcome":{"ride_duration":7}}{"ride_id":256,"outcome":{"ride_duration":9}}',
    ],
)
@pytest.mark.parametrize("minute", [25, 90])  # in the hour, where all is decoded, and later, where lines are chosen
def test_hostile_outcomes_spoil_no_other_and_are_read_as_the_decoder_reads_them(data: bytes, minute: int) -> None:
    streams = ArchivedStreams()
    streams.ride(256, 5)
    streams.ride(257, 5)
    streams.outcome(data=data, minute=minute)
    streams.outcome(257, minute, 3.0)
    bucket = streams.store()
    summary = join(bucket)
    outcomes, _ = decode_outcomes(streams.outcomes[0])
    expected = next((outcome.ride_duration for _, outcome in outcomes if outcome.ride_id == 256), None)
    assert durations(bucket) == [expected, 3.0]
    assert summary.damaged_objects == ()


def test_clock_of_a_producer_that_runs_a_day_ahead_changes_the_pickup_only() -> None:
    streams = ArchivedStreams()
    streams.ride(256, 5, pickup_datetime="2026-08-02T05:05:00")
    streams.outcome(256, 25, 17.4)
    bucket = streams.store()
    assert join(bucket).n_labelled == 1
    [ride] = rides(bucket)
    assert (ride["pickup_time"].day, ride["arrival_time"].day) == (2, 1)


def test_parts_of_a_record_are_rides_of_their_own() -> None:
    streams = ArchivedStreams()
    event_id = streams.ride(data=ride_bytes(1) + ride_bytes(2), minute=5)
    streams.outcome(2, 25)
    bucket = streams.store()
    summary = join(bucket)
    assert [ride["event_id"] for ride in rides(bucket)] == [f"{event_id}:0", f"{event_id}:1"]
    assert (summary.n_labelled, summary.n_without_outcome, summary.n_skewed) == (1, 1, 0)


def test_prediction_that_comes_in_a_later_hour_counts_and_is_compared() -> None:
    streams = ArchivedStreams()
    late, changed = streams.ride(1, 58, is_predicted=False), streams.ride(2, 59, is_predicted=False)
    first, second = predictions_of(streams.rides, streams.model)
    streams.add_prediction(first.envelope.data, 200)
    streams.add_prediction(second.envelope.data.replace(b"17.98", b"17.99"), 201)
    bucket = streams.store()
    summary = join(bucket)
    assert (summary.n_without_outcome, summary.n_recomputed, summary.n_skewed, summary.n_lost) == (2, 2, 1, 0)
    assert {ride["event_id"]: ride["skewed"] for ride in rides(bucket)} == {late: False, changed: True}


def test_prediction_whose_stream_dates_it_before_the_hour_is_found() -> None:
    streams = ArchivedStreams()
    streams.ride(1, 0, is_predicted=False)
    [prediction] = predictions_of(streams.rides, streams.model)
    streams.add_prediction(prediction.envelope.data, -0.001)
    summary = join(streams.store())
    assert (summary.n_without_outcome, summary.n_recomputed, summary.n_lost, summary.n_waiting) == (1, 1, 0, 0)


def test_predictions_after_the_horizon_count_when_the_hour_is_joined_again() -> None:
    streams = ArchivedStreams()
    for number in range(4):
        streams.ride(number, number, is_predicted=False)
    bucket = streams.store()
    summary = join(bucket)
    assert (summary.n_waiting, summary.n_lost) == (4, 0)
    for place, prediction in enumerate(predictions_of(streams.rides, streams.model)):
        if place != 1:  # it is lost
            streams.add_prediction(prediction.envelope.data, 60 * 7)
    bucket = streams.store()
    for pass_number in (FIRST, SECOND):
        summary = join(bucket, pass_number)
        assert (summary.n_without_outcome, summary.n_recomputed) == (3, 3)
        assert (summary.n_waiting, summary.n_lost) == (0, 1)


def test_outcome_after_the_horizon_counts_in_the_second_pass() -> None:
    streams = ArchivedStreams()
    streams.ride(1, 5)
    streams.ride(2, 6)
    streams.outcome(1, 60 + 179.9, 50.0)
    streams.outcome(2, 60 + 180, 51.0)
    bucket = streams.store()
    assert (join(bucket).n_labelled, durations(bucket)) == (1, [50.0, None])
    summary = join(bucket, SECOND)
    assert (summary.n_labelled, summary.pass_number, durations(bucket)) == (2, SECOND, [50.0, 51.0])


def test_outcome_delay_moves_the_horizon() -> None:
    streams = ArchivedStreams()
    streams.ride(1, 5)
    streams.outcome(1, 60 + 90, 50.0)
    bucket = streams.store()
    assert join(bucket, outcome_delay_minutes=30).n_labelled == 0
    assert join(bucket, outcome_delay_minutes=31).n_labelled == 1


def test_two_predictions_of_one_version_that_differ_conflict_and_the_first_stands() -> None:
    streams = ArchivedStreams()
    streams.ride(1, 5)
    streams.add_prediction(streams.predictions[0].envelope.data.replace(b"17.98", b"17.99"), 5.5)
    bucket = streams.store()
    summary = join(bucket)
    assert (summary.n_conflicting, summary.n_skewed, summary.n_lost) == (1, 0, 0)
    assert [(ride["predicted_minutes"], ride["conflicting"]) for ride in rides(bucket)] == [(17.98, True)]


def damaged(body: bytes) -> dict[str, bytes]:
    """An object's body, damaged in each way."""
    lines = gzip.decompress(body)
    return {
        "cut short": body[:-9],
        "empty": b"",
        "not gzip": lines,
        "a wrong CRC": body[:-8] + bytes([body[-8] ^ 1]) + body[-7:],
        "a line that is none": gzip.compress(lines + b"{]\n"),
        "a line without data": gzip.compress(lines + b'{"id":"s-0:1","at":1.0,"key":"1"}\n'),
        "something behind it": body + b"x",
    }


@pytest.mark.parametrize("way", damaged(gzip.compress(b"")))
@pytest.mark.parametrize("kind", [RIDES, PREDICTIONS, OUTCOMES])
def test_damaged_object_is_named_and_the_others_are_joined(kind: str, way: str) -> None:
    streams = ArchivedStreams()
    for ride_id in (1, 2):
        streams.ride(ride_id, 5)
        streams.outcome(ride_id, 30)
    bucket = streams.store(n_per_object=1)
    key = next(bucket.keys(f"archive/{kind}/"))
    bucket.s3.objects[key] = damaged(bucket.s3.objects[key])[way]
    summary = join(bucket)
    [found] = summary.damaged_objects
    assert found.key == key
    assert found.problem
    assert (summary.n_labelled, sum(summary.n_objects.values())) == (1, 6)


def test_damaged_object_of_a_later_hour_is_named() -> None:
    streams = ArchivedStreams()
    streams.ride(1, 5)
    streams.outcome(1, 90)
    bucket = streams.store()
    key = next(bucket.keys("archive/outcomes/"))
    bucket.s3.objects[key] = bucket.s3.objects[key][:-1]
    assert [one.key for one in join(bucket).damaged_objects] == [key]


def busy_streams() -> ArchivedStreams:
    """A few hundred rides whose ids are used again, with outcomes of all kinds."""
    streams = ArchivedStreams()
    for number in range(300):
        streams.ride(number % 90, number / 4, pickup_datetime="2026-08-01T05:00:00", trip_distance=1 + number % 7)
        if number % 9:
            streams.outcome(number % 90, number / 4 + number % 50, 1.0 + number % 61)
        if number % 8 == 0:
            streams.outcome(number % 90, number / 4 + 3, dropoff_datetime="2026-08-01T05:09:00")
    return streams


def result(bucket: Bucket, **options: Any) -> tuple[bytes, dict[str, Any]]:
    """The Parquet's bytes, and the summary without what counts objects and repeats."""
    summary = msgspec.to_builtins(join(bucket, **options))
    for name in ("n_objects", "n_bytes", "n_duplicates", "inputs"):
        summary.pop(name)
    return bucket.s3.objects[labelled_key(HOUR)], summary


def test_same_bytes_come_from_other_objects_another_order_other_threads_and_doubles() -> None:
    streams = busy_streams()
    first = result(streams.store())
    assert result(streams.store()) == first
    assert result(streams.store(n_per_object=7), threads=2) == first
    doubled = streams.store(n_per_object=40)
    doubled.s3.objects |= streams.store(n_per_object=33).s3.objects
    doubled.s3.objects = dict(reversed(doubled.s3.objects.items()))
    assert result(Bucket(doubled.s3, "b", n_threads=4), threads=4) == first
    assert join(doubled).n_duplicates > 300


def test_joining_again_stores_the_same_summary() -> None:
    bucket = busy_streams().store()
    join(bucket)
    stored = dict(bucket.s3.objects)
    join(bucket)
    assert bucket.s3.objects == stored


def test_summary_is_written_last() -> None:
    bucket = busy_streams().store()
    join(bucket)
    assert list(bucket.s3.objects)[-1] == summary_key(HOUR)


def test_predictions_above_the_limit_are_compared_in_part() -> None:
    bucket = busy_streams().store()
    summary = join(bucket, max_recomputed=60)
    assert 0 < summary.n_recomputed < summary.n_labelled
    assert summary.n_skewed == 0


def test_predictions_of_an_outage_before_the_hour_are_not_of_its_rides() -> None:
    streams = ArchivedStreams()
    for number in range(40):
        streams.ride(number, -300 + number, is_predicted=False)
    for prediction in predictions_of(streams.rides, streams.model):
        streams.add_prediction(prediction.envelope.data, 2)  # the function is back
    for number in range(4):
        streams.ride(100 + number, 5 + number)
    assert join(streams.store(), max_recomputed=4).n_recomputed == 4  # no sample


def test_garbage_on_the_stream_of_predictions_is_left_out() -> None:
    streams = ArchivedStreams()
    streams.ride(1, 59, is_predicted=False)
    for minute in (10, 70):
        for data in (b"hello", b"{}", b'{"prediction_id":1}', streams_prediction(b"x"), streams_prediction(b"a:b:c")):
            streams.add_prediction(data, minute)
    assert join(streams.store()).n_waiting == 1


def streams_prediction(prediction_id: bytes) -> bytes:
    return (
        b'{"model":"m","version":"v","prediction":{"ride_duration":1.0,"ride_id":1},"prediction_id":"%s"}'
        % prediction_id
    )


@pytest.mark.parametrize("options", [{}, {"bytes_per_part": 60}])
def test_predictions_after_the_horizon_are_of_the_rides_that_had_none(options: dict[str, int]) -> None:
    streams = ArchivedStreams()
    for number, is_predicted in enumerate([True, False, False]):
        streams.ride(number, number, is_predicted=is_predicted)
    on_time, late, later = (one.envelope.data for one in predictions_of(streams.rides, streams.model))
    streams.add_prediction(late, 60 * 6)
    streams.add_prediction(on_time.replace(b"17.98", b"17.99"), 60 * 8)
    streams.add_prediction(late.replace(b"17.98", b"17.99"), 60 * 9)
    streams.add_prediction(later, 60 * 10)
    bucket = streams.store(n_per_object=1)
    summary = join(bucket, SECOND, **options)
    assert (summary.n_without_outcome, summary.n_conflicting, summary.n_skewed) == (3, 1, 0)
    assert [ride["conflicting"] for ride in rides(bucket)] == [False, True, False]


def test_busy_hour_is_joined_in_parts_with_the_same_result() -> None:
    streams = busy_streams()
    streams.ride(data=b"no ride", minute=30)
    streams.ride(data=ride_bytes(1) + ride_bytes(2) + b"{}", minute=31)
    streams.outcome(data=b"no outcome", minute=30)
    streams.outcomes.append(streams.outcomes[-1])  # archived twice, and in each part
    bucket = streams.store(n_per_object=50)
    first = result(bucket)
    assert result(bucket, bytes_per_part=1500) == first
    assert load_summary(bucket, HOUR).n_duplicates == 1  # type: ignore[union-attr]
    cut = next(bucket.keys("archive/predictions/"))
    bucket.s3.objects[cut] = bucket.s3.objects[cut][:-1]
    damaged_first = result(bucket)
    assert result(bucket, bytes_per_part=1500) == damaged_first != first


def test_labelled_rides_stay_if_the_archive_has_lost_ride_events() -> None:
    streams = ArchivedStreams()
    streams.ride(1, 5)
    streams.ride(2, 6)
    bucket = streams.store(n_per_object=1)
    before = encode_summary(join(bucket)), bucket.s3.objects[labelled_key(HOUR)]
    gone = next(key for key in bucket.s3.objects if key.startswith("archive/rides/"))
    bucket.s3.objects[gone] = b"damaged"
    with pytest.raises(UserError, match=f"restore {gone}"):
        join(bucket, SECOND)
    del bucket.s3.objects[gone]
    with pytest.raises(UserError, match="holds 1 ride events of 2026-08-01T09, and 2 are labelled"):
        join(bucket, SECOND)
    assert (bucket.s3.objects[summary_key(HOUR)], bucket.s3.objects[labelled_key(HOUR)]) == before
    bucket.s3.objects[labelled_key(HOUR)] = b"damaged"
    assert join(bucket, SECOND).n_ride_events == 1


def test_object_that_vanishes_during_the_join_stops_it() -> None:
    streams = ArchivedStreams()
    streams.ride(256, 5)
    bucket = streams.store()
    get_object = bucket.s3.get_object

    def get_after_forgetting(**request: Any) -> Any:
        if request["Key"].startswith("archive/rides/"):
            bucket.s3.objects.pop(request["Key"], None)
        return get_object(**request)

    bucket.s3.get_object = get_after_forgetting
    with pytest.raises(BucketError, match="has vanished since it was listed"):
        join(bucket)
    assert summary_key(HOUR) not in bucket.s3.objects


class ArchivingS3(MemoryS3):
    """A bucket in which predictions are archived when one of them is read."""

    late: Sequence[KinesisRecord] = ()

    def get_object(self, *, Bucket: str, Key: str, **conditions: Any) -> dict[str, Any]:  # noqa: N803
        """Read an object."""
        if f"/{PREDICTIONS}/" in Key:
            archive(self, PREDICTIONS, self.late)
        return super().get_object(Bucket=Bucket, Key=Key, **conditions)


def test_predictions_that_are_archived_during_the_join_are_waited_for() -> None:
    streams = ArchivedStreams()
    for number in range(4):
        streams.ride(number, number)
    s3 = ArchivingS3()
    archive(s3, RIDES, streams.rides)
    archive(s3, PREDICTIONS, streams.predictions[:2])
    s3.late = streams.predictions[2:]
    bucket = Bucket(s3, "b", n_threads=1)
    summary = join(bucket)
    assert (summary.n_waiting, summary.n_lost) == (2, 0)
    summary = join(bucket)
    assert (summary.n_waiting, summary.n_lost, summary.n_without_outcome) == (0, 0, 4)
