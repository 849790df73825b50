"""When rides begin and end, in seconds since the epoch, and the records that producers send then."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from infra.operate.streams import ride_event_bytes
from lambda_function.core.events import partition_key
from lambda_function.core.outcomes import Outcome, encode_outcome
from lambda_function.core.pickup_time import NEW_YORK
from training.data.rides import Rides

HOUR_S = 3600
_S_PER_MINUTE = 60


def arrival_s(pickup_time: NDArray[np.datetime64]) -> NDArray[np.int64]:
    """Return when rides (n,) begin, in seconds since the epoch, given New York's wall clock.

    >>> arrival_s(np.array(["2020-07-01T00:00", "2020-01-01T00:00"], "M8[s]")).tolist()
    [1593576000, 1577854800]
    """
    wall_s = pickup_time.astype("datetime64[s]").astype(np.int64)
    hours, which = np.unique(wall_s // HOUR_S, return_inverse=True)
    wall = [datetime.fromtimestamp(hour * HOUR_S, UTC).replace(tzinfo=NEW_YORK) for hour in hours]
    offset_s = np.array([int((one.utcoffset() or timedelta()).total_seconds()) for one in wall], np.int64)
    return wall_s - offset_s[which]


class Sent(NamedTuple):
    """A record that a producer sends."""

    at_s: float
    is_outcome: bool
    key: str
    data: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Arrivals:
    """Rides in the order in which they begin; ride i has `ride_id` i.

    Attributes:
        rides: In this order, which differs from that of pickups when clocks go back.
        begins_s: When their events arrive (n,), seconds since the epoch.
        ends_s: When their outcomes arrive (n,).
    """

    rides: Rides
    begins_s: NDArray[np.int64]
    ends_s: NDArray[np.float64]

    @classmethod
    def of(cls, rides: Rides) -> "Arrivals":
        """Return rides, each of which arrives at its pickup, and its outcome at its end."""
        begins_s = arrival_s(rides.pickup_time)
        order = np.argsort(begins_s, kind="stable")
        ordered, begins_s = rides.take(order), begins_s[order]
        return cls(ordered, begins_s, begins_s + ordered.duration_minutes * _S_PER_MINUTE)

    def __len__(self) -> int:
        return len(self.begins_s)

    def sent(self) -> list[Sent]:
        """Return the records of all rides and outcomes in the order in which they are sent."""
        columns = self.rides.columns
        miles = np.where(columns.trip_distance_miles > 0, columns.trip_distance_miles, 0.0)
        ids = range(len(self))
        events = ride_event_bytes(columns.pickup_zone, columns.dropoff_zone, miles, self.rides.pickup_time, ids)
        minutes = self.rides.duration_minutes.tolist()
        sent = [
            Sent(at_s, is_outcome=False, key=partition_key(ride), data=data)
            for ride, at_s, data in zip(ids, self.begins_s.tolist(), events, strict=True)
        ]
        sent += [
            Sent(at_s, is_outcome=True, key=partition_key(ride), data=encode_outcome(Outcome(ride, minutes[ride])))
            for ride, at_s in enumerate(self.ends_s.tolist())
        ]
        return sorted(sent, key=lambda one: one.at_s)
