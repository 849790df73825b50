"""How much wider intervals have to be for rides that come later: measured within the training rides, half of it taken.

Calibration rides are drawn from the days that the model learns from. The rides to come are of days that it has never
met, and traffic moves on. So a second model learns from the earlier days only, and the later ones show how much wider
its intervals should have been. docs/decisions/0008 says what that is worth, and why half.
"""

from collections.abc import Callable

import numpy as np

from lambda_function.features import MINUTES_PER_DAY, feature_matrix
from lambda_function.interval import Interval, half_minutes
from training.calibrate import Predict, calibrate
from training.data.rides import Rides
from training.split import split_calibration

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
