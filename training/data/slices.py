"""Ways to cut rides into slices: by hour, weekday, boroughs, distance, airport, and whether the zone pair is new.

A slicing gives each ride a number rather than each slice a mask, so that sums by slice cost one pass and a number a
ride, however many slices there are.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lambda_function.features import LAST_ZONE, MAX_TRIP_DISTANCE_MILES, MINUTES_PER_DAY, RideColumns
from training.data.boroughs import BOROUGH_OF_ZONE, BOROUGHS
from training.data.rides import Rides

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
AIRPORTS = {"JFK": 132, "LaGuardia": 138, "Newark": 1}
"""Airports by name, and the zone of each."""

BAND_EDGES_MILES = (1.0, 2.0, 5.0, 10.0, 20.0)
DISTANCE_BANDS = ("under 1 mile", "1 to 2", "2 to 5", "5 to 10", "10 to 20", "20 miles or more", "missing")
"""A band holds its lower edge. Missing is what the features take for missing: 0 or less, over 60 miles, NaN."""

_HOURS_PER_DAY, _MINUTES_PER_HOUR = 24, 60
_EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday; Monday is 0
_MISSING = DISTANCE_BANDS.index("missing")

ZonePairs = NDArray[np.bool_]
"""bool (266, 266): whether there was a ride from one LocationID to the other."""


@dataclass(frozen=True, slots=True)
class Slicing:
    """One way to cut rides.

    Attributes:
        by: What it goes by, as in ``hour``.
        names: The slices, as in ``08``.
        number: Gives rides' slices: intp (n,), the place among the names, or their number for a ride in none of them.
    """

    by: str
    names: tuple[str, ...]
    number: Callable[[RideColumns], NDArray[np.intp]]


ALL = Slicing("all", ("all",), lambda rides: np.zeros(len(rides), np.intp))
"""All rides in one."""


def zone_pairs(rides: Rides) -> ZonePairs:
    """Returns the pairs of zones that rides go between: what of the training rides makes a pair a known one."""
    pairs = np.zeros((LAST_ZONE + 1, LAST_ZONE + 1), np.bool_)
    pairs[rides.columns.pickup_zone, rides.columns.dropoff_zone] = True
    return pairs


def slicings(known_pairs: ZonePairs) -> tuple[Slicing, ...]:
    """Returns all the ways that a report cuts rides.

    Args:
        known_pairs: `zone_pairs` of the training rides.
    """
    return (
        Slicing("hour", tuple(f"{hour:02d}" for hour in range(_HOURS_PER_DAY)), _hour),
        Slicing("weekday", WEEKDAYS, _weekday),
        Slicing("boroughs", tuple(f"{a} to {b}" for a in BOROUGHS for b in BOROUGHS), _boroughs),
        Slicing("distance", DISTANCE_BANDS, _distance_band),
        *(Slicing("airport", (name,), _touches(zone)) for name, zone in AIRPORTS.items()),
        Slicing("zone pair", ("known", "unseen"), _unseen(known_pairs)),
    )


def by_day(rides: Rides) -> Slicing:
    """Returns the cut by day of pickup (New York's), from the first ride's to the last's; there is at least one ride.

    >>> from training.data.synthetic import synthetic_rides
    >>> from training.data.months import Month
    >>> by_day(synthetic_rides(Month(2021, 2), n_rides=1000, seed=7)).names[-1]
    '2021-02-28'
    """
    first, last = (int(minute) // MINUTES_PER_DAY for minute in _ends(rides.columns.pickup_minute))
    names = tuple(str(day) for day in np.arange(first, last + 1).astype("datetime64[D]"))
    return Slicing("day", names, lambda columns: _whole(columns.pickup_minute) // MINUTES_PER_DAY - first)


def _ends(minute: NDArray[np.int64]) -> tuple[int, int]:
    return int(minute.min()), int(minute.max())


def _whole(numbers: NDArray[np.integer]) -> NDArray[np.intp]:
    """Widens whole numbers: columns may be as narrow as their values allow, what is computed of them may not."""
    return numbers.astype(np.intp, copy=False)


def _hour(rides: RideColumns) -> NDArray[np.intp]:
    return _whole(rides.pickup_minute) % MINUTES_PER_DAY // _MINUTES_PER_HOUR


def _weekday(rides: RideColumns) -> NDArray[np.intp]:
    return (_whole(rides.pickup_minute) // MINUTES_PER_DAY + _EPOCH_WEEKDAY) % len(WEEKDAYS)


def _boroughs(rides: RideColumns) -> NDArray[np.intp]:
    pickup, dropoff = (BOROUGH_OF_ZONE[zone] for zone in (rides.pickup_zone, rides.dropoff_zone))
    return pickup * len(BOROUGHS) + dropoff


def _distance_band(rides: RideColumns) -> NDArray[np.intp]:
    miles = rides.trip_distance_miles
    known = (miles > 0) & (miles <= MAX_TRIP_DISTANCE_MILES)
    return np.where(known, np.searchsorted(BAND_EDGES_MILES, miles, side="right"), _MISSING)


def _touches(zone: int) -> Callable[[RideColumns], NDArray[np.intp]]:
    """Numbers the rides from or to a zone 0."""
    return lambda rides: np.where((rides.pickup_zone == zone) | (rides.dropoff_zone == zone), 0, 1)


def _unseen(known_pairs: ZonePairs) -> Callable[[RideColumns], NDArray[np.intp]]:
    return lambda rides: np.where(known_pairs[rides.pickup_zone, rides.dropoff_zone], 0, 1)
