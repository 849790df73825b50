"""CPU time of the trees, of the handler and its parts, and of what they replace, with clients without a socket."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lambda_function.aws.publisher import Publisher
from lambda_function.aws.settings import JSON, KPL
from lambda_function.core.calibration import (
    CALIBRATION_FORMAT,
    N_WEIGHTS,
    Calibration,
    CalibrationTable,
    ride_cells,
)
from lambda_function.core.channel import BEGINNING, N_BUCKETS, Arm, Channel, Segment
from lambda_function.core.events import (
    DURATION_DECIMALS,
    Ride,
    decode_ride_event,
    encode_predictions,
    ride_columns,
)
from lambda_function.core.features import feature_matrix
from lambda_function.core.kpl import pack
from lambda_function.core.pickup_time import usual_pickup_minutes
from lambda_function.core.processor import CandidateModel, ModelFrom, process, process_by_arrival
from lambda_function.core.records import decode_records
from tests.bench.comparators import one_by_one, plain_batched
from tests.bench.figures import TIMES, US, Figure
from tests.bench.stand_ins import fast_kinesis, kinesis_without_socket
from tests.bench.subjects import FIRST_SEQUENCE_NUMBER, Subject, ours
from tests.bench.timing import Case, cpu_us_per_ride, extra_cpu_us_per_ride

BATCH_SIZES = (1, 100, 1000)
"""Beside the largest batch, whose rides nearly fill Lambda's 6 MB."""

BUDGET_US = 8.0
"""CPU of a ride in the largest batch."""

PLAIN_HANDLER = "handler: a plain batched one, scikit-learn, same model"

N_LINEAR, N_FOREST = 200, 20
"""Rides that the course's handler is timed on, with its linear model and its forest: they take 0.3 and 4 ms each."""

N_REPEATS = 41
"""More than elsewhere, to find a small difference of two large times."""


def bench_engine(subject: Subject) -> list[Figure]:
    """Time the trees in a large batch and one ride at a time, beside scikit-learn's own predict."""
    forest, fitted, matrix = subject.bundle.model.forest, subject.fitted, subject.matrix
    one = matrix[:1]
    us = cpu_us_per_ride(
        {
            "engine": (lambda: forest.predict(matrix), len(matrix)),
            "scikit-learn": (lambda: fitted.predict(matrix), len(matrix)),
            "engine, one": (lambda: [forest.predict(one) for _ in range(100)], 100),
            "scikit-learn, one": (lambda: [fitted.predict(one) for _ in range(10)], 10),
        }
    )
    return [
        Figure(f"engine: {forest.n_trees} trees, batch of {len(matrix):,}", us["engine"], US, 2.2),
        Figure("engine: the same by scikit-learn", us["scikit-learn"], US),
        Figure("engine: faster than scikit-learn", us["scikit-learn"] / us["engine"], TIMES, 4.0),
        Figure("engine: batch of one", us["engine, one"], US),
        Figure("engine: batch of one by scikit-learn", us["scikit-learn, one"], US),
    ]


def bench_handler(subject: Subject) -> list[Figure]:
    """Time ours on batches of all sizes, a plain one on the largest batch, and the course's on a few rides."""
    event = subject.event
    n_rides = len(event["Records"])
    handlers = {form: ours(subject.bundle, fast_kinesis(), form) for form in (JSON, KPL)}
    plain = plain_batched(subject.fitted, kinesis_without_socket(parameter_validation=True))
    linear, forest = (
        one_by_one(model, kinesis_without_socket(parameter_validation=True))
        for model in (subject.course_linear, subject.course_forest)
    )
    us = cpu_us_per_ride(
        {
            JSON: (lambda: handlers[JSON](event), n_rides),
            KPL: (lambda: handlers[KPL](event), n_rides),
            "plain": (lambda: plain(event), n_rides),
            "linear": (lambda: linear(_head(event, N_LINEAR)), N_LINEAR),
            "forest": (lambda: forest(_head(event, N_FOREST)), N_FOREST),
            **{f"batch of {n:,}": _batch_case(handlers[JSON], event, n) for n in BATCH_SIZES},
        }
    )
    return [
        Figure(f"handler: batch of {n_rides:,}", us[JSON], US, BUDGET_US),
        Figure(f"handler: batch of {n_rides:,}, packed output", us[KPL], US, 5.0),
        *(Figure(f"handler: batch of {n:,}", us[f"batch of {n:,}"], US) for n in BATCH_SIZES),
        Figure("handler: the course's, put_record a ride, linear model", us["linear"], US),
        Figure("handler: the course's, put_record a ride, random forest", us["forest"], US),
        Figure(PLAIN_HANDLER, us["plain"], US),
        Figure("handler: cheaper than the course's", us["linear"] / us[JSON], TIMES, 50.0),
        Figure("handler: cheaper than the course's, random forest", us["forest"] / us[JSON], TIMES, 300.0),
        Figure("handler: cheaper than the plain one", us["plain"] / us[JSON], TIMES, 2.5),
        Figure("handler: packed, cheaper than the plain one", us["plain"] / us[KPL], TIMES, 4.5),
    ]


