"""Split-conformal prediction intervals: how wide an interval must be to contain a given share of rides.

Rides are grouped by kind and by predicted minutes, never by their duration. Within a group the calibration rides and
later rides are alike, except for what changes with time. So an interval that contains the wanted share of the
calibration rides, plus one ride, contains at least that share of the later ones (Vovk's Mondrian conformal prediction;
Lei et al. 2018, "Distribution-Free Predictive Inference for Regression", theorem 2.2).

What changes with time is measured by the interval stretch. Calibration rides are drawn from the days that the model
learns from; later rides are of new days. So a second model learns from the earlier days only, and the later days show
how much wider its intervals should have been. docs/decisions/0008 shows how well that works, and why half
of the stretch is applied.
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

RIDES_PER_CALIBRATION_RIDE = 20
"""Each calibration ride is one less to fit on. docs/decisions/0008 compares 2, 5 and 10 %."""

WITHOUT_DISTANCE_PER_CALIBRATION_RIDE = 5
"""Of rides without a distance. They are one in thirty and have widths of their own: one in twenty would be too few."""

MAX_CALIBRATION_RIDES = 100_000
"""Of either sort. So many give the coverage to a tenth of a percent; more would only be missing from the fit."""

MIN_CALIBRATION_RIDES = 60
"""With fewer, all rides are for the fit, and the model has no intervals."""

LEVEL = 0.8
"""The share of rides that should end within their interval."""

_WHOLE = tuple(float(minute) for minute in range(2, 10))
EDGES_MINUTES = (*_WHOLE, *(float(minute) for minute in range(10, 30, 2)), 30.0, 35.0, 40.0, 45.0, 50.0)
"""Where a stair's steps begin: about as far apart as it takes for widths to grow by a tenth."""

# fmt: off
TYPICAL_HALF_MINUTES = (
    1.3, 1.5, 1.6, 1.8, 2.0, 2.2, 2.4, 2.6, 2.8, 3.2, 3.8, 4.4,
    5.0, 5.6, 6.2, 6.7, 7.3, 7.8, 8.4, 9.3, 10.1, 10.4, 10.2, 9.2,
)
# fmt: on
"""The shape of a stair. It is a constant because single steps have too few rides; calibration scales it, by group.

Half the width that contains 80 % of the rides of a step, out of fold, in 2021-01, 2022-01 and 2023-01 (green) and in
2018-12 to 2019-04 (yellow), which differ by a tenth. Without it the longest rides get the average of the long ones.
"""

MIN_GROUP_RIDES = 150
"""Steps share their scale until they have so many rides: their coverage is then within 3 %, and many groups average."""

USUAL_SHARE = 0.0025
"""The share of all rides that makes a pickup zone usual: one in 400. If all 263 were alike, each had one in 263."""

EARLIER_SHARE = 0.75
"""The share of days that the interval stretch fits on: three weeks of a month, and one to measure on."""

MIN_DAYS = 12
"""With fewer days a trend cannot be distinguished from the effect of weekdays: intervals are not stretched."""

MAX_RIDES = 500_000
"""The stretch fits on at most so many: more would not change it, and would double the time of a large run."""

SHARE_TAKEN = 0.5
"""The part of the measured stretch that is applied: the later days are one week, and may be unusual. Chosen on yellow
2018 and 2019."""

RANGE = (0.9, 1.25)
"""The smallest and the largest stretch."""

_PER_MINUTE = 100  # bounds have hundredths of a minute
_SLACK = 1e-6  # of a hundredth: rounding errors in the last bits do not move a bound to the next hundredth

Predict = Callable[[Rides], NDArray[np.float64]]
"""Predicts minutes (n,) of rides (n,), within the range of durations."""


def split_calibration(rides: Rides) -> tuple[Rides, Rides]:
    """Split rides into those to fit on and those to calibrate on, each sorted by pickup; the same on every machine.

    There are none to calibrate on if there are fewer than some 1,200 rides in all.
    """
    held_out = calibration_mask(rides.columns)
    return rides.take(~held_out), rides.take(held_out)


