"""The demo: real rides through Kinesis, the function with its model from S3, and out as predictions, all local."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from infra.local.aws import LocalAws
from infra.local.demo.replay import Display, Ledger, Replay, run_replay
from infra.local.runtime.function import FunctionRun
from infra.local.stack import deploy
from infra.stack.package import build_for_host
from infra.stack.template import TEMPLATE
from training.data.load import load_rides
from training.data.months import Month, Service, default_data_dir
from training.data.rides import Rides
from training.data.synthetic import synthetic_rides
from training.errors import MonthUnavailableError
from training.model.baseline import Baseline, fit_baseline
from training.model.bundle import ExportedBundle
from training.model.export import write_bundle
from training.registry.bucket import Bucket
from training.registry.channels import move_channel, store_bundle
from training.workflows.pipeline import find_bundle, train

LOG_NAME = "function.log"
"""What the function printed, in the demo's folder."""

_N_SYNTHETIC_RIDES = 60_000
_SEED = 2021


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What to run.

    Attributes:
        n_events: Ride events to send, a few malformed ones among them.
        folder: Where bundles are kept between runs, and the function's log.
        n_shards: Of the input and of the output stream.
        template: What the stack is created from.
        stall_s: Without a new prediction for so long, what is still out counts as lost.
        runtime: Where the function runs: its source in this process, or its built package in AWS's own runtime.
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
    """What a demo ends with. `rides` are the events sent, `lost` must be 0, errors are None without a prediction."""

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
    """Runs the whole way once.

    Raises:
        UserError: The embedded AWS, the template or the function did not do their part.
        UserError: The data can't be used or the bundle can't be made.
    """
    options.folder.mkdir(parents=True, exist_ok=True)
    function = _function(options, display)
    with LocalAws() as aws:  # starts while the model is trained
        display.step("loading rides")
        train_rides, validate_rides, data = _load(options, display)
        bundle, baseline = _model(options, train_rides, validate_rides, display)
        display.step("creating the stack from template.yaml")
        stack = deploy(
            aws.client,
            path=options.template,
            parameters={"RideEventsShards": options.n_shards, "RidePredictionsShards": options.n_shards},
        )
        bucket = Bucket(aws.client("s3"), stack.bucket)
        store_bundle(bucket, bundle)
        channel = stack.environment["MODEL_CHANNEL"]
        move_channel(bucket, channel, bundle.model_version, bundle.manifest_sha256)
        replay = Replay.of(validate_rides, options.n_events)
        ledger = Ledger(replay, baseline.predict(replay.rides.columns))
        display.step("replaying rides in order of pickup")
        seconds = run_replay(aws, stack, replay, ledger, function, display, options.stall_s)
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


def _function(options: DemoOptions, display: Display) -> FunctionRun:
    """Makes what runs the function: first of all, for it may turn out that it can't be had here."""
    log_path = options.folder / LOG_NAME
    if options.runtime == "in-process":
        return FunctionRun(log_path)
    display.step("building the function's package")
    return FunctionRun(log_path, build_for_host().folder)


def _load(options: DemoOptions, display: Display) -> tuple[Rides, Rides, Literal["tlc", "synthetic"]]:
    """Loads training and validation rides; makes some up where TLC's can't be had."""
    folder = default_data_dir()
    try:
        return (
            load_rides(options.service, options.train_months, data_dir=folder),
            load_rides(options.service, options.validate_months, data_dir=folder),
            "tlc",
        )
    except MonthUnavailableError as error:
        display.warn(f"{error}. Until then the demo runs on made-up rides: its errors say nothing about New York.")
        made_up = [
            synthetic_rides(months[-1], _N_SYNTHETIC_RIDES, _SEED)
            for months in (options.train_months, options.validate_months)
        ]
        return made_up[0], made_up[1], "synthetic"


def _model(
    options: DemoOptions, train_rides: Rides, validate_rides: Rides, display: Display
) -> tuple[ExportedBundle, Baseline]:
    """Returns the bundle of these months, trained if there is none yet, and the baseline beside it."""
    bundles = options.folder / "bundles"
    found = find_bundle(bundles, options.service, train_rides, validate_rides)
    if found:
        display.step(f"using {found.model_version}, trained before")
        return found, fit_baseline(train_rides)
    run = train(options.service, train_rides, validate_rides, on_step=display.step)
    write_bundle(run.bundle, bundles)
    return run.bundle, run.baseline


def _rounded(minutes: float) -> float | None:
    return None if math.isnan(minutes) else round(minutes, 4)
