"""The demo: trains a model, deploys the stack to the AWS on this machine, replays real rides and labels them."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from infra.local.aws import LocalAws
from infra.local.demo import labelling
from infra.local.demo.labelling import Display
from infra.local.demo.replay import Ledger, Replay
from infra.local.event_source.mapping import EventSourceMapping, logging_to, polling
from infra.local.runtime.function import FunctionConfig
from infra.local.runtime.in_process import Runtime
from infra.local.runtime.running import RuntimeName, running
from infra.local.stack import DeployedStack, deploy
from infra.operate.streams import StreamReader, publish
from infra.stack.package import build_for_host
from infra.stack.template import TEMPLATE
from lambda_function.aws.publisher import Publisher
from training.data.load import tlc_months
from training.data.months import Month, Service
from training.data.rides import Rides
from training.data.synthetic import synthetic_rides
from training.data.tlc_file import Timestamps
from training.errors import MonthUnavailableError
from training.model.baseline import Baseline, fit_baseline
from training.model.bundle import ExportedBundle, write_bundle
from training.monitoring.calibration.status import CalibrationMode
from training.monitoring.join.options import JoinOptions
from training.monitoring.monitor.monitor import MonitorOptions
from training.monitoring.monitor.status import MonitorStatus
from training.monitoring.summary import HourSummary
from training.registry.bucket import Bucket
from training.registry.channels import move_channel, store_bundle
from training.room import RUN_BYTES, check_room
from training.workflows.default_bucket import leave_model
from training.workflows.pipeline import find_bundle, train

LOG_NAME = "function.log"
"""The function's log file in the demo's folder."""

LABELLED_FOLDER = "demo"
"""The folder of labelled rides and summaries in the demo's folder. Each run replaces them."""

_N_SYNTHETIC_RIDES = 60_000
_SEED = 2021
_IDLE_S = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """Options of a demo.

    Attributes:
        n_events: Ride events to send, including a few malformed ones.
        folder: Folder for bundles, which later runs use again, for the bucket that the model is left in, for labelled
            rides, and for the functions' logs.
        n_shards: Shards of each stream.
        template: The stack's template.
        stall_s: Seconds without a new result after which the missing events count as lost.
        runtime: "in-process" runs the functions' source, "emulator" their built package in AWS's own runtime.
        timestamps: What times with a time zone are in TLC's months, as for `load_rides`.
    """

    service: Service
    train_months: tuple[Month, ...]
    validate_months: tuple[Month, ...]
    n_events: int
    folder: Path
    n_shards: int = 1
    template: Path = TEMPLATE
    stall_s: float = 30.0
    runtime: RuntimeName = "in-process"
    timestamps: Timestamps | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoReport:
    """The result of a demo. Errors are those of labelled rides, and None without any.

    Attributes:
        rides: Ride events sent.
        lost: Ride events without a result; it must be 0, like the three of the audit.
        labelled: Rides with a prediction and an outcome.
        audit_lost: Ride events without a result in the archive, or whose result is still missing.
        audit_conflicting: Ride events with two predictions that differ.
        audit_skewed: Predictions that the version which served does not give again.
        monitor: What the monitor says of the labelled rides: all of today, so no whole day is judged yet.
    """

    rides: int
    predicted: int
    rejected: int
    lost: int
    repeated: int
    rides_per_s: float
    labelled: int
    rmse_minutes: float | None
    mae_minutes: float | None
    coverage: float | None
    baseline_rmse_minutes: float | None
    audit_lost: int
    audit_conflicting: int
    audit_skewed: int
    model_version: str
    data: Literal["tlc", "synthetic"]
    monitor: MonitorStatus

    @property
    def is_sound(self) -> bool:
        """Whether no ride is lost, every predicted ride is labelled, and the audit found nothing."""
        audit = self.audit_lost or self.audit_conflicting or self.audit_skewed
        return self.labelled == self.predicted and not self.lost and not audit