def calibration_mask(rides: RideColumns) -> NDArray[np.bool_]:
    """Return which of some rides (n,), sorted by pickup, are to calibrate on: bool (n,).

    It depends on whether a ride has a distance, never on its duration: within a kind, all rides are equally likely.
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
    """Return every n-th row, or fewer if those would be more than MAX_CALIBRATION_RIDES."""
    step = max(n, -(-len(rows) // MAX_CALIBRATION_RIDES))
    return rows[step // 2 :: step]


def calibrate(
    model_minutes: NDArray[np.float64], calibration_rides: Rides, fit_rides: Rides, level: float = LEVEL
) -> Interval | None:
    """Find the widths with which intervals contain the share `level` of rides, above 0 and below 1.

    The model was not fitted on the calibration rides (n,). Its predictions for them (n,) are within the range of
    durations. The rides that it was fitted on decide which pickup zones are usual.

    Returns:
        None if there are fewer than MIN_CALIBRATION_RIDES, or too few for so high a level.
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


def usual_pickup_zones(rides: Rides) -> tuple[int, ...]:
    """Return the zones, ascending, that have a place and from which at least USUAL_SHARE of these rides begin."""
    n_rides = np.bincount(rides.columns.pickup_zone, minlength=LAST_ZONE + 1)
    usual = (n_rides >= USUAL_SHARE * len(rides)) & ~np.isnan(ZONE_PLACES[:, 0])
    return tuple(zone for zone in range(FIRST_ZONE, LAST_ZONE + 1) if usual[zone] and n_rides[zone])


def _stair(steps: NDArray[np.intp], off_minutes: NDArray[np.float64], level: float) -> tuple[float, ...]:
    """Return half the width of each step, from the steps (n,) of rides and the errors (n,) of their predictions."""
    typical = np.array(TYPICAL_HALF_MINUTES)
    groups = _groups(np.bincount(steps, minlength=len(typical)))
    times_typical = off_minutes / typical[steps]
    scales = [_conformal_quantile(times_typical[groups[steps] == group], level) for group in range(groups[-1] + 1)]
    return tuple(_round_up(float(half)) for half in typical * np.take(scales, groups))


def _groups(n_rides: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the group of each step: neighbours with at least MIN_GROUP_RIDES together, if all steps have as many."""
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
    """Return the score that the share `level` of n + 1 scores must not exceed: infinite if n is too small."""
    rank = math.ceil((len(scores) + 1) * level)
    return math.inf if rank > len(scores) else float(np.partition(scores, rank - 1)[rank - 1])


def _round_up(half_minutes: float) -> float:
    """Return half a width in hundredths, rounded up so that a published interval contains the rides counted."""
    if half_minutes == math.inf:
        return math.inf
    return max(math.ceil(half_minutes * _PER_MINUTE - _SLACK) / _PER_MINUTE, MIN_HALF_MINUTES)


def stretch_interval(interval: Interval, factor: float) -> Interval:
    """Multiply the width of all intervals, rounding up to the next hundredth.

    >>> stretch_interval(Interval(0.8, (), (5.0,), {"busy_hours": (1.0, 2.0)}), 1.05).half_minutes
    {'busy_hours': (1.05, 2.1)}
    """
    stairs = {kind: tuple(_round_up(half * factor) for half in stair) for kind, stair in interval.half_minutes.items()}
    return msgspec.structs.replace(interval, half_minutes=stairs)


def measure_stretch(rides: Rides, fit: Callable[[Rides], Predict]) -> float:
    """Return the factor by which to stretch intervals for rides after these; 1 if there are too few rides or days.

    `fit` fits a model in the same way as on all of these rides, which are sorted by pickup.
    """
    earlier, later = _split_by_day(rides)
    fit_rides, calibration_rides = split_calibration(earlier)
    if not len(later) or not len(calibration_rides):
        return 1.0
    predict = fit(fit_rides)
    interval = calibrate(predict(calibration_rides), calibration_rides, fit_rides)
    if interval is None:
        return 1.0
    minutes = predict(later)
    half = half_minutes(interval, minutes, feature_matrix(later.columns))
    measured = float(np.quantile(np.abs(later.duration_minutes - minutes) / half, interval.level))
    low, high = RANGE
    return round(min(max(1 + SHARE_TAKEN * (measured - 1), low), high), 3)


def _split_by_day(rides: Rides) -> tuple[Rides, Rides]:
    """Split rides, or a sample of very many, at a midnight; the later part is empty if there are too few days."""
    step = -(-len(rides) // MAX_RIDES)
    some = rides.take(slice(None, None, max(step, 1)))
    day = some.columns.pickup_minute // MINUTES_PER_DAY
    days = np.unique(day)
    if len(days) < MIN_DAYS:
        return some, some.head(0)
    is_later = day >= days[int(len(days) * EARLIER_SHARE)]
    return some.take(~is_later), some.take(is_later)
