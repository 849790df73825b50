"""Builders of report facts, and a parser for the elements of a page."""

from html.parser import HTMLParser
from typing import Any

import msgspec
import numpy as np

from lambda_function.core.bundle import Manifest
from tests.builders import small_bundle
from training.evaluation.backtest import AgeRow
from training.evaluation.gate import GateReport
from training.evaluation.gate_rules import RuleResult
from training.model.bundle import ExportedBundle
from training.model.results import ArrivalResult, Evaluation, Measured, MonthsResult, SliceResult
from training.report.facts import PreviousModel, ReportFacts
from training.report.measures import FeatureImportance, PredictedRides

OTHER_VERSION = "green-2020-12-0123456789ab"
SVG = b'<svg width="1pt" height="1pt" viewBox="0 0 1 1"><path d="M 0 0"/></svg>'


class AnyPlot(dict[str, bytes]):
    """The same plot under every name, for tests that do not check plots."""

    def __missing__(self, name: str) -> bytes:
        return SVG

    def __contains__(self, name: object) -> bool:
        return True


class Elements(HTMLParser):
    """A page's elements in order: names, attributes and texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Store an element."""
        self.names.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        """Store a text."""
        self.texts.append(data)

    @property
    def text(self) -> str:
        """The whole text, with one space between words."""
        return " ".join(" ".join(self.texts).split())


def manifest(**changes: Any) -> Manifest:
    """Return the small bundle's manifest with changes; they are not validated."""
    return msgspec.structs.replace(small_bundle().model.manifest, **changes)


def measured(rmse_minutes: float = 4.0, n_rides: int = 2000) -> Measured:
    """Return errors of a number of rides."""
    return Measured(n_rides, rmse_minutes, 2.5, -0.1)


def slice_result(
    by: str, name: str, rmse_minutes: float = 4.0, n_rides: int = 2000, coverage: float = 0.8
) -> SliceResult:
    """Return a slice with a baseline RMSE of 6 minutes."""
    return SliceResult(by, name, measured(rmse_minutes, n_rides), measured(6.0, n_rides), coverage, 7.5)


def months_result(*slices: SliceResult, months: tuple[str, ...] = ("2021-02",)) -> MonthsResult:
    """Return results of some months; by default with slices of two kinds."""
    given = slices or (
        *(slice_result("hour", f"{hour:02d}") for hour in range(24)),
        slice_result("airport", "JFK", n_rides=500),
        slice_result("airport", "Newark", rmse_minutes=6.5),
    )
    return MonthsResult(months, measured(), measured(6.0), 0.8, 7.5, given)


def evaluation(*slices: SliceResult) -> Evaluation:
    """Return a complete evaluation."""
    return Evaluation(
        validate=months_result(*slices),
        test=months_result(*slices, months=("2021-03",)),
        without_pickup_time=(ArrivalResult("10 minutes after the pickup", measured(4.1)),),
    )


def predicted_rides(n_rides: int = 600, **changes: Any) -> PredictedRides:
    """Return rides of three zones with errors of a few minutes and intervals that contain nearly all of them."""
    rng = np.random.default_rng(3)
    actual = rng.uniform(1, 59, n_rides)
    predicted = (actual + rng.normal(0, 3, n_rides)).clip(1, 60)
    values = {
        "months": ("2021-02",),
        "n_all": n_rides,
        "pickup_zone": rng.choice([74, 75, 264], n_rides),
        "actual_minutes": actual,
        "predicted_minutes": predicted,
        "baseline_minutes": predicted + 1.0,
        "interval_minutes": (predicted - 5, predicted + 5),
    }
    return PredictedRides(**{**values, **changes})


def gate_report(
    *,
    passed: bool = True,
    channel: str = "stable",
    bundle: ExportedBundle | None = None,
    against: str | None = OTHER_VERSION,
) -> GateReport:
    """Return a verdict of two rules on a bundle, the small one by default."""
    bundle = bundle or small_bundle()
    return GateReport(
        passed=passed,
        model_version=bundle.model_version,
        manifest_sha256=bundle.manifest_sha256,
        against=against,
        channel=channel,
        months=("2021-03",),
        rules=(
            RuleResult("size", passed=True, wanted="at most 500,000 bytes", seen="1,000 bytes"),
            RuleResult("coverage", passed=passed, wanted="0.78 to 0.82", seen="0.9 overall"),
        ),
    )


def failed_rules(report: GateReport) -> list[str]:
    """Return the rules of the gate that a candidate failed."""
    return [rule.rule for rule in report.rules if not rule.passed]


def age_row(
    month: str = "2021-02",
    months_since_training: int = 1,
    rmse_minutes: float = 4.0,
    baseline_rmse_minutes: float = 6.0,
    trained: str = "2021-01",
) -> AgeRow:
    """Return the errors of a model on a month after the month of its training."""
    return AgeRow((trained,), month, months_since_training, measured(rmse_minutes), measured(baseline_rmse_minutes))


def bare_facts(**changes: Any) -> ReportFacts:
    """Return the facts of a bundle without evaluation, verdict, intervals, previous model or later months."""
    values = {
        "manifest": manifest(),
        "manifest_sha256": small_bundle().manifest_sha256,
        "rides": predicted_rides(),
        "importance": (
            FeatureImportance("pickup place", ("pickup_longitude", "pickup_latitude"), 2.0, 1.9, 2.1),
            FeatureImportance("pickup_longitude", ("pickup_longitude",), 0.5, 0.4, 0.6),
        ),
    }
    return ReportFacts(**{**values, **changes})


def whole_facts(**changes: Any) -> ReportFacts:
    """Return facts for every part of a report."""
    values = {
        "evaluation": evaluation(),
        "previous": PreviousModel(OTHER_VERSION, measured(4.5)),
        "ageing": (age_row(), age_row("2021-03", 2), age_row("2021-03", 1)),
        "verdict": gate_report(),
        "breaches": ("2021-01 breaks rows: it has 312, wanted 5,000",),
        "outlines": (np.array([(-74.0, 40.7), (-73.9, 40.7), (-73.9, 40.8), (-74.0, 40.7)]),),
        "interval_level": 0.8,
    }
    return bare_facts(**{**values, **changes})
