"""One batch, decided: each record in predictions or in rejects, each in order, each by itself alone."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_function.core.bundle import ModelBundle
from lambda_function.core.events import TOO_LARGE, decode_prediction, ride_columns
from lambda_function.core.features import feature_matrix
from lambda_function.core.pickup_time import pickup_minute
from lambda_function.core.processor import ModelFrom, ProcessedBatch, RideBatch, process, process_by_arrival
from lambda_function.core.records import MAX_RECORD_BYTES, decode_records
from tests.builders import (
    decoded_ride,
    event_id,
    interval_bundle,
    kinesis_records,
    lambda_records,
    ride_bytes,
    sequence_number,
    small_bundle,
)
from tests.kits.simulation_strategies import aggregate
from training.model.bundle import ExportedBundle

DATA = st.one_of(
    st.builds(
        ride_bytes,
        st.integers() | st.text(max_size=300),
        PULocationID=st.integers(1, 265),
        DOLocationID=st.integers(1, 265),
        trip_distance=st.floats(0, 70),
    ),
    st.binary(max_size=10),
)
DATAS = st.lists(DATA, max_size=70)


class Output(NamedTuple):
    """An encoded prediction with its record's position."""

    position: int
    partition_key: str
    data: bytes


def outputs(batch: ProcessedBatch) -> list[Output]:
    """Return a batch's predictions, each with its record's position."""
    return [Output(position, *entry) for position, entry in zip(batch.positions, batch.entries, strict=True)]


def positions(batch: ProcessedBatch) -> list[int]:
    return sorted([entry.position for entry in outputs(batch)] + [position for position, _ in batch.rejects])


def test_no_records_give_nothing(model: ModelBundle) -> None:
    assert process([], model) == ProcessedBatch([], [], [], [])


def test_prediction_is_the_models_to_the_hundredth(model: ModelBundle) -> None:
    ride = decoded_ride().ride
    matrix = feature_matrix(ride_columns([ride], np.array([pickup_minute(ride.pickup_datetime, 0.0)])))
    (entry,) = outputs(process(kinesis_records(ride_bytes()), model))
    duration = decode_prediction(entry.data).prediction.ride_duration
    assert duration == np.round(model.predict(matrix), 2)[0]
    assert 1 <= duration <= 60


def test_predictions_differ_from_ride_to_ride(model: ModelBundle) -> None:
    datas = [ride_bytes(trip_distance=miles) for miles in (0.5, 3, 15)]
    short, middle, long = [
        decode_prediction(entry.data).prediction.ride_duration
        for entry in outputs(process(kinesis_records(*datas), model))
    ]
    assert short < middle < long


def test_ids_are_those_of_the_records(model: ModelBundle) -> None:
    batch = process(kinesis_records(ride_bytes(7), b"bad", ride_bytes("8")), model)
    assert [decode_prediction(entry.data).prediction_id for entry in outputs(batch)] == [event_id(0), event_id(2)]
    assert [entry.partition_key for entry in outputs(batch)] == ["7", "8"]
    assert [(position, reject.sequence_number) for position, reject in batch.rejects] == [(1, sequence_number(1))]


def test_ride_without_a_pickup_time_is_predicted_as_of_its_arrival(model: ModelBundle) -> None:
    # the record arrives at 08:15 UTC, which is 03:15 in New York
    without, with_time = ride_bytes(pickup_datetime=None), ride_bytes(pickup_datetime="2021-01-05T03:15:00")
    first, second = outputs(process(kinesis_records(without, with_time), model))
    assert (
        decode_prediction(first.data).prediction.ride_duration
        == decode_prediction(second.data).prediction.ride_duration
    )


def test_prediction_that_would_not_fit_a_record_is_a_reject_in_its_place(model: ModelBundle) -> None:
    huge = ride_bytes("x" * (MAX_RECORD_BYTES - 200))
    batch = process(kinesis_records(huge, b"bad", huge, ride_bytes()), model)
    assert [(position, reject.reason) for position, reject in batch.rejects] == [
        (0, TOO_LARGE),
        (1, "not_json"),
        (2, TOO_LARGE),
    ]
    assert [entry.position for entry in outputs(batch)] == [3]


def test_batch_is_predicted_by_each_of_several_models_as_if_by_it_alone(model: ModelBundle) -> None:
    # The first model's version is longer: only its prediction of the large ride does not fit a record.
    longer = replace(model, manifest=msgspec.structs.replace(model.manifest, model_version="x" * 100))
    large = ride_bytes("x" * (MAX_RECORD_BYTES - 1000))
    records = kinesis_records(ride_bytes(), large, b"bad", ride_bytes(pickup_datetime="soon"), ride_bytes(7))
    batch = RideBatch.of(records)
    models = [longer, model, small_bundle(2).model, longer]
    results = [batch.predict(one) for one in models]
    assert results == [process(records, one) for one in models]
    assert [len(one.entries) for one in results] == [2, 3, 3, 2]


def test_some_rides_of_a_batch_have_the_predictions_that_they_have_among_all(model: ModelBundle) -> None:
    datas = [ride_bytes(n, trip_distance=n, pickup_datetime=None) for n in range(1, 5)]
    batch = RideBatch.of(kinesis_records(*datas, b"bad"))
    some = batch.take([3, 1])
    assert some.predict(model).entries == [batch.predict(model).entries[row] for row in (3, 1)]
    assert some.rejects == []
    assert len(batch.take([]).predict(model).entries) == 0


