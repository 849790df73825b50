"""Outcomes go to the last ride event with their key before them, whatever the order in which they are added."""

import math
from typing import NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.data.labelled import LABELLED, NO_OUTCOME
from training.monitoring.join.matched_rides import MatchedRides, OutcomeRow, RideRows, texts

KEYS = st.sampled_from("ab")
TIMES = st.integers(0, 9)


class Ride(NamedTuple):
    """A ride event."""

    key: str
    at_us: int
    number: int

    @property
    def id(self) -> str:
        """The id of its record."""
        return f"ride{self.number}"


def rows_of(rides: list[Ride]) -> RideRows:
    n = len(rides)
    nothing, zeros = np.full(n, np.nan), np.zeros(n, np.int64)
    return RideRows(
        id=texts([ride.id for ride in rides]),
        key=texts([ride.key for ride in rides]),
        at_us=np.array([ride.at_us for ride in rides], np.int64),
        pickup_zone=zeros,
        dropoff_zone=zeros,
        trip_distance_miles=nothing,
        pickup_s=zeros,
        pickup=texts([None] * n),
        version=zeros,
        minutes=nothing,
        low_minutes=nothing,
        high_minutes=nothing,
    )


def matched(rides: list[Ride], outcomes: list[OutcomeRow], later: list[tuple[str, int]]) -> MatchedRides:
    found = MatchedRides()
    for start in range(0, len(rides), 2):
        found.add_rides(rows_of(rides[start : start + 2]))
    for outcome in outcomes:
        found.add_outcomes([outcome] if outcome.key in found.keys else [])
    found.add_later((key, at_us) for key, at_us in later if key in found.keys)
    assert found.match() == []
    return found


def first_outcome(ride: Ride, rides: list[Ride], outcomes: list[OutcomeRow], later: list[tuple[str, int]]) -> object:
    """Return id, minutes and whether others contradict, of the ride's first outcome, by looking at all of them."""
    mine: list[OutcomeRow] = []
    for outcome in outcomes:
        events = [(one.at_us, one.id) for one in rides if one.key == outcome.key]
        events += [(at_us, "") for key, at_us in later if key == outcome.key]
        before = [event for event in events if event[0] <= outcome.at_us]
        if before and max(before) == (ride.at_us, ride.id) and ride.key == outcome.key:
            mine.append(outcome)
    if not mine:
        return None, None, False
    first = min(mine, key=lambda one: (one.at_us, one.id))
    return first.id, first.minutes, len({one.minutes for one in mine}) > 1


@given(
    times=st.lists(st.tuples(KEYS, TIMES), max_size=6),
    came=st.lists(st.tuples(KEYS, st.integers(0, 20), st.sampled_from([5.0, 6.0])), max_size=6),
    later=st.lists(st.tuples(KEYS, st.integers(10, 20)), max_size=3),
    data=st.data(),
)
def test_each_ride_has_the_first_of_its_outcomes_in_any_order(
    times: list[tuple[str, int]], came: list[tuple[str, int, float]], later: list[tuple[str, int]], data: st.DataObject
) -> None:
    rides = [Ride(key, at_us, number) for number, (key, at_us) in enumerate(times)]
    outcomes = [
        OutcomeRow(f"outcome{number}", key, at_us, minutes, True, None)
        for number, (key, at_us, minutes) in enumerate(came)
    ]
    mixed = matched(
        data.draw(st.permutations(rides)), data.draw(st.permutations(outcomes)), data.draw(st.permutations(later))
    )
    found = mixed.labelled()
    by_id = dict(zip(found.event_id, range(len(rides)), strict=True))
    for ride in rides:
        row = by_id[ride.id]
        minutes = found.duration_minutes[row]
        got = found.outcome_id[row], None if math.isnan(minutes) else minutes, bool(found.contradicting[row])
        assert got == first_outcome(ride, rides, outcomes, later)
        assert found.status[row] == (LABELLED if got[0] else NO_OUTCOME)
    earliest = {key: min(ride.at_us for ride in rides if ride.key == key) for key in {ride.key for ride in rides}}
    assert mixed.unmatched().total() == sum(one.at_us < earliest.get(one.key, -1) for one in outcomes)


def test_an_outcome_without_minutes_is_asked_for_and_counts_once_it_is_measured() -> None:
    rides = MatchedRides()
    rides.add_rides(rows_of([Ride("a", 1, 0), Ride("b", 1, 1)]))
    rides.add_outcomes([OutcomeRow(f"of {key}", key, 5, math.nan, True, "2021-01-05T09:00:00") for key in "ab"])
    assert [(one.outcome_id, one.ride_at_us) for one in rides.match()] == [("of a", 1), ("of b", 1)]
    rides.measure({"of b": 7.5})
    assert rides.labelled().outcome_id.tolist() == [None, "of b"]
    assert rides.labelled().duration_minutes[1] == 7.5
