"""Live calibration: a factor on the forest's minutes and a scale of the intervals, learned from recent outcomes.

A served version is a model version, or ``<model version>+<as of>`` with the calibration that has learned until then. A
calibration is stored once under that name, and its digest is in the channel. So a prediction's bytes still depend on
the record and the version alone.

The factor depends on the ride's cell (band of hours, weekend, area) and on the tenth of a minute of the forest's
prediction. One table holds all factors.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Annotated, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from lambda_function.core.events import DURATION_DECIMALS
from lambda_function.core.features import (
    CENTRE_BOROUGH,
    FEATURE_NAMES,
    LAST_ZONE,
    MINUTES_PER_DAY,
    RideColumns,
    read_zones,
)
from lambda_function.core.intervals import STEPS_PER_MINUTE
from lambda_function.core.versions import Version
from lambda_function.errors import CalibrationError

CALIBRATION_FORMAT = 1

N_WEIGHTS = 10
N_CELLS = 24

MIN_FACTOR, MAX_FACTOR = 0.25, 4.0
"""Bounds of the factor on a prediction: whatever a calibration holds, it changes no prediction by more."""

MIN_INTERVAL_SCALE, MAX_INTERVAL_SCALE = 0.5, 3.0

MAX_WEIGHT = 1000.0
"""A larger weight makes no sense, because the factor is bounded, and sums of huge weights could overflow."""

AsOf = Annotated[str, msgspec.Meta(pattern=r"\A\d{4}-\d{2}-\d{2}T\d{2}\Z")]
"""An hour in UTC: a calibration has learned from the labelled rides of the arrival hours before it."""

ServedVersion = Annotated[str, msgspec.Meta(pattern=r"\A[a-z]+-\d{4}-\d{2}-[0-9a-f]{12}(\+\d{4}-\d{2}-\d{2}T\d{2})?\Z")]

_FACTOR_DECIMALS = 6
_N_BANDS, _N_AREAS = 4, 3
_HOURS_OF_BAND = np.repeat(np.arange(_N_BANDS), (6, 4, 10, 4))
"""The band of each hour: 0 to 5, 6 to 9, 10 to 19, 20 to 23."""

_N_DAYS, _FIRST_DAY_OF_WEEKEND = 9, 5
_MINUTE, _DAY = FEATURE_NAMES.index("minute_of_day"), FEATURE_NAMES.index("day_of_week")
_IN_MANHATTAN, _AT_AIRPORT, _ELSEWHERE = range(_N_AREAS)
_WEEKEND, _LOG, _FIRST_BAND, _FIRST_AREA = 5, 6, 1, 7
_MIN_MINUTES, _MAX_MINUTES, _USUAL_MINUTES = 1, 60, 12


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """What the function reads of a calibration's object; it ignores the other fields.

    Attributes:
        format: CALIBRATION_FORMAT.
        model_version: The model that it calibrates.
        as_of: What it has learned from.
        weights: N_WEIGHTS numbers w, in the order of `cell_design`: the factor is 1 + z·w, within its bounds.
        interval_scale: The factor on half the width of every interval.
    """

    format: int
    model_version: Version
    as_of: AsOf
    weights: tuple[float, ...]
    interval_scale: float


_decode = msgspec.json.Decoder(Calibration).decode


def calibration_key(model_version: str, as_of: str) -> str:
    """Return the key of a calibration in the bucket.

    >>> calibration_key("green-2021-01-3f2a9c1d0b7e", "2026-11-29T05")
    'calibrations/green-2021-01-3f2a9c1d0b7e/2026-11-29T05.json'
    """
    return f"calibrations/{model_version}/{as_of}.json"


def served_version(model_version: str, as_of: str | None) -> str:
    """Return the name under which a model serves, with a calibration or without.

    >>> served_version("green-2021-01-3f2a9c1d0b7e", "2026-11-29T05")
    'green-2021-01-3f2a9c1d0b7e+2026-11-29T05'
    """
    return model_version if as_of is None else f"{model_version}+{as_of}"


def split_version(served: str) -> tuple[str, str | None]:
    """Return the model version and the calibration's hour of a served version.

    >>> split_version("green-2021-01-3f2a9c1d0b7e+2026-11-29T05"), split_version("green-2021-01-3f2a9c1d0b7e")
    (('green-2021-01-3f2a9c1d0b7e', '2026-11-29T05'), ('green-2021-01-3f2a9c1d0b7e', None))
    """
    model_version, plus, as_of = served.partition("+")
    return model_version, as_of if plus else None


def load_calibration(model_version: str, as_of: str, sha256: str | None, data: bytes | None) -> Calibration:
    """Check a calibration's object, from the bytes that its key holds; None if it holds none.

    Args:
        model_version: The model that it must be of.
        as_of: Its hour.
        sha256: The digest of its bytes, which the channel has; None where that is not known.
        data: The object.

    Raises:
        CalibrationError: The object must not serve; the error names its key and what to do.
    """
    try:
        return _checked(model_version, as_of, sha256, data)
    except CalibrationError as error:
        key = calibration_key(model_version, as_of)
        raise CalibrationError(model_version, key, f"{error.problem}: {_REMEDY}") from error


def decode_calibration(data: bytes) -> Calibration:
    """Decode a calibration and check its numbers.

    Raises:
        CalibrationError: The bytes are no calibration that can serve.
    """
    try:
        calibration = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CalibrationError("", _NAME, f"does not decode: {error}") from error
    if problem := problem_of_calibration(calibration):
        raise CalibrationError(calibration.model_version, _NAME, problem)
    return calibration


_NAME = "the calibration"
_REMEDY = "put the right object back, or withdraw the calibration with `ridecast models calibrate --off`"


def _checked(model_version: str, as_of: str, sha256: str | None, data: bytes | None) -> Calibration:
    if data is None:
        raise CalibrationError(model_version, _NAME, "is missing")
    if sha256 not in (None, hashlib.sha256(data).hexdigest()):
        raise CalibrationError(model_version, _NAME, "is not the one that the channel names, as its SHA-256 differs")
    calibration = decode_calibration(data)
    if (calibration.model_version, calibration.as_of) != (model_version, as_of):
        other = served_version(calibration.model_version, calibration.as_of)
        raise CalibrationError(model_version, _NAME, f"is that of {other}")
    return calibration


def problem_of_calibration(calibration: Calibration) -> str | None:
    """Return the problem of a calibration's numbers, in words; None if it can serve.

    >>> names = {"format": 1, "model_version": "green-2021-01-3f2a9c1d0b7e", "as_of": "2026-11-29T05"}
    >>> problem_of_calibration(Calibration(**names, weights=(0.0,) * 9, interval_scale=1.0))
    'has 9 weights, not 10'
    """
    if calibration.format != CALIBRATION_FORMAT:
        return f"has format {calibration.format}, this code reads {CALIBRATION_FORMAT}"
    if len(calibration.weights) != N_WEIGHTS:
        return f"has {len(calibration.weights)} weights, not {N_WEIGHTS}"
    if not all(abs(weight) <= MAX_WEIGHT for weight in calibration.weights):
        return f"has a weight beyond {MAX_WEIGHT:g} or not a number"
    if not MIN_INTERVAL_SCALE <= calibration.interval_scale <= MAX_INTERVAL_SCALE:
        bounds = f"{MIN_INTERVAL_SCALE:g} to {MAX_INTERVAL_SCALE:g}"
        return f"has the interval scale {calibration.interval_scale:g}, which is not within {bounds}"
    return None


def _load_areas() -> NDArray[np.uint8]:
    """Return the area by LocationIDs of pickup and dropoff."""
    manhattan, airport = np.zeros((2, LAST_ZONE + 1), np.bool_)
    for zone, row in read_zones().items():
        manhattan[zone] = row["borough"] == CENTRE_BOROUGH
        airport[zone] = bool(row["airport"])
    areas = np.full((LAST_ZONE + 1, LAST_ZONE + 1), _ELSEWHERE, np.uint8)
    areas[airport, :] = areas[:, airport] = _AT_AIRPORT
    areas[np.ix_(manhattan, manhattan)] = _IN_MANHATTAN
    return areas


_AREAS = _load_areas().reshape(-1)
"""uint8 (266 * 266,): the area by pickup and dropoff zone."""

_TIMES = (
    (2 * _HOURS_OF_BAND.repeat(60) + (np.arange(_N_DAYS) >= _FIRST_DAY_OF_WEEKEND)[:, np.newaxis]) * _N_AREAS
).reshape(-1)
"""intp (9 * 1440,): the first cell of band and weekend, by `day_of_week` and minute of the day."""


def ride_cells(rides: RideColumns, matrix: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return each ride's cell (n,), 0 to 23: (2 · band + weekend) · 3 + area.

    Args:
        rides: The rides (n,).
        matrix: Their features (n, n_features).

    >>> from lambda_function.core.features import feature_matrix
    >>> one = RideColumns(np.array([130]), np.array([132]), np.array([3.66]), np.array([26830575]))
    >>> ride_cells(one, feature_matrix(one)).tolist()
    [7]
    """
    times = matrix[:, _DAY] * MINUTES_PER_DAY
    times += matrix[:, _MINUTE]
    zones = rides.pickup_zone * (LAST_ZONE + 1)
    zones += rides.dropoff_zone
    cells: NDArray[np.intp] = _TIMES.take(times.astype(np.intp), mode="clip")
    cells += _AREAS.take(zones, mode="clip")
    return cells


