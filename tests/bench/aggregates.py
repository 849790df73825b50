"""KPL aggregation, timed: a full batch packed and unpacked, beside the MD5 that the format asks for."""

import hashlib
from collections.abc import Mapping

from lambda_function.core.kpl import pack, unpack
from tests.bench.timing import Case

N_GROUPS = 4
RIDE_EVENT_BYTES, PREDICTION_BYTES = 110, 230


def aggregate_cases(n_rides: int) -> Mapping[str, Case]:
    """Returns what to time: `n_rides` predictions packed, and as many ride events unpacked."""
    predictions = [(str(10_000_000 + 7 * i), b"p" * (PREDICTION_BYTES + i % 13 - 6)) for i in range(n_rides)]
    ride_events = [(key, data[:RIDE_EVENT_BYTES]) for key, data in predictions]
    packed = [aggregate.data for aggregate in pack(predictions, N_GROUPS)]
    arriving = [aggregate.data for aggregate in pack(ride_events, N_GROUPS)]
    return {
        "pack": (lambda: pack(predictions, N_GROUPS), n_rides),
        "pack: its MD5": (lambda: [hashlib.md5(data, usedforsecurity=False).digest() for data in packed], n_rides),
        "unpack": (lambda: [unpack(data) for data in arriving], n_rides),
        "unpack: its MD5": (lambda: [hashlib.md5(data, usedforsecurity=False).digest() for data in arriving], n_rides),
    }
