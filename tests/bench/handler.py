"""The whole handler, its parts, and the handlers that it replaces, publishing to clients without a socket."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lambda_function.aws.publisher import Publisher
from lambda_function.aws.settings import JSON, KPL
from lambda_function.core.events import Ride, decode_ride_event, encode_predictions, ride_columns
from lambda_function.core.features import feature_matrix
from lambda_function.core.kpl import pack
from lambda_function.core.pickup_time import usual_pickup_minutes
from lambda_function.core.processor import process
from lambda_function.core.records import decode_records
from tests.bench.comparators import one_by_one, plain_batched
from tests.bench.figures import TIMES, US, Figure
from tests.bench.stand_ins import fast_kinesis, kinesis_without_socket
from tests.bench.subjects import Subject, ours
from tests.bench.timing import Case, cpu_us_per_ride

BATCH_SIZES = (1, 100, 1000)
"""Besides the largest: about what Lambda's 6 MB let through."""

N_ONE_BY_ONE = 200
"""Rides that the course's handler is timed on: at hundreds of microseconds each, more would tell no more."""


def bench_handler(subject: Subject) -> list[Figure]:
    """Times ours, plain and packed, on batches of all sizes, and both comparators on the largest they can bear."""
    event = subject.event
    n_rides = len(event["Records"])
    few = {"Records": event["Records"][:N_ONE_BY_ONE]}
    handlers = {form: ours(subject.bundle, fast_kinesis(), form) for form in (JSON, KPL)}
    plain = plain_batched(subject.fitted, kinesis_without_socket(parameter_validation=True))
    single = one_by_one(subject.baseline, kinesis_without_socket(parameter_validation=True))
    us = cpu_us_per_ride(
        {
            JSON: (lambda: handlers[JSON](event), n_rides),
            KPL: (lambda: handlers[KPL](event), n_rides),
            "plain": (lambda: plain(event), n_rides),
            "one by one": (lambda: single(few), N_ONE_BY_ONE),
            **{f"batch of {n:,}": _batch_case(handlers[JSON], event, n) for n in BATCH_SIZES},
        }
    )
    return [
        Figure(f"handler: batch of {n_rides:,}", us[JSON], US, 8.0),
        Figure(f"handler: batch of {n_rides:,}, packed output", us[KPL], US, 5.0),
        *(Figure(f"handler: batch of {n:,}", us[f"batch of {n:,}"], US) for n in BATCH_SIZES),
        Figure("handler: the course's, put_record a ride, linear model", us["one by one"], US),
        Figure("handler: a plain batched one, scikit-learn, same model", us["plain"], US),
        Figure("handler: cheaper than the course's", us["one by one"] / us[JSON], TIMES, 50.0),
        Figure("handler: cheaper than the plain one", us["plain"] / us[JSON], TIMES, 2.5),
        Figure("handler: packed, cheaper than the plain one", us["plain"] / us[KPL], TIMES, 4.5),
    ]


def bench_parts(subject: Subject) -> list[Figure]:
    """Times the handler's parts on the largest batch."""
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


def _features(rides: list[Ride]) -> NDArray[np.float64]:
    minutes = usual_pickup_minutes([ride.pickup_datetime for ride in rides])
    assert minutes is not None
    return feature_matrix(ride_columns(rides, minutes))


def _batch_case(handler: Any, event: dict[str, Any], n_rides: int) -> Case:
    batch = {"Records": event["Records"][:n_rides]}
    n_calls = max(1, 1000 // n_rides)
    return (lambda: [handler(batch) for _ in range(n_calls)]), n_rides * n_calls
