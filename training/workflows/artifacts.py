"""What lies beside a bundle without being part of it: its report with the plots, and what it was trained in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from training.data.contract import RULES, check_contract
from training.data.load import Load
from training.data.months import Month
from training.evaluation.backtest import ageing
from training.evaluation.gate import GateReport
from training.model.baseline import fit_baseline
from training.model.bundle import ExportedBundle
from training.registry.versions import REPORT
from training.report.facts import gather_facts, read_outlines
from training.report.page import build_report
from training.report.plots import draw_plots
from training.tracking.runs import ENVIRONMENT, describe_environment, encode_environment


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportInputs:
    """What a report tells besides the bundle.

    Attributes:
        previous: The model that this one would replace.
        verdict: The gate's.
        in_hand: Months that can be loaded: those after the training months show how the model ages.
        outlines: A GeoJSON of the taxi zones for the map.
    """

    previous: ExportedBundle | None = None
    verdict: GateReport | None = None
    in_hand: Sequence[Month] = ()
    outlines: Path | None = None


def report_papers(bundle: ExportedBundle, load: Load, inputs: ReportInputs) -> dict[str, bytes]:
    """Draws a version's report.

    Returns:
        The report and its plots, by name, as in ``plots/residuals.svg``.

    Raises:
        UserError: The months that it was trained and validated on cannot be had, or the outlines can't be read.
    """
    manifest = bundle.model.manifest
    train_rides, rides = (load(_months(months)) for months in (manifest.train_months, manifest.validate_months))
    findings = check_contract((*train_rides.sources, *rides.sources), RULES)  # all were allowed: it was trained
    facts = gather_facts(bundle, rides, baseline=fit_baseline(train_rides), previous=inputs.previous)
    facts = replace(
        facts,
        ageing=ageing(bundle.model, train_rides, inputs.in_hand, load),
        verdict=inputs.verdict,
        breaches=tuple(str(finding) for finding in findings),
        outlines=read_outlines(inputs.outlines) if inputs.outlines else (),
    )
    plots = draw_plots(facts)
    return {REPORT: build_report(facts, plots), **{f"plots/{name}.svg": svg for name, svg in plots.items()}}


def environment_paper() -> dict[str, bytes]:
    """Tells what this process runs in; to be asked when a model is trained."""
    return {ENVIRONMENT: encode_environment(describe_environment())}


def write_papers(folder: Path, papers: Mapping[str, bytes]) -> None:
    """Writes papers beside a bundle in its folder."""
    for name, data in papers.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _months(months: Sequence[str]) -> list[Month]:
    return [Month.parse(month) for month in months]
