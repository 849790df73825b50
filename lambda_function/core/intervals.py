"""Prediction intervals: how far a ride may end from its prediction, by kind of ride and predicted minutes.

One table, built once, holds everything including the bounds' JSON: encoding two numbers per ride would cost more than
the rest of an interval. Its rows are tenths of a minute, so that it stays in the processor's cache.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from lambda_function.core.features import FEATURE_NAMES, FIRST_ZONE, LAST_ZONE, ZONE_PLACES

KINDS = ("busy_hours", "quiet_hours", "unusual_pickup", "no_distance")
"""Kinds of rides, from the most to the least predictable.

A ride without a distance is of the last kind. Otherwise a ride is of the third kind if few rides begin at its pickup
place, or if a place has no coordinates. All others go by the hour: 07:00 to 18:00 from Monday to Saturday is busy,
except on holidays.
"""

BUSY_FROM_MINUTE, BUSY_TO_MINUTE = 7 * 60, 18 * 60
SUNDAY = 6
"""Days from this number on are quiet: Sunday, holidays, the days between the years."""

STEPS_PER_MINUTE = 10
"""The centre of an interval is the prediction rounded to a tenth of a minute; its bounds have hundredths.

With hundredths the table has 24,000 rows, and a look-up costs twice as much: docs/decisions/0008.
"""

MIN_HALF_MINUTES = 0.5 / STEPS_PER_MINUTE
"""Half of the narrowest interval that contains every prediction of its row."""

_MAX_RANGE_MINUTES = 24 * 60.0
_MILES, _MINUTE, _DAY, _LONGITUDE, _LATITUDE, _STRAIGHT = (
    FEATURE_NAMES.index(name)
    for name in (
        "trip_distance_miles",
        "minute_of_day",
        "day_of_week",
        "pickup_longitude",
        "pickup_latitude",
        "straight_line_miles",
    )
)

# A grid over the city finds a pickup's place among few. At 0.005 degrees, a quarter to a third of a mile, no two of
# TLC's zones share a cell but those that share their coordinates.
_CELLS_PER_DEGREE = 200.0
_WEST, _SOUTH = np.nanmin(ZONE_PLACES, axis=0)
_N_EAST, _N_NORTH = (np.ptp(ZONE_PLACES[~np.isnan(ZONE_PLACES[:, 0])], axis=0) * _CELLS_PER_DEGREE).astype(int) + 1

Bounds = tuple[NDArray[np.float64], NDArray[np.float64]]
_encode_lines = msgspec.json.Encoder().encode_lines


class Interval(msgspec.Struct, frozen=True):
    """The intervals in a manifest: half their width by kind and predicted minutes, one step function per kind.

    Attributes:
        level: The target share of rides that end within their interval, above 0 and below 1.
        usual_pickup_zones: LocationIDs, ascending, from which so many rides begin that they are usual.
        edges_minutes: Where steps begin, ascending (m,). A prediction on an edge is of the step that begins there.
        half_minutes: By KINDS, a number a step (m + 1,), MIN_HALF_MINUTES or more.
    """

    level: float
    usual_pickup_zones: tuple[int, ...]
    edges_minutes: tuple[float, ...]
    half_minutes: dict[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class IntervalTables:
    """The tables of an interval, ready to serve. Build them with `of`.

    Attributes:
        low_minutes: float64 (n_kinds * n_steps,), a kind after the other, by tenths above the range's lower end.
        high_minutes: The same for the upper bounds.
        texts: Raw JSON of both, as an object array of the same shape.
        usual: bool (n_cells,), the cells of the usual pickup zones.
        first_step: Tenths of a minute at the range's lower end.
    """

    low_minutes: NDArray[np.float64]
    high_minutes: NDArray[np.float64]
    texts: NDArray[np.object_]
    usual: NDArray[np.bool_]
    first_step: int

    @classmethod
    def of(cls, interval: Interval, range_minutes: tuple[float, float], scale: float = 1.0) -> Self:
        """Build the tables of an interval that `problem_of` accepts, for predictions in this range of minutes.

        `scale` is a calibration's factor on half the width of every interval; see `scaled_half_minutes`.
        """
        first, last = (int(step) for step in _steps(np.array(range_minutes)))
        minutes = np.arange(first, last + 1) / STEPS_PER_MINUTE
        stairs = scaled_half_minutes(np.array([interval.half_minutes[kind] for kind in KINDS]), scale)
        half = stairs[:, np.searchsorted(interval.edges_minutes, minutes, side="right")]
        low = np.maximum(minutes - half, range_minutes[0]).round(2).reshape(-1)
        high = np.minimum(minutes + half, range_minutes[1]).round(2).reshape(-1)
        texts = np.empty(len(low), np.object_)
        lines = _encode_lines(list(zip(low.tolist(), high.tolist(), strict=True))).split(b"\n")
        texts[:] = list(map(msgspec.Raw, lines[:-1]))
        return cls(low, high, texts, usual_cells(interval.usual_pickup_zones), first)

    def bounds(self, minutes: NDArray[np.float64], matrix: NDArray[np.float64]) -> Bounds:
        """Return low and high (n,) of predictions (n,) within the range, given their features (n, n_features).

        Both have hundredths. A row gives the same bits alone and in any batch.
        """
        rows = self._rows(minutes, matrix)
        return self.low_minutes.take(rows, mode="clip"), self.high_minutes.take(rows, mode="clip")

    def encoded_bounds(self, minutes: NDArray[np.float64], matrix: NDArray[np.float64]) -> list[msgspec.Raw]:
        """Return the JSON of what `bounds` returns, (n,)."""
        encoded: list[msgspec.Raw] = self.texts.take(self._rows(minutes, matrix), mode="clip").tolist()
        return encoded

    def _rows(self, minutes: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.intp]:
        rows = ride_kinds(matrix, self.usual)
        rows *= len(self.low_minutes) // len(KINDS)
        rows += _steps(minutes)
        rows -= self.first_step
        return rows


def problem_of(interval: Interval, range_minutes: tuple[float, float]) -> str | None:
    """Return the problem of an interval or of the range of its predictions, in words; None if there is none."""
    zones = interval.usual_pickup_zones
    if not 0 < interval.level < 1:
        return f"level {interval.level:g} is not between 0 and 1"
    if not _is_ascending(zones) or not all(FIRST_ZONE <= zone <= LAST_ZONE for zone in zones):
        return f"usual_pickup_zones are not ascending zones from {FIRST_ZONE} to {LAST_ZONE}"
    if set(interval.half_minutes) != set(KINDS):
        kinds = ", ".join(interval.half_minutes) or "none"
        return f"half_minutes has the kinds {kinds}; this function knows {', '.join(KINDS)}"
    if not 0 <= range_minutes[0] <= range_minutes[1] <= _MAX_RANGE_MINUTES:
        return f"there is no table for predictions from {range_minutes[0]:g} to {range_minutes[1]:g} minutes"
    if not _is_ascending(interval.edges_minutes):
        return "edges_minutes are not ascending"
    problems = ((kind, _problem_of_stair(interval, kind)) for kind in KINDS)
    return next((f"half_minutes of {kind} {problem}" for kind, problem in problems if problem), None)


def half_minutes(interval: Interval, minutes: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return half the width (n,) of rides' intervals in minutes, before they are cut off at the ends of the range."""
    stairs = np.array([interval.half_minutes[kind] for kind in KINDS])
    steps = np.searchsorted(interval.edges_minutes, centre_minutes(minutes), side="right")
    return stairs[ride_kinds(matrix, usual_cells(interval.usual_pickup_zones)), steps]


