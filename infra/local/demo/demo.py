"""The demo: trains a model, deploys the stack to the AWS on this machine and replays real rides through it."""

import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from infra.local.aws import LocalAws
from infra.local.demo.replay import Ledger, Replay
from infra.local.event_source.mapping import EventSourceMapping, logging_to, polling
from infra.local.runtime.emulator import EmulatedRuntime
from infra.local.runtime.in_process import running_in_process
from infra.local.stack import DeployedStack, deploy
from infra.operate.streams import StreamReader, publish
from infra.stack.package import build_for_host
from infra.stack.template import TEMPLATE
from lambda_function.aws.publisher import Publisher
from training.data.load import load_rides
from training.data.months import Month, Service, default_data_dir
from training.data.rides import Rides
from training.data.synthetic import synthetic_rides
from training.errors import MonthUnavailableError
from training.model.baseline import Baseline, fit_baseline
from training.model.bundle import ExportedBundle, write_bundle
from training.registry.bucket import Bucket
from training.registry.channels import move_channel, store_bundle
from training.workflows.pipeline import find_bundle, train

LOG_NAME = "function.log"
"""The function's log file in the demo's folder."""

_N_SYNTHETIC_RIDES = 60_000
_SEED = 2021
_IDLE_S = 0.01


class Display(Protocol):
    """Receives the progress of a demo."""

    def step(self, text: str) -> None:
        """Show that a step begins."""

    def warn(self, text: str) -> None:
        """Show a warning."""

    def progress(self, n_events: int, ledger: Ledger, seconds: float) -> None:
        """Show the progress of the replay; called many times a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """Options of a demo.

    Attributes:
        n_events: Ride events to send, including a few malformed ones.
        folder: Folder for bundles, which later runs use again, and for the function's log.
        n_shards: Shards of each stream.
        template: The stack's template.
        stall_s: Seconds without a new result after which the missing events count as lost.
        runtime: "in-process" runs the function's source, "emulator" its built package in AWS's own runtime.
    """

    service: Service
    train_months: tuple[Month, ...]
    validate_months: tuple[Month, ...]
    n_events: int
    folder: Path
    n_shards: int = 1
    template: Path = TEMPLATE
    stall_s: float = 30.0
    runtime: Literal["in-process", "emulator"] = "in-process"


@dataclass(frozen=True, slots=True)
class DemoReport:
    """The result of a demo. `rides` are the events sent; `lost` must be 0; errors are None without a prediction."""

    rides: int
    predicted: int
    rejected: int
    lost: int
    repeated: int
    rides_per_s: float
    rmse_minutes: float | None
    mae_minutes: float | None
    baseline_rmse_minutes: float | None
    model_version: str
    data: Literal["tlc", "synthetic"]


def run_demo(options: DemoOptions, display: Display) -> DemoReport:
    """Run the demo once.

    Raises:
        UserError: The local AWS, the template, the function or the data cannot be used.
    """
    options.folder.mkdir(parents=True, exist_ok=True)
    package = _package(options, display)  # first, because this machine may not be able to build it
    with LocalAws() as aws:  # starts while the model is trained
        display.step("loading rides")
        train_rides, validate_rides, data = _load(options, display)
        bundle, baseline = _model(options, train_rides, validate_rides, display)
        display.step("creating the stack from template.yaml")
        stack = deploy(
            aws,
            path=options.template,
            parameters={"RideEventsShards": options.n_shards, "RidePredictionsShards": options.n_shards},
        )
        bucket = Bucket(aws.client("s3"), stack.bucket)
        store_bundle(bucket, bundle)
        channel = stack.function.environment["MODEL_CHANNEL"]
        move_channel(bucket, channel, bundle.model_version, bundle.manifest_sha256)
        replay = Replay.of(validate_rides, options.n_events)
        ledger = Ledger(replay, baseline.predict(replay.rides.columns))
        display.step("replaying rides in order of pickup")
        seconds = _run_replay(aws, stack, replay, ledger, package, options, display)
    return DemoReport(
        rides=len(replay),
        predicted=ledger.n_predicted,
        rejected=ledger.n_rejected,
        lost=ledger.n_lost,
        repeated=ledger.n_repeated,
        rides_per_s=round(len(replay) / seconds, 1),
        rmse_minutes=_rounded(ledger.rmse_minutes),
        mae_minutes=_rounded(ledger.mae_minutes),
        baseline_rmse_minutes=_rounded(ledger.baseline_rmse_minutes),
        model_version=", ".join(ledger.versions),
        data=data,
    )


def _package(options: DemoOptions, display: Display) -> Path | None:
    """Build the function's package for the emulator; return None for the in-process runtime."""
    if options.runtime == "in-process":
        return None
    display.step("building the function's package")
    return build_for_host().folder


def _load(options: DemoOptions, display: Display) -> tuple[Rides, Rides, Literal["tlc", "synthetic"]]:
    """Load training and validation rides; generate synthetic rides if TLC's are not available."""
    folder = default_data_dir()
    try:
        return (
            load_rides(options.service, options.train_months, data_dir=folder),
            load_rides(options.service, options.validate_months, data_dir=folder),
            "tlc",
        )
    except MonthUnavailableError as error:
        display.warn(f"{error}. This demo uses made-up rides instead: its errors say nothing about New York.")
        made_up = [
            synthetic_rides(months[-1], _N_SYNTHETIC_RIDES, _SEED)
            for months in (options.train_months, options.validate_months)
        ]
        return made_up[0], made_up[1], "synthetic"


def _model(
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


def _run_replay(
    aws: LocalAws,
    stack: DeployedStack,
    replay: Replay,
    ledger: Ledger,
    package: Path | None,
    options: DemoOptions,
    display: Display,
) -> float:
    """Send a replay's events and add the results to the ledger until no event is missing or nothing new comes.

    Returns:
        Seconds from the first event sent to the last result.
    """
    kinesis, s3 = aws.client("kinesis"), aws.client("s3")
    reader = StreamReader(kinesis, stack.output_stream, "TRIM_HORIZON")
    etags: dict[str, str] = {}
    log_path = options.folder / LOG_NAME
    function = (
        EmulatedRuntime(replace(stack.function, package=package), log_path)
        if package
        else running_in_process(stack.function, log_path)
    )
    with logging_to(log_path), function as runtime, ThreadPoolExecutor(1) as thread:
        mapping = EventSourceMapping(stack.mapping, kinesis, runtime, s3=s3)
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
                display.progress(len(replay), ledger, now_s - started_s)
                if ledger.n_lost < n_missing:  # a repeated prediction does not count as progress
                    last_news_s = now_s
                if now_s - last_news_s > options.stall_s:
                    last_error = mapping.stats.last_error or "none"
                    display.warn(f"no new result for {options.stall_s:g} s; last error: {last_error}; see {log_path}")
                    break
            return time.monotonic() - started_s


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


def _rounded(minutes: float) -> float | None:
    return None if math.isnan(minutes) else round(minutes, 4)
