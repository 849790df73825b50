"""What rides got: the minutes of the course's two models, of the frozen model, and those that were served."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from infra.local.simulate.arrivals import Arrivals
from lambda_function.core.bundle import ModelBundle
from lambda_function.core.events import decode_prediction
from lambda_function.core.features import feature_matrix
from training.data.rides import Rides, take_columns
from training.model.baseline import fit_baseline

Floats = NDArray[np.float64]

_BLOCK_RIDES = 1 << 17


class Figures(msgspec.Struct, frozen=True):
    """Errors over the rides of a month or a day, in minutes; coverage is the share of rides inside their interval.

    Attributes:
        period: The month, or the day in New York.
        n_rides: Rides.
        n_served: Of these, those with a prediction.
        linear_rmse: Of the course's linear model.
        course_rmse: Of the course's forest, which its lambda serves; None while it is not fitted.
        frozen_rmse: Of the first model, as it was trained.
        served_rmse: Of what was published.
        frozen_coverage: Of the first model's intervals.
        served_coverage: Of the published intervals.
    """

    period: str
    n_rides: int
    n_served: int
    linear_rmse: float | None
    course_rmse: float | None
    frozen_rmse: float | None
    served_rmse: float | None
    frozen_coverage: float | None
    served_coverage: float | None


class Answers(NamedTuple):
    """Minutes (n,) with the ends of their intervals; NaN where there is none."""

    minutes: Floats
    low: Floats
    high: Floats

    @classmethod
    def none(cls, n_rides: int) -> "Answers":
        """Return no answers."""
        return cls(*(np.full(n_rides, np.nan) for _ in cls._fields))


@dataclass(slots=True, eq=False)
class Measurement:
    """Answers to the rides of a simulation.

    Attributes:
        arrivals: The rides (n,).
        linear: The minutes of the course's linear model (n,).
        frozen: What the first model answers.
        served: What was published so far.
        course: The minutes of the course's forest (n,); None until it is fitted.
    """

    arrivals: Arrivals
    linear: Floats
    frozen: Answers
    served: Answers
    course: Floats | None = None

    @classmethod
    def of(cls, arrivals: Arrivals, model: ModelBundle, train_rides: Rides) -> "Measurement":
        """Return a measurement before the first ride; `model` is the first model, which learned from `train_rides`."""
        linear = fit_baseline(train_rides).predict(arrivals.rides.columns)
        return cls(arrivals, linear, _answers(model, arrivals), Answers.none(len(arrivals)))

    def add(self, predictions: Iterable[bytes]) -> None:
        """Add published predictions."""
        for data in predictions:
            prediction = decode_prediction(data)
            ride = int(prediction.prediction.ride_id)
            self.served.minutes[ride] = prediction.prediction.ride_duration
            if prediction.interval:
                self.served.low[ride], self.served.high[ride] = prediction.interval

    def by(self, unit: str, n_rides: int | None = None) -> list[Figures]:
        """Return the figures by month ("M") or day ("D") of the first rides, all by default."""
        some = slice(0, n_rides)
        period_of = self.arrivals.rides.pickup_time[some].astype(f"datetime64[{unit}]")
        return [self._figures(str(period), np.flatnonzero(period_of == period)) for period in np.unique(period_of)]

    def _figures(self, period: str, rows: NDArray[np.intp]) -> Figures:
        actual = self.arrivals.rides.duration_minutes[rows]
        is_served = ~np.isnan(self.served.minutes[rows])
        return Figures(
            period=period,
            n_rides=len(rows),
            n_served=int(np.count_nonzero(is_served)),
            linear_rmse=_rmse(self.linear[rows] - actual),
            course_rmse=None if self.course is None else _rmse(self.course[rows] - actual),
            frozen_rmse=_rmse(self.frozen.minutes[rows] - actual),
            served_rmse=_rmse((self.served.minutes[rows] - actual)[is_served]),
            frozen_coverage=_coverage(self.frozen, rows, actual),
            served_coverage=_coverage(self.served, rows, actual),
        )


def _answers(model: ModelBundle, arrivals: Arrivals) -> Answers:
    answers = Answers.none(len(arrivals))
    for start in range(0, len(arrivals), _BLOCK_RIDES):
        rows = slice(start, start + _BLOCK_RIDES)
        columns = take_columns(arrivals.rides.columns, rows)
        matrix = feature_matrix(columns)
        answers.minutes[rows] = model.served_minutes(columns, matrix)
        bounds = model.interval_bounds(matrix, answers.minutes[rows])
        if bounds:
            answers.low[rows], answers.high[rows] = bounds
    return answers


def _rmse(errors: Floats) -> float | None:
    return round(float(np.sqrt(np.mean(errors * errors))), 4) if len(errors) else None


def _coverage(answers: Answers, rows: NDArray[np.intp], actual: Floats) -> float | None:
    low, high = answers.low[rows], answers.high[rows]
    known = ~np.isnan(low)
    return round(float(np.mean(((low <= actual) & (actual <= high))[known])), 4) if known.any() else None
