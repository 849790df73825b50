"""A replay: real rides as ride events in order of pickup, and a ledger of where each event ended."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from infra.operate.streams import ride_event_bytes
from lambda_function.core.events import decode_prediction, decode_reject, partition_key
from lambda_function.core.records import Entry
from training.data.rides import Rides

MALFORMED = (
    b"not JSON at all",
    b'{"ride": {"PULocationID": 130, "DOLocationID": 205, "trip_distance": NaN}, "ride_id": "malformed"}',
    b'{"ride": {"PULocationID": 130, "DOLocationID": 266, "trip_distance": 3.66}, "ride_id": "malformed"}',
    b'{"ride": {"PULocationID": 130, "trip_distance": 3.66}, "ride_id": "malformed"}',
    b"\xff\xfe\x00\x01",
)
"""Malformed events that a replay contains on purpose. Each must be rejected and must not affect its neighbours."""

_EVENTS_PER_MALFORMED = 100


def ride_events(rides: Rides, ids: Sequence[int | str]) -> list[bytes]:
    """Encode rides as ride events with these ids. A missing or negative distance becomes 0, which means missing."""
    columns = rides.columns
    miles = np.where(columns.trip_distance_miles > 0, columns.trip_distance_miles, 0.0)
    return ride_event_bytes(columns.pickup_zone, columns.dropoff_zone, miles, rides.pickup_time, ids)


@dataclass(frozen=True, slots=True)
class Replay:
    """Ride events to send: event i of the rides has `ride_id` i."""

    rides: Rides  # in order of pickup
    n_malformed: int  # malformed events, spread evenly among the rides

    @classmethod
    def of(cls, rides: Rides, n_events: int) -> "Replay":
        """Build a replay of at most `n_events` events: rides spread evenly over `rides`, and malformed events."""
        n_malformed = min(len(MALFORMED), n_events // _EVENTS_PER_MALFORMED)
        n_rides = min(n_events - n_malformed, len(rides))
        return cls(rides.take(np.linspace(0, len(rides) - 1, n_rides).astype(np.intp)), n_malformed)

    def __len__(self) -> int:
        return len(self.rides) + self.n_malformed

    def entries(self) -> list[Entry]:
        """Return partition key and data of each event, in sending order."""
        data = ride_events(self.rides, range(len(self.rides)))
        entries = [(partition_key(number), event) for number, event in enumerate(data)]
        for kind in reversed(range(self.n_malformed)):  # each into the middle of its share, from the last one
            place = (2 * kind + 1) * len(data) // (2 * self.n_malformed)
            entries.insert(place, (f"malformed-{kind}", MALFORMED[kind]))
        return entries


class Ledger:
    """Where each event of a replay ended so far. The producer sets `n_sent`."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self._is_predicted = bytearray(len(replay.rides))
        self._rejected: set[str] = set()
        self.n_sent = 0
        self.n_predicted = 0
        self.n_repeated = 0

    def add_predictions(self, data: Iterable[bytes]) -> None:
        """Add records of the output stream; a further prediction of a ride counts as repeated."""
        for line in data:
            ride = int(decode_prediction(line).prediction.ride_id)
            self.n_repeated += self._is_predicted[ride]
            self.n_predicted += not self._is_predicted[ride]
            self._is_predicted[ride] = True

    def add_rejects(self, ndjson: bytes) -> None:
        """Add the rejects of one stored object; an event that was sent or rejected twice counts once."""
        self._rejected.update(decode_reject(line).partition_key for line in ndjson.splitlines())

    @property
    def n_rejected(self) -> int:
        """Rejected events."""
        return len(self._rejected)

    @property
    def n_lost(self) -> int:
        """Events that are neither predicted nor rejected; below 0 if one is both, which is an error, too."""
        return len(self._replay) - self.n_predicted - self.n_rejected
