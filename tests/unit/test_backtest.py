"""The backtest: no model meets a month before it is measured there, and ages count calendar months."""

from collections.abc import Sequence

import msgspec
import pytest

from lambda_function.core.features import feature_matrix
from tests.builders import SMALL_PARAMETERS, small_bundle, small_rides
from tests.builders_report import age_row
from training.data.months import Month, parse_months
from training.data.rides import Rides, concat_rides
from training.data.synthetic import synthetic_rides
from training.errors import UserError
from training.evaluation.backtest import BacktestResult, ageing, backtest, summarise
from training.evaluation.metrics import evaluate, measure, measure_errors, predictor
from training.model.baseline import fit_baseline
from training.model.fit import fit_forest

FAST = {**SMALL_PARAMETERS, "max_iter": 8, "learning_rate": 1.0}  # so steep that some predictions leave the range
MONTHS = parse_months("2020-12,2021-01,2021-03")


def load(months: Sequence[Month]) -> Rides:
    return concat_rides([synthetic_rides(month, 300, seed=7) for month in months])


@pytest.fixture(scope="module")
def result() -> BacktestResult:
    return backtest("green", reversed(MONTHS), load, parameters=FAST)


def test_each_month_but_the_last_is_learnt_from_and_measured_on_every_later_one(result: BacktestResult) -> None:
    assert [(row.train_months, row.month, row.months_since_training) for row in result.rows] == [
        (("2020-12",), "2021-01", 1),
        (("2020-12",), "2021-03", 3),
        (("2021-01",), "2021-03", 2),
    ]


def test_row_has_the_errors_of_model_and_baseline_of_these_months(result: BacktestResult) -> None:
    december, march = load([MONTHS[0]]), load([MONTHS[2]])
    model_minutes = fit_forest(december, FAST).predict(feature_matrix(march.columns)).clip(1, 60)
    baseline_minutes = fit_baseline(december).predict(march.columns)
    assert result.rows[1].model == measure_errors(model_minutes, march.duration_minutes)
    assert result.rows[1].baseline == measure_errors(baseline_minutes, march.duration_minutes)


def test_no_model_is_fitted_on_a_month_before_it_was_measured_on_it() -> None:
    """A month is loaded to measure the models there are, then to learn from."""
    loads: list[str] = []
    steps: list[str] = []

    def load_and_note(months: Sequence[Month]) -> Rides:
        loads.append(" ".join(str(month) for month in months))
        return load(months)

    backtest("green", MONTHS, load_and_note, train_window=2, parameters=FAST, on_step=steps.append)
    assert loads == ["2020-12 2021-01", "2021-03"]
    assert steps == ["fitting on 2020-12, 2021-01", "measuring on 2021-03"]


def test_window_slides_over_the_latest_months() -> None:
    months = parse_months("2020-10,2020-12,2021-01,2021-02")
    rows = backtest("green", months, load, train_window=2, parameters=FAST).rows
    assert [(row.train_months, row.month) for row in rows] == [
        (("2020-10", "2020-12"), "2021-01"),
        (("2020-10", "2020-12"), "2021-02"),
        (("2020-12", "2021-01"), "2021-02"),
    ]


@pytest.mark.parametrize(("months", "window"), [("2021-01", 1), ("2021-01,2021-02", 2), ("2021-01,2021-02", 0)])
def test_too_few_months_are_refused(months: str, window: int) -> None:
    with pytest.raises(UserError, match=rf"with {window} training month\(s\) needs at least"):
        backtest("green", parse_months(months), load, train_window=window)


def test_ages_are_summed_up_over_months() -> None:
    rows = age_row("2021-02", 1, 4.0, 8.0), age_row("2021-03", 2, 5.0, 8.0), age_row("2021-03", 1, 4.5, 6.0, "2021-02")
    young, old = summarise(rows)
    assert (young.months_since_training, young.n_rows, young.rmse_minutes) == (1, 2, 4.25)
    assert young.baseline_rmse_minutes == 7.0
    assert young.ratio_to_baseline == 0.625  # the mean of 4 / 8 and 4.5 / 6
    assert young.ratio_to_newest == 1.0
    assert (old.months_since_training, old.rmse_minutes) == (2, 5.0)
    assert old.ratio_to_newest == 1.1111  # 5 / 4.5: the model trained a month later does better in March


def test_result_is_json(result: BacktestResult) -> None:
    assert msgspec.json.decode(msgspec.json.encode(result), type=BacktestResult) == result
    assert (result.service, result.train_window, result.parameters) == ("green", 1, FAST)


def test_given_model_ages_on_the_months_after_its_training() -> None:
    model = small_bundle().model
    rows = ageing(model, small_rides(), parse_months("2020-12,2021-01,2021-02,2021-04"), load)
    assert [(row.month, row.months_since_training) for row in rows] == [("2021-02", 1), ("2021-04", 3)]
    assert ageing(model, small_rides(), [Month(2021, 1)], load) == ()
    february = load([Month(2021, 2)])
    assert rows[0].model == measure(predictor(model), february)
    assert rows[0].baseline == evaluate(model, fit_baseline(small_rides()), february, small_rides()).baseline
