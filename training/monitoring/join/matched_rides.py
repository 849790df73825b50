"""The rides of a join, or of a part of one, by column, and the outcomes that belong to them.

The result depends on the rides and outcomes alone, not on the order in which they are added.
"""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, KeysView, Mapping, Sequence, Set
from operator import attrgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.data.labelled import LABELLED, NO_OUTCOME

Texts = NDArray[np.object_]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

_NONE, _TAKEN = -2, -1
"""In place of an outcome's ride: no ride event came before it; one of a later hour came between."""


def texts(values: Sequence[str | None]) -> Texts:
    """Return texts as an array that holds them without a copy."""
    array = np.empty(len(values), np.object_)
    array[:] = values
    return array


class RideRows(NamedTuple):
    """Rides by column (n,). NaN stands for no prediction, and for no interval."""

    id: Texts
    key: Texts
    at_us: Integers
    pickup_zone: Integers
    dropoff_zone: Integers
    trip_distance_miles: Floats
    pickup_s: Integers
    pickup: Texts  # None for a ride event without
    version: Integers
    minutes: Floats
    low_minutes: Floats
    high_minutes: Floats


class OutcomeRow(NamedTuple):
    """An outcome to match; minutes are NaN if they follow from its ride event only."""

    id: str
    key: str
    at_us: int
    minutes: float
    is_of_hour: bool  # whether it arrived in the hour itself
    dropoff: str | None


class Unmeasured(NamedTuple):
    """An outcome that was matched, but whose minutes follow from its ride event only."""

    outcome_id: str
    dropoff: str
    pickup: str | None
    ride_at_us: int


class LabelledRides(NamedTuple):
    """Labelled rides by column (n,): those of the file, with the number of the version in place of its name."""

    event_id: Texts
    ride_id: Texts
    arrival_time: NDArray[np.datetime64]
    pickup_zone: NDArray[np.int16]
    dropoff_zone: NDArray[np.int16]
    trip_distance_miles: Floats
    pickup_time: NDArray[np.datetime64]
    has_pickup_time: Flags
    version: NDArray[np.int32]  # -1 without a prediction
    predicted_minutes: Floats  # NaN, here and in the next three, for none
    low_minutes: Floats
    high_minutes: Floats
    duration_minutes: Floats
    outcome_time: NDArray[np.datetime64]  # NaT without an outcome
    outcome_id: Texts
    status: Texts
    contradicting: Flags
    conflicting: Flags
    skewed: Flags


class _Outcomes(NamedTuple):
    """Outcomes by column (n,)."""

    id: Texts
    number: Integers  # the row of the first ride with its key
    at_us: Integers
    minutes: Floats
    is_of_hour: Flags


class _Event(NamedTuple):
    """One of several ride events with the same key."""

    at_us: int
    id: str
    row: int  # _TAKEN for one of a later hour


_NO_TEXTS, _NO_FLOATS, _NO_INTEGERS = texts(()), np.empty(0, np.float64), np.empty(0, np.int64)
_NO_RIDES = RideRows(
    *(_NO_TEXTS,) * 2, *(_NO_INTEGERS,) * 3, _NO_FLOATS, _NO_INTEGERS, _NO_TEXTS, _NO_INTEGERS, *(_NO_FLOATS,) * 3
)
_NO_OUTCOMES = _Outcomes(_NO_TEXTS, _NO_INTEGERS, _NO_INTEGERS, _NO_FLOATS, np.empty(0, np.bool_))


