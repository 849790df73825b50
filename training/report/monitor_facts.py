"""The facts of the monitoring page: values that are computed before the page and its plots are made."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from training.monitoring.monitor.detectors import Evidence
from training.monitoring.monitor.status import MonitorStatus

Floats = NDArray[np.float64]

N_RECENT_DAYS = 28
"""Slices and the last table are of so many days."""

N_HOURLY_DAYS = 7
LATE_MINUTES = 60


@dataclass(frozen=True, slots=True, eq=False)
class ErrorColumns:
    """Errors of the judged rides of n days; NaN where there are none, or no intervals."""

    rmse_minutes: Floats  # (n,)
    bias_minutes: Floats  # (n,), predicted less actual
    coverage: Floats  # (n,), share of rides within their interval, 0 to 1


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DaySeries:
    """Days that the model served, ascending, (n,) each. Days without rides are left out."""

    day: NDArray[np.datetime64]  # datetime64[D]: New York's day of arrival
    n_rides: Floats  # ride events
    n_judged: Floats
    raw: ErrorColumns  # of the model's own predictions
    served: ErrorColumns  # of the published predictions, after calibration
    outcome_share: Floats  # of rides with a prediction, 0 to 1
    late_share: Floats  # of outcomes that came LATE_MINUTES after the end of their ride, or later; 0 to 1
    without_pickup_share: Floats  # of rides with a prediction, 0 to 1
    n_rejected: Mapping[str, Floats]  # by reason
    n_missing_hours: Floats  # hours of the day that are not joined

    def __len__(self) -> int:
        return len(self.day)


@dataclass(frozen=True, slots=True, eq=False)
class HourSeries:
    """The hours of the last days that have judged rides, ascending, (n,) each."""

    hour: NDArray[np.datetime64]  # datetime64[h], UTC: of arrival
    n_judged: Floats
    raw_rmse: Floats
    served_rmse: Floats

    def __len__(self) -> int:
        return len(self.hour)


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """Where 90 % of the reference days are, and their mean."""

    low: float
    mean: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """Shares of rides by bin of a data quantity, (m + 2,) each; the last bin is of missing values."""

    quantity: str
    edges: Floats  # (m,)
    reference: Floats  # mean of the reference days of today's kind
    week: Floats  # mean of the last 7 days of today's kind, today among them
    today: Floats


@dataclass(frozen=True, slots=True)
class SliceRow:
    """Errors of a slice in the last days, in minutes, of published predictions; `raw_rmse` is the model's own."""

    by: str
    name: str
    n_judged: int
    rmse: float
    raw_rmse: float
    bias: float
    coverage: float | None  # None without intervals


@dataclass(frozen=True, slots=True)
class BandRow:
    """Rides by published minutes, and how many of them have an outcome: those of long rides may be missing."""

    name: str
    n_predicted: int
    n_with_outcome: int


@dataclass(frozen=True, slots=True)
class Move:
    """The beginning of a segment of the channel; `at` is aware."""

    at: datetime
    served_version: str
    is_calibration: bool  # whether the segment before has the same model


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class MonitorFacts:
    """The content of the monitoring page."""

    status: MonitorStatus
    series: DaySeries
    hours: HourSeries  # of the last N_HOURLY_DAYS days
    bands: Mapping[str, Band] = field(default_factory=dict)  # of "rmse", "bias", "coverage"; empty without reference
    shapes: tuple[Shape, ...] = ()  # empty without a reference
    evidence: Evidence | None = None  # None without a reference
    slices: tuple[SliceRow, ...] = ()  # of the last N_RECENT_DAYS days, like the outcomes
    outcomes: tuple[BandRow, ...] = ()
    moves: tuple[Move, ...] = ()  # oldest first
