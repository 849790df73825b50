"""A training run and a backtest as a person reads them and as JSON."""

from typing import Any

import msgspec

from infra.models.training_run import RunOutcome
from training.evaluate import worse_than_baseline
from training.evaluation import Measured, MonthsResult
from training.judging.backtest import BacktestResult

_NAMED_SLICES = 5


def run_rows(outcome: RunOutcome) -> dict[str, str]:
    """Returns how a run ended, a row a fact."""
    validated = outcome.run.validated
    rows = {
        "model version": outcome.run.bundle.model_version,
        "rides learnt from": f"{outcome.run.n_train:,}",
        "rides measured on": f"{validated.model.n_rides:,}",
        **_errors(validated, ""),
        "worse than the course's in": _worse(validated),
        "without a pickup time": _late(outcome),
    }
    if outcome.test:
        months = ", ".join(outcome.test.months)
        rows |= {f"rides of {months}": f"{outcome.test.model.n_rides:,}", **_errors(outcome.test, f" on {months}")}
    rows["bundle"] = str(outcome.path)
    if outcome.verdict:
        verdict = "passed" if outcome.verdict.passed else "not passed"
        rows["gate"] = (
            f"{verdict}, against {outcome.verdict.against or 'the baseline'} on {_list(outcome.verdict.months)}"
        )
    if outcome.moved:
        rows["channel"] = f"{outcome.moved.channel} now holds {outcome.moved.now.model_version}"
    if outcome.run_id:
        rows["MLflow run"] = outcome.run_id
    return rows


def run_json(outcome: RunOutcome) -> dict[str, Any]:
    """Returns how a run ended, for programs."""
    validated, verdict, moved = outcome.run.validated, outcome.verdict, outcome.moved
    return {
        "model_version": outcome.run.bundle.model_version,
        **_minutes(validated.model),
        "baseline": _minutes(validated.baseline),
        "n_train": outcome.run.n_train,
        "n_validate": validated.model.n_rides,
        "coverage": validated.coverage,
        "interval_width_minutes": validated.width_minutes,
        "test": outcome.test and {**_minutes(outcome.test.model), "baseline": _minutes(outcome.test.baseline)},
        "allowed": [str(finding) for finding in outcome.findings],
        "gate": verdict and msgspec.to_builtins(verdict),
        "channel": moved and {"name": moved.channel, "model_version": moved.now.model_version},
        "run_id": outcome.run_id,
        "bundle": str(outcome.path),
    }


def backtest_rows(result: BacktestResult) -> dict[str, str]:
    """Returns how models age, a row an age."""
    return {
        f"{age.months_since_training} months": (
            f"RMSE {age.rmse_minutes:.2f}   (the course's {age.baseline_rmse_minutes:.2f}; "
            f"{age.ratio_to_newest - 1:+.1%} beside the newest model; {age.n_rows} months)"
        )
        for age in result.by_age
    }


def _errors(result: MonthsResult, where: str) -> dict[str, str]:
    model, baseline = result.model, result.baseline
    rows = {
        f"RMSE{where}, minutes": f"{model.rmse_minutes:.2f}   (the course's model: {baseline.rmse_minutes:.2f})",
        f"MAE{where}, minutes": f"{model.mae_minutes:.2f}   (the course's model: {baseline.mae_minutes:.2f})",
    }
    if result.coverage is not None:
        rows[f"intervals{where}"] = f"{result.coverage:.1%} of rides inside, {result.width_minutes:.1f} minutes wide"
    return rows


def _worse(result: MonthsResult) -> str:
    worse = [f"{one.by} {one.name} ({one.model.n_rides:,} rides)" for one in worse_than_baseline(result)]
    more = f" and {len(worse) - _NAMED_SLICES} more" if len(worse) > _NAMED_SLICES else ""
    return _list(worse[:_NAMED_SLICES]) + more


def _late(outcome: RunOutcome) -> str:
    return ", ".join(
        f"{late.arrival} {late.model.rmse_minutes:.2f}" for late in outcome.run.evaluation.without_pickup_time
    )


def _minutes(measured: Measured) -> dict[str, float]:
    return {"rmse_minutes": measured.rmse_minutes, "mae_minutes": measured.mae_minutes}


def _list(items: "list[str] | tuple[str, ...]") -> str:
    return ", ".join(items) or "none"
