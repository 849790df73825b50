"""A replay: real rides as ride events in order of pickup, and the ledger that accounts for each of them."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infra.streams import ride_event_bytes
from lambda_function.events import Prediction, decode_prediction, decode_reject, partition_key
from lambda_function.features import RideColumns
from lambda_function.publisher import Entry
from training.dataset import Rides

MALFORMED = (
    b"not JSON at all",
    b'{"ride": {"PULocationID": 130, "DOLocationID": 205, "trip_distance": NaN}, "ride_id": "malformed"}',
    b'{"ride": {"PULocationID": 130, "DOLocationID": 266, "trip_distance": 3.66}, "ride_id": "malformed"}',
    b'{"ride": {"PULocationID": 130, "trip_distance": 3.66}, "ride_id": "malformed"}',
    b"\xff\xfe\x00\x01",
)
"""What a replay mixes in on purpose: each must end as a reject, and its neighbours as predictions."""

_EVENTS_PER_MALFORMED = 100


@dataclass(frozen=True, slots=True)
class Replay:
    """Rides on their way: ride event number i carries `ride_id` i; the malformed ones come last in number.

    Attributes:
        rides: In order of pickup.
        n_malformed: Events that are no rides, spread evenly among the others.
    """

    rides: Rides
    n_malformed: int

    @classmethod
    def of(cls, rides: Rides, n_events: int) -> "Replay":
        """Takes rides spread evenly over the months, all where there are fewer, and makes room for malformed events."""
        n_malformed = min(len(MALFORMED), n_events // _EVENTS_PER_MALFORMED)
        n_rides = min(n_events - n_malformed, len(rides))
        return cls(rides.take(np.linspace(0, len(rides) - 1, n_rides).astype(np.intp)), n_malformed)

    def __len__(self) -> int:
        return len(self.rides) + self.n_malformed

    def entries(self) -> list[Entry]:
        """Lists what a producer sends, in order: partition key and data."""
        columns = self.rides.columns
        ids = range(len(self.rides))
        data = ride_event_bytes(
            columns.pickup_zone, columns.dropoff_zone, _bookable_miles(columns), self.rides.pickup_time, ids
        )
        entries = [(partition_key(number), event) for number, event in enumerate(data)]
        for kind in reversed(range(self.n_malformed)):  # each into the middle of its share, from the end
            place = (2 * kind + 1) * len(data) // (2 * self.n_malformed)
            entries.insert(place, (f"malformed-{kind}", MALFORMED[kind]))
        return entries


class Ledger:
    """Where each ride event of a replay has ended, and how far the predictions are off so far."""

    def __init__(self, replay: Replay, baseline_minutes: NDArray[np.float64]) -> None:
        """Opens the ledger; `baseline_minutes` (n rides,) is what the baseline predicts for the replay's rides."""
        self._replay = replay
        self._actual = replay.rides.duration_minutes
        self._baseline = baseline_minutes
        self._is_predicted = bytearray(len(replay.rides))
        self._rejected: set[str] = set()
        self._squared = self._absolute = self._baseline_squared = 0.0
        self.n_predicted = 0
        self.n_repeated = 0
        self.versions: dict[str, int] = {}

    def add_predictions(self, data: Iterable[bytes]) -> None:
        """Enters predictions as the output stream brings them; another one of the same ride counts as repeated."""
        fresh = [prediction for line in data if self._is_fresh(prediction := decode_prediction(line))]
        if not fresh:
            return
        rows = np.fromiter((int(one.prediction.ride_id) for one in fresh), np.intp, len(fresh))
        minutes = np.fromiter((one.prediction.ride_duration for one in fresh), np.float64, len(fresh))
        error = minutes - self._actual[rows]
        self._squared += float(error @ error)
        self._absolute += float(np.abs(error).sum())
        baseline_error = self._baseline[rows] - self._actual[rows]
        self._baseline_squared += float(baseline_error @ baseline_error)
        self.n_predicted += len(fresh)

    def _is_fresh(self, prediction: Prediction) -> bool:
        ride = int(prediction.prediction.ride_id)
        if self._is_predicted[ride]:
            self.n_repeated += 1
            return False
        self._is_predicted[ride] = True
        self.versions[prediction.version] = self.versions.get(prediction.version, 0) + 1
        return True

    def add_rejects(self, ndjson: bytes) -> None:
        """Enters the rejects of one stored object; an event that was sent or rejected twice counts once."""
        self._rejected.update(decode_reject(line).partition_key for line in ndjson.splitlines())

    @property
    def n_rejected(self) -> int:
        """Ride events rejected."""
        return len(self._rejected)

    @property
    def n_lost(self) -> int:
        """Ride events that are neither predicted nor rejected; below 0 where one is both, which must not be either."""
        return len(self._replay) - self.n_predicted - self.n_rejected

    @property
    def rmse_minutes(self) -> float:
        """Root mean squared error of the predictions so far; NaN before the first."""
        return _root_mean(self._squared, self.n_predicted)

    @property
    def mae_minutes(self) -> float:
        """Mean absolute error of the predictions so far; NaN before the first."""
        return self._absolute / self.n_predicted if self.n_predicted else math.nan

    @property
    def baseline_rmse_minutes(self) -> float:
        """The baseline's root mean squared error on the rides predicted so far; NaN before the first."""
        return _root_mean(self._baseline_squared, self.n_predicted)


def _bookable_miles(columns: RideColumns) -> NDArray[np.float64]:
    """Returns distances as an event can carry them: TLC's missing and negative ones become 0, which means missing."""
    miles = columns.trip_distance_miles
    return np.where(miles > 0, miles, 0.0)


def _root_mean(total: float, n: int) -> float:
    return math.sqrt(total / n) if n else math.nan
