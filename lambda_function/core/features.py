"""The features, defined once for training and serving.

They are a pure function of the ride and a static table of zones. Nothing is fitted, so training and serving cannot
differ. All arithmetic is `+ - * / sqrt`, which IEEE 754 rounds correctly: a row has the same bits alone, in any batch
and on any machine.
"""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lambda_function.core.holidays import BETWEEN_THE_YEARS, HOLIDAY, WORKING_DAY, special_days

FEATURE_NAMES = (
    "trip_distance_miles",
    "minute_of_day",
    "day_of_week",
    "month_of_year",
    "pickup_longitude",
    "pickup_latitude",
    "pickup_uptown_miles",
    "pickup_crosstown_miles",
    "dropoff_longitude",
    "dropoff_latitude",
    "dropoff_uptown_miles",
    "dropoff_crosstown_miles",
    "straight_line_miles",
)
"""Column order of every feature matrix and of every bundle.

`day_of_week` is 0 (Monday) to 6 (Sunday), 7 for a public holiday, 8 for a day between the years. `uptown` and
`crosstown` give a place a second time, along Manhattan's avenues and streets, because a tree splits only along axes.
"""

FIRST_ZONE, LAST_ZONE = 1, 265
"""TLC's LocationIDs. 264 (unknown) and 265 (outside the city) have no coordinates."""

UNKNOWN_ZONE = 264

CENTRE_BOROUGH = "Manhattan"
"""The borough of zones.csv whose streets are the slowest; live calibration treats rides within it apart."""

MAX_TRIP_DISTANCE_MILES = 60.0
"""The city is 35 miles across: a longer distance means a broken meter and counts as missing, like 0."""

# A degree at New York's latitude (40.73 N) on the WGS84 ellipsoid, in statute miles: the series
# 111132.954 - 559.822 cos 2p + 1.175 cos 4p (latitude) and 111412.84 cos p - 93.5 cos 3p + 0.118 cos 5p
# (longitude) metres of NGA TR 8350.2, over 1609.344. Flat within 0.1 % across the city.
MILES_PER_DEGREE_LATITUDE = 69.002
MILES_PER_DEGREE_LONGITUDE = 52.492

# The origin of uptown and crosstown miles; any place would do.
_CENTRE_LONGITUDE, _CENTRE_LATITUDE = -73.95, 40.75

MINUTES_PER_DAY = 1440
_EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday; Monday is 0


@dataclass(frozen=True, slots=True)
class RideColumns:
    """Rides by column, one entry per ride: the input of the features."""

    pickup_zone: NDArray[np.int64]  # int64 (n,), LocationID, 1 to 265
    dropoff_zone: NDArray[np.int64]  # int64 (n,), LocationID, 1 to 265
    trip_distance_miles: NDArray[np.float64]  # float64 (n,), as booked or metered, not cleaned
    pickup_minute: NDArray[np.int64]  # int64 (n,), New York wall-clock minutes since 1970-01-01T00:00

    def __len__(self) -> int:
        return len(self.pickup_zone)


@cache
def read_zones() -> dict[int, dict[str, str]]:
    """Return the rows of zones.csv by LocationID: longitude, latitude, borough, and the airport's name if it is one."""
    with Path(__file__).with_name("zones.csv").open(newline="") as file:
        return {int(row["location_id"]): row for row in csv.DictReader(file)}


def _load_zone_places() -> NDArray[np.float64]:
    places = np.full((LAST_ZONE + 1, 2), np.nan)
    for zone, row in read_zones().items():
        places[zone] = float(row["longitude"]), float(row["latitude"])
    return places


def _along_the_grid(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return miles uptown and crosstown (n, 2). The avenues run 30 degrees east of north, to within a degree."""
    east = (places[:, 0] - _CENTRE_LONGITUDE) * MILES_PER_DEGREE_LONGITUDE
    north = (places[:, 1] - _CENTRE_LATITUDE) * MILES_PER_DEGREE_LATITUDE
    sine, cosine = 0.5, np.sqrt(3.0) / 2.0
    return np.column_stack([east * sine + north * cosine, east * cosine - north * sine])


ZONE_PLACES = _load_zone_places()
"""float64 (266, 2): longitude and latitude (WGS84 degrees) by LocationID; NaN for zones without coordinates."""

_ZONE_FEATURES = np.column_stack([ZONE_PLACES, _along_the_grid(ZONE_PLACES)])

# The kind of each result of `special_days`; a working day's kind is its day of the week.
_SPECIAL_KINDS = np.zeros(3)
_SPECIAL_KINDS[[HOLIDAY, BETWEEN_THE_YEARS]] = 7.0, 8.0


def feature_matrix(rides: RideColumns) -> NDArray[np.float64]:
    """Return the model's input for rides.

    Returns:
        float64 (n, 13), C order, columns in FEATURE_NAMES order. NaN means missing: a distance of 0 or less, above
        60 miles or not finite; the coordinates of a zone that has none, and then the straight line too.

    >>> one = RideColumns(np.array([130]), np.array([205]), np.array([3.66]), np.array([26830575]))
    >>> feature_matrix(one).round(2)[0, [0, 1, 2, 3, 4, 5, 8, 9, 12]].tolist()
    [3.66, 495.0, 1.0, 1.0, -73.8, 40.7, -73.76, 40.69, 2.12]
    """
    matrix = np.empty((len(rides), len(FEATURE_NAMES)))
    miles = rides.trip_distance_miles
    matrix[:, 0] = np.where((miles > 0) & (miles <= MAX_TRIP_DISTANCE_MILES), miles, np.nan)
    day, matrix[:, 1] = np.divmod(rides.pickup_minute, MINUTES_PER_DAY)
    matrix[:, 2] = _day_kind(day)
    matrix[:, 3] = _month_of_year(day)
    matrix[:, 4:8] = pickup = _ZONE_FEATURES[rides.pickup_zone]
    matrix[:, 8:12] = dropoff = _ZONE_FEATURES[rides.dropoff_zone]
    east_miles = (dropoff[:, 0] - pickup[:, 0]) * MILES_PER_DEGREE_LONGITUDE
    north_miles = (dropoff[:, 1] - pickup[:, 1]) * MILES_PER_DEGREE_LATITUDE
    matrix[:, 12] = np.sqrt(east_miles * east_miles + north_miles * north_miles)
    return matrix


def _day_kind(day: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the kind of each day (n,), given days since 1970-01-01."""
    special = special_days(day)
    return np.where(special == WORKING_DAY, (day + _EPOCH_WEEKDAY) % 7, _SPECIAL_KINDS[special])


def _month_of_year(day: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return each day's calendar month (n,), 1 to 12, given days since 1970-01-01."""
    months = day.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    return months % 12 + 1
