"""Events of a soak, by number: ride events, some malformed, some in aggregates, and outcomes; always the same bytes."""

from itertools import chain

import numpy as np

from infra.local.demo.replay import MALFORMED, ride_events
from lambda_function.core.kpl import MAGIC, pack
from lambda_function.core.outcomes import Outcome, encode_outcome
from lambda_function.core.records import Entry
from training.data.rides import Rides

_EVENTS_PER_MALFORMED = 100
_EVENTS_PER_DAMAGED = 5000
_BLOCK, _BLOCKS_PER_AGGREGATE = 50, 3


class Traffic:
    """Numbered ride events. The number is the `ride_id` and the partition key.

    One of a hundred is malformed. One of three blocks of 50 is an aggregate.

    Args:
        rides: Used in turn, repeatedly.
    """

    def __init__(self, rides: Rides) -> None:
        self._rides = rides

    def events(self, first: int, n_events: int) -> list[bytes]:
        """Return `n_events` ride events from number `first` on."""
        numbers = range(first, first + n_events)
        rides = self._rides.take(np.arange(first, first + n_events) % len(self._rides))
        encoded = ride_events(rides, numbers)
        return [_malformed(number) or event for number, event in zip(numbers, encoded, strict=True)]

    def outcomes(self, first: int, n_events: int) -> list[Entry]:
        """Return the outcomes of every other ride event from number `first` on; a malformed event has none."""
        minutes = self._rides.duration_minutes[np.arange(first, first + n_events) % len(self._rides)].tolist()
        numbered = zip(range(first, first + n_events), minutes, strict=True)
        return [
            (str(n), encode_outcome(Outcome(n, duration))) for n, duration in numbered if n % 2 and not _malformed(n)
        ]

    def entries(self, first: int, events: list[bytes]) -> list[Entry]:
        """Return the records that a producer sends for these events, plain and aggregated."""
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
    """Pack entries into one aggregate with the partition key of the first."""
    (aggregate,) = pack(block, n_groups=1)
    return [(block[0][0], aggregate.data)]
