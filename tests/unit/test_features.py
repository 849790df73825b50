"""The features: each by hand, each missing where it must be, each row the same alone as in any batch."""

import csv
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lambda_function.core import features
from lambda_function.core.features import (
    FEATURE_NAMES,
    MILES_PER_DEGREE_LATITUDE,
    MILES_PER_DEGREE_LONGITUDE,
    ZONE_PLACES,
    RideColumns,
    feature_matrix,
)
from lambda_function.core.holidays import BETWEEN_THE_YEARS, FIRST_YEAR, HOLIDAY, LAST_YEAR, WORKING_DAY, special_days
from tests.builders import ride_columns_of

RIDE_TUPLES = st.lists(
    st.tuples(
        st.integers(1, 265),
        st.integers(1, 265),
        st.floats(),
        st.integers(-1_100_000_000, 4_300_000_000),  # years 1 to 9999
    ),
    min_size=1,
    max_size=70,
)


def column(name: str, rides: RideColumns) -> list[float]:
    values: list[float] = feature_matrix(rides)[:, FEATURE_NAMES.index(name)].tolist()
    return values


def minute_of(text: str) -> int:
    return int(np.datetime64(text, "m").astype(np.int64))


def columns_of(rides: list[tuple[int, int, float, int]]) -> RideColumns:
    pickup_zone, dropoff_zone, miles, minute = zip(*rides, strict=True)
    return ride_columns_of(
        pickup_zone=pickup_zone, dropoff_zone=dropoff_zone, trip_distance_miles=miles, pickup_minute=minute
    )


def way_of(pickup_zone: int, dropoff_zone: int) -> tuple[float, float]:
    """Return the miles uptown and crosstown from one zone to another."""
    rides = ride_columns_of(pickup_zone=[pickup_zone], dropoff_zone=[dropoff_zone])
    uptown = column("dropoff_uptown_miles", rides)[0] - column("pickup_uptown_miles", rides)[0]
    crosstown = column("dropoff_crosstown_miles", rides)[0] - column("pickup_crosstown_miles", rides)[0]
    return uptown, crosstown


def bits(matrix: NDArray[np.float64]) -> list[bytes]:
    return [row.tobytes() for row in matrix]


def test_matrix_has_a_row_a_ride_and_a_column_a_feature() -> None:
    matrix = feature_matrix(ride_columns_of(3))
    assert matrix.shape == (3, len(FEATURE_NAMES))
    assert matrix.dtype == np.float64
    assert matrix.flags.c_contiguous


def test_no_rides_give_no_rows() -> None:
    assert feature_matrix(ride_columns_of(0)).shape == (0, len(FEATURE_NAMES))


@pytest.mark.parametrize("miles", [5e-324, 0.01, 3.66, 60.0])
def test_distance_is_used_unchanged(miles: float) -> None:
    assert column("trip_distance_miles", ride_columns_of(trip_distance_miles=[miles])) == [miles]


@pytest.mark.parametrize("miles", [0.0, -0.0, -1.0, np.nextafter(60.0, 61.0), 1e308, np.inf, -np.inf, np.nan])
def test_distance_that_cannot_be_is_missing_and_nothing_else_is(miles: float) -> None:
    matrix = feature_matrix(ride_columns_of(trip_distance_miles=[miles]))
    assert np.isnan(matrix).tolist() == [[True] + [False] * 12]


@pytest.mark.parametrize(
    ("time", "minute_of_day", "day_of_week", "month"),
    [
        ("2021-01-04T00:00", 0, 0, 1),  # a Monday
        ("2021-01-05T08:15", 495, 1, 1),
        ("2021-01-10T23:59", 1439, 6, 1),
        ("2021-01-31T23:59", 1439, 6, 1),
        ("2021-02-01T00:00", 0, 0, 2),
        ("2020-02-29T12:00", 720, 5, 2),
        ("1970-01-05T00:00", 0, 0, 1),
        ("1969-12-31T23:59", 1439, 2, 12),
        ("0001-01-01T00:00", 0, 0, 1),
        ("9999-12-31T23:59", 1439, 4, 12),
        ("2021-01-18T12:00", 720, 7, 1),  # a holiday on a Monday
        ("2021-12-30T12:00", 720, 8, 12),  # a Thursday between the years
    ],
)
def test_time_is_minute_of_day_day_of_week_and_month(
    time: str, minute_of_day: int, day_of_week: int, month: int
) -> None:
    rides = ride_columns_of(pickup_minute=[minute_of(time)])
    assert column("minute_of_day", rides) == [minute_of_day]
    assert column("day_of_week", rides) == [day_of_week]
    assert column("month_of_year", rides) == [month]


