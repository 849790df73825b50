"""Split-conformal prediction intervals: how far off a model is on rides that fitted nothing of it, by kind of ride.

Rides are sorted by kind and by predicted minutes, never by how long they took. Within such a group the calibration
rides and the rides to come are alike, but for what changes with time; so an interval that holds the share asked for of
the ones, and of one more, holds at least that share of the others (Vovk's Mondrian conformal prediction; Lei et al.
2018, "Distribution-Free Predictive Inference for Regression", theorem 2.2).
"""

import math
from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

from lambda_function.core.features import (
    FIRST_ZONE,
    LAST_ZONE,
    MAX_TRIP_DISTANCE_MILES,
    MINUTES_PER_DAY,
    ZONE_PLACES,
    RideColumns,
    feature_matrix,
)
from lambda_function.core.intervals import (
    KINDS,
    MIN_HALF_MINUTES,
    Interval,
    centre_minutes,
    half_minutes,
    ride_kinds,
    usual_cells,
)
from training.data.rides import Rides

# MERGED FROM training/drift.py
# How much wider intervals have to be for rides that come later: measured within the training rides, half of it taken.
# Calibration rides are drawn from the days that the model learns from. The rides to come are of days that it has never
# met, and traffic moves on. So a second model learns from the earlier days only, and the later ones show how much wider
# its intervals should have been. docs/decisions/0008 says what that is worth, and why half.
EARLIER_SHARE = 0.75
"""Of the days: three weeks of a month to learn from, one to look ahead."""

MIN_DAYS = 12
"""Fewer don't tell a trend from the days of the week: then intervals are left as they are."""

MAX_RIDES = 500_000
"""More would say no more, and a second fit on all rides would double what a large one takes."""

SHARE_TAKEN = 0.5
"""Of what the later days ask for: they are a week, and may be an odd one. Chosen on yellow 2018 and 2019."""

RANGE = (0.9, 1.25)
"""What intervals are stretched by at least and at most."""


Predict = Callable[[Rides], NDArray[np.float64]]
"""Predicts minutes (n,) of rides (n,), within the range of durations."""


def drift_stretch(rides: Rides, fit: Callable[[Rides], Predict]) -> float:
    """Returns what half the width of intervals is to be multiplied by for rides after these.

    Args:
        rides: Training rides, sorted by pickup.
        fit: Fits a model as it is fitted on all of them, and returns what predicts minutes within their range.
    """
    earlier, later = _split_by_day(rides)
    fit_rides, calibration_rides = split_calibration(earlier)
    if not len(later) or not len(calibration_rides):
        return 1.0
    predict = fit(fit_rides)
    interval = calibrate(predict(calibration_rides), calibration_rides, fit_rides)
    return 1.0 if interval is None else _stretch(interval, predict, later)