def scaled_half_minutes(half_minutes: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    """Return half widths times a scale, rounded up to hundredths: so the result is the same on any machine.

    A scale of 1 changes nothing, and no interval gets narrower than MIN_HALF_MINUTES.

    >>> scaled_half_minutes(np.array([0.05, 2.5, 5.251]), 0.5).tolist()
    [0.05, 1.25, 2.63]
    """
    if scale == 1.0:
        return half_minutes
    return np.maximum(np.ceil((half_minutes * scale * 100.0).round(6)) / 100.0, MIN_HALF_MINUTES)


def ride_kinds(matrix: NDArray[np.float64], usual: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return each ride's kind (n,), an index into KINDS.

    Args:
        matrix: Features (n, n_features).
        usual: `usual_cells` of the pickup zones.
    """
    minute = matrix[:, _MINUTE]
    busy = (minute >= BUSY_FROM_MINUTE) & (minute < BUSY_TO_MINUTE) & (matrix[:, _DAY] < SUNDAY)
    placed = usual.take(_cells(matrix[:, _LONGITUDE], matrix[:, _LATITUDE]), mode="clip")
    placed &= ~np.isnan(matrix[:, _STRAIGHT])
    kinds = np.where(placed, (~busy).astype(np.intp), KINDS.index("unusual_pickup"))
    kinds[np.isnan(matrix[:, _MILES])] = KINDS.index("no_distance")
    return kinds


def usual_cells(zones: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return bool (n_cells,): the cells of the zones. A zone without coordinates has none."""
    places = ZONE_PLACES[np.array(zones, np.intp)]
    places = places[~np.isnan(places[:, 0])]
    usual = np.zeros(_N_EAST * _N_NORTH, np.bool_)
    usual[_cells(places[:, 0], places[:, 1])] = True
    return usual


def _cells(longitude: NDArray[np.float64], latitude: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the grid cell of each place (n,); any cell for a missing place."""
    east = np.fmax(longitude - _WEST, 0.0) * _CELLS_PER_DEGREE
    north = np.fmax(latitude - _SOUTH, 0.0) * _CELLS_PER_DEGREE
    cells: NDArray[np.intp] = east.astype(np.intp) * _N_NORTH + north.astype(np.intp)
    return cells


def centre_minutes(minutes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the centres of the intervals of predictions, both (n,): their tenths of a minute."""
    return _steps(minutes) / STEPS_PER_MINUTE


def _steps(minutes: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the tenths of predictions, rounded first as on the wire so that the last bits of a sum do not matter."""
    return np.rint(np.round(minutes, 2) * STEPS_PER_MINUTE).astype(np.intp)


def _problem_of_stair(interval: Interval, kind: str) -> str | None:
    n_steps, half_minutes = len(interval.edges_minutes) + 1, interval.half_minutes[kind]
    if len(half_minutes) != n_steps:
        return f"has {len(half_minutes)} steps, not {n_steps}"
    if not all(MIN_HALF_MINUTES <= half < np.inf for half in half_minutes):
        return f"has a step below {MIN_HALF_MINUTES:g} minutes or not finite"
    return None


def _is_ascending(values: tuple[float, ...]) -> bool:
    return all(one < other for one, other in pairwise(values))
