"""Measure the errors of predictions, in minutes: as a whole and by slice, beside the baseline.

Rides are predicted a block at a time and summed up by slice, so the memory needed does not grow with their number.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lambda_function.core.bundle import ModelBundle
from lambda_function.core.features import MINUTES_PER_DAY, RideColumns, feature_matrix
from training.data.rides import Rides
from training.evaluation.bootstrap import DaySums
from training.evaluation.slices import ALL, Slicing, by_day, crossed, slicings, zone_pairs
from training.model.baseline import Baseline
from training.model.results import METRIC_DECIMALS, Measured, MonthsResult, SliceResult

BLOCK_RIDES = 100_000
"""Rides predicted at once. A block's matrix and intermediate results take some 30 MB.

The last bits of an evaluation depend on it, because they depend on where sums are cut.
"""

DELAYS_MINUTES: Mapping[str, int] = {
    "at pickup": 0,
    "10 minutes late": 10,
    "30 minutes late": 30,
    "60 minutes late": 60,
}
"""Arrival scenarios in which every ride has the same delay."""

ANY_TIME = "any time of the week"
"""The scenario of a replay, whose time has nothing to do with that of the rides."""

_MINUTES_PER_WEEK = 7 * MINUTES_PER_DAY
_ARRIVAL_SEED = 1

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PredictionErrors:
    """The errors of single rides: float64 (n,) each."""

    error_minutes: Floats  # predicted less actual; below 0 if the prediction is too short
    covered: Floats | None = None  # 1 if the published interval contains the actual duration; None without intervals
    width_minutes: Floats | None = None  # from the interval's low to its high end; None without intervals
    # The width, and per minute outside it 2 / (1 - level) minutes more: the lower, the better. None without intervals.
    # (Gneiting and Raftery, Strictly Proper Scoring Rules, 2007, equation 43.)
    score_minutes: Floats | None = None


Predictor = Callable[[Rides], PredictionErrors]
"""Predicts rides and compares the predictions with their durations."""


def predictor(model: ModelBundle) -> Predictor:
    """Return a bundle's predictor, with its intervals if it has them."""
    interval = model.manifest.interval
    penalty = 2 / (1 - interval.level) if interval else 0.0

    def predict(rides: Rides) -> PredictionErrors:
        matrix = feature_matrix(rides.columns)
        minutes = model.predict(matrix)
        error = minutes - rides.duration_minutes
        bounds = model.interval_bounds(matrix, minutes)
        if bounds is None:
            return PredictionErrors(error)
        low, high = bounds
        actual = rides.duration_minutes
        covered = (low <= actual) & (actual <= high)
        outside = np.maximum(low - actual, 0) + np.maximum(actual - high, 0)
        score = high - low + outside * penalty
        return PredictionErrors(error, covered.astype(np.float64), high - low, score)

    return predict


def plain_predictor(predict: Callable[[RideColumns], Floats]) -> Predictor:
    """Return the predictor of a function from rides by column to minutes, without intervals."""
    return lambda rides: PredictionErrors(predict(rides.columns) - rides.duration_minutes)