def _split_by_day(rides: Rides) -> tuple[Rides, Rides]:
    """Splits rides, or some of very many, at a midnight; none are later where there are too few days."""
    step = -(-len(rides) // MAX_RIDES)
    some = rides.take(slice(None, None, max(step, 1)))
    day = some.columns.pickup_minute // MINUTES_PER_DAY
    days = np.unique(day)
    if len(days) < MIN_DAYS:
        return some, some.head(0)
    is_later = day >= days[int(len(days) * EARLIER_SHARE)]
    return some.take(~is_later), some.take(is_later)


def _stretch(interval: Interval, predict: Predict, later: Rides) -> float:
    minutes = predict(later)
    half = half_minutes(interval, minutes, feature_matrix(later.columns))
    asked_for = float(np.quantile(np.abs(later.duration_minutes - minutes) / half, interval.level))
    low, high = RANGE
    return round(min(max(1 + SHARE_TAKEN * (asked_for - 1), low), high), 3)


LEVEL = 0.8
"""The share of rides that are to end within their interval."""

_WHOLE = tuple(float(minute) for minute in range(2, 10))
EDGES_MINUTES = (*_WHOLE, *(float(minute) for minute in range(10, 30, 2)), 30.0, 35.0, 40.0, 45.0, 50.0)
"""Where a stair's steps begin: about as far apart as it takes for widths to grow by a tenth."""

# fmt: off
TYPICAL_HALF_MINUTES = (
    1.3, 1.5, 1.6, 1.8, 2.0, 2.2, 2.4, 2.6, 2.8, 3.2, 3.8, 4.4,
    5.0, 5.6, 6.2, 6.7, 7.3, 7.8, 8.4, 9.3, 10.1, 10.4, 10.2, 9.2,
)
# fmt: on
"""How a stair rises, where too few rides would say: a constant, so that calibration only scales it, group by group.

Half the width that holds 80 % of the rides of a step, out of fold, in 2021-01, 2022-01 and 2023-01 (green) and in
2018-12 to 2019-04 (yellow), which differ by a tenth; without it the longest rides fare as the average of the long ones.
"""

MIN_GROUP_RIDES = 150
"""Steps share their scale until so many rides do: their coverage is then good to 3 %, and many groups average."""

USUAL_SHARE = 0.0025
"""Of all rides, from which on a pickup zone is usual: one in 400, when all 263 alike would have one in 263."""

_PER_MINUTE = 100  # bounds have hundredths of a minute
_SLACK = 1e-6  # of a hundredth: what is on it but for the last bits is not pushed to the next one


def calibrate(
    model_minutes: NDArray[np.float64], calibration_rides: Rides, fit_rides: Rides, level: float = LEVEL
) -> Interval | None:
    """Finds the widths by which intervals hold their share of rides.

    Args:
        model_minutes: What the model predicts for the calibration rides (n,), within the range of durations.
        calibration_rides: Rides that fitted nothing of the model.
        fit_rides: Those that did: they say where many rides begin.
        level: The share asked for, above 0 and below 1.

    Returns:
        None where there are too few rides: below MIN_CALIBRATION_RIDES, or too few for so high a level.
    """
    if len(calibration_rides) < MIN_CALIBRATION_RIDES:
        return None
    zones = usual_pickup_zones(fit_rides)
    kinds = ride_kinds(feature_matrix(calibration_rides.columns), usual_cells(zones))
    minutes = centre_minutes(model_minutes)
    off_minutes = np.abs(calibration_rides.duration_minutes - minutes)
    steps = np.searchsorted(EDGES_MINUTES, minutes, side="right")
    stairs = {}
    for number, kind in enumerate(KINDS):
        chosen = kinds == number
        if np.count_nonzero(chosen) < MIN_CALIBRATION_RIDES:  # too few of a kind take the widths of all
            chosen[:] = True
        stairs[kind] = _stair(steps[chosen], off_minutes[chosen], level)
    if any(math.inf in stair for stair in stairs.values()):
        return None
    return Interval(level, zones, EDGES_MINUTES, stairs)


def stretch(interval: Interval, factor: float) -> Interval:
    """Multiplies the width of all intervals, up to the next hundredth.

    >>> stretch(Interval(0.8, (), (5.0,), {"busy_hours": (1.0, 2.0)}), 1.05).half_minutes
    {'busy_hours': (1.05, 2.1)}
    """
    stairs = {kind: tuple(_round_up(half * factor) for half in stair) for kind, stair in interval.half_minutes.items()}
    return msgspec.structs.replace(interval, half_minutes=stairs)


def usual_pickup_zones(rides: Rides) -> tuple[int, ...]:
    """Returns the zones, ascending, that have a place and from which at least USUAL_SHARE of these rides begin."""
    n_rides = np.bincount(rides.columns.pickup_zone, minlength=LAST_ZONE + 1)
    usual = (n_rides >= USUAL_SHARE * len(rides)) & ~np.isnan(ZONE_PLACES[:, 0])
    return tuple(zone for zone in range(FIRST_ZONE, LAST_ZONE + 1) if usual[zone] and n_rides[zone])


def _stair(steps: NDArray[np.intp], off_minutes: NDArray[np.float64], level: float) -> tuple[float, ...]:
    """Returns half the width of each step, given the steps (n,) of rides and how far off (n,) their predictions are."""
    typical = np.array(TYPICAL_HALF_MINUTES)
    groups = _groups(np.bincount(steps, minlength=len(typical)))
    times_typical = off_minutes / typical[steps]
    scales = [_conformal_quantile(times_typical[groups[steps] == group], level) for group in range(groups[-1] + 1)]
    return tuple(_round_up(float(half)) for half in typical * np.take(scales, groups))


def _groups(n_rides: NDArray[np.intp]) -> NDArray[np.intp]:
    """Returns the group of each step: neighbours that have at least MIN_GROUP_RIDES together, if all have as many."""
    groups = np.zeros(len(n_rides), np.intp)
    n_left = n_rides.sum()
    n_in_group = group = 0
    for step, n in enumerate(n_rides):
        if n_in_group >= MIN_GROUP_RIDES and n_left >= MIN_GROUP_RIDES:
            group += 1
            n_in_group = 0
        groups[step] = group
        n_in_group += n
        n_left -= n
    return groups


def _conformal_quantile(scores: NDArray[np.float64], level: float) -> float:
    """Returns the score that as many of n + 1 are to stay within: infinite where n are too few to tell."""
    rank = math.ceil((len(scores) + 1) * level)
    return math.inf if rank > len(scores) else float(np.partition(scores, rank - 1)[rank - 1])


def _round_up(half_minutes: float) -> float:
    """Returns half a width in hundredths, so that what is sent holds what was counted."""
    if half_minutes == math.inf:
        return math.inf
    return max(math.ceil(half_minutes * _PER_MINUTE - _SLACK) / _PER_MINUTE, MIN_HALF_MINUTES)


# MERGED FROM training/split.py
# Which rides are held out to calibrate prediction intervals: evenly over time and kinds, and fitted on by nothing.
RIDES_PER_CALIBRATION_RIDE = 20
"""Each one held out is one less to learn from. See docs/decisions/0008 for what 2, 5 and 10 % cost and give."""

WITHOUT_DISTANCE_PER_CALIBRATION_RIDE = 5
"""Of rides without a distance: one in thirty, and with widths of their own. One in twenty of them would be too few."""

MAX_CALIBRATION_RIDES = 100_000
"""Of either sort. Coverage is known to a tenth of a percent there, and more would only be lost to the fit."""

MIN_CALIBRATION_RIDES = 60
"""Fewer are not held out at all: such a model has no intervals."""


def split_calibration(rides: Rides) -> tuple[Rides, Rides]:
    """Splits rides into those to fit on and those to calibrate on, each sorted by pickup.

    Returns:
        Rides to fit on, and rides to calibrate on, which are none where there are fewer than some 1,200 in all. The
        same rides are split in the same way on any machine.
    """
    held_out = calibration_mask(rides.columns)
    return rides.take(~held_out), rides.take(held_out)


def calibration_mask(rides: RideColumns) -> NDArray[np.bool_]:
    """Returns which of some rides (n,), sorted by pickup, are to calibrate on: bool (n,).

    It goes by which features there are, never by how long a ride took: within a kind, all rides are equally likely.
    """
    miles = rides.trip_distance_miles
    has_distance = (miles > 0) & (miles <= MAX_TRIP_DISTANCE_MILES)
    held_out = np.zeros(len(rides), np.bool_)
    held_out[_one_in(RIDES_PER_CALIBRATION_RIDE, has_distance.nonzero()[0])] = True
    held_out[_one_in(WITHOUT_DISTANCE_PER_CALIBRATION_RIDE, (~has_distance).nonzero()[0])] = True
    if np.count_nonzero(held_out) < MIN_CALIBRATION_RIDES:
        held_out[:] = False
    return held_out


def _one_in(n: int, rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Picks every n-th row, or fewer where those would be more than MAX_CALIBRATION_RIDES."""
    step = max(n, -(-len(rows) // MAX_CALIBRATION_RIDES))
    return rows[step // 2 :: step]
