"""How far predictions are off, in minutes: as a whole and by slice, beside the baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lambda_function.core.bundle import ModelBundle
from lambda_function.core.features import MINUTES_PER_DAY, RideColumns
from training.data.rides import Rides
from training.evaluation.slices import (
    ALL,
    Predictor,
    Slicing,
    Tally,
    by_day,
    plain_predictor,
    predictor,
    slicings,
    tally_rides,
    zone_pairs,
)
from training.model.baseline import Baseline
from training.model.evaluation import METRIC_DECIMALS, Measured, MonthsResult, SliceResult


@dataclass(frozen=True, slots=True)
class Errors:
    """Errors over rides.

    `rmse_minutes` weighs the large ones, `mae_minutes` is the everyday one, `bias_minutes` is above 0 where
    predictions are too long on the whole.
    """

    n_rides: int
    rmse_minutes: float
    mae_minutes: float
    bias_minutes: float


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Two predictors on the same rides.

    Attributes:
        result: As a whole and by slice; its `baseline` is the second predictor, whatever that is.
        model_days: The first one's sums by day of pickup.
        rival_days: The second one's.
    """

    result: MonthsResult
    model_days: Tally
    rival_days: Tally


def measure_errors(predicted_minutes: NDArray[np.float64], actual_minutes: NDArray[np.float64]) -> Errors:
    """Compares two arrays (n,), n > 0, of minutes.

    >>> measure_errors(np.array([10.0, 20.0]), np.array([13.0, 16.0]))
    Errors(n_rides=2, rmse_minutes=3.5355339059327378, mae_minutes=3.5, bias_minutes=0.5)
    """
    error = predicted_minutes - actual_minutes
    rmse_minutes = float(np.sqrt(np.mean(error * error)))
    return Errors(len(error), rmse_minutes, float(np.mean(np.abs(error))), float(np.mean(error)))


def measure(predict: Predictor, rides: Rides) -> Measured:
    """Measures a predictor on rides, of which there is at least one, block by block."""
    (whole,) = tally_rides(predict, rides, [ALL])
    return _measured(whole, 0)


def rounded(errors: Errors) -> Measured:
    """Returns errors as files have them."""
    return Measured(
        errors.n_rides, _round(errors.rmse_minutes), _round(errors.mae_minutes), _round(errors.bias_minutes)
    )


def evaluate(model: ModelBundle, baseline: Baseline, rides: Rides, train_rides: Rides) -> MonthsResult:
    """Measures a model beside the baseline on rides that neither has learnt from.

    Args:
        model: Its intervals are measured too, where it has them.
        baseline: Fitted on what the model was fitted on.
        rides: At least one.
        train_rides: What both learnt from: a zone pair that is not among them is an unseen one.
    """
    return side_by_side(predictor(model), plain_predictor(baseline.predict), rides, train_rides).result


def side_by_side(model: Predictor, rival: Predictor, rides: Rides, train_rides: Rides) -> SideBySide:
    """Measures two predictors on the same rides, at least one; arguments as in `evaluate`."""
    cuts = (ALL, by_day(rides), *slicings(zone_pairs(train_rides)))
    (whole, model_days, *parts), (rival_whole, rival_days, *rival_parts) = (
        tally_rides(predict, rides, cuts) for predict in (model, rival)
    )
    coverage, width_minutes = _interval_figures(whole, 0)
    result = MonthsResult(
        months=tuple(str(source.month) for source in rides.sources),
        model=_measured(whole, 0),
        baseline=_measured(rival_whole, 0),
        coverage=coverage,
        width_minutes=width_minutes,
        slices=tuple(
            one for part, rival_part in zip(parts, rival_parts, strict=True) for one in _slices(part, rival_part)
        ),
    )
    return SideBySide(result, model_days, rival_days)


def worse_than_baseline(result: MonthsResult) -> tuple[SliceResult, ...]:
    """Returns the slices where the model's RMSE is above the baseline's, the one with the most rides first."""
    worse = [one for one in result.slices if one.model.rmse_minutes > one.baseline.rmse_minutes]
    return tuple(sorted(worse, key=lambda one: -one.model.n_rides))


def _slices(model: Tally, rival: Tally) -> Sequence[SliceResult]:
    """Returns the slices of one slicing that have rides."""
    slicing: Slicing = model.slicing
    return [
        SliceResult(slicing.by, name, _measured(model, i), _measured(rival, i), *_interval_figures(model, i))
        for i, name in enumerate(slicing.names)
        if model.n_rides[i]
    ]


def _measured(tally: Tally, i: int) -> Measured:
    n_rides = tally.n_rides[i]
    rmse_minutes = np.sqrt(tally.squares[i] / n_rides)
    return rounded(
        Errors(int(n_rides), float(rmse_minutes), float(tally.absolutes[i] / n_rides), float(tally.errors[i] / n_rides))
    )


def _interval_figures(tally: Tally, i: int) -> tuple[float | None, float | None]:
    """Returns coverage and mean width in minutes of slice i, None without intervals."""
    if not tally.has_intervals:
        return None, None
    return _round(tally.covered[i] / tally.n_rides[i]), _round(tally.width_minutes[i] / tally.n_rides[i])


def _round(value: float) -> float:
    """Rounds to METRIC_DECIMALS; what is 0 then has no sign, which JSON would keep."""
    return round(float(value), METRIC_DECIMALS) + 0.0


# MERGED FROM training/arrival.py
# Rides whose events carry no pickup time: when their records may arrive, and what then stands in for the pickup.
DELAYS_MINUTES: Mapping[str, int] = {
    "at pickup": 0,
    "10 minutes late": 10,
    "30 minutes late": 30,
    "60 minutes late": 60,
}
"""The same delay for every ride, by name."""

ANY_TIME = "any time of the week"
"""A replay, which has nothing to do with when the rides took place."""

_MINUTES_PER_WEEK = 7 * MINUTES_PER_DAY


def arrival_scenarios(columns: RideColumns, seed: int = 0) -> dict[str, RideColumns]:
    """Returns rides as the function sees them where events carry no pickup time: by the record's time of arrival.

    A stream that is kept up with delivers a ride as it begins, to the minute: "at pickup" is then as good as a pickup
    time. Late records have the clock of their arrival, and so another traffic than the ride had. A replay may come at
    any time: each ride arrives up to a week late, any hour of any day alike, which is the worst there is.

    Args:
        columns: Rides whose pickup times are known.
        seed: Draws the delays of the replay.

    Returns:
        The rides by scenario, from the best to the worst; nothing but `pickup_minute` differs. On the two nights a year
        when the clocks change, delays are those of the wall clock.
    """
    minute = columns.pickup_minute
    late = {name: replace(columns, pickup_minute=minute + delay) for name, delay in DELAYS_MINUTES.items()}
    delay = np.random.default_rng(seed).integers(0, _MINUTES_PER_WEEK, len(minute)).astype(minute.dtype)
    return {**late, ANY_TIME: replace(columns, pickup_minute=minute + delay)}