class Tally:
    """Sums by slice of one slicing, float64 (n_slices,) each.

    `squares` has square minutes, `absolutes` and `errors` have minutes. `covered`, `width_minutes` and `score_minutes`
    stay 0 without intervals.
    """

    def __init__(self, slicing: Slicing) -> None:
        self.slicing = slicing
        self.has_intervals = False
        sums = np.zeros((7, len(slicing.names)))
        self.n_rides, self.squares, self.absolutes, self.errors = sums[:4]
        self.covered, self.width_minutes, self.score_minutes = sums[4:]

    def add(self, rides: RideColumns, errors: PredictionErrors) -> None:
        """Add rides and their errors; a ride in no slice of this slicing is not counted."""
        number = self.slicing.number(rides)
        error = errors.error_minutes
        self.n_rides += self._sums(number, None)
        self.squares += self._sums(number, error * error)
        self.absolutes += self._sums(number, np.abs(error))
        self.errors += self._sums(number, error)
        if errors.covered is not None:
            self.has_intervals = True
            self.covered += self._sums(number, errors.covered)
            self.width_minutes += self._sums(number, errors.width_minutes)
        if errors.score_minutes is not None:
            self.score_minutes += self._sums(number, errors.score_minutes)

    def _sums(self, number: NDArray[np.intp], values: Floats | None) -> Floats:
        n_slices = len(self.slicing.names)
        return np.bincount(number, values, minlength=n_slices + 1)[:n_slices].astype(np.float64)

    def measured(self, i: int) -> Measured:
        """Return the errors of slice i, which has at least one ride."""
        n_rides = self.n_rides[i]
        rmse_minutes = np.sqrt(self.squares[i] / n_rides)
        return Measured(
            int(n_rides), _round(rmse_minutes), _round(self.absolutes[i] / n_rides), _round(self.errors[i] / n_rides)
        )

    def interval_figures(self, i: int) -> tuple[float | None, float | None]:
        """Return coverage and mean width in minutes of slice i, None without intervals."""
        if not self.has_intervals:
            return None, None
        return _round(self.covered[i] / self.n_rides[i]), _round(self.width_minutes[i] / self.n_rides[i])


@dataclass(frozen=True, slots=True, eq=False)
class PairedDays:
    """The sums of two predictors over the same rides, by day and slice: float64 (n_days, n_slices) in each."""

    squares: DaySums
    covered: DaySums | None  # None unless both have intervals
    scores: DaySums | None  # likewise

    @classmethod
    def of(cls, model: Sequence[Tally], baseline: Sequence[Tally], n_days: int) -> "PairedDays":
        """Put tallies by day and something side by side: the slices of the first, those of the second, and so on."""

        def table(tallies: Sequence[Tally], sums: Callable[[Tally], Floats]) -> Floats:
            return np.hstack([sums(tally).reshape(n_days, -1) for tally in tallies])

        def paired(sums: Callable[[Tally], Floats]) -> DaySums:
            return DaySums(table(model, lambda tally: tally.n_rides), table(model, sums), table(baseline, sums))

        has_intervals = all(tally.has_intervals for tally in (*model, *baseline))
        return cls(
            squares=paired(lambda tally: tally.squares),
            covered=paired(lambda tally: tally.covered) if has_intervals else None,
            scores=paired(lambda tally: tally.score_minutes) if has_intervals else None,
        )

    def take(self, slices: NDArray[np.intp] | NDArray[np.bool_]) -> "PairedDays":
        """Return some of the slices."""

        def some(sums: DaySums | None) -> DaySums | None:
            return sums and DaySums(*(one[:, slices] for one in sums))

        squares = DaySums(*(one[:, slices] for one in self.squares))
        return PairedDays(squares, some(self.covered), some(self.scores))


@dataclass(frozen=True, slots=True, eq=False)
class SideBySide:
    """Two predictors on the same rides."""

    result: MonthsResult  # as a whole and by slice; its `baseline` is the second predictor, in the gate the champion
    days: PairedDays  # by day of pickup, all rides in one slice
    slice_days: PairedDays  # by day of pickup, in the slices of the result


def measure_errors(predicted_minutes: Floats, actual_minutes: Floats) -> Measured:
    """Compare two arrays (n,), n > 0, of minutes.

    >>> measure_errors(np.array([10.0, 20.0]), np.array([13.0, 16.0]))
    Measured(n_rides=2, rmse_minutes=3.5355, mae_minutes=3.5, bias_minutes=0.5)
    """
    error = predicted_minutes - actual_minutes
    rmse_minutes = np.sqrt(np.mean(error * error))
    return Measured(len(error), _round(rmse_minutes), _round(np.mean(np.abs(error))), _round(np.mean(error)))


