"""Slices, gate and backtest on real months and real models."""

import os
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest

from training.data.load import load_rides
from training.data.months import Month, Service, default_data_dir, parse_months
from training.data.rides import Rides
from training.evaluation.backtest import backtest
from training.evaluation.gate import GateReport, report_lines, run_gate
from training.evaluation.gate_rules import MIN_SLICE_RIDES
from training.evaluation.metrics import evaluate
from training.model.baseline import fit_baseline
from training.model.bundle import ExportedBundle
from training.model.export import TrainingFacts, export_bundle
from training.model.fit import fit_forest
from training.model.parameters import PARAMETERS
from training.model.results import worse_than_baseline

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("TLC_DATA_DIR"), reason="TLC_DATA_DIR names no folder of TLC months"),
]

LOCAL = "2021-01,2021-02,2022-01..2022-03,2023-01..2023-03"
FIRST_OF_2022, FIRST_OF_2023, JANUARY_2023 = "2022-01..2022-03", "2023-01,2023-02", "2023-01"


@cache
def load(months: str) -> Rides:
    """Load real green months, or skip the test if the folder lacks them: a test downloads nothing."""

    def skip(service: Service, month: Month, cache_dir: object) -> Any:
        pytest.skip(f"TLC_DATA_DIR has no {service} rides of {month}")

    return load_rides("green", parse_months(months), data_dir=default_data_dir(), fetch=skip)


@cache
def bundle_of(
    train_months: str, n_trees: int | None = None, validate_months: str = "2021-02", below_miles: float = np.inf
) -> ExportedBundle:
    """Return a model without intervals, fitted on rides below a distance. The validation month is only a name."""
    parameters = PARAMETERS if n_trees is None else {**PARAMETERS, "max_iter": n_trees}
    facts = TrainingFacts(
        service="green",
        train_months=parse_months(train_months),
        validate_months=parse_months(validate_months),
        parameters=parameters,
        metrics={},
    )
    rides = load(train_months)
    rides = rides.take(~(rides.columns.trip_distance_miles >= below_miles))  # rides without a distance stay
    return export_bundle(fit_forest(rides, parameters), rides, facts)


def gate(candidate: ExportedBundle, champion: ExportedBundle | None, month: str = "2023-03") -> GateReport:
    return run_gate(
        candidate,
        champion,
        load(month),
        load(",".join(candidate.model.manifest.train_months)),
        channel="stable",
        time_ratio=lambda _model, _rides: 1.0,
    )


def failed(report: GateReport) -> list[str]:
    return [rule.rule for rule in report.rules if not rule.passed]


def test_more_months_of_the_same_year_pass_the_gate() -> None:
    report = gate(bundle_of(FIRST_OF_2023), bundle_of(JANUARY_2023))
    assert report.passed, "\n".join(report_lines(report))
    assert report.comparison
    assert report.comparison.n_days == 31


def test_first_model_passes_against_the_baseline() -> None:
    report = gate(bundle_of(JANUARY_2023), None)
    assert report.passed, "\n".join(report_lines(report))


def test_worse_model_fails_as_worse_and_in_its_slices() -> None:
    report = gate(bundle_of(JANUARY_2023, n_trees=20), bundle_of(JANUARY_2023))
    assert failed(report) == ["beats the model in the channel", "no slice is worse"]
    assert report.comparison
    assert report.comparison.low > 0


def test_model_better_as_a_whole_does_not_pass_with_a_worse_slice() -> None:
    """It has learnt from no ride of 5 miles or more; the 20 trees in the channel have."""
    report = gate(bundle_of(JANUARY_2023, below_miles=5.0), bundle_of(JANUARY_2023, n_trees=20))
    assert failed(report) == ["no slice is worse"]
    assert "distance 10 to 20" in report.rules[3].seen


def test_month_that_the_champion_learnt_from_fails_however_good_the_candidate() -> None:
    report = gate(bundle_of(FIRST_OF_2023), bundle_of(JANUARY_2023, validate_months="2023-03"))
    assert failed(report) == ["unseen month"]


def test_no_large_slice_is_worse_than_the_baseline() -> None:
    train = load(FIRST_OF_2023)
    result = evaluate(bundle_of(FIRST_OF_2023).model, fit_baseline(train), load("2023-03"), train)
    assert [one for one in worse_than_baseline(result) if one.model.n_rides >= MIN_SLICE_RIDES] == []
    unseen, missing = (
        next(one for one in result.slices if (one.by, one.name) == cut)
        for cut in (("zone pair", "unseen"), ("distance", "missing"))
    )
    assert unseen.model.rmse_minutes < 0.6 * unseen.baseline.rmse_minutes
    assert missing.model.rmse_minutes < 0.7 * missing.baseline.rmse_minutes


def test_models_age_and_stay_ahead_of_the_baseline() -> None:
    def load_months(months: Sequence[Month]) -> Rides:
        return load(",".join(str(month) for month in months))

    months = parse_months("2021-01,2022-01,2023-01,2023-02")
    result = backtest("green", months, load_months, parameters={**PARAMETERS, "max_iter": 100})
    assert [row.months_since_training for row in result.rows] == [12, 24, 25, 12, 13, 1]
    assert all(row.model.rmse_minutes < 0.78 * row.baseline.rmse_minutes for row in result.rows)
    by_age = {age.months_since_training: age for age in result.by_age}
    assert by_age[1].ratio_to_newest == 1.0
    assert by_age[25].ratio_to_newest > by_age[13].ratio_to_newest > 1.0
