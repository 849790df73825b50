"""One training run, from months to a channel. Each step can be had alone; what is optional never undoes the rest."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from training.data.contract import Finding, check_contract
from training.data.load import Load, synthetic_months, tlc_months
from training.data.months import Month, default_data_dir, months_in_hand
from training.data.rides import Rides
from training.errors import TrackingError
from training.evaluation.gate import GateReport, encode_gate_report
from training.evaluation.metrics import evaluate
from training.model.bundle import ExportedBundle
from training.model.evaluation import MonthsResult
from training.model.export import write_bundle
from training.registry.channels import Moved
from training.registry.versions import put_artifact, verdict_name
from training.tracking.mirror import follow_channels, register
from training.tracking.mlflow_store import open_store
from training.tracking.runs import track_run
from training.workflows.artifacts import ReportInputs, environment_paper, report_papers, write_papers
from training.workflows.config import TrainingConfig
from training.workflows.pipeline import TrainingRun, train
from training.workflows.progress import Display
from training.workflows.release import Target, gate, release


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What to do.

    Attributes:
        config: What to train.
        folder: Where the bundle's folder is made.
        target: The channel to bring it into, if any.
        force: Into the channel `candidate` whatever the gate says.
        synthetic: So many made-up rides a month instead of TLC's.
        report: Whether to draw the report.
        track: Whether to tell MLflow.
        outlines: A GeoJSON of the zones for the report's map.
    """

    config: TrainingConfig
    folder: Path
    target: Target | None = None
    force: bool = False
    synthetic: int | None = None
    report: bool = True
    track: bool = True
    outlines: Path | None = None

    @property
    def load(self) -> Load:
        """What brings the rides."""
        return tlc_months(self.config.service) if self.synthetic is None else synthetic_months(self.synthetic)

    @property
    def in_hand(self) -> tuple[Month, ...]:
        """Months that can be had without a download; those that can be made up are endless, and none."""
        return months_in_hand(self.config.service, default_data_dir()) if self.synthetic is None else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """How it went.

    Attributes:
        run: The training itself.
        path: The bundle's folder.
        findings: Breaches of the data contract that were allowed.
        test: How model and baseline do on the test months, if any.
        verdict: The gate's, if a channel was named.
        moved: The channel, if the gate let the model through or was overruled.
        run_id: MLflow's, if it was told.
    """

    run: TrainingRun
    path: Path
    findings: tuple[Finding, ...]
    test: MonthsResult | None = None
    verdict: GateReport | None = None
    moved: Moved | None = None
    run_id: str | None = None


def run_training(options: RunOptions, display: Display) -> RunOutcome:
    """Trains, and does what is asked for besides.

    Raises:
        UserError: The data or the parameters can't be used, or the channel can't be moved.
        BundleError: The exported model predicts something else than the fitted one.
    """
    config, load = options.config, options.load
    display.step("loading rides")
    train_rides, validate_rides = load(config.train_months), load(config.validate_months)
    test_rides = load(config.test_months) if config.test_months else None
    findings = _check([train_rides, validate_rides, test_rides], config, display)
    run = train(config.service, train_rides, validate_rides, config.parameters, display.step)
    bundle = run.bundle
    path = write_bundle(bundle, options.folder)
    papers = environment_paper()
    write_papers(path, papers)
    test = evaluate(bundle.model, run.baseline, test_rides, train_rides) if test_rides else None
    previous = options.target.champion() if options.target else None
    verdict = moved = None
    if options.target:
        verdict = _judge(options, options.target, bundle, train_rides, display)
        papers[verdict_name(options.target.channel)] = encode_gate_report(verdict)
    if options.report:
        display.step("drawing the report")
        inputs = ReportInputs(
            previous=previous,
            verdict=verdict,
            in_hand=options.in_hand,
            outlines=options.outlines,
        )
        papers |= report_papers(bundle, load, inputs)
    write_papers(path, papers)
    if options.target and verdict and (verdict.passed or options.force):
        display.step("publishing")
        moved = release(options.target, bundle, verdict, force=options.force)
        _store_papers(options.target, bundle, papers)
    run_id = _track(options.target if moved else None, bundle, papers, display) if options.track else None
    return RunOutcome(run=run, path=path, findings=findings, test=test, verdict=verdict, moved=moved, run_id=run_id)


def _check(parts: list[Rides | None], config: TrainingConfig, display: Display) -> tuple[Finding, ...]:
    """Holds all months against the data contract, and tells of what was allowed."""
    findings = check_contract([source for part in parts if part for source in part.sources], config.allow)
    for finding in findings:
        display.warn(f"{finding} (allowed)")
    return findings


def _judge(
    options: RunOptions, target: Target, bundle: ExportedBundle, train_rides: Rides, display: Display
) -> GateReport:
    display.step(f"judging it against what {target.channel} holds")
    return gate(
        target,
        bundle,
        options.load,
        test_months=options.config.test_months,
        in_hand=options.in_hand,
        train_rides=train_rides,
    )


def _store_papers(target: Target, bundle: ExportedBundle, papers: Mapping[str, bytes]) -> None:
    for name, data in papers.items():
        put_artifact(target.bucket, bundle.model_version, name, data)


def _track(target: Target | None, bundle: ExportedBundle, papers: Mapping[str, bytes], display: Display) -> str | None:
    """Tells MLflow of the run, and of the version and its channels where it was published; it may be away."""
    display.step("telling MLflow")
    try:
        store = open_store()
        run_id = track_run(store, bundle, papers, target.bucket.name if target else None)
        if target:
            register(store, target.bucket.name, bundle, run_id)
            follow_channels(store, target.bucket)
    except TrackingError as error:
        display.warn(str(error))
        return None
    return run_id
