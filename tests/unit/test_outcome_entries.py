"""Outcomes of rides, as they are sent: every ride's own duration, in order of drop-off, or of a share of the rides."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from infra.operate.outcomes import has_outcome, outcome_entries
from training.data.months import Month
from training.data.synthetic import synthetic_rides

RIDES = synthetic_rides(Month(2021, 2), n_rides=300, seed=3)


def test_each_ride_has_its_own_duration_with_all_digits_and_its_id_as_partition_key() -> None:
    entries = outcome_entries(RIDES)
    sent = {one["ride_id"]: one["outcome"]["ride_duration"] for one in map(json.loads, (data for _, data in entries))}
    assert [sent[ride] for ride in range(len(RIDES))] == RIDES.duration_minutes.tolist()
    assert len(entries) == len(RIDES)
    assert all(key == str(json.loads(data)["ride_id"]) for key, data in entries)


def test_outcomes_are_in_order_of_drop_off() -> None:
    rides = [json.loads(data)["ride_id"] for _, data in outcome_entries(RIDES)]
    dropoff_s = RIDES.pickup_time.astype(np.int64) + RIDES.duration_minutes * 60
    assert (np.diff(dropoff_s[rides]) >= 0).all()
    assert rides != sorted(rides)


@given(first=st.floats(0, 1), second=st.floats(0, 1))
def test_larger_share_has_the_rides_of_a_smaller_one(first: float, second: float) -> None:
    small, large = sorted((first, second))
    assert {ride for ride in range(50) if has_outcome(ride, small)} <= {
        ride for ride in range(50) if has_outcome(ride, large)
    }


def test_share_is_kept_and_is_the_same_each_time() -> None:
    assert outcome_entries(RIDES, share=0.0) == []
    assert len([ride for ride in range(10_000) if has_outcome(ride, 0.9)]) in range(8_900, 9_100)
    assert outcome_entries(RIDES, share=0.9) == [
        (key, data) for key, data in outcome_entries(RIDES) if has_outcome(int(key), 0.9)
    ]
