"""The features, defined once, for training and serving alike.

A pure function of the ride and a static table of zones: nothing is fitted, so nothing can skew. All arithmetic
is `+ - * / sqrt`, which IEEE 754 rounds correctly: a row has the same bits alone, in any batch, on any machine.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FEATURE_NAMES = (
    "trip_distance_miles",
    "minute_of_day",
    "day_of_week",
    "pickup_longitude",
    "pickup_latitude",
    "dropoff_longitude",
    "dropoff_latitude",
    "straight_line_miles",
)
"""Column order of every feature matrix and of every bundle."""

FIRST_ZONE, LAST_ZONE = 1, 265
"""TLC's LocationIDs. 264 (unknown) and 265 (outside the city) have no place on the map."""

MAX_TRIP_DISTANCE_MILES = 60.0
"""The city is 35 miles across: a longer distance is a broken meter and counts as missing, as 0 does."""

# A degree at New York's latitude (40.73 N) on the WGS84 ellipsoid, in statute miles: the series
# 111132.954 - 559.822 cos 2p + 1.175 cos 4p (latitude) and 111412.84 cos p - 93.5 cos 3p + 0.118 cos 5p
# (longitude) metres of NGA TR 8350.2, over 1609.344. Flat within 0.1 % across the city.
MILES_PER_DEGREE_LATITUDE = 69.002
MILES_PER_DEGREE_LONGITUDE = 52.492

MINUTES_PER_DAY = 1440
_EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday; Monday is 0


@dataclass(frozen=True, slots=True)
class RideColumns:
    """Rides by column: what the features are computed from, one entry a ride.

    Attributes:
        pickup_zone: int64 (n,), LocationID, 1 to 265.
        dropoff_zone: int64 (n,), LocationID, 1 to 265.
        trip_distance_miles: float64 (n,), as booked or metered, not cleaned.
        pickup_minute: int64 (n,), New York wall-clock minutes since 1970-01-01T00:00.
    """

    pickup_zone: NDArray[np.int64]
    dropoff_zone: NDArray[np.int64]
    trip_distance_miles: NDArray[np.float64]
    pickup_minute: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.pickup_zone)


def _load_zone_places() -> NDArray[np.float64]:
    places = np.full((LAST_ZONE + 1, 2), np.nan)
    with Path(__file__).with_name("zones.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            places[int(row["location_id"])] = float(row["longitude"]), float(row["latitude"])
    return places


ZONE_PLACES = _load_zone_places()
"""float64 (266, 2): longitude and latitude (WGS84 degrees) by LocationID; NaN where there is no place."""


def feature_matrix(rides: RideColumns) -> NDArray[np.float64]:
    """Turns rides into the model's input.

    Returns:
        float64 (n, 8), C order, columns in FEATURE_NAMES order; NaN means missing: a distance of 0 or less, above
        60 miles or not finite; the place of a zone that has none, and then the straight line too.

    >>> one = RideColumns(np.array([130]), np.array([205]), np.array([3.66]), np.array([26830575]))
    >>> feature_matrix(one).round(2).tolist()
    [[3.66, 495.0, 1.0, -73.8, 40.7, -73.76, 40.69, 2.12]]
    """
    matrix = np.empty((len(rides), len(FEATURE_NAMES)))
    miles = rides.trip_distance_miles
    matrix[:, 0] = np.where((miles > 0) & (miles <= MAX_TRIP_DISTANCE_MILES), miles, np.nan)
    matrix[:, 1] = rides.pickup_minute % MINUTES_PER_DAY
    matrix[:, 2] = (rides.pickup_minute // MINUTES_PER_DAY + _EPOCH_WEEKDAY) % 7
    matrix[:, 3:5] = pickup = ZONE_PLACES[rides.pickup_zone]
    matrix[:, 5:7] = dropoff = ZONE_PLACES[rides.dropoff_zone]
    east_miles = (dropoff[:, 0] - pickup[:, 0]) * MILES_PER_DEGREE_LONGITUDE
    north_miles = (dropoff[:, 1] - pickup[:, 1]) * MILES_PER_DEGREE_LATITUDE
    matrix[:, 7] = np.sqrt(east_miles * east_miles + north_miles * north_miles)
    return matrix
