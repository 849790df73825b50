"""Draw the report of a version: at the end of training, or again later with the gate's verdict and later months."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lambda_function.errors import BundleError
from training.data.contract import RULES, check_contract
from training.data.months import default_data_dir, met_months, parse_days
from training.data.rides import Rides
from training.data.tlc_file import Timestamps
from training.errors import UserError
from training.evaluation.backtest import ageing
from training.evaluation.gate import GateReport, decode_gate_report
from training.evaluation.gate_rules import used_months
from training.evaluation.metrics import evaluate
from training.model.baseline import fit_baseline
from training.model.bundle import ExportedBundle
from training.registry.bucket import Bucket
from training.registry.channel_history import read_moves
from training.registry.sources import Sources, put_artifacts, write_artifacts
from training.registry.versions import REPORT, read_stored
from training.report.facts import find_outlines, gather_facts, read_outlines
from training.report.page import build_report
from training.report.plots import draw_plots
from training.room import check_room, writing
from training.workflows.progress import Progress
from training.workflows.ride_source import RideSource, source_of


def run_report(
    sources: Sources,
    name: str,
    output: Path | None,
    outlines: Path | None,
    progress: Progress,
    labelled: Bucket | None = None,
    timestamps: Timestamps | None = None,
) -> tuple[str, Path]:
    """Draw the report of the version that a name means, and return the version and the report's file.

    The file is `output`, or one in the bundle's folder. If the bucket holds the version, it is also stored there.
    `labelled` is the bucket of labelled rides, by default that of the models.

    Raises:
        UserError: There is no such version, or its months are not available.
        BundleError: A file of the bundle is missing or wrong.
    """
    check_room(sources.folder if output is None else output.parent)
    version = sources.resolve(name)
    bundle, artifacts, is_stored = sources.read(version)
    source = source_of(bundle.model.manifest, labelled or sources.bucket, timestamps)
    progress.step("drawing the report")
    drawn = draw_report(
        bundle,
        source,
        previous=_previous(sources, version) if is_stored else None,
        verdict=_verdict(artifacts),
        outlines=outlines,
    )
    if is_stored:
        put_artifacts(sources.bucket, version, drawn)
    if output is None:
        write_artifacts(sources.folder / version, drawn)
        return version, sources.folder / version / REPORT
    with writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(drawn[REPORT])
    return version, output


def draw_report(
    bundle: ExportedBundle,
    source: RideSource,
    *,
    previous: ExportedBundle | None = None,
    verdict: GateReport | None = None,
    outlines: Path | None = None,
) -> dict[str, bytes]:
    """Draw a version's report, and return the page and its plots by name, as in ``plots/residuals.svg``.

    The source's local months after training show how the model ages. `previous` is the model that this one replaces,
    and `outlines` is a GeoJSON of the taxi zones for the map, by default the one among the local months.

    Raises:
        UserError: The training or validation months are not available, or the outlines cannot be read.
    """
    manifest = bundle.model.manifest
    train_rides, rides = (
        source.load(parse_days(",".join(months))) for months in (manifest.train_months, manifest.validate_months)
    )
    breaches = check_contract((*train_rides.sources, *rides.sources), RULES)  # training allowed each of them
    baseline = fit_baseline(train_rides)
    new_rides = _new_rides(bundle, source, verdict)
    facts = replace(
        gather_facts(bundle, rides, baseline, previous),
        unseen=evaluate(bundle.model, baseline, new_rides, train_rides) if new_rides else None,
        ageing=ageing(bundle.model, train_rides, source.local_months, source.load),
        verdict=verdict,
        breaches=tuple(map(str, breaches)),
        outlines=_outlines(outlines),
    )
    plots = draw_plots(facts)
    return {REPORT: build_report(facts, plots), **{f"plots/{name}.svg": svg for name, svg in plots.items()}}


def _outlines(given: Path | None) -> tuple[NDArray[np.float64], ...]:
    """Read the given outlines, else those among the local months; a file found there may be of another kind."""
    if given:
        return read_outlines(given)
    found = find_outlines(default_data_dir())
    with suppress(UserError):
        return read_outlines(found) if found else ()
    return ()


def _new_rides(bundle: ExportedBundle, source: RideSource, verdict: GateReport | None) -> Rides | None:
    """Return the rides that the gate judged on, or else those of the first local month after all that the model met."""
    met = used_months(bundle.model.manifest)
    judged = parse_days(",".join(verdict.months)) if verdict and verdict.months else ()
    later = sorted(month for month in source.local_months if month > max(met))
    months = judged if judged and not met_months(judged, met) else later[:1]
    try:
        return source.load(months) if months else None
    except UserError:
        return None  # the gate's rides may be gone since: then the validation months head the report


def _verdict(artifacts: dict[str, bytes]) -> GateReport | None:
    """Return the gate's report, the one for `stable` if there are several."""
    names = sorted((name for name in artifacts if name.startswith("gate-")), key=lambda name: "stable" not in name)
    return decode_gate_report(artifacts[names[0]]) if names else None


def _previous(sources: Sources, version: str) -> ExportedBundle | None:
    """Return the model that `stable` held before it held this version."""
    held = [one.first.model_version for one in read_moves(sources.bucket, "stable")]
    place = held.index(version) if version in held else 0
    if not place:
        return None
    try:
        return read_stored(sources.bucket, held[place - 1])
    except (BundleError, UserError):
        return None  # the report only shows it for comparison
