"""Live calibration: what a model's outcomes teach, as a state that each tick carries on. Pure; `calibrator` stores it.

The forest stays. Each ride's prediction p is multiplied by 1 + z·w, where z holds the ride's hours, weekend, area and
ln(p/12), and the weights w are found by ridge regression of the outcomes on p·z. Older outcomes count less, by half in
72 hours, and outliers count less (Huber 1964, "Robust Estimation of a Location Parameter"). The widths of intervals are
multiplied by the point below which 80 % of the recent errors lie, in half-widths.

All that a ride adds is summed by cell (`ride_cells`), so the states of hours add up, and the same labelled rides give
the same bytes: sums run in the order of hours and files, logarithms are tabulated, the system is solved without BLAS,
and what is stored is rounded.
"""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist
from typing import Annotated, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from lambda_function.core.bundle import ModelBundle
from lambda_function.core.calibration import (
    CALIBRATION_FORMAT,
    LOG_STEPS,
    MAX_INTERVAL_SCALE,
    MIN_INTERVAL_SCALE,
    N_CELLS,
    N_WEIGHTS,
    AsOf,
    Calibration,
    CalibrationTable,
    cell_design,
    problem_of_calibration,
    ride_cells,
)
from lambda_function.core.features import RideColumns, feature_matrix
from lambda_function.core.intervals import KINDS, STEPS_PER_MINUTE, Interval, half_minutes
from training.data.rides import MAX_DURATION_MINUTES, MIN_DURATION_MINUTES, take_columns
from training.errors import UserError
from training.model.calibrate import EDGES_MINUTES, LEVEL, TYPICAL_HALF_MINUTES
from training.monitoring.calibration.freeze import Freeze, HourCounts, Ratios, count_thirds, freeze_of, thirds_by_rank
from training.monitoring.hours import Hour
from training.monitoring.labelled_hour import LabelledHour

HALF_LIFE_HOURS = 72.0
"""After so long an outcome counts half."""

OUTLIER_FACTOR = 3.0
"""An outcome that is so many times the calibrated minutes, or so small a part of them, is dropped as an error."""

HUBER_HALF_WIDTHS = 2.0
"""An error of more half-widths counts as much as one of so many."""

MIN_SCORE_HALF_MINUTES = 0.3
"""A narrower interval counts as so wide when errors are measured in half-widths."""

PRIOR_RIDES, PRIOR_SQUARED_MINUTES = 200, 337.5
"""The prior says that no weight is needed, as strongly as 200 rides of a typical square: 1.5 times 15 minutes'."""

PRIOR_SCORES = 300
"""The prior of the interval scale: as many errors of a normal distribution whose 80 % point is one half-width."""

WINDOW_HOURS, LONG_WINDOW_HOURS = 24, 72
"""A tick is frozen by what the hours of the last day show together, or of the last three days: one hour may have few
rides."""

MIN_HOURS = 23
"""What was learned serves after a day, or the one that a clock change shortens: less may be too little to see that
outcomes are missing."""

N_SCORES = 120
MIN_SCORE, MAX_SCORE = 0.02, 50.0
"""Errors in half-widths are counted in so many bins, equal in the logarithm; the ends' bins are open."""

_SCORE_DIGITS = 9
SCORE_EDGES = np.array(
    [round(MIN_SCORE * (MAX_SCORE / MIN_SCORE) ** (number / N_SCORES), _SCORE_DIGITS) for number in range(N_SCORES + 1)]
)

SIGNIFICANT_DIGITS, WEIGHT_DECIMALS, SCALE_DECIMALS = 12, 6, 4
"""Of what is stored: sums by significant digits, weights and the interval scale by decimals."""

_N_SUMS = 5  # by cell: v p², v p² l, v p² l², v p r, v p r l, with the weight v, l = ln(p/12), r = outcome - p
_LOG_COLUMN = int(np.flatnonzero(~cell_design().any(axis=0))[0])
_FIRST_STEP = int(MIN_DURATION_MINUTES) * STEPS_PER_MINUTE
_BLOCK_RIDES = 1 << 17  # 13 MB of features at a time
_DECAY_DECIMALS = 12

