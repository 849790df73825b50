"""The second pass of an hour by late records: it equals one that reads the whole archive, and reads far less of it."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.local.s3 import MemoryS3
from infra.operate.forget.forget import Forget
from infra.operate.forget.without import RideSearch
from lambda_function.aws.rejects import RejectStore
from lambda_function.core.processor import process
from tests.builders import interval_bundle
from tests.builders_archive import HOUR, ArchivedStreams, predictions_of
from training.monitoring.hours import EARLY, FIRST, SECOND, Hour, hour_of_key
from training.monitoring.join.join import join_hour, labelled_key
from training.monitoring.join.late import LateRecords
from training.monitoring.join.options import JoinOptions
from training.monitoring.summary import HourSummary, summary_key
from training.registry.bucket import Bucket

MODEL = interval_bundle().model
JOINED: dict[frozenset[tuple[str, bytes]], dict[str, bytes]] = {}


def join(bucket: Bucket, number: int = 0, pass_number: int = FIRST, **options: Any) -> HourSummary:
    """Join the hour that is so many behind HOUR."""
    return join_hour(bucket, HOUR + number, JoinOptions(**{"threads": 1, **options}), pass_number, lambda _: MODEL)


def joined(bucket: Bucket) -> tuple[bytes, bytes]:
    """The labelled rides of HOUR, and its summary."""
    return bucket.s3.objects[labelled_key(HOUR)], bucket.s3.objects[summary_key(HOUR)]


@dataclass
class NotingS3(MemoryS3):
    """Notes the keys that are read."""

    read: list[str] = field(default_factory=list, kw_only=True)

    def _read(self, key: str) -> bytes | None:
        self.read.append(key)
        return super()._read(key)


def second_pass(bucket: Bucket) -> dict[str, list[int]]:
    """Run the second pass of HOUR; return the hours that it reads behind it, by kind."""
    s3 = NotingS3(objects=bucket.s3.objects)
    join(Bucket(s3, "b", n_threads=1), pass_number=SECOND)
    found: dict[str, set[int]] = {}
    for key in s3.read:
        hour = hour_of_key(key)
        if hour and key in s3.objects and (key.startswith("archive/") or (key.startswith("late/") and hour != HOUR)):
            found.setdefault("/".join(key.split("/")[:2]), set()).add(_number(hour))
    return {kind: sorted(numbers) for kind, numbers in sorted(found.items())}


def _number(hour: Hour) -> int:
    return int((hour.start_s - HOUR.start_s) // 3600)


def steady_streams(*first: bytes) -> ArchivedStreams:
    """Two rides an hour of six hours, whose outcomes come when they end: the last one in the seventh hour.

    Before them come records without prediction.
    """
    streams = ArchivedStreams(MODEL)
    for data in first:
        streams.ride(is_predicted=False, data=data)
    for number in range(6):
        for minute in (10, 50):
            ride_id = f"{number}-{minute}"
            streams.ride(ride_id, number * 60 + minute)
            streams.outcome(ride_id, number * 60 + minute + 20)
    return streams


def first_passes(streams: ArchivedStreams) -> Bucket:
    """The archive, with seven hours joined: once for equal archives, because the same objects give the same bytes."""
    bucket = streams.store()
    archived = frozenset(bucket.s3.objects.items())
    if archived not in JOINED:
        for number in range(7):
            join(bucket, number)
        JOINED[archived] = dict(bucket.s3.objects)
    return Bucket(MemoryS3(dict(JOINED[archived])), "b", n_threads=1)


# The result -----------------------------------------------------------------------------------------------------------

IDS = st.integers(1, 4)
MINUTES = st.one_of(
    st.integers(0, 59),
    st.integers(-200, 400),
    st.sampled_from([209, 210, 239, 240, 241, 300, 1500, 2939, 2940]),
    st.integers(400, 3000),
)


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rides=st.lists(st.tuples(MINUTES, IDS, st.sampled_from(["at once", "late", "twice", "never"])), max_size=8),
    outcomes=st.lists(st.tuples(IDS, MINUTES, st.integers(0, 3)), max_size=10),  # of 0 minutes are bad
    numbers=st.lists(st.sampled_from([1, 3, 4, 5, 10, 25, 47, 48]), unique=True),
    damaged=st.sets(st.integers(0, 5)),
    options=st.sampled_from([{}, {}, {"outcome_delay_minutes": 90}, {"bytes_per_part": 200}]),
)
def test_second_pass_equals_one_that_reads_the_whole_archive(
    rides: list[Any], outcomes: list[Any], numbers: list[int], damaged: set[int], options: dict[str, Any]
) -> None:
    streams = ArchivedStreams(MODEL)
    for minute, ride_id, predicted in sorted(rides):
        streams.ride(ride_id, minute, is_predicted=predicted in {"at once", "twice"})
        if predicted in {"late", "twice"}:
            [one] = predictions_of(streams.rides[-1:], MODEL)
            streams.add_prediction(one.envelope.data, minute + 600)
    for ride_id, minute, duration in outcomes:
        streams.outcome(ride_id, minute, duration)
    bucket, reference = streams.store(2), streams.store(2)
    for number in (0, *numbers):
        join(bucket, number, **options)
    for place, key in enumerate(bucket.keys("late/")):
        if place in damaged:
            bucket.s3.objects[key] = bucket.s3.objects[key][:-1]
    join(bucket, 0, SECOND, **options)
    join(reference, 0, SECOND, **options)  # no other hour is joined, so there are no late records
    assert joined(bucket) == joined(reference)


@pytest.mark.parametrize("minute", [4 * 60, 6 * 60 + 59])
def test_late_outcome_is_taken_up(minute: int) -> None:
    streams = steady_streams()
    streams.ride("late", 59)
    streams.outcome("late", minute, 44.0)
    bucket = first_passes(streams)
    assert join(bucket, 0, SECOND).n_labelled == 3


def test_late_prediction_is_taken_up() -> None:
    streams = steady_streams()
    streams.rides.insert(0, streams.rides[0])  # archived twice
    streams.predictions.pop(0)
    bucket = streams.store()
    assert join(bucket, 0).n_lost == 1
    [prediction] = predictions_of(streams.rides[:1], MODEL)
    streams.add_prediction(prediction.envelope.data, 6 * 60)
    bucket.s3.objects |= streams.store().s3.objects
    for number in range(1, 7):
        join(bucket, number)
    assert second_pass(bucket)["late/predictions"] == [4, 5, 6]
    assert join(bucket, 0, SECOND).n_labelled == 2


# What it reads --------------------------------------------------------------------------------------------------------


def test_nothing_of_the_archive_is_read_if_nothing_came_late_and_the_bytes_are_the_same() -> None:
    streams = steady_streams()
    streams.ride("without outcome", 30)
    streams.outcome("of another ride", 5 * 60)
    bucket, reference = first_passes(streams), streams.store()
    assert second_pass(bucket) == {"late/outcomes": [4, 5, 6]}
    join(reference, 0, SECOND)
    assert joined(bucket) == joined(reference)
    assert second_pass(bucket) == {"late/outcomes": [4, 5, 6]}  # as another second pass


@pytest.mark.parametrize(("minute", "is_read"), [(None, False), (5, False), (6 * 60, True)])
def test_archive_is_read_if_a_rejected_record_may_have_been_predicted_late(minute: int | None, is_read: bool) -> None:
    streams = steady_streams(b'{"ride_id": "anna"}')
    if minute is not None:
        data = streams.predictions[0].envelope.data
        streams.add_prediction(
            data.replace(streams.rides[1].event_id.encode(), streams.rides[0].event_id.encode()), minute
        )
    bucket, reference = streams.store(), streams.store()
    for one in (bucket, reference):
        rejects = [reject for _, reject in process(streams.rides[:1], MODEL).rejects]
        RejectStore(one.s3, one.name).store("ride-events", rejects, lambda: 60.0)
    for number in range(7):
        join(bucket, number)
    assert ("archive/rides" in second_pass(bucket)) == is_read
    join(reference, 0, SECOND)
    assert joined(bucket) == joined(reference)


def change_archive(bucket: Bucket, streams: ArchivedStreams) -> None:
    streams.outcome("0-10", 59, 44.0)
    bucket.s3.objects |= streams.store(n_per_object=50).s3.objects


def damage(key: str) -> Callable[[Bucket, ArchivedStreams], object]:
    return lambda bucket, _: bucket.s3.objects.update({key: b"damaged"})


CHANGES: dict[str, Callable[[Bucket, ArchivedStreams], object]] = {
    "the archive has another object": change_archive,
    "labelled rides are gone": lambda bucket, _: bucket.s3.objects.pop(labelled_key(HOUR)),
    "labelled rides are damaged": damage(labelled_key(HOUR)),
    "the summary is damaged": damage(summary_key(HOUR)),
    "it was joined early": lambda bucket, _: join(bucket, 0, EARLY),
}


@pytest.mark.parametrize("change", CHANGES)
def test_archive_is_read_if_the_first_pass_does_not_stand(change: str) -> None:
    streams = steady_streams()
    bucket = first_passes(streams)
    CHANGES[change](bucket, streams)
    assert second_pass(bucket)["archive/rides"][0] == 0
    reference = Bucket(MemoryS3({k: v for k, v in bucket.s3.objects.items() if k.startswith("archive/")}), "b")
    join(reference, 0, SECOND)
    assert joined(bucket) == joined(reference)


@pytest.mark.parametrize("fault", ["a ride without prediction", "two predictions", "a damaged object", "no model"])
def test_archive_is_read_if_the_first_pass_found_what_may_change(fault: str) -> None:
    streams = steady_streams()
    if fault == "a ride without prediction":
        streams.predictions.pop(0)
    elif fault == "two predictions":
        other = streams.predictions[0].envelope.data.replace(b'"version":"', b'"version":"other-')
        streams.add_prediction(other, 12)
    bucket = first_passes(streams)
    if fault == "a damaged object":
        key = next(iter(bucket.keys("archive/outcomes/")))
        bucket.s3.objects[key] = bucket.s3.objects[key][:-8] + bytes(8)
        join(bucket)
    elif fault == "no model":
        bucket.s3.objects.pop(summary_key(HOUR))
        join_hour(bucket, HOUR, JoinOptions(threads=1))  # no version is stored
    assert second_pass(bucket)["archive/rides"][0] == 0


def test_archive_is_read_until_the_first_horizon_if_an_outcome_came_late() -> None:
    streams = steady_streams()
    streams.outcome("0-10", 5 * 60)  # contradicts no other
    bucket = first_passes(streams)
    found = second_pass(bucket)
    assert found == {
        "archive/outcomes": [0, 1, 2, 3],
        "archive/predictions": [0, 1, 2, 3],
        "archive/rides": [0, 1, 2, 3, 4, 5],
        "late/outcomes": [4, 5, 6],
    }


@pytest.mark.parametrize("change", ["not joined", "more outcomes", "another delay", "damaged", "empty"])
def test_archive_of_a_later_hour_is_read_if_its_late_records_are_not_those_of_its_archive(change: str) -> None:
    streams = steady_streams()
    bucket = first_passes(streams)
    key = LateRecords(bucket, 3).key("outcomes", HOUR + 5) or ""
    if change == "another delay":
        bucket.s3.objects.pop(key)
        join(bucket, 5, outcome_delay_minutes=60)
    elif change == "more outcomes":
        streams.outcome("0-10", 5 * 60 + 30, 44.0)
        bucket.s3.objects |= streams.store(n_per_object=13).s3.objects
    else:
        bucket.s3.objects[key] = {"not joined": b"", "damaged": bucket.s3.objects[key][:-1], "empty": b""}[change]
    assert second_pass(bucket)["archive/outcomes"] == [0, 1, 2, 3, 5]


def test_hour_with_a_damaged_object_has_no_late_records_of_its_kind() -> None:
    bucket = steady_streams().store()
    key = next(iter(bucket.keys(f"archive/outcomes/{(HOUR + 5).partition}/")))
    bucket.s3.objects[key] = bucket.s3.objects[key][:-1]
    join(bucket, 5)
    assert [one.split("/")[1] for one in bucket.keys("late/")] == ["predictions"]


@pytest.mark.parametrize(("number", "n_late"), [(1, 0), (2, 0), (3, 1), (4, 1)])
def test_prediction_is_late_if_its_ride_event_came_hours_before(number: int, n_late: int) -> None:
    streams = steady_streams()
    streams.add_prediction(streams.predictions[0].envelope.data, number * 60 + 5)
    bucket = streams.store()
    join(bucket, number)
    [body] = bucket.s3.bodies("late/predictions/")
    assert gzip.decompress(body).count(b"\n") == n_late


@dataclass
class ForgettingS3(MemoryS3):
    """An object of outcomes goes when the bucket is first asked for late ones, as if a ride were forgotten then."""

    def _read(self, key: str) -> bytes | None:
        if key.startswith("late/outcomes/"):
            self.take(f"archive/outcomes/{(HOUR + 5).partition}/")
        return super()._read(key)


def test_late_records_are_not_stored_if_the_archive_changes_during_the_join() -> None:
    bucket = Bucket(ForgettingS3(steady_streams().store().s3.objects), "b", n_threads=1)
    join(bucket, 5)
    assert [one.split("/")[1] for one in bucket.keys("late/")] == ["predictions"]


def test_damaged_late_records_are_stored_again() -> None:
    bucket = steady_streams().store()
    join(bucket, 5)
    stored = dict(bucket.s3.objects)
    for key in bucket.keys("late/"):
        bucket.s3.objects[key] = b"damaged"
    join(bucket, 5)
    assert bucket.s3.objects == stored


def test_hour_before_its_horizon_has_no_late_records() -> None:
    bucket = steady_streams().store()
    join(bucket, 5, pass_number=0)
    assert list(bucket.keys("late/")) == []


def test_late_records_are_the_same_bytes_whatever_objects_hold_the_records() -> None:
    streams = steady_streams()
    for number in range(5):
        streams.outcome(f"0-{number}", 5 * 60 + number, 44.0)
        streams.outcome("1-10", 5 * 60 + number, 44.0)
    bodies = []
    for n_per_object in (1, 3, 50):
        bucket = streams.store(n_per_object)
        join(bucket, 5)
        bodies.append(bucket.s3.bodies("late/outcomes/"))
    assert bodies[0] == bodies[1] == bodies[2]
    assert len(bodies[0][0]) > 100


# Forgetting -----------------------------------------------------------------------------------------------------------


def test_ride_that_is_forgotten_leaves_the_late_records_and_the_others_stay() -> None:
    streams, expected = steady_streams(), steady_streams()
    streams.outcome("forgotten", 5 * 60)
    for one in (streams, expected):
        one.outcome("stays", 5 * 60 + 1)
    bucket, reference = first_passes(streams), first_passes(expected)
    before = bucket.s3.bodies("late/outcomes/")
    run = Forget(bucket, RideSearch("forgotten"))
    assert run.run(run.objects()).removed["late/outcomes"] == 1
    assert bucket.s3.bodies("late/outcomes/") != before
    assert len(bucket.s3.bodies("late/outcomes/")) == len(before)
    assert second_pass(bucket)["archive/outcomes"] == [0, 1, 2, 3, 5]
    join(reference, 0, SECOND)
    assert bucket.s3.objects[labelled_key(HOUR)] == reference.s3.objects[labelled_key(HOUR)]