def run_demo(options: DemoOptions, display: Display) -> DemoReport:
    """Run the demo once.

    Raises:
        UserError: The local AWS, the template, a function or the data cannot be used.
    """
    check_room(options.folder, RUN_BYTES)
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.runtime == "emulator":  # first, because this machine may not be able to build it
        display.step("building the functions' package")
        build_for_host()
    with LocalAws() as aws:  # starts while the model is trained
        display.step("loading rides")
        train_rides, validate_rides, data = load_demo_rides(options, display)
        bundle, baseline = train_demo_model(options, train_rides, validate_rides, display)
        if problem := leave_model(bundle, options.folder):
            display.warn(problem)
        display.step("creating the stack from template.yaml")
        shards = dict.fromkeys(("RideEventsShards", "RidePredictionsShards", "RideOutcomesShards"), options.n_shards)
        stack = deploy(aws, path=options.template, parameters=shards)
        bucket = Bucket(aws.client("s3"), stack.bucket)
        store_bundle(bucket, bundle)
        channel = stack.function.environment["MODEL_CHANNEL"]
        move_channel(bucket, channel, bundle.model_version, bundle.manifest_sha256)
        replay = Replay.of(validate_rides, options.n_events)
        ledger = Ledger(replay)
        run = _Run(aws, stack, options, display)
        seconds = run.predict(replay, ledger)
        summaries = run.label(replay, ledger, bucket)
        status = run.monitor(bucket)
        labelled = labelling.copy_labelled(bucket, options.folder / LABELLED_FOLDER)
    accuracy = labelling.accuracy(labelled, baseline.predict(replay.rides.columns))
    return DemoReport(
        rides=len(replay),
        predicted=ledger.n_predicted,
        rejected=ledger.n_rejected,
        lost=ledger.n_lost,
        repeated=ledger.n_repeated,
        rides_per_s=round(len(replay) / seconds, 1),
        labelled=accuracy.n_rides,
        rmse_minutes=accuracy.rmse_minutes,
        mae_minutes=accuracy.mae_minutes,
        coverage=accuracy.coverage,
        baseline_rmse_minutes=accuracy.baseline_rmse_minutes,
        audit_lost=sum(one.n_lost + one.n_waiting for one in summaries),
        audit_conflicting=sum(one.n_conflicting for one in summaries),
        audit_skewed=sum(one.n_skewed for one in summaries),
        model_version=", ".join(sorted({version for one in summaries for version in one.by_version})),
        data=data,
        monitor=status,
    )


def load_demo_rides(options: DemoOptions, display: Display) -> tuple[Rides, Rides, Literal["tlc", "synthetic"]]:
    """Load training and validation rides; generate synthetic rides if TLC's are not available."""
    load = tlc_months(options.service, options.timestamps)
    try:
        return load(options.train_months), load(options.validate_months), "tlc"
    except MonthUnavailableError as error:
        display.warn(f"{error}. Made-up rides are used instead: their errors say nothing about New York.")
        made_up = [
            synthetic_rides(months[-1], _N_SYNTHETIC_RIDES, _SEED)
            for months in (options.train_months, options.validate_months)
        ]
        return made_up[0], made_up[1], "synthetic"


def train_demo_model(
    options: DemoOptions, train_rides: Rides, validate_rides: Rides, display: Display
) -> tuple[ExportedBundle, Baseline]:
    """Return the bundle of these months and the baseline; train the bundle if the folder has none."""
    bundles = options.folder / "bundles"
    found = find_bundle(bundles, options.service, train_rides, validate_rides)
    if found:
        display.step(f"using model {found.model_version} from an earlier run")
        return found, fit_baseline(train_rides)
    run = train(options.service, train_rides, validate_rides, on_step=display.step)
    write_bundle(run.bundle, bundles)
    return run.bundle, run.baseline