def cell_design() -> NDArray[np.float64]:
    """Return z by cell, float64 (24, 10), with 0 in the column of ln(p/12), which depends on the prediction.

    The columns are 1; one of four bands of hours: 0 to 5, 6 to 9, 10 to 19, 20 to 23; weekend (`day_of_week` 5 or
    more); ln(p/12); one of three areas: both ends in Manhattan, an end in an airport's zone (1, 132, 138), else.

    >>> cell_design()[7].tolist()
    [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    """
    cells = np.arange(N_CELLS)
    times, area = np.divmod(cells, _N_AREAS)
    band, weekend = np.divmod(times, 2)
    design = np.zeros((N_CELLS, N_WEIGHTS))
    design[:, 0] = 1.0
    design[cells, _FIRST_BAND + band] = 1.0
    design[:, _WEEKEND] = weekend
    design[cells, _FIRST_AREA + area] = 1.0
    return design


LOG_STEPS = np.array(
    [
        round(math.log(step / STEPS_PER_MINUTE / _USUAL_MINUTES), _FACTOR_DECIMALS)
        for step in range(_MIN_MINUTES * STEPS_PER_MINUTE, _MAX_MINUTES * STEPS_PER_MINUTE + 1)
    ]
)
"""float64 (591,): ln(p/12) by tenths of a minute from 1.0 to 60.0, rounded, so that it is the same on any machine."""