_TYPICAL = Interval(LEVEL, (), EDGES_MINUTES, dict.fromkeys(KINDS, TYPICAL_HALF_MINUTES))
"""Measures the errors of a model without intervals."""

Row = Annotated[tuple[float, ...], msgspec.Meta(min_length=N_CELLS, max_length=N_CELLS)]


class CalibrationState(Calibration, frozen=True, kw_only=True):
    """What ticks have learned until `as_of`, `calibrations/<model version>/<as_of>.json`.

    Attributes:
        cell_sums: By sum and cell (5, 24): of v p², v p² l, v p² l², v p r and v p r l over rides, decayed.
        scores: Errors in half-widths by bin of SCORE_EDGES (120,), decayed.
        began: The hour before which nothing was learned.
        learned_at: `as_of` of the last tick that changed the weights; `began` if none has.
        n_due: Rides with a prediction: of the tick's hours, and of the 24 hours before `as_of`.
        n_outcomes: Those with an outcome.
        n_used: Those that the ticks may learn from.
        n_dropped: Those whose outcome is 3 times the calibrated minutes or more, or a third or less.
        hours: The counts of the 72 hours before `as_of`, which the next tick looks at, too.
        missing_hours: Hours that the tick skipped, because they were not joined in time or can't be read.
        frozen: Why this tick kept the weights, as one sentence; None if it did not.
        frozen_since: `as_of` of the first of the frozen ticks in a row; None if it is not frozen.
    """

    cell_sums: Annotated[tuple[Row, ...], msgspec.Meta(min_length=_N_SUMS, max_length=_N_SUMS)]
    scores: Annotated[tuple[float, ...], msgspec.Meta(min_length=N_SCORES, max_length=N_SCORES)]
    began: AsOf
    learned_at: AsOf
    n_due: int = 0
    n_outcomes: int = 0
    n_used: int = 0
    n_dropped: int = 0
    hours: tuple[HourCounts, ...] = ()
    missing_hours: tuple[str, ...] = ()
    frozen: str | None = None
    frozen_since: AsOf | None = None

    @property
    def has_learned(self) -> bool:
        """Whether any tick has learned from a ride."""
        return self.learned_at != self.began

    @property
    def may_serve(self) -> bool:
        """Whether a tick has learned from rides, and looked at a day at least."""
        return self.has_learned and _hours_from(self.began, self.learned_at) >= MIN_HOURS

    @property
    def has_new_weights(self) -> bool:
        """Whether the tick of this state has learned, so that a channel should serve it."""
        return self.may_serve and self.learned_at == self.as_of


def _hours_from(one: str, other: str) -> float:
    return (Hour.parse(other).start - Hour.parse(one).start).total_seconds() / 3600


@dataclass(frozen=True, slots=True)
class Tick:
    """The state after a tick, and why it kept the weights; None if it did not."""

    state: CalibrationState
    frozen: Freeze | None


@dataclass(frozen=True, slots=True, eq=False)
class HourSums:
    """What the rides of an hour, or of several, add to a state.

    Attributes:
        cell_sums: float64 (5, 24).
        scores: int64 (120,).
        ratios: How outcomes compare to the calibrated minutes.
        n_far_from_raw: Outcomes that would be dropped beside the forest's own minutes.
    """

    cell_sums: NDArray[np.float64]
    scores: NDArray[np.int64]
    ratios: Ratios
    n_far_from_raw: int = 0

    @classmethod
    def none(cls) -> Self:
        """Return the sums over no rides."""
        return cls(np.zeros((_N_SUMS, N_CELLS)), np.zeros(N_SCORES, np.int64), Ratios.none())

    def __add__(self, other: "HourSums") -> "HourSums":
        return HourSums(
            self.cell_sums + other.cell_sums,
            self.scores + other.scores,
            self.ratios + other.ratios,
            self.n_far_from_raw + other.n_far_from_raw,
        )


_decode = msgspec.json.Decoder(CalibrationState).decode
_encode = msgspec.json.Encoder(order="sorted").encode


def encode_state(state: CalibrationState) -> bytes:
    """Return a state's object: JSON with its keys sorted."""
    return _encode(state) + b"\n"