def measure(predict: Predictor, rides: Rides) -> Measured:
    """Measure a predictor on rides, at least one, block by block."""
    (whole,) = _tally_rides(predict, rides, [ALL])
    return whole.measured(0)


def evaluate(model: ModelBundle, baseline: Baseline, rides: Rides, train_rides: Rides) -> MonthsResult:
    """Measure a model, its intervals too, beside the baseline on rides, at least one, that neither has learnt from.

    Both have learnt from `train_rides`: a zone pair that is not among them is an unseen one.
    """
    return side_by_side(predictor(model), plain_predictor(baseline.predict), rides, train_rides).result


def side_by_side(model: Predictor, baseline: Predictor, rides: Rides, train_rides: Rides) -> SideBySide:
    """Measure two predictors on the same rides, at least one; arguments as in `evaluate`."""
    days = by_day(rides)
    kinds = slicings(zone_pairs(train_rides))
    n_kinds, n_days = len(kinds), len(days.names)
    cuts = (ALL, days, *kinds, *(crossed(days, kind) for kind in kinds))
    (whole, by_days, *parts), (other_whole, other_by_days, *other_parts) = (
        _tally_rides(predict, rides, cuts) for predict in (model, baseline)
    )
    coverage, width_minutes = whole.interval_figures(0)
    result = MonthsResult(
        months=tuple(str(month) for month in rides.months),
        model=whole.measured(0),
        baseline=other_whole.measured(0),
        coverage=coverage,
        width_minutes=width_minutes,
        slices=tuple(
            SliceResult(part.slicing.by, name, part.measured(i), other.measured(i), *part.interval_figures(i))
            for part, other in zip(parts[:n_kinds], other_parts[:n_kinds], strict=True)
            for i, name in enumerate(part.slicing.names)
            if part.n_rides[i]
        ),
    )
    slice_days = PairedDays.of(parts[n_kinds:], other_parts[n_kinds:], n_days)
    has_rides = slice_days.squares.n_rides.any(axis=0)
    return SideBySide(result, PairedDays.of([by_days], [other_by_days], n_days), slice_days.take(has_rides))


def arrival_scenarios(columns: RideColumns) -> dict[str, RideColumns]:
    """Return rides as the function sees them if events carry no pickup time: with the arrival of the record instead.

    A stream without a backlog delivers a ride as it begins, to the minute: "at pickup" is then as good as a pickup
    time. Late records have the clock of their arrival, and so other traffic than the ride had. A replay may come at any
    time: each ride arrives up to a week late, at any hour with the same probability, which is the worst case.

    Scenarios are ordered from the best to the worst; only `pickup_minute` differs. On the two nights a year when the
    clocks change, delays are those of the wall clock.
    """
    minute = columns.pickup_minute
    late = {name: replace(columns, pickup_minute=minute + delay) for name, delay in DELAYS_MINUTES.items()}
    delay = np.random.default_rng(_ARRIVAL_SEED).integers(0, _MINUTES_PER_WEEK, len(minute)).astype(minute.dtype)
    return {**late, ANY_TIME: replace(columns, pickup_minute=minute + delay)}


def _tally_rides(predict: Predictor, rides: Rides, cuts: Sequence[Slicing]) -> list[Tally]:
    """Predict rides, block by block, and sum up their errors by each of the slicings."""
    tallies = [Tally(slicing) for slicing in cuts]
    for start in range(0, len(rides), BLOCK_RIDES):
        block = rides.take(slice(start, start + BLOCK_RIDES))
        errors = predict(block)
        for tally in tallies:
            tally.add(block.columns, errors)
    return tallies


def _round(value: float) -> float:
    """Round to METRIC_DECIMALS; adding 0.0 removes the sign of a negative zero, which JSON would write."""
    return round(float(value), METRIC_DECIMALS) + 0.0
