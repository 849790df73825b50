"""Measure how models age: fit one on each local month, measure it on every later one, the baseline beside it.

The backtest walks forward in time. Each month, all earlier models are measured on it, then a model is fitted that ends
with it. So no model meets a month before it is measured there, and each month is loaded once to measure.
"""

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import Any

import msgspec

from lambda_function.core.bundle import ModelBundle
from training.data.months import Month, Service
from training.data.rides import Load, Rides
from training.errors import UserError
from training.evaluation.metrics import measure, plain_predictor, predictor
from training.model.baseline import fit_baseline
from training.model.export import TrainingFacts, export_bundle
from training.model.fit import fit_forest
from training.model.parameters import PARAMETERS
from training.model.results import METRIC_DECIMALS, Measured


class AgeRow(msgspec.Struct, frozen=True):
    """The errors of one model, and of the baseline, on one later month.

    `months_since_training` counts from the last training month and is at least 1.
    """

    train_months: tuple[str, ...]
    month: str
    months_since_training: int
    model: Measured
    baseline: Measured


class AgeSummary(msgspec.Struct, frozen=True):
    """Means over all rows of one age; each month has the same weight.

    `ratio_to_baseline` is the mean of each row's model over baseline. `ratio_to_newest` is the mean of the model's RMSE
    over that of the model last trained before the same month: the cost of not retraining, whatever else makes months
    hard or easy.
    """

    months_since_training: int
    n_rows: int
    rmse_minutes: float
    baseline_rmse_minutes: float
    ratio_to_baseline: float
    ratio_to_newest: float


class BacktestResult(msgspec.Struct, frozen=True, kw_only=True):
    """A backtest: `rows` ascending by the last training month, then by month; `by_age` ascending by age."""

    service: str
    train_window: int
    parameters: dict[str, Any]
    rows: tuple[AgeRow, ...]
    by_age: tuple[AgeSummary, ...]


class _Fitted:
    """A model, and a baseline fitted on the same rides."""

    def __init__(self, model: ModelBundle, train_rides: Rides) -> None:
        self.train_months = train_rides.months
        self.model = predictor(model)
        self.baseline = plain_predictor(fit_baseline(train_rides).predict)

    def on(self, rides: Rides, month: Month) -> AgeRow:
        """Measure both on a later month."""
        last = self.train_months[-1]
        return AgeRow(
            train_months=tuple(str(one) for one in self.train_months),
            month=str(month),
            months_since_training=12 * (month.year - last.year) + month.month - last.month,
            model=measure(self.model, rides),
            baseline=measure(self.baseline, rides),
        )


def backtest(
    service: Service,
    months: Iterable[Month],
    load: Load,
    *,
    train_window: int = 1,
    parameters: dict[str, Any] | None = None,
    on_step: Callable[[str], None] = lambda _: None,
) -> BacktestResult:
    """Walk forward over months, which may have gaps.

    At most the rides of the training months and of one more month are in memory at once.
    A model learns from the latest `train_window` months, at least 1.

    Raises:
        UserError: After the first window there is no month to measure on, a parameter is unknown or out of its range,
            or bit masks cannot represent a forest.
    """
    months = sorted(set(months))
    if train_window < 1 or len(months) <= train_window:
        raise UserError(
            f"a backtest with {train_window} training month(s) needs at least {max(train_window, 1) + 1} months,"
            f" and there are {len(months)}",
            "name more months, or a window of at least 1 and less than the number of months",
        )
    parameters = PARAMETERS if parameters is None else parameters
    fitted: list[_Fitted] = []
    rows: list[AgeRow] = []
    for number, month in enumerate(months):
        if fitted:
            on_step(f"measuring on {month}")
            rides = load([month])
            rows += [one.on(rides, month) for one in fitted]
        window = months[max(0, number + 1 - train_window) : number + 1]
        if len(window) == train_window and month != months[-1]:
            on_step(f"fitting on {', '.join(str(one) for one in window)}")
            fitted.append(_fit(service, load(window), parameters))
    rows.sort(key=lambda row: (row.train_months[-1], row.month))
    return BacktestResult(
        service=service, train_window=train_window, parameters=parameters, rows=tuple(rows), by_age=summarise(rows)
    )


def ageing(model: ModelBundle, train_rides: Rides, months: Iterable[Month], load: Load) -> tuple[AgeRow, ...]:
    """Measure one model, and a baseline fitted on its training rides, on each later month, ascending.

    Months up to the last training month are ignored.
    """
    fitted = _Fitted(model, train_rides)
    later = (month for month in sorted(set(months)) if month > train_rides.months[-1])
    return tuple(fitted.on(load([month]), month) for month in later)


def summarise(rows: Sequence[AgeRow]) -> tuple[AgeSummary, ...]:
    """Return the means by months since training."""
    ages = sorted({row.months_since_training for row in rows})
    newest = {
        row.month: row.model.rmse_minutes for row in sorted(rows, key=lambda row: -row.months_since_training)
    }  # of a month's rows the youngest model comes last, and overwrites the others
    return tuple(_summary(age, [row for row in rows if row.months_since_training == age], newest) for age in ages)


def _summary(age: int, rows: Sequence[AgeRow], newest_rmse_minutes: dict[str, float]) -> AgeSummary:
    def mean(value: Callable[[AgeRow], float]) -> float:
        return round(fmean(value(row) for row in rows), METRIC_DECIMALS)

    return AgeSummary(
        months_since_training=age,
        n_rows=len(rows),
        rmse_minutes=mean(lambda row: row.model.rmse_minutes),
        baseline_rmse_minutes=mean(lambda row: row.baseline.rmse_minutes),
        ratio_to_baseline=mean(lambda row: row.model.rmse_minutes / row.baseline.rmse_minutes),
        ratio_to_newest=mean(lambda row: row.model.rmse_minutes / newest_rmse_minutes[row.month]),
    )


def _fit(service: Service, rides: Rides, parameters: dict[str, Any]) -> _Fitted:
    """Fit both. The exported model is measured, as it would serve; it is also several times faster."""
    facts = TrainingFacts(service=service, train_months=rides.months, validate_months=(), parameters=parameters)
    return _Fitted(export_bundle(fit_forest(rides, parameters), rides, facts).model, rides)
