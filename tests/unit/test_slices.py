"""Slicings: every ride is in the right slice."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_function.core.features import RideColumns
from tests.builders import JANUARY, ride_columns_of, small_rides
from training.data.rides import Rides
from training.data.synthetic import synthetic_rides
from training.evaluation.slices import by_day, slicings, zone_pairs

NOTHING_KNOWN = np.zeros((266, 266), np.bool_)
TUESDAY_8_15 = 26_830_575
CITY_HALL, GREENPOINT, JFK, LAGUARDIA, NEWARK, OUTSIDE = 209, 112, 132, 138, 1, 265


def slices_of(ride: RideColumns, by: str, known: Rides | None = None) -> list[str]:
    """Return the names of the slices that a ride is in, of all slicings of a kind."""
    cuts = [cut for cut in slicings(zone_pairs(known) if known else NOTHING_KNOWN) if cut.by == by]
    assert cuts
    return [cut.names[number] for cut in cuts if (number := int(cut.number(ride)[0])) < len(cut.names)]


def test_hour_and_weekday_are_those_of_the_pickup_in_new_york() -> None:
    ride = ride_columns_of(pickup_minute=[TUESDAY_8_15])
    assert (slices_of(ride, "hour"), slices_of(ride, "weekday")) == (["08"], ["Tuesday"])
    last_minute_of_sunday = ride_columns_of(pickup_minute=[TUESDAY_8_15 - 8 * 60 - 15 - 24 * 60 - 1])
    assert slices_of(last_minute_of_sunday, "hour") == ["23"]
    assert slices_of(last_minute_of_sunday, "weekday") == ["Sunday"]


@pytest.mark.parametrize(
    ("pickup", "dropoff", "name"),
    [
        (CITY_HALL, GREENPOINT, "Manhattan to Brooklyn"),
        (GREENPOINT, CITY_HALL, "Brooklyn to Manhattan"),
        (NEWARK, JFK, "EWR to Queens"),
        (CITY_HALL, OUTSIDE, "Manhattan to unknown"),
    ],
)
def test_boroughs_have_a_direction(pickup: int, dropoff: int, name: str) -> None:
    assert slices_of(ride_columns_of(pickup_zone=[pickup], dropoff_zone=[dropoff]), "boroughs") == [name]


@pytest.mark.parametrize(
    ("miles", "name"),
    [
        (0.01, "under 1 mile"),
        (0.99, "under 1 mile"),
        (1.0, "1 to 2"),
        (4.99, "2 to 5"),
        (5.0, "5 to 10"),
        (19.99, "10 to 20"),
        (60.0, "20 miles or more"),
        (60.01, "missing"),
        (0.0, "missing"),
        (-1.0, "missing"),
        (float("nan"), "missing"),
        (float("inf"), "missing"),
    ],
)
def test_distance_band_includes_its_lower_edge_and_missing_is_as_in_the_features(miles: float, name: str) -> None:
    assert slices_of(ride_columns_of(trip_distance_miles=[miles]), "distance") == [name]


@pytest.mark.parametrize(
    ("pickup", "dropoff", "names"),
    [
        (JFK, CITY_HALL, ["JFK"]),
        (CITY_HALL, LAGUARDIA, ["LaGuardia"]),
        (JFK, NEWARK, ["JFK", "Newark"]),
        (CITY_HALL, GREENPOINT, []),
    ],
)
def test_ride_counts_for_each_airport_at_either_end(pickup: int, dropoff: int, names: list[str]) -> None:
    assert slices_of(ride_columns_of(pickup_zone=[pickup], dropoff_zone=[dropoff]), "airport") == names


def test_zone_pair_is_unseen_without_a_training_ride_in_that_direction() -> None:
    known = small_rides().take(slice(0, 1))
    there = ride_columns_of(pickup_zone=known.columns.pickup_zone, dropoff_zone=known.columns.dropoff_zone)
    back = ride_columns_of(pickup_zone=there.dropoff_zone, dropoff_zone=there.pickup_zone)
    assert there.pickup_zone[0] != there.dropoff_zone[0]
    assert slices_of(there, "zone pair", known) == ["known"]
    assert slices_of(back, "zone pair", known) == ["unseen"]


def test_days_are_those_from_the_first_ride_to_the_last() -> None:
    rides = synthetic_rides(JANUARY, 500, seed=7)
    cut = by_day(rides)
    assert (cut.names[0], cut.names[-1], len(cut.names)) == ("2021-01-01", "2021-01-31", 31)
    days = [cut.names[number] for number in cut.number(rides.columns)]
    assert days == rides.pickup_time.astype("datetime64[D]").astype(str).tolist()


@given(
    pickup=st.integers(1, 265),
    dropoff=st.integers(1, 265),
    miles=st.floats(),
    minute=st.integers(0, 60_000_000),
)
def test_every_ride_is_in_one_slice_of_each_kind(pickup: int, dropoff: int, miles: float, minute: int) -> None:
    ride = ride_columns_of(
        pickup_zone=[pickup], dropoff_zone=[dropoff], trip_distance_miles=[miles], pickup_minute=[minute]
    )
    for by in ("hour", "weekday", "boroughs", "distance", "zone pair"):
        assert len(slices_of(ride, by)) == 1


def test_columns_of_fewer_bits_give_the_same_slices() -> None:
    wide = small_rides().columns
    narrow = replace(
        wide,
        pickup_zone=wide.pickup_zone.astype(np.int16),
        dropoff_zone=wide.dropoff_zone.astype(np.int16),
        pickup_minute=wide.pickup_minute.astype(np.int32),
    )
    for cut in (*slicings(zone_pairs(small_rides())), by_day(small_rides())):
        assert cut.number(narrow).dtype == np.intp
        assert (cut.number(narrow) == cut.number(wide)).all()