def decode_state(data: bytes) -> CalibrationState:
    """Decode a state's object.

    Raises:
        ValueError: It is no state, or one that a later version of this code wrote; the message says which, in words.
    """
    try:
        state = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise ValueError(f"is no state of a calibration: {reason}") from error
    if problem := problem_of_calibration(state):
        raise ValueError(problem)
    return state


def first_state(model_version: str, began: Hour) -> CalibrationState:
    """Return the state before the first tick: it changes no prediction."""
    return CalibrationState(
        format=CALIBRATION_FORMAT,
        model_version=model_version,
        as_of=str(began),
        weights=(0.0,) * N_WEIGHTS,
        interval_scale=1.0,
        cell_sums=((0.0,) * N_CELLS,) * _N_SUMS,
        scores=(0.0,) * N_SCORES,
        began=str(began),
        learned_at=str(began),
    )


def tick(model: ModelBundle, state: CalibrationState, hours: Iterable[LabelledHour], as_of: Hour) -> Tick:
    """Carry a state on to `as_of` with the labelled rides of the hours since.

    A frozen tick keeps the weights, and its rides are not learned later. Nor does a tick without rides change them.

    Args:
        model: The state's model, calibrated or not.
        state: The state before.
        hours: The hours from the state's `as_of` on that have labelled rides, each once, in any order. They are read
            one at a time.
        as_of: The end of the last hour, later than the state's.

    Raises:
        UserError: The state is another model's, the tick is not later than the state, or an hour does not belong to it.
    """
    _check(model, state, as_of)
    table = CalibrationTable.of(state, model.manifest.duration_range_minutes)
    found: dict[str, tuple[HourSums, HourCounts]] = {}
    for hour in hours:
        if not state.as_of <= str(hour.hour) < str(as_of) or str(hour.hour) in found:
            raise UserError(f"hour {hour.hour} is not one of those from {state.as_of} to {as_of}, or came twice")
        found[str(hour.hour)] = hour_sums(model, table, hour)
    ordered = [found[name] for name in sorted(found)]
    sums = HourSums.none()
    for one, _ in ordered:
        sums += one
    counts = [*state.hours, *(count for _, count in ordered)]
    day, days = (
        [one for one in counts if one.hour >= min(str(as_of + -n_hours), state.as_of)]
        for n_hours in (WINDOW_HOURS, LONG_WINDOW_HOURS)
    )
    frozen = freeze_of(day, days, sums.ratios, sums.n_far_from_raw)
    now = _counted(state, as_of, day, days)
    if frozen:
        since = state.frozen_since or now.as_of
        return Tick(msgspec.structs.replace(now, frozen=frozen.text, frozen_since=since), frozen)
    if not sums.scores.any():
        return Tick(now, None)
    level = model.manifest.interval.level if model.manifest.interval else None
    return Tick(_learned(now, sums, level), None)


def hour_sums(model: ModelBundle, table: CalibrationTable, hour: LabelledHour) -> tuple[HourSums, HourCounts]:
    """Return what an hour's rides add to a state whose factors are in the table, and its counts."""
    n_rides = len(hour.duration_minutes)
    raw, sums = np.empty(n_rides), HourSums.none()
    n_used = n_dropped = 0
    for start in range(0, n_rides, _BLOCK_RIDES):
        block = slice(start, start + _BLOCK_RIDES)
        rides, duration = take_columns(hour.rides, block), hour.duration_minutes[block]
        matrix = feature_matrix(rides)
        raw[block] = model.predict(matrix).round(2)
        errors = _Errors.of(model, table, rides, matrix, raw[block])
        used, dropped = errors.usable(duration)
        sums += errors.sums(duration, used)
        n_used += int(np.count_nonzero(used))
        n_dropped += int(np.count_nonzero(dropped))
    has_outcome = ~np.isnan(hour.duration_minutes)
    thirds = thirds_by_rank(raw)
    counts = HourCounts(
        hour=str(hour.hour),
        n_due=count_thirds(thirds),
        n_outcomes=count_thirds(thirds[has_outcome]),
        n_used=n_used,
        n_dropped=n_dropped,
    )
    return sums, counts


