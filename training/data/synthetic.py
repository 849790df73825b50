"""Make up rides in the form of TLC's months, with the same kinds of bad values, for use without TLC data.

The places of the zones are real; demand and speed are plausible and made up. The factors of a duration interact: the
hour slows the centre more than the outskirts, and long rides use faster roads. A model that adds up distance, hour and
zone pair cannot learn that.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from lambda_function.core.features import MILES_PER_DEGREE_LATITUDE, MILES_PER_DEGREE_LONGITUDE, ZONE_PLACES
from training.data.months import Month
from training.data.rides import MAX_DURATION_MINUTES, MIN_DURATION_MINUTES, Rides, Source, compact_columns, month_facts

SOURCE_NAME = "synthetic"
"""The file name in a Source of made-up rides."""

FloatArray = NDArray[np.float64]

_MIDTOWN = (-73.985, 40.755)
# Pickups by hour of day, from 0: a morning and an evening peak, and a longer evening at weekends.
_WORKDAY_DEMAND = (9, 5, 3, 2, 2, 4, 11, 24, 33, 29, 25, 26, 28, 28, 31, 34, 37, 42, 44, 37, 29, 24, 20, 14)
_WEEKEND_DEMAND = (22, 19, 15, 11, 7, 5, 6, 8, 13, 19, 24, 27, 29, 30, 31, 31, 32, 33, 34, 32, 29, 27, 27, 25)
# Miles an hour outside the centre, by hour of day.
_WORKDAY_SPEED = (25, 26, 27, 28, 28, 26, 22, 16, 13, 14, 16, 16, 16, 15, 14, 13, 12, 11, 12, 15, 18, 19, 21, 23)
_WEEKEND_SPEED = (20, 20, 21, 23, 26, 27, 26, 25, 23, 20, 19, 18, 17, 17, 17, 17, 17, 17, 17, 18, 19, 19, 20, 20)
_NOWHERE_ZONES = (264, 265)
_ZERO_DISTANCE_SHARE, _ABSURD_DISTANCE_SHARE, _NOWHERE_SHARE = 0.03, 0.0003, 0.001  # as in TLC's months


def synthetic_rides(month: Month, n_rides: int, seed: int) -> Rides:
    """Make up at least one ride of a month, sorted by pickup. The same month, number and seed give the same bytes.

    Two months of one seed differ. Durations are whole seconds from 1 to 60 minutes, distances are hundredths of a mile.
    As in TLC's months, 3 in 100 distances are 0, a few are too long, and 2 in 1000 rides have a zone without a place.

    >>> len(synthetic_rides(Month(2021, 1), n_rides=100, seed=7))
    100
    """
    rng = np.random.default_rng([seed, month.year, month.month])
    pickup_time = _draw_pickups(rng, month, n_rides)
    pickup_zone, dropoff_zone = _draw_zones(rng, n_rides)
    miles = _draw_miles(rng, _straight_miles()[pickup_zone, dropoff_zone])
    seconds = _draw_seconds(rng, pickup_time, _centre_share()[pickup_zone, dropoff_zone], miles)
    _add_bad_values(rng, pickup_zone, dropoff_zone, miles)
    digest = hashlib.sha256()
    for array in (pickup_time.view(np.int64), pickup_zone, dropoff_zone, miles, seconds):
        digest.update(array)
    columns = compact_columns(pickup_zone, dropoff_zone, miles, pickup_time)
    duration_minutes = seconds / 60
    facts = month_facts(month, columns, pickup_time, duration_minutes)
    source = Source(SOURCE_NAME, month, digest.hexdigest(), n_rides, n_rides, {}, facts)
    return Rides(columns, pickup_time, duration_minutes, (source,))


def _draw_pickups(rng: np.random.Generator, month: Month, n_rides: int) -> NDArray[np.datetime64]:
    hours = np.arange(month.start, month.end, np.timedelta64(1, "h"))
    demand = _week(_WORKDAY_DEMAND, _WEEKEND_DEMAND)[_hour_of_week(hours)]
    seconds = rng.choice(len(hours), n_rides, p=demand / demand.sum()) * 3600 + rng.integers(3600, size=n_rides)
    pickup: NDArray[np.datetime64] = month.start + np.sort(seconds).astype("timedelta64[s]")
    return pickup


def _draw_zones(rng: np.random.Generator, n_rides: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw pairs of zones: more of those near midtown, and of those near each other."""
    popularity = 0.02 + np.exp(-_miles_between(ZONE_PLACES, np.array(_MIDTOWN)) / 3)
    weight = np.nan_to_num(np.outer(popularity, popularity) * np.exp(-_straight_miles() / 2))
    pair = rng.choice(weight.size, n_rides, p=weight.ravel() / weight.sum())
    return pair // len(ZONE_PLACES), pair % len(ZONE_PLACES)


