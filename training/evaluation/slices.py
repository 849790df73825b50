"""Ways to cut rides into slices: by hour, weekday, boroughs, distance, airport, and whether the zone pair is new.

A slicing gives each ride a number rather than each slice a mask, so that sums by slice cost one pass and a number a
ride, however many slices there are.
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from lambda_function.core.bundle import ModelBundle
from lambda_function.core.features import (
    LAST_ZONE,
    MAX_TRIP_DISTANCE_MILES,
    MINUTES_PER_DAY,
    RideColumns,
    feature_matrix,
)
from training.data.rides import Rides

# MERGED FROM training/data/tally.py
# Sums over rides by slice, a block of rides at a time: what errors are computed from when the rides are many.
BLOCK_RIDES = 100_000
"""Rides predicted at once. A block's matrix and what is computed of it take some 30 MB, however many rides there are.

It is part of what an evaluation says, to the last bits: sums depend on where they are cut.
"""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of some rides: float64 (n,) each.

    Attributes:
        error_minutes: Predicted less actual; below 0 where the prediction is too short.
        covered: 1 where the interval, as it is sent, holds the actual duration; None without intervals.
        width_minutes: From the interval's low to its high end; None without intervals.
    """

    error_minutes: Floats
    covered: Floats | None = None
    width_minutes: Floats | None = None


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


@dataclass(slots=True)
class Tally:
    """Sums by slice of one slicing, float64 (n_slices,) each; `covered` and `width_minutes` stay 0 without intervals.

    `squares` has square minutes, `absolutes` and `errors` have minutes.
    """

    slicing: Slicing
    n_rides: Floats = field(init=False)
    squares: Floats = field(init=False)
    absolutes: Floats = field(init=False)
    errors: Floats = field(init=False)
    covered: Floats = field(init=False)
    width_minutes: Floats = field(init=False)
    has_intervals: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        sums = np.zeros((6, len(self.slicing.names)))
        self.n_rides, self.squares, self.absolutes, self.errors, self.covered, self.width_minutes = sums

    def add(self, rides: RideColumns, outcome: Outcome) -> None:
        """Adds rides and what became of them; a ride that is in no slice of this slicing counts nowhere."""
        number = self.slicing.number(rides)
        error = outcome.error_minutes
        self.n_rides += self._sums(number, None)
        self.squares += self._sums(number, error * error)
        self.absolutes += self._sums(number, np.abs(error))
        self.errors += self._sums(number, error)
        if outcome.covered is not None:
            self.has_intervals = True
            self.covered += self._sums(number, outcome.covered)
            self.width_minutes += self._sums(number, outcome.width_minutes)

    def _sums(self, number: NDArray[np.intp], values: Floats | None) -> Floats:
        n_slices = len(self.slicing.names)
        return np.bincount(number, values, minlength=n_slices + 1)[:n_slices].astype(np.float64)


Predictor = Callable[[Rides], Outcome]
"""Predicts rides and compares with what they took."""


def predictor(model: ModelBundle) -> Predictor:
    """Returns a bundle's predictor, intervals included where it has them."""
    return lambda rides: _outcome(model, rides)


def plain_predictor(predict: Callable[[RideColumns], Floats]) -> Predictor:
    """Returns the predictor of anything that has minutes for rides by column, without intervals."""
    return lambda rides: Outcome(predict(rides.columns) - rides.duration_minutes)


def tally_rides(predict: Predictor, rides: Rides, slicings: Sequence[Slicing]) -> list[Tally]:
    """Predicts rides, block by block, and sums up what became of them, by each of the slicings."""
    tallies = [Tally(slicing) for slicing in slicings]
    for start in range(0, len(rides), BLOCK_RIDES):
        block = rides.take(slice(start, start + BLOCK_RIDES))
        outcome = predict(block)
        for tally in tallies:
            tally.add(block.columns, outcome)
    return tallies


def _outcome(model: ModelBundle, rides: Rides) -> Outcome:
    matrix = feature_matrix(rides.columns)
    minutes = model.predict(matrix)
    error = minutes - rides.duration_minutes
    bounds = model.interval_bounds(matrix, minutes)
    if bounds is None:
        return Outcome(error)
    low, high = bounds
    covered = (low <= rides.duration_minutes) & (rides.duration_minutes <= high)
    return Outcome(error, covered.astype(np.float64), high - low)


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


# MERGED FROM training/data/boroughs.py
# Which borough each zone lies in, as TLC's table of zones has it.
UNKNOWN = "unknown"
"""Of the zones without a place, 264 and 265."""


def _load() -> tuple[tuple[str, ...], NDArray[np.intp]]:
    with files("lambda_function.core").joinpath("zones.csv").open() as file:
        boroughs = {int(row["location_id"]): row["borough"] for row in csv.DictReader(file)}
    names = (*sorted(set(boroughs.values())), UNKNOWN)
    of_zone = [names.index(boroughs.get(zone, UNKNOWN)) for zone in range(LAST_ZONE + 1)]
    return names, np.array(of_zone, np.intp)


BOROUGHS, BOROUGH_OF_ZONE = _load()
"""The names, Newark's airport (EWR) and UNKNOWN among them; intp (266,), by LocationID: the place among the names."""
