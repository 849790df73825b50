"""How a model ages: fitted on each month in hand, measured on every later one, the baseline beside it.

One walk forward in time: a month comes, all earlier models are measured on it, then a model is fitted that ends with
it. So no model meets a month before it is measured there, and each month is loaded once to measure.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import msgspec

from lambda_function.core.bundle import ModelBundle
from training.data.months import Month, Service
from training.data.rides import Rides
from training.errors import TooFewMonthsError
from training.evaluation.metrics import measure
from training.evaluation.slices import Predictor, plain_predictor, predictor
from training.model.baseline import fit_baseline
from training.model.evaluation import METRIC_DECIMALS, Measured
from training.model.export import TrainingFacts, export_bundle
from training.model.fit import fit_forest
from training.model.parameters import PARAMETERS

Load = Callable[[Sequence[Month]], Rides]
"""Loads the rides of months, at least one."""


class AgeRow(msgspec.Struct, frozen=True):
    """One model on one later month.

    Attributes:
        train_months: What model and baseline were fitted on.
        month: What they are measured on.
        months_since_training: From the last training month to that, at least 1.
        model: The model's errors.
        baseline: The baseline's.
    """

    train_months: tuple[str, ...]
    month: str
    months_since_training: int
    model: Measured
    baseline: Measured


class AgeSummary(msgspec.Struct, frozen=True):
    """All rows of one age: means over months, each of which counts the same.

    Attributes:
        months_since_training: The age.
        n_rows: How many rows have it.
        rmse_minutes: The model's mean RMSE.
        baseline_rmse_minutes: The baseline's.
        ratio_to_baseline: The mean of model over baseline, a row at a time.
        ratio_to_newest: The mean of the model's RMSE over that of the model last trained before the same month: what
            not retraining costs, whatever else makes months hard or easy.
    """

    months_since_training: int
    n_rows: int
    rmse_minutes: float
    baseline_rmse_minutes: float
    ratio_to_baseline: float
    ratio_to_newest: float


class BacktestResult(msgspec.Struct, frozen=True, kw_only=True):
    """A walk: `rows` ascending by the last training month, then by month; `by_age` ascending by age."""

    service: str
    train_window: int
    parameters: dict[str, Any]
    rows: tuple[AgeRow, ...]
    by_age: tuple[AgeSummary, ...]


@dataclass(frozen=True, slots=True)
class _Fitted:
    train_months: tuple[Month, ...]
    model: Predictor
    baseline: Predictor

    def on(self, rides: Rides, month: Month) -> AgeRow:
        """Measures both on a later month."""
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
    """Walks forward over whatever months are in hand; there may be gaps.

    Args:
        service: Whose rides: stands in the result.
        months: Those in hand, in any order.
        load: Loads rides; no more than the training months' and one more month's are held at once.
        train_window: How many months in hand, the latest ones, a model learns from; at least 1.
        parameters: scikit-learn's; `fit.PARAMETERS` where not given.
        on_step: Told what begins.

    Raises:
        TooFewMonthsError: After the first window there is no month to measure on.
        ParameterError: A parameter is unknown, or has a value that it cannot have.
        ExportError: A forest is not one that bit masks can hold.
    """
    months = sorted(set(months))
    if train_window < 1 or len(months) <= train_window:
        raise TooFewMonthsError(len(months), train_window)
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
            fitted.append(_fit(service, window, load(window), parameters))
    rows.sort(key=lambda row: (row.train_months[-1], row.month))
    return BacktestResult(
        service=service,
        train_window=train_window,
        parameters=parameters,
        rows=tuple(rows),
        by_age=summarise(rows),
    )


def ageing(model: ModelBundle, train_rides: Rides, months: Iterable[Month], load: Load) -> tuple[AgeRow, ...]:
    """Measures one model, and a baseline fitted on the same rides, on each of the months after its last one.

    Args:
        model: Which stays as it is.
        train_rides: What it learnt from.
        months: Those in hand, in any order; what is not after its training is passed over.
        load: Loads rides.

    Returns:
        Rows ascending by month, none where no month is later.
    """
    trained = tuple(source.month for source in train_rides.sources)
    fitted = _Fitted(trained, predictor(model), plain_predictor(fit_baseline(train_rides).predict))
    return tuple(fitted.on(load([month]), month) for month in sorted(set(months)) if month > trained[-1])


def summarise(rows: Sequence[AgeRow]) -> tuple[AgeSummary, ...]:
    """Returns the means by months since training."""
    ages = sorted({row.months_since_training for row in rows})
    newest = {
        row.month: row.model.rmse_minutes for row in sorted(rows, key=lambda row: -row.months_since_training)
    }  # of a month's rows the youngest comes last, and stays
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


def _fit(service: Service, months: Sequence[Month], rides: Rides, parameters: dict[str, Any]) -> _Fitted:
    """Fits both; the model is measured as it would serve, which is also several times faster than scikit-learn."""
    facts = TrainingFacts(
        service=service, train_months=tuple(months), validate_months=(), parameters=parameters, metrics={}
    )
    model = export_bundle(fit_forest(rides, parameters), rides, facts).model
    return _Fitted(tuple(months), predictor(model), plain_predictor(fit_baseline(rides).predict))