def test_places_are_those_of_the_zones() -> None:
    rides = ride_columns_of(pickup_zone=[130], dropoff_zone=[205])
    for end, zone in (("pickup", 130), ("dropoff", 205)):
        place = [*column(f"{end}_longitude", rides), *column(f"{end}_latitude", rides)]
        assert place == ZONE_PLACES[zone].tolist()


def test_uptown_and_crosstown_are_those_of_manhattans_avenues_and_streets() -> None:
    # WHEN a ride goes up Third Avenue, from the East Village to East Harlem, and one down 42nd Street, west to east
    up_by, up_across = way_of(pickup_zone=79, dropoff_zone=74)
    cross_by, cross_across = way_of(pickup_zone=48, dropoff_zone=233)
    # THEN nearly all of the one is uptown, and of the other crosstown
    assert up_by == pytest.approx(5.8, abs=0.2)
    assert abs(up_across) < 0.1 * up_by
    assert cross_across == pytest.approx(1.2, abs=0.2)
    assert abs(cross_by) < 0.3 * cross_across


@given(st.integers(1, 263), st.integers(1, 263))
def test_turned_axes_keep_the_straight_line(pickup_zone: int, dropoff_zone: int) -> None:
    by, across = way_of(pickup_zone, dropoff_zone)
    straight = column("straight_line_miles", ride_columns_of(pickup_zone=[pickup_zone], dropoff_zone=[dropoff_zone]))
    assert [sqrt(by * by + across * across)] == pytest.approx(straight, abs=1e-9)


def test_straight_line_is_that_between_the_places() -> None:
    (west, south), (east, north) = ZONE_PLACES[130].tolist(), ZONE_PLACES[205].tolist()
    east_miles = (east - west) * MILES_PER_DEGREE_LONGITUDE
    north_miles = (north - south) * MILES_PER_DEGREE_LATITUDE
    expected = sqrt(east_miles * east_miles + north_miles * north_miles)
    assert column("straight_line_miles", ride_columns_of()) == [expected]


@pytest.mark.parametrize("nowhere", [264, 265])
def test_zone_without_a_place_has_no_place_and_no_straight_line(nowhere: int) -> None:
    matrix = feature_matrix(ride_columns_of(2, pickup_zone=[nowhere, 130], dropoff_zone=[205, nowhere]))
    missing = [[FEATURE_NAMES[n] for n in np.flatnonzero(np.isnan(row))] for row in matrix]
    assert missing == [
        [
            *("pickup_longitude", "pickup_latitude", "pickup_uptown_miles", "pickup_crosstown_miles"),
            "straight_line_miles",
        ],
        [
            *("dropoff_longitude", "dropoff_latitude", "dropoff_uptown_miles", "dropoff_crosstown_miles"),
            "straight_line_miles",
        ],
    ]


def test_every_zone_in_the_table_is_in_or_near_the_city() -> None:
    placed = ~np.isnan(ZONE_PLACES).any(axis=1)
    assert np.flatnonzero(~placed).tolist() == [0, 264, 265]
    longitude, latitude = ZONE_PLACES[placed].T
    assert ((longitude > -74.3) & (longitude < -73.6)).all()
    assert ((latitude > 40.4) & (latitude < 41.0)).all()


def test_table_of_zones_has_each_zone_once() -> None:
    with Path(features.__file__).with_name("zones.csv").open(newline="") as file:
        zones = [int(row["location_id"]) for row in csv.DictReader(file)]
    assert sorted(zones) == sorted(set(zones))