@dataclass(frozen=True, slots=True, eq=False)
class _Errors:
    """What a ride's outcome is compared with, by column (n,)."""

    raw: NDArray[np.float64]  # the forest's minutes in hundredths, 1 to 60
    minutes: NDArray[np.float64]  # calibrated
    half: NDArray[np.float64]  # half the width of the interval around them, before its scale
    cells: NDArray[np.intp]

    @classmethod
    def of(
        cls,
        model: ModelBundle,
        table: CalibrationTable,
        rides: RideColumns,
        matrix: NDArray[np.float64],
        raw: NDArray[np.float64],
    ) -> Self:
        cells = ride_cells(rides, matrix)
        minutes = table.minutes(raw, cells)
        half = half_minutes(model.manifest.interval or _TYPICAL, minutes, matrix)
        raw = raw.clip(MIN_DURATION_MINUTES, MAX_DURATION_MINUTES)
        return cls(raw, minutes, np.maximum(half, MIN_SCORE_HALF_MINUTES), cells)

    def usable(self, duration: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which outcomes (n,) to learn from, and which are no ride's duration; NaN is neither."""
        dropped = _is_far(duration, self.minutes)
        inside = (duration >= MIN_DURATION_MINUTES) & (duration <= MAX_DURATION_MINUTES)
        return inside & ~dropped, dropped

    def sums(self, duration: NDArray[np.float64], used: NDArray[np.bool_]) -> HourSums:
        """Return the sums over the rides to learn from."""
        minutes, half, raw, cells = self.minutes[used], self.half[used], self.raw[used], self.cells[used]
        score = np.abs(duration[used] - minutes) / half
        weight = HUBER_HALF_WIDTHS / np.maximum(score, HUBER_HALF_WIDTHS)
        log = LOG_STEPS.take(np.rint(raw * STEPS_PER_MINUTE).astype(np.intp) - _FIRST_STEP)
        square = weight * raw * raw
        residual = weight * raw * (duration[used] - raw)
        terms = (square, square * log, square * log * log, residual, residual * log)
        bins = (np.searchsorted(SCORE_EDGES, score) - 1).clip(0, N_SCORES - 1)
        return HourSums(
            np.array([np.bincount(cells, term, N_CELLS) for term in terms]),
            np.bincount(bins, minlength=N_SCORES),
            Ratios.of(duration / self.minutes),
            int(np.count_nonzero(_is_far(duration, self.raw))),
        )


def _is_far(duration: NDArray[np.float64], minutes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return whether each outcome (n,) is no duration of a ride that is predicted so; NaN is not."""
    far: NDArray[np.bool_] = (duration > minutes * OUTLIER_FACTOR) | (duration < minutes / OUTLIER_FACTOR)
    return far


def _check(model: ModelBundle, state: CalibrationState, as_of: Hour) -> None:
    if state.model_version != model.model_version:
        raise UserError(f"the state is of {state.model_version}, and the model is {model.model_version}")
    if str(as_of) <= state.as_of:
        raise UserError(f"a tick at {as_of} is not later than the state, which has learned until {state.as_of}")


def _counted(
    state: CalibrationState, as_of: Hour, day: Sequence[HourCounts], days: Sequence[HourCounts]
) -> CalibrationState:
    """Return the state at `as_of` with the counts of the last day and of the last three, and with its old weights."""
    kept_from = str(as_of + -LONG_WINDOW_HOURS)
    return msgspec.structs.replace(
        state,
        as_of=str(as_of),
        n_due=sum(sum(one.n_due) for one in day),
        n_outcomes=sum(sum(one.n_outcomes) for one in day),
        n_used=sum(one.n_used for one in day),
        n_dropped=sum(one.n_dropped for one in day),
        hours=tuple(one for one in days if one.hour >= kept_from),
        missing_hours=(),
        frozen=None,
        frozen_since=None,
    )


def _learned(state: CalibrationState, sums: HourSums, level: float | None) -> CalibrationState:
    """Return the state with the sums added to the decayed ones, and the weights and the interval scale of them all."""
    decay = round(0.5 ** (_hours_from(state.learned_at, state.as_of) / HALF_LIFE_HOURS), _DECAY_DECIMALS)
    cell_sums = tuple(
        tuple(_rounded(old * decay + new) for old, new in zip(old_row, new_row, strict=True))
        for old_row, new_row in zip(state.cell_sums, sums.cell_sums.tolist(), strict=True)
    )
    scores = tuple(_rounded(old * decay + new) for old, new in zip(state.scores, sums.scores.tolist(), strict=True))
    return msgspec.structs.replace(
        state,
        cell_sums=cell_sums,
        scores=scores,
        weights=weights_of(cell_sums),
        interval_scale=interval_scale_of(scores, level) if level else 1.0,
        learned_at=state.as_of,
    )


def _rounded(value: float) -> float:
    """Return a number to the digits that are stored."""
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}")


def weights_of(cell_sums: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Return the weights that solve (S + prior) w = b, where S and b are made of sums by cell (5, 24).

    >>> weights_of([[0.0] * 24] * 5) == (0.0,) * 10
    True
    """
    prior = float(PRIOR_RIDES) * PRIOR_SQUARED_MINUTES
    matrix = [[prior if row == column else 0.0 for column in range(N_WEIGHTS)] for row in range(N_WEIGHTS)]
    right = [0.0] * N_WEIGHTS
    for cell, design in enumerate(cell_design().tolist()):
        square, square_log, square_log_log, residual, residual_log = (row[cell] for row in cell_sums)
        ones = [column for column, value in enumerate(design) if value]
        for row in ones:
            right[row] += residual
            matrix[row][_LOG_COLUMN] += square_log
            matrix[_LOG_COLUMN][row] += square_log
            for column in ones:
                matrix[row][column] += square
        matrix[_LOG_COLUMN][_LOG_COLUMN] += square_log_log
        right[_LOG_COLUMN] += residual_log
    # Adding 0.0 makes a plain 0 of -0.0.
    return tuple(round(weight, WEIGHT_DECIMALS) + 0.0 for weight in _solved(matrix, right))


def _solved(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Return the solution of a symmetric, positive definite system, by elimination: in the same bits on any machine.

    The prior on the diagonal keeps the pivots away from 0, so no rows need be exchanged.
    """
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for pivot, row in enumerate(rows):
        for other in rows[pivot + 1 :]:
            factor = other[pivot] / row[pivot]
            for column in range(pivot, len(row)):
                other[column] -= factor * row[column]
    solution: deque[float] = deque()
    for pivot in reversed(range(len(rows))):
        known = zip(rows[pivot][pivot + 1 : -1], solution, strict=True)
        value = rows[pivot][-1]
        for coefficient, one in known:
            value -= coefficient * one
        solution.appendleft(value / rows[pivot][pivot])
    return list(solution)


def interval_scale_of(scores: Sequence[float], level: float) -> float:
    """Return the point below which the share `level` of the errors lie, in half-widths, and of those of the prior.

    >>> interval_scale_of([0.0] * N_SCORES, level=0.8)
    1.0
    """
    counts = [score + PRIOR_SCORES * share for score, share in zip(scores, _prior_shares(level), strict=True)]
    wanted, below = level * math.fsum(counts), 0.0
    edges: list[float] = SCORE_EDGES.tolist()
    for count, low, high in zip(counts, edges, edges[1:], strict=True):
        if below + count >= wanted:
            point = low + (high - low) * (wanted - below) / count
            return round(min(max(point, MIN_INTERVAL_SCALE), MAX_INTERVAL_SCALE), SCALE_DECIMALS)
        below += count
    return MAX_INTERVAL_SCALE


def _prior_shares(level: float) -> list[float]:
    """Return the share of a half-normal distribution in each bin; its point of the share `level` is 1."""
    deviations = round(NormalDist().inv_cdf((1 + level) / 2), _SCORE_DIGITS)
    below = [round(math.erf(edge * deviations / math.sqrt(2)), _SCORE_DIGITS) for edge in SCORE_EDGES.tolist()]
    below[0], below[-1] = 0.0, 1.0
    return [high - low for low, high in pairwise(below)]
