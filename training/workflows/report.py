"""A version's report drawn again, with what is known by now: the gate's verdict, later months, the model before."""

from pathlib import Path
from typing import NamedTuple

from lambda_function.errors import BundleError
from training.data.load import rides_of
from training.errors import UserError
from training.evaluation.gate import GateReport, decode_gate_report
from training.model.bundle import ExportedBundle
from training.registry.channel_history import read_history
from training.registry.versions import REPORT, put_artifact, read_stored
from training.tracking.mirror import Sources
from training.workflows.artifacts import ReportInputs, report_papers, write_papers
from training.workflows.progress import Display


class WrittenReport(NamedTuple):
    """A report and where it is."""

    model_version: str
    path: Path


def run_report(
    sources: Sources, name: str, output: Path | None, outlines: Path | None, display: Display
) -> WrittenReport:
    """Draws the report of a version that a person names, and writes it: to `output`, or into the bundle's folder.

    A version that the bucket holds has it there, too.

    Raises:
        UserError: There is no such version, or its months cannot be had.
        BundleError: Something about it is wrong.
    """
    version = sources.resolve(name)
    bundle, papers, is_stored = sources.read(version)
    load, in_hand = rides_of(bundle.model.manifest)
    display.step("drawing the report")
    inputs = ReportInputs(
        previous=_previous(sources, version) if is_stored else None,
        verdict=_verdict(papers),
        in_hand=in_hand,
        outlines=outlines,
    )
    drawn = report_papers(bundle, load, inputs)
    if is_stored:
        for paper, content in drawn.items():
            put_artifact(sources.bucket, version, paper, content)
    if output is None:
        write_papers(sources.folder / version, drawn)
        return WrittenReport(version, sources.folder / version / REPORT)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(drawn[REPORT])
    return WrittenReport(version, output)


def _verdict(papers: dict[str, bytes]) -> GateReport | None:
    """Returns the gate's report, that for `stable` before others."""
    names = sorted((name for name in papers if name.startswith("gate-")), key=lambda name: "stable" not in name)
    return decode_gate_report(papers[names[0]]) if names else None


def _previous(sources: Sources, version: str) -> ExportedBundle | None:
    """Returns what `stable` held before it held this version."""
    lines = [line for line in read_history(sources.bucket, "stable") if line.model_version == version]
    if not lines or lines[0].previous is None:
        return None
    try:
        return read_stored(sources.bucket, lines[0].previous)
    except (BundleError, UserError):
        return None  # it is only shown beside