@pytest.mark.parametrize("n_bytes_left", [0, 63, 64, 1000])
def test_key_counts_to_the_size_of_a_prediction(model: ModelBundle, n_bytes_left: int) -> None:
    # GIVEN a ride id so long that its prediction, without its key, leaves so many bytes of a record
    (short,) = outputs(process(kinesis_records(ride_bytes("x" * 300)), model))
    ride_id = "x" * (MAX_RECORD_BYTES - n_bytes_left - len(short.data) + 300)
    batch = process(kinesis_records(ride_bytes(ride_id)), model)
    # THEN a published prediction fits with its key of 64 bytes, and one that is much smaller is published
    assert all(len(entry.data) + len(entry.partition_key) <= MAX_RECORD_BYTES for entry in outputs(batch))
    assert [reject.reason for _, reject in batch.rejects] == [TOO_LARGE] * (n_bytes_left < 1000)


@given(
    st.lists(st.one_of(DATA, st.lists(DATA, min_size=1, max_size=3).map(aggregate)), max_size=30),
    st.lists(st.integers(0, 40), min_size=30, max_size=30),
    st.lists(st.integers(0, 40), min_size=1, max_size=3, unique=True),
)
def test_records_of_several_segments_give_what_each_gives_alone_in_their_order(
    datas: list[bytes], arrivals_s: list[int], starts_s: list[int]
) -> None:
    # GIVEN records that arrive in any order, and a model from each of some times on
    events = lambda_records(datas)
    for event, arrival_s in zip(events, arrivals_s, strict=False):
        event["kinesis"]["approximateArrivalTimestamp"] = float(arrival_s)
    records = decode_records({"Records": events})
    starts_s.sort(reverse=True)
    models = [ModelFrom(start_s, small_bundle(seed).model) for seed, start_s in enumerate(starts_s, 1)]
    # WHEN they are processed as one batch
    batch = process_by_arrival(records, models)
    # THEN the result is that of each record with the model of its arrival, in the order of the records
    expected = ProcessedBatch([], [], [], [])
    for position, (record, arrival_s) in enumerate(zip(records, arrivals_s, strict=False)):
        model = next((one.model for one in models if one.from_s <= arrival_s), models[-1].model)
        alone = process([record], model)
        expected.entries.extend(alone.entries)
        expected.ids.extend(alone.ids)
        expected.positions.extend(position for _ in alone.positions)
        expected.rejects.extend((position, reject) for _, reject in alone.rejects)
    assert batch == expected


@given(DATAS)
def test_every_record_is_in_predictions_or_in_rejects_once_and_in_order(datas: list[bytes]) -> None:
    batch = process(kinesis_records(*datas), small_bundle().model)
    assert positions(batch) == list(range(len(datas)))
    assert [entry.position for entry in outputs(batch)] == sorted(entry.position for entry in outputs(batch))
    assert [position for position, _ in batch.rejects] == sorted(position for position, _ in batch.rejects)


@given(DATAS)
def test_prediction_is_within_its_interval_and_that_is_within_the_range(datas: list[bytes]) -> None:
    for entry in outputs(process(kinesis_records(*datas), interval_bundle().model)):
        prediction = decode_prediction(entry.data)
        assert prediction.interval is not None
        low, high = prediction.interval
        assert 1 <= low <= prediction.prediction.ride_duration <= high <= 60
        assert (low, high) == (round(low, 2), round(high, 2))


@given(DATAS)
def test_interval_is_all_that_it_adds(datas: list[bytes]) -> None:
    """Predictions with intervals differ from those without only in the version and the interval."""
    plain, model = small_bundle().model, interval_bundle().model
    without, with_interval = (outputs(process(kinesis_records(*datas), one)) for one in (plain, model))
    for one, other in zip(without, with_interval, strict=True):
        start, _, _ = other.data.rpartition(b',"interval":')
        assert start.replace(model.model_version.encode(), plain.model_version.encode()) + b"}" == one.data


def test_interval_is_that_of_the_ride(model: ModelBundle) -> None:
    known, unknown = outputs(
        process(kinesis_records(ride_bytes(), ride_bytes(trip_distance=0)), interval_bundle().model)
    )
    assert decode_prediction(known.data).interval != decode_prediction(unknown.data).interval
    (entry,) = outputs(process(kinesis_records(ride_bytes()), model))
    assert decode_prediction(entry.data).interval is None


@pytest.mark.parametrize("bundle_of", [small_bundle, interval_bundle])
@given(datas=DATAS, data=st.data())
def test_record_has_the_same_bytes_in_any_batch(
    bundle_of: Callable[[], ExportedBundle], datas: list[bytes], data: st.DataObject
) -> None:
    records = kinesis_records(*datas)
    model = bundle_of().model
    whole = process(records, model)
    picked = data.draw(st.lists(st.sampled_from(range(len(records))), unique=True) if records else st.just([]))
    part = process([records[n] for n in picked], model)
    of_whole = {entry.position: (entry.partition_key, entry.data) for entry in outputs(whole)}
    of_part = {picked[entry.position]: (entry.partition_key, entry.data) for entry in outputs(part)}
    assert of_part == {n: of_whole[n] for n in picked if n in of_whole}
    assert dict(whole.rejects) | {picked[n]: reject for n, reject in part.rejects} == dict(whole.rejects)