def test_a_mile_is_a_mile_in_every_direction() -> None:
    # the haversine on a sphere of 3,958.8 miles, to 0.5 %: the earth is flatter than a sphere by 0.3 %
    placed = np.flatnonzero(~np.isnan(ZONE_PLACES).any(axis=1))
    pairs = np.random.default_rng(0).choice(placed, (200, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    straight = column(
        "straight_line_miles", ride_columns_of(len(pairs), pickup_zone=pairs[:, 0], dropoff_zone=pairs[:, 1])
    )
    from_place, to_place = np.radians(ZONE_PLACES[pairs[:, 0]]), np.radians(ZONE_PLACES[pairs[:, 1]])
    half = np.sin((to_place - from_place) / 2) ** 2
    globe = 2 * 3958.8 * np.arcsin(np.sqrt(half[:, 1] + np.cos(from_place[:, 1]) * np.cos(to_place[:, 1]) * half[:, 0]))
    np.testing.assert_allclose(straight, globe, rtol=5e-3)


@given(RIDE_TUPLES)
def test_matrix_of_n_rows_has_the_bits_of_n_matrices_of_one(rides: list[tuple[int, int, float, int]]) -> None:
    alone = [feature_matrix(columns_of([ride])).tobytes() for ride in rides]
    assert bits(feature_matrix(columns_of(rides))) == alone


@given(RIDE_TUPLES)
def test_features_of_any_ride_are_in_range(rides: list[tuple[int, int, float, int]]) -> None:
    matrix = feature_matrix(columns_of(rides))
    assert not np.isinf(matrix).any()
    assert ((matrix[:, 1] >= 0) & (matrix[:, 1] < 1440) & (matrix[:, 2] >= 0) & (matrix[:, 2] <= 8)).all()
    assert ((matrix[:, 3] >= 1) & (matrix[:, 3] <= 12)).all()


def kind_of(date: str) -> int:
    return int(special_days(np.array([date], "datetime64[D]").astype(np.int64))[0])


def dates_of(year: int, kind: int) -> list[str]:
    """Return the year's days of a kind, as month and day."""
    days = np.arange(f"{year}-01-01", f"{year + 1}-01-01", dtype="datetime64[D]")
    return [str(day)[5:] for day in days[special_days(days.astype(np.int64)) == kind]]


# The lists of the Federal Reserve's banks for these years, with Christmas of 2022 and others on the Sunday as well.
CALENDARS = {
    2019: "01-01 01-21 02-18 05-27 07-04 09-02 10-14 11-11 11-28 12-25",
    2021: "01-01 01-18 02-15 05-31 06-19 07-04 07-05 09-06 10-11 11-11 11-25 12-25",
    2022: "01-01 01-17 02-21 05-30 06-19 06-20 07-04 09-05 10-10 11-11 11-24 12-25 12-26",
    2023: "01-01 01-02 01-16 02-20 05-29 06-19 07-04 09-04 10-09 11-11 11-23 12-25",
    2024: "01-01 01-15 02-19 05-27 06-19 07-04 09-02 10-14 11-11 11-28 12-25",
}


@pytest.mark.parametrize("year", CALENDARS)
def test_holidays_are_those_of_the_calendar(year: int) -> None:
    assert dates_of(year, HOLIDAY) == CALENDARS[year].split()


def test_days_between_the_years_are_those_about_new_year_that_are_no_holidays() -> None:
    about_new_year = ["01-02", "01-03", "12-24", *(f"12-{date}" for date in range(26, 32))]
    assert dates_of(2021, BETWEEN_THE_YEARS) == about_new_year
    assert kind_of("2023-01-02") == HOLIDAY  # the Monday after a Sunday
    assert (kind_of("2023-01-03"), kind_of("2023-01-04")) == (BETWEEN_THE_YEARS, WORKING_DAY)


@pytest.mark.parametrize("date", ["0001-01-01", "1969-12-31", "1969-12-25", "2101-01-01", "9999-12-25"])
def test_days_beyond_the_table_are_not_special(date: str) -> None:
    assert kind_of(date) == WORKING_DAY


def test_table_begins_and_ends_at_its_stated_bounds() -> None:
    assert kind_of(f"{FIRST_YEAR}-01-01") == HOLIDAY
    assert kind_of(f"{LAST_YEAR}-12-25") == HOLIDAY
    assert kind_of(f"{LAST_YEAR}-12-31") == BETWEEN_THE_YEARS


@given(st.integers(FIRST_YEAR, LAST_YEAR))
def test_every_year_has_ten_to_fourteen_holidays(year: int) -> None:
    assert 10 <= len(dates_of(year, HOLIDAY)) <= 14
    assert len(dates_of(year, BETWEEN_THE_YEARS)) in {8, 9}


def test_days_of_any_whole_number_are_taken() -> None:
    assert special_days(np.array([0, 1], np.int32)).tolist() == [HOLIDAY, BETWEEN_THE_YEARS]
    assert special_days(np.empty(0, np.int64)).shape == (0,)
