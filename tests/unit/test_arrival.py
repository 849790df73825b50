"""Rides without a pickup time: what stands in for it, by how late their records arrive."""

import numpy as np
import pytest

from tests.builders import ride_columns_of, small_rides
from training.evaluation.metrics import ANY_TIME, DELAYS_MINUTES, arrival_scenarios

MINUTES_PER_WEEK = 7 * 24 * 60


def test_scenarios_go_from_the_best_to_the_worst() -> None:
    assert list(arrival_scenarios(ride_columns_of())) == [*DELAYS_MINUTES, ANY_TIME]
    assert next(iter(DELAYS_MINUTES.values())) == 0
    assert sorted(DELAYS_MINUTES.values()) == list(DELAYS_MINUTES.values())


@pytest.mark.parametrize(("name", "delay"), DELAYS_MINUTES.items())
def test_late_ride_has_the_time_of_its_arrival(name: str, delay: int) -> None:
    rides = ride_columns_of(2, pickup_minute=[1000, 1435])
    assert arrival_scenarios(rides)[name].pickup_minute.tolist() == [1000 + delay, 1435 + delay]


def test_nothing_but_the_time_differs() -> None:
    rides = small_rides().columns
    for scenario in arrival_scenarios(rides).values():
        assert scenario.pickup_zone is rides.pickup_zone
        assert scenario.dropoff_zone is rides.dropoff_zone
        assert scenario.trip_distance_miles is rides.trip_distance_miles
        assert scenario.pickup_minute.dtype == rides.pickup_minute.dtype


def test_replay_comes_within_a_week_at_every_hour_alike() -> None:
    rides = small_rides().columns
    delay = arrival_scenarios(rides)[ANY_TIME].pickup_minute - rides.pickup_minute
    assert delay.min() >= 0
    assert delay.max() < MINUTES_PER_WEEK
    by_day = np.bincount(delay // 1440, minlength=7) / len(delay)
    assert by_day == pytest.approx([1 / 7] * 7, abs=0.04)


def test_replay_is_drawn_by_its_seed() -> None:
    rides = small_rides().columns
    first, again, other = (arrival_scenarios(rides, seed)[ANY_TIME].pickup_minute for seed in (1, 1, 2))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


def test_no_rides_give_no_rides() -> None:
    assert {len(rides) for rides in arrival_scenarios(ride_columns_of(0)).values()} == {0}
