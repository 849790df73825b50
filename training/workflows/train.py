"""One training run, from months to a channel: train, evaluate, gate, draw the report, release, and log to MLflow."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from training.data.contract import Finding, check_contract
from training.data.tlc_file import Timestamps
from training.errors import FOLDER_PREFIX, TrackingError
from training.evaluation.gate import GateReport, encode_gate_report
from training.evaluation.metrics import evaluate
from training.model.bundle import write_bundle
from training.model.results import MonthsResult
from training.registry.bucket import Bucket
from training.registry.channels import Moved
from training.registry.sources import put_artifacts, write_artifacts
from training.registry.versions import verdict_name
from training.room import check_room
from training.tracking.environment import ENVIRONMENT, describe_environment, encode_environment
from training.tracking.mirror import follow_channels, register
from training.tracking.mlflow_store import open_store
from training.tracking.runs import track_run
from training.tracking.training_record import TRAINING_RECORD
from training.workflows.config import TrainingConfig
from training.workflows.pipeline import TrainingRun, train
from training.workflows.progress import Progress
from training.workflows.record import record_training
from training.workflows.release import gate, release
from training.workflows.report import draw_report
from training.workflows.ride_source import RideSource, labelled_source, synthetic_source, tlc_source
from training.workflows.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What a training run does."""

    config: TrainingConfig
    folder: Path  # the parent of the bundle's folder
    target: Target | None = None  # the channel to release into, if any
    force: bool = False  # release into the channel `candidate` even if the gate fails
    synthetic: int | None = None  # number of made-up rides a month, in place of TLC's rides
    labelled: Bucket | None = None  # the bucket of labelled rides to learn from, in place of TLC's rides
    timestamps: Timestamps | None = None  # what times with a time zone are; None as TLC_TIMESTAMPS says
    report: bool = True  # whether to draw the report
    outlines: Path | None = None  # a GeoJSON of the zones for the report's map

    def ride_source(self) -> RideSource:
        """Return the source of the run's rides."""
        if self.labelled is not None:
            return labelled_source(self.labelled)
        if self.synthetic is not None:
            return synthetic_source(self.synthetic)
        return tlc_source(self.config.service, self.timestamps)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """The result of a training run."""

    run: TrainingRun  # the trained model and its evaluation
    path: Path  # the bundle's folder
    findings: tuple[Finding, ...]  # breaches of the data contract that were allowed
    artifacts: Mapping[str, bytes] = field(default_factory=dict)  # environment, record, verdict and report, by name
    test: MonthsResult | None = None  # the errors of model and baseline on the test months, if any
    verdict: GateReport | None = None  # the gate's report, if there is a target
    moved: Moved | None = None  # the channel's move, if the model passed the gate or was forced


def run_training(options: RunOptions, progress: Progress) -> RunOutcome:
    """Train a model, write its bundle and, if there is a target, release it. MLflow is not contacted: see `log_run`.

    Raises:
        UserError: The data or the parameters cannot be used, or the channel cannot be moved.
        BundleError: The exported model predicts something else than the fitted one.
    """
    _check_room(options)
    started_at = datetime.now(UTC)
    config, source, target = options.config, options.ride_source(), options.target
    if target:
        source.check_gate_months(config.test_months)
    progress.step("loading rides")
    train_rides, validate_rides = source.load(config.train_months), source.load(config.validate_months)
    test_rides = source.load(config.test_months) if config.test_months else None
    parts = [train_rides, validate_rides, *([test_rides] if test_rides else [])]
    findings = check_contract([source for part in parts for source in part.sources], config.allow)
    for finding in findings:
        progress.warn(f"{finding} (allowed)")
    run = train(config.service, train_rides, validate_rides, config.parameters, progress.step)
    path = write_bundle(run.bundle, options.folder)
    test = evaluate(run.bundle.model, run.baseline, test_rides, train_rides) if test_rides else None
    artifacts = {
        ENVIRONMENT: encode_environment(describe_environment()),
        TRAINING_RECORD: record_training(started_at, validate_rides, test_rides, test),
    }
    write_artifacts(path, artifacts)
    previous = target.champion() if target else None
    verdict = None
    if target:
        progress.step(f"gating against the model in {target.channel}")
        verdict = gate(
            target,
            run.bundle,
            source,
            test_months=config.test_months,
            train_rides=train_rides,
        )
        artifacts[verdict_name(target.channel)] = encode_gate_report(verdict)
    if options.report:
        progress.step("drawing the report")
        artifacts |= draw_report(
            run.bundle,
            source,
            previous=previous,
            verdict=verdict,
            outlines=options.outlines,
        )
    write_artifacts(path, artifacts)
    moved = None
    if target and verdict and (verdict.passed or options.force):
        progress.step("releasing")
        moved = release(target, run.bundle, verdict, force=options.force)
        put_artifacts(target.bucket, run.bundle.model_version, artifacts)
    return RunOutcome(
        run=run, path=path, findings=findings, artifacts=artifacts, test=test, verdict=verdict, moved=moved
    )


def _check_room(options: RunOptions) -> None:
    """Raise UserError if the bundle, or the bucket of the channel, cannot be written."""
    check_room(options.folder)
    bucket = options.target.bucket.name if options.target else ""
    if bucket.startswith(FOLDER_PREFIX):
        check_room(Path(bucket.removeprefix(FOLDER_PREFIX)).expanduser())


def log_run(options: RunOptions, outcome: RunOutcome, progress: Progress) -> str | None:
    """Log a finished run to MLflow, register a released version, and return MLflow's id of the run.

    If MLflow fails, warn and return None.
    """
    progress.step("logging the run to MLflow")
    bundle = outcome.run.bundle
    bucket = options.target.bucket if options.target and outcome.moved else None
    try:
        store = open_store()
        run_id = track_run(store, bundle, outcome.artifacts, bucket.name if bucket else None)
        if bucket:
            register(store, bucket.name, bundle, run_id)
            follow_channels(store, bucket)
    except TrackingError as error:
        progress.warn(str(error))
        return None
    return run_id
