"""Outcomes of rides: as records to send, and the hours that they are joined in."""

import hashlib
from datetime import datetime, timedelta

import numpy as np

from lambda_function.core.events import partition_key
from lambda_function.core.outcomes import Outcome, encode_outcome
from lambda_function.core.records import Entry
from training.data.rides import Rides
from training.monitoring.hours import LONGEST_RIDE_MINUTES

_N_HASH_BYTES = 8
_N_HASHES = 1 << 8 * _N_HASH_BYTES
_S_PER_MINUTE = 60


def outcome_entries(rides: Rides, share: float = 1.0) -> list[Entry]:
    """Return partition key and data of the outcomes of rides, in order of drop-off.

    Ride i has `ride_id` i, as in the ride events of the same rides. An outcome is the duration in minutes, with all its
    digits.

    Args:
        rides: In order of pickup.
        share: Of the rides that have an outcome, 0 to 1. It is chosen by a hash of the id: the same rides each time,
            and a larger share has all those of a smaller one.
    """
    minutes = rides.duration_minutes.tolist()
    dropoff_s = rides.pickup_time.astype(np.int64) + rides.duration_minutes * _S_PER_MINUTE
    return [
        (partition_key(ride), encode_outcome(Outcome(ride, minutes[ride])))
        for ride in np.argsort(dropoff_s, kind="stable").tolist()
        if has_outcome(ride, share)
    ]


def hours_to_join(first: datetime, last: datetime, delay_minutes: int) -> tuple[datetime, datetime]:
    """Return the hours to join again after records that arrived between two times came into the archive late.

    Args:
        first: The first arrival.
        last: The last arrival.
        delay_minutes: How long after its ride an outcome may arrive.

    Returns:
        The first hour, and the end of the last. An outcome or a prediction belongs to a ride that arrived in its own
        hour, or as long before as the join waits.

    >>> [f"{time:%dT%H}" for time in hours_to_join(datetime(2026, 8, 2, 9, 30), datetime(2026, 8, 2, 10, 0), 120)]
    ['02T06', '02T11']
    """
    begin = first - timedelta(minutes=LONGEST_RIDE_MINUTES + delay_minutes)
    begin, end = (time.replace(minute=0, second=0, microsecond=0) for time in (begin, last))
    return begin, end + timedelta(hours=1)


def has_outcome(ride_id: int, share: float) -> bool:
    """Return whether a ride is among the share that has an outcome.

    >>> [ride for ride in range(10) if has_outcome(ride, 0.5)]
    [2, 4, 6]
    """
    digest = hashlib.blake2b(str(ride_id).encode(), digest_size=_N_HASH_BYTES).digest()
    return int.from_bytes(digest) < share * _N_HASHES