class MatchedRides:
    """Rides, numbered by row in the order in which they are added, and their outcomes.

    All rides are added before what belongs to them.
    """

    def __init__(self) -> None:
        self._ride_chunks = [_NO_RIDES]
        self._n_rides = 0
        self._numbers: dict[str, int] = {}  # the row of the first ride with each key
        self._repeated: list[tuple[int, int]] = []  # numbers of keys, and the rows of their other rides
        self._later: list[tuple[int, int]] = []  # numbers of keys, and when an event of a later hour has them
        self._outcome_chunks = [_NO_OUTCOMES]
        self._row = _NO_INTEGERS  # of each outcome
        self._dropoffs: dict[str, str] = {}  # of outcomes without minutes, by id
        self._statuses: Mapping[int, str] = {}
        self._conflicting: Set[int] = frozenset()
        self._skewed: Set[int] = frozenset()

    @property
    def keys(self) -> KeysView[str]:
        """The keys of the rides."""
        return self._numbers.keys()

    def add_rides(self, rows: RideRows) -> None:
        """Add rides that were not added before."""
        self._ride_chunks.append(rows)
        for row, key in enumerate(rows.key, self._n_rides):
            number = self._numbers.setdefault(key, row)
            if number != row:
                self._repeated.append((number, row))
        self._n_rides += len(rows.key)

    def add_outcomes(self, rows: Sequence[OutcomeRow]) -> None:
        """Add outcomes of the rides that were not added before."""
        if rows:
            ids, keys, at_us, minutes, is_of_hour, dropoffs = zip(*rows, strict=True)
            number = np.array([self._numbers[key] for key in keys], np.int64)
            columns = np.array(at_us, np.int64), np.array(minutes, np.float64), np.array(is_of_hour, np.bool_)
            self._outcome_chunks.append(_Outcomes(texts(ids), number, *columns))
            self._dropoffs |= {one_id: dropoff for one_id, dropoff in zip(ids, dropoffs, strict=True) if dropoff}

    def add_later(self, events: Iterable[tuple[str, int]]) -> None:
        """Add the keys and arrivals (microseconds) of ride events that arrived after the hour."""
        self._later += [(self._numbers[key], at_us) for key, at_us in events]

    def replace_predictions(self, rows: Sequence[tuple[int, int, float, float, float]]) -> None:
        """Set version, minutes, low and high of rides by row."""
        rides = self._rides()
        for row, *prediction in rows:
            rides.version[row], rides.minutes[row], rides.low_minutes[row], rides.high_minutes[row] = prediction

    def set_statuses(self, statuses: Mapping[int, str]) -> None:
        """Set the status of rides without prediction, by row."""
        self._statuses = statuses

    def set_flags(self, conflicting: Set[int], skewed: Set[int]) -> None:
        """Set the flags of rides, by row."""
        self._conflicting, self._skewed = conflicting, skewed

    def match(self) -> list[Unmeasured]:
        """Match outcomes with rides, and return those whose minutes follow from the ride.

        An outcome is of the last ride event with its key that arrived before it, or at the same time. Of events that
        arrived at the same time, the one with the greatest id has it. An event of a later hour takes it away.
        """
        rides, outcomes = self._rides(), self._outcomes()
        number, at_us, again = outcomes.number, outcomes.at_us, self._events()
        self._row = np.where(at_us >= rides.at_us[number], number, _NONE)
        for place in np.flatnonzero(np.isin(number, list(again))).tolist() if again else ():
            self._row[place] = _last(again[int(number[place])], int(at_us[place]))
        unmeasured = np.flatnonzero(np.isnan(outcomes.minutes) & (self._row >= 0)).tolist()
        return [self._unmeasured(outcomes.id[place], int(self._row[place])) for place in unmeasured]

    def measure(self, minutes: Mapping[str, float]) -> None:
        """Set the minutes of outcomes by id; those that were to be measured and are not here count for no ride."""
        outcomes = self._outcomes()
        for place in np.flatnonzero(np.isnan(outcomes.minutes)).tolist():
            outcomes.minutes[place] = minutes.get(outcomes.id[place], math.nan)

    def unmatched(self) -> Counter[str]:
        """Return how many outcomes of the hour itself have no ride event before them, by key; only after `match`."""
        outcomes, key = self._outcomes(), self._rides().key
        numbers = outcomes.number[(self._row == _NONE) & outcomes.is_of_hour]
        return Counter(key[number] for number in numbers.tolist())

    def labelled(self) -> LabelledRides:
        """Return the rides, each with the first of its outcomes; only after `match`."""
        rides, outcomes = self._rides(), self._outcomes()
        n = len(rides.id)
        first, contradicting = self._first_outcomes()
        row = np.array(list(first), np.int64)
        place = np.array(list(first.values()), np.int64)
        duration, outcome_us = np.full(n, np.nan), np.full(n, np.datetime64("NaT", "us"))
        outcome_id, status = np.full(n, None, np.object_), np.full(n, NO_OUTCOME, np.object_)
        duration[row], outcome_us[row] = outcomes.minutes[place], outcomes.at_us[place].view("datetime64[us]")
        outcome_id[row], status[row] = outcomes.id[place], LABELLED
        for one, text in self._statuses.items():
            status[one] = text
        return LabelledRides(
            event_id=rides.id,
            ride_id=rides.key,
            arrival_time=rides.at_us.view("datetime64[us]"),
            pickup_zone=rides.pickup_zone.astype(np.int16),
            dropoff_zone=rides.dropoff_zone.astype(np.int16),
            trip_distance_miles=rides.trip_distance_miles,
            pickup_time=rides.pickup_s.view("datetime64[s]").astype("datetime64[us]"),
            has_pickup_time=np.array([text is not None for text in rides.pickup], np.bool_),
            version=rides.version.astype(np.int32),
            predicted_minutes=rides.minutes,
            low_minutes=rides.low_minutes,
            high_minutes=rides.high_minutes,
            duration_minutes=duration,
            outcome_time=outcome_us,
            outcome_id=outcome_id,
            status=status,
            contradicting=_flags(contradicting, n),
            conflicting=_flags(self._conflicting, n),
            skewed=_flags(self._skewed, n),
        )

    def _first_outcomes(self) -> tuple[dict[int, int], set[int]]:
        """Return the place of the first outcome with minutes by row, and the rows whose outcomes have other minutes."""
        outcomes = self._outcomes()
        first: dict[int, int] = {}
        contradicting: set[int] = set()
        counts = np.flatnonzero((self._row >= 0) & ~np.isnan(outcomes.minutes))
        for place, row in zip(counts.tolist(), self._row[counts].tolist(), strict=True):
            known = first.setdefault(row, place)
            if known == place:
                continue
            if outcomes.minutes[known] != outcomes.minutes[place]:
                contradicting.add(row)
            first[row] = min(known, place, key=lambda one: (outcomes.at_us[one], outcomes.id[one]))
        return first, contradicting

    def _rides(self) -> RideRows:
        if len(self._ride_chunks) > 1:
            self._ride_chunks = [RideRows(*map(np.concatenate, zip(*self._ride_chunks, strict=True)))]
        return self._ride_chunks[0]

    def _outcomes(self) -> _Outcomes:
        if len(self._outcome_chunks) > 1:
            self._outcome_chunks = [_Outcomes(*map(np.concatenate, zip(*self._outcome_chunks, strict=True)))]
        return self._outcome_chunks[0]

    def _events(self) -> dict[int, list[_Event]]:
        """Return the ride events of each key that has several, sorted, by the key's number."""
        rides = self._rides()
        events: dict[int, set[_Event]] = {}
        for number, row in self._repeated:
            events.setdefault(number, set()).add(_Event(int(rides.at_us[row]), rides.id[row], row))
        for number, at_us in self._later:
            events.setdefault(number, set()).add(_Event(at_us, "", _TAKEN))
        for number, known in events.items():
            known.add(_Event(int(rides.at_us[number]), rides.id[number], number))
        return {number: sorted(known) for number, known in events.items()}

    def _unmeasured(self, outcome_id: str, row: int) -> Unmeasured:
        rides = self._rides()
        return Unmeasured(outcome_id, self._dropoffs[outcome_id], rides.pickup[row], int(rides.at_us[row]))


def _last(events: Sequence[_Event], at_us: int) -> int:
    """Return the row of the last event until a time; _NONE if there is none. The events are sorted."""
    n = bisect_right(events, at_us, key=attrgetter("at_us"))
    return events[n - 1].row if n else _NONE


def _flags(rows: Iterable[int], n: int) -> Flags:
    flags = np.zeros(n, np.bool_)
    flags[list(rows)] = True
    return flags