def _draw_miles(rng: np.random.Generator, straight_miles: FloatArray) -> FloatArray:
    """Draw distances: some way inside the zones, the straight line with a detour, and a spread of 12 % for routes."""
    n_rides = len(straight_miles)
    inside_zones = rng.gamma(4, 0.15, n_rides)
    detour = 1.2 + 0.15 * np.exp(-straight_miles / 4)
    return np.round((inside_zones + straight_miles * detour) * rng.lognormal(0, 0.12, n_rides), 2) + 0.01


def _draw_seconds(
    rng: np.random.Generator, pickup: NDArray[np.datetime64], centre_share: FloatArray, miles: FloatArray
) -> NDArray[np.int64]:
    base = _week(_WORKDAY_SPEED, _WEEKEND_SPEED)[_hour_of_week(pickup)]
    congestion = 1 - base / 30
    fast_roads = 0.75 + 0.9 * (1 - np.exp(-miles / 7))
    miles_per_hour = base * fast_roads * (1 - 0.85 * congestion * centre_share)
    minutes = 1.5 + 60 * miles / miles_per_hour * rng.lognormal(0, 0.16, len(miles))
    in_range = np.clip(minutes, MIN_DURATION_MINUTES, MAX_DURATION_MINUTES)
    return np.round(in_range * 60).astype(np.int64)


def _add_bad_values(
    rng: np.random.Generator,
    pickup_zone: NDArray[np.int64],
    dropoff_zone: NDArray[np.int64],
    miles: FloatArray,
) -> None:
    """Put the bad values of real months into the columns, in place."""
    chance = rng.random(len(miles))
    miles[chance < _ZERO_DISTANCE_SHARE] = 0.0
    miles[chance > 1 - _ABSURD_DISTANCE_SHARE] *= 10_000
    for zone in (pickup_zone, dropoff_zone):
        nowhere = rng.random(len(zone)) < _NOWHERE_SHARE
        zone[nowhere] = rng.choice(_NOWHERE_ZONES, np.count_nonzero(nowhere))


def _straight_miles() -> FloatArray:
    """Return the miles between every two zones, float64 (266, 266); NaN if one of them has no place."""
    return _miles_between(ZONE_PLACES[:, np.newaxis], ZONE_PLACES[np.newaxis])


def _centre_share() -> FloatArray:
    """Return the part of the distance between two zones that is in the dense centre, 0 to 1, float64 (266, 266)."""
    centre = np.exp(-((_miles_between(ZONE_PLACES, np.array(_MIDTOWN)) / 4) ** 2))
    share: FloatArray = (centre[:, np.newaxis] + centre[np.newaxis]) / 2
    return share


def _miles_between(places: FloatArray, others: FloatArray) -> FloatArray:
    miles: FloatArray = np.hypot(
        (places[..., 0] - others[..., 0]) * MILES_PER_DEGREE_LONGITUDE,
        (places[..., 1] - others[..., 1]) * MILES_PER_DEGREE_LATITUDE,
    )
    return miles


def _hour_of_week(times: NDArray[np.datetime64]) -> NDArray[np.int64]:
    """Return hours since Monday 00:00, 0 to 167; 1970-01-01 was a Thursday, 72 hours into its week."""
    hours: NDArray[np.int64] = (times.astype("datetime64[h]").astype(np.int64) + 72) % 168
    return hours


def _week(workday: tuple[float, ...], weekend: tuple[float, ...]) -> FloatArray:
    """Return values by hour of week, float64 (168,), from Monday 00:00."""
    return np.array(workday * 5 + weekend * 2, dtype=np.float64)