def bench_parts(subject: Subject) -> list[Figure]:
    """Time the handler's parts on the largest batch."""
    event, model = subject.event, subject.bundle.model
    records = decode_records(event)
    data = [record.data() for record in records]
    events = [decode_ride_event(one) for one in data]
    rides = [event.ride for event in events]
    ids, names = [event.ride_id for event in events], [record.event_id for record in records]
    matrix = _features(rides)
    minutes = model.predict(matrix).round(2).tolist()
    entries = process(records, model).entries
    publisher = Publisher(fast_kinesis(), "ride-predictions")
    parts = {
        "envelope, base64": lambda: decode_records(event),
        "decode": lambda: [decode_ride_event(one) for one in data],
        "features": lambda: _features(rides),
        "trees": lambda: model.predict(matrix),
        "encode": lambda: encode_predictions(model.model_version, minutes, ids, names),
        "publish": lambda: publisher.publish(entries, lambda: 60.0),
        "pack": lambda: pack(entries, 1),
    }
    us = cpu_us_per_ride({name: (run, len(records)) for name, run in parts.items()})
    return [Figure(f"handler's part: {name}", us[name], US) for name in parts]


def bench_intervals(subject: Subject) -> list[Figure]:
    """Time what intervals add to the handler on the largest batch: bounds, JSON, and the bytes published for them."""
    event = subject.event
    n_rides = len(event["Records"])
    plain, extended = (ours(bundle, fast_kinesis()) for bundle in (subject.bundle, subject.with_intervals))
    extra_us = extra_cpu_us_per_ride(lambda: plain(event), lambda: extended(event), n_rides, N_REPEATS)
    return [Figure(f"handler: intervals, added to a batch of {n_rides:,}", extra_us, US, 0.3)]


def bench_arrival(subject: Subject) -> list[Figure]:
    """Time what the choice of the model by arrival adds to the age of the oldest record, on the largest batch."""
    records = decode_records(subject.event)
    arm = Arm(subject.bundle.model_version, "ab" * 32)
    channel = Channel(segments=(Segment(BEGINNING, (arm,)),), moved_at=BEGINNING)

    def choose() -> None:
        arrivals_s = [record.envelope.arrival_time_s for record in records]
        min(arrivals_s)
        channel.segments_of(arrivals_s)

    def age() -> float:
        return min(record.envelope.arrival_time_s for record in records)

    extra_us = extra_cpu_us_per_ride(age, choose, len(records), N_REPEATS)
    return [Figure(f"handler: model by arrival, added to a batch of {len(records):,}", extra_us, US, 0.05)]


def bench_split(subject: Subject) -> list[Figure]:
    """Time what a split adds to the largest batch: buckets, a second call of a model, and the order of rides."""
    records, model = decode_records(subject.event), subject.bundle.model
    alone = [ModelFrom(0.0, model)]
    split = [ModelFrom(0.0, model, CandidateModel(model, "salt", N_BUCKETS // 5))]
    extra_us = extra_cpu_us_per_ride(
        lambda: process_by_arrival(records, alone),
        lambda: process_by_arrival(records, split),
        len(records),
        N_REPEATS,
    )
    return [Figure(f"handler: a split, added to a batch of {len(records):,}", extra_us, US, 4.0)]


def bench_calibration(subject: Subject) -> list[Figure]:
    """Time what a calibration changes in a batch of 10,000: the minutes, and the longer version in each prediction."""
    model, rides, matrix = subject.with_intervals.model, subject.rides, subject.matrix
    calibration = Calibration(
        format=CALIBRATION_FORMAT,
        model_version=model.model_version,
        as_of="2021-02-01T05",
        weights=tuple(np.linspace(-0.2, 0.2, N_WEIGHTS).tolist()),
        interval_scale=1.2,
    )
    raw, table = model.predict(matrix), CalibrationTable.of(calibration, model.manifest.duration_range_minutes)
    served = model.calibrated(calibration).served_version
    ids = [f"shardId-000000000000:{FIRST_SEQUENCE_NUMBER + number}" for number in range(len(rides))]
    intervals = model.encoded_intervals(matrix, raw)

    minutes = raw.round(DURATION_DECIMALS).tolist()

    def encode(version: str) -> list[bytes]:
        return encode_predictions(version, minutes, range(len(ids)), ids, intervals)

    minutes_us = extra_cpu_us_per_ride(
        lambda: np.round(raw, DURATION_DECIMALS),
        lambda: table.minutes(raw, ride_cells(rides, matrix)),
        len(rides),
        N_REPEATS,
    )
    version_us = extra_cpu_us_per_ride(
        lambda: encode(model.model_version), lambda: encode(served), len(rides), N_REPEATS
    )
    size = f"added to a batch of {len(rides):,}"
    return [
        Figure(f"handler: calibration, {size}", minutes_us, US, 0.05),
        Figure(f"handler: a calibrated version's longer name, {size}", version_us, US),
    ]


def _features(rides: list[Ride]) -> NDArray[np.float64]:
    minutes = usual_pickup_minutes([ride.pickup_datetime for ride in rides])
    assert minutes is not None
    return feature_matrix(ride_columns(rides, minutes))


def _batch_case(handler: Any, event: dict[str, Any], n_rides: int) -> Case:
    batch = _head(event, n_rides)
    n_calls = max(1, 1000 // n_rides)
    return (lambda: [handler(batch) for _ in range(n_calls)]), n_rides * n_calls


def _head(event: dict[str, Any], n_rides: int) -> dict[str, Any]:
    return {"Records": event["Records"][:n_rides]}
