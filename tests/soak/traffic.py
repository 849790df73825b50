"""What a soak sends: ride events by number, some malformed, some in aggregates. The same number is the same bytes."""

from itertools import chain

import numpy as np

from infra.local.demo.replay import MALFORMED
from infra.operate.streams import ride_event_bytes
from lambda_function.core.kpl import MAGIC, pack
from lambda_function.core.records import Entry
from training.data.rides import Rides

_EVENTS_PER_MALFORMED = 100
_EVENTS_PER_DAMAGED = 5000
_BLOCK, _BLOCKS_PER_AGGREGATE = 50, 3


class Traffic:
    """Numbered ride events, made as they are sent: every number has its own `ride_id`, and its own partition key.

    Of a hundred, one is malformed. Of three blocks of 50, one is an aggregate.

    Args:
        rides: Used again and again.
    """

    def __init__(self, rides: Rides) -> None:
        self._rides = rides

    def events(self, first: int, n_events: int) -> list[bytes]:
        """Makes the ride events of so many numbers from the first on."""
        numbers = range(first, first + n_events)
        rides = self._rides.take(np.arange(first, first + n_events) % len(self._rides))
        columns = rides.columns
        miles = columns.trip_distance_miles.clip(min=0)
        made = ride_event_bytes(columns.pickup_zone, columns.dropoff_zone, miles, rides.pickup_time, numbers)
        return [_malformed(number) or event for number, event in zip(numbers, made, strict=True)]

    def entries(self, first: int, events: list[bytes]) -> list[Entry]:
        """Puts events into records as producers send them, plain and aggregated; partition keys are numbers."""
        plain = [(str(number), event) for number, event in enumerate(events, first)]
        blocks = [plain[start : start + _BLOCK] for start in range(0, len(plain), _BLOCK)]
        return list(
            chain.from_iterable(_packed(b) if n % _BLOCKS_PER_AGGREGATE == 0 else b for n, b in enumerate(blocks))
        )


def _malformed(number: int) -> bytes | None:
    if number % _EVENTS_PER_DAMAGED == 1:
        return MAGIC + b"claims to be an aggregate"
    if number % _EVENTS_PER_MALFORMED == 0:
        return MALFORMED[number // _EVENTS_PER_MALFORMED % len(MALFORMED)]
    return None


def _packed(block: list[Entry]) -> list[Entry]:
    """Packs entries into one aggregate, by the key of its first: they need not go to one shard for ever."""
    (aggregate,) = pack(block, n_groups=1)
    return [(block[0][0], aggregate.data)]
