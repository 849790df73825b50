"""Cut rides into slices: by hour, weekday, boroughs, distance, airport, and whether the zone pair is new.

A slicing numbers each ride instead of masking each slice, so sums by slice take one pass, however many slices there
are.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lambda_function.core.features import LAST_ZONE, MAX_TRIP_DISTANCE_MILES, MINUTES_PER_DAY, RideColumns, read_zones
from training.data.rides import Rides

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
AIRPORTS = dict(sorted((row["airport"], zone) for zone, row in read_zones().items() if row["airport"]))
"""The zone of each airport."""

BAND_EDGES_MILES = (1.0, 2.0, 5.0, 10.0, 20.0)
DISTANCE_BANDS = ("under 1 mile", "1 to 2", "2 to 5", "5 to 10", "10 to 20", "20 miles or more", "missing")
"""A band includes its lower edge. Missing is as in the features: 0 or less, over 60 miles, NaN."""

UNKNOWN_BOROUGH = "unknown"
"""The borough of the zones without a place, 264 and 265."""

_HOURS_PER_DAY, _MINUTES_PER_HOUR = 24, 60
_EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday; Monday is 0
_MISSING = DISTANCE_BANDS.index("missing")

ZonePairs = NDArray[np.bool_]
"""bool (266, 266): whether there was a ride from one LocationID to the other."""


@dataclass(frozen=True, slots=True)
class Slicing:
    """One way to cut rides."""

    by: str  # the criterion, as in `hour`
    names: tuple[str, ...]  # the slices, as in `08`
    # Returns rides' slices: intp (n,), the index in `names`, or `len(names)` for a ride in no slice.
    number: Callable[[RideColumns], NDArray[np.intp]]


ALL = Slicing("all", ("all",), lambda rides: np.zeros(len(rides), np.intp))
"""All rides in one slice."""


def _load_boroughs() -> tuple[tuple[str, ...], NDArray[np.intp]]:
    boroughs = {zone: row["borough"] for zone, row in read_zones().items()}
    names = (*sorted(set(boroughs.values())), UNKNOWN_BOROUGH)
    of_zone = [names.index(boroughs.get(zone, UNKNOWN_BOROUGH)) for zone in range(LAST_ZONE + 1)]
    return names, np.array(of_zone, np.intp)


BOROUGHS, BOROUGH_OF_ZONE = _load_boroughs()
"""The names, Newark's airport (EWR) and UNKNOWN_BOROUGH among them; intp (266,): the index of a LocationID's name."""


def zone_pairs(rides: Rides) -> ZonePairs:
    """Return the pairs of zones that rides go between; those of the training rides are known pairs."""
    pairs = np.zeros((LAST_ZONE + 1, LAST_ZONE + 1), np.bool_)
    pairs[rides.columns.pickup_zone, rides.columns.dropoff_zone] = True
    return pairs


def slicings(known_pairs: ZonePairs) -> tuple[Slicing, ...]:
    """Return the slicings of a report; `known_pairs` are the `zone_pairs` of the training rides."""
    return (
        Slicing("hour", tuple(f"{hour:02d}" for hour in range(_HOURS_PER_DAY)), _hour),
        Slicing("weekday", WEEKDAYS, _weekday),
        Slicing("boroughs", tuple(f"{a} to {b}" for a in BOROUGHS for b in BOROUGHS), _boroughs),
        Slicing("distance", DISTANCE_BANDS, _distance_band),
        *(Slicing("airport", (name,), _touches(zone)) for name, zone in AIRPORTS.items()),
        Slicing("zone pair", ("known", "unseen"), _unseen(known_pairs)),
    )


def by_day(rides: Rides) -> Slicing:
    """Return the slicing by day of pickup (New York's), from the first ride's to the last's; at least one ride.

    >>> from training.data.synthetic import synthetic_rides
    >>> from training.data.months import Month
    >>> by_day(synthetic_rides(Month(2021, 2), n_rides=1000, seed=7)).names[-1]
    '2021-02-28'
    """
    minute = rides.columns.pickup_minute
    first, last = int(minute.min()) // MINUTES_PER_DAY, int(minute.max()) // MINUTES_PER_DAY
    names = tuple(str(day) for day in np.arange(first, last + 1).astype("datetime64[D]"))
    return Slicing("day", names, lambda columns: _wide(columns.pickup_minute) // MINUTES_PER_DAY - first)


def crossed(one: Slicing, other: Slicing) -> Slicing:
    """Return the slicing by two criteria at once: the first slice of one with each of the other, and so on."""
    n_others = len(other.names)
    names = tuple(f"{a}, {b}" for a in one.names for b in other.names)

    def number(rides: RideColumns) -> NDArray[np.intp]:
        first, second = one.number(rides), other.number(rides)
        is_in_both = (first < len(one.names)) & (second < n_others)
        return np.where(is_in_both, first * n_others + second, len(names))

    return Slicing(f"{one.by} and {other.by}", names, number)


def _wide(numbers: NDArray[np.integer]) -> NDArray[np.intp]:
    """Widen whole numbers: columns may be as narrow as their values allow, results may not."""
    return numbers.astype(np.intp, copy=False)


def _hour(rides: RideColumns) -> NDArray[np.intp]:
    return _wide(rides.pickup_minute) % MINUTES_PER_DAY // _MINUTES_PER_HOUR


def _weekday(rides: RideColumns) -> NDArray[np.intp]:
    return (_wide(rides.pickup_minute) // MINUTES_PER_DAY + _EPOCH_WEEKDAY) % len(WEEKDAYS)


def _boroughs(rides: RideColumns) -> NDArray[np.intp]:
    pickup, dropoff = (BOROUGH_OF_ZONE[zone] for zone in (rides.pickup_zone, rides.dropoff_zone))
    return pickup * len(BOROUGHS) + dropoff


def _distance_band(rides: RideColumns) -> NDArray[np.intp]:
    miles = rides.trip_distance_miles
    known = (miles > 0) & (miles <= MAX_TRIP_DISTANCE_MILES)
    return np.where(known, np.searchsorted(BAND_EDGES_MILES, miles, side="right"), _MISSING)


def _touches(zone: int) -> Callable[[RideColumns], NDArray[np.intp]]:
    """Number the rides from or to a zone 0."""
    return lambda rides: np.where((rides.pickup_zone == zone) | (rides.dropoff_zone == zone), 0, 1)


def _unseen(known_pairs: ZonePairs) -> Callable[[RideColumns], NDArray[np.intp]]:
    return lambda rides: np.where(known_pairs[rides.pickup_zone, rides.dropoff_zone], 0, 1)