@dataclass(frozen=True, slots=True)
class _Run:
    """The local AWS with the deployed stack, and where to report."""

    aws: LocalAws
    stack: DeployedStack
    options: DemoOptions
    display: Display

    def predict(self, replay: Replay, ledger: Ledger) -> float:
        """Send a replay's events and add the results to the ledger until no event is missing or nothing new comes.

        Returns:
            Seconds from the first event sent to the last result.
        """
        self.display.step("replaying rides in order of pickup")
        kinesis, s3, stack = self.aws.client("kinesis"), self.aws.client("s3"), self.stack
        reader = StreamReader(kinesis, stack.output_stream, "TRIM_HORIZON")
        etags: dict[str, str] = {}
        log_path = self.options.folder / LOG_NAME
        with self._running(stack.function, log_path) as invoke, ThreadPoolExecutor(1) as thread:
            mapping = EventSourceMapping(stack.mapping, kinesis, invoke, s3=s3)
            with polling(mapping) as mapping_polls:
                started_s = last_news_s = time.monotonic()
                producer = thread.submit(_send, kinesis, stack.input_stream, replay, ledger)
                while (n_missing := ledger.n_lost) > 0:
                    records = reader.read_once()
                    ledger.add_predictions(record.data for record in records)
                    if not records:
                        _add_new_rejects(s3, stack.bucket, etags, ledger)
                        for future in (producer, mapping_polls):
                            if future.done():
                                future.result()
                        time.sleep(_IDLE_S)
                    now_s = time.monotonic()
                    self.display.progress(len(replay) - ledger.n_lost, len(replay), _figures(ledger, now_s - started_s))
                    if ledger.n_lost < n_missing:  # a repeated prediction does not count as progress
                        last_news_s = now_s
                    if now_s - last_news_s > self.options.stall_s:
                        self._warn_of_stall(mapping.stats.last_error, log_path)
                        break
                return time.monotonic() - started_s

    def label(self, replay: Replay, ledger: Ledger, bucket: Bucket) -> list[HourSummary]:
        """Send the outcomes of a replay's rides, archive the three streams and join them."""
        aws, stack, display = self.aws, self.stack, self.display
        display.step("sending outcomes in order of drop-off")
        n_outcomes = labelling.send_outcomes(aws.client("kinesis"), stack.outcomes_stream, replay.rides, display)
        display.step("archiving ride events, predictions and outcomes")
        n_records = ledger.n_sent + ledger.n_predicted + ledger.n_repeated + n_outcomes
        with self._running(stack.archiver, self.options.folder / labelling.LOG_NAME) as invoke:
            problem = labelling.archive(
                aws,
                stack.archive_mappings.values(),
                invoke,
                self.options.stall_s,
                lambda n_done: display.progress(n_done, n_records),
            )
        if problem:
            display.warn(f"{problem}; see {self.options.folder / labelling.LOG_NAME}")
        display.step("joining them, and auditing the archive")
        join_options = JoinOptions(
            channel=stack.function.environment["MODEL_CHANNEL"],
            ride_stream=stack.input_stream,
            outcome_stream=stack.outcomes_stream,
        )
        return labelling.join(bucket, join_options)

    def monitor(self, bucket: Bucket) -> MonitorStatus:
        """Run the monitor on the labelled rides, with the settings of the deployed function."""
        self.display.step("comparing the labelled rides with those that the model was trained on")
        environment = self.stack.monitor.environment
        options = MonitorOptions(
            channel=environment["MODEL_CHANNEL"],
            mode=CalibrationMode(environment["CALIBRATION_MODE"]),
            stack=environment["STACK_NAME"],
        )
        return labelling.monitor(bucket, options, self.aws.client("events"))

    @contextmanager
    def _running(self, function: FunctionConfig, log_path: Path) -> Iterator[Runtime]:
        """Run a function, and log what its mappings say to its log."""
        with logging_to(log_path), running(function, log_path, self.options.runtime) as invoke:
            yield invoke

    def _warn_of_stall(self, last_error: str, log_path: Path) -> None:
        seconds = f"{self.options.stall_s:g} s"
        self.display.warn(f"no new result for {seconds}; last error: {last_error or 'none'}; see {log_path}")


def _send(kinesis: Any, stream: str, replay: Replay, ledger: Ledger) -> None:
    for n_sent in publish(Publisher(kinesis, stream), replay.entries()):
        ledger.n_sent = n_sent


def _add_new_rejects(s3: Any, bucket: str, etags: dict[str, str], ledger: Ledger) -> None:
    """Add the objects of rejects that are new or have changed since the last call."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="rejects/"):
        for entry in page.get("Contents", ()):
            if etags.get(entry["Key"]) != entry["ETag"]:
                ledger.add_rejects(s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read())
                etags[entry["Key"]] = entry["ETag"]


def _figures(ledger: Ledger, seconds: float) -> str:
    n_done = ledger.n_predicted + ledger.n_rejected
    return (
        f"sent {ledger.n_sent:,}  predicted {ledger.n_predicted:,}  rejected {ledger.n_rejected}  "
        f"{n_done / seconds if seconds else 0:,.0f} rides/s"
    )