@dataclass(frozen=True, slots=True)
class CalibrationTable:
    """The factors of a calibration, ready to serve. Build them with `of`.

    Attributes:
        factors: float64 (N_CELLS * n_steps,), a cell after the other, by tenths above the range's lower end.
        range_minutes: The lowest and the highest prediction.
        first_step: Tenths of a minute at the range's lower end.
    """

    factors: NDArray[np.float64]
    range_minutes: tuple[float, float]
    first_step: int

    @classmethod
    def of(cls, calibration: Calibration, range_minutes: tuple[float, float]) -> Self:
        """Build the table of a calibration that `problem_of_calibration` accepts, for predictions in this range."""
        first, last = (int(step) for step in _steps(np.array(range_minutes)))
        logs = LOG_STEPS.take(np.arange(first, last + 1) - _MIN_MINUTES * STEPS_PER_MINUTE, mode="clip")
        factors = np.ones((N_CELLS, len(logs)))
        for column, weight in enumerate(calibration.weights):  # one after the other: a product's sum has no set order
            factors += weight * (logs if column == _LOG else _DESIGN[:, column, np.newaxis])
        factors = factors.clip(MIN_FACTOR, MAX_FACTOR).round(_FACTOR_DECIMALS)
        return cls(factors.reshape(-1), range_minutes, first)

    def minutes(self, raw: NDArray[np.float64], cells: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return calibrated minutes (n,) in hundredths, within the range.

        A ride gives the same bits alone and in any batch.

        Args:
            raw: The forest's minutes (n,), within the range. They are rounded first, as without a calibration.
            cells: `ride_cells` of the rides (n,).
        """
        minutes = np.round(raw, DURATION_DECIMALS)
        rows = cells * (len(self.factors) // N_CELLS)
        rows += _steps(minutes)
        rows -= self.first_step
        minutes *= self.factors.take(rows, mode="clip")
        np.clip(minutes, *self.range_minutes, out=minutes)
        return np.round(minutes, DURATION_DECIMALS, out=minutes)


_DESIGN = cell_design()


def _steps(minutes: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the tenths of predictions in hundredths."""
    return np.rint(minutes * STEPS_PER_MINUTE).astype(np.intp)
