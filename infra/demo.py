"""The demo: real rides through Kinesis, the function with its model from S3, and out as predictions, all local."""

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from infra.errors import InfraError
from infra.local.mapping import EventSourceMapping, MappingStats
from infra.local.runtime import InProcessRuntime, load_handler
from infra.local.server import LocalAws
from infra.replay import Ledger, Replay
from infra.stack import DeployedStack, deploy
from infra.streams import StreamReader, publish
from infra.transform import TEMPLATE
from lambda_function.publisher import Publisher
from training.baseline import Baseline, fit_baseline
from training.dataset import Rides, default_data_dir, load_rides
from training.errors import MonthUnavailableError
from training.export import ExportedBundle, write_bundle
from training.months import Month, Service
from training.pipeline import find_bundle, train
from training.publish import move_channel, store_bundle
from training.synthetic import synthetic_rides

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
    """

    service: Service
    train_months: tuple[Month, ...]
    validate_months: tuple[Month, ...]
    n_events: int
    folder: Path
    n_shards: int = 1
    template: Path = TEMPLATE
    stall_s: float = 30.0


@dataclass(frozen=True, slots=True)
class DemoReport:
    """What a demo ends with. `rides` are the ride events sent; `lost` must be 0."""

    rides: int
    predicted: int
    rejected: int
    lost: int
    repeated: int
    rides_per_s: float
    rmse_minutes: float
    mae_minutes: float
    baseline_rmse_minutes: float
    model_version: str
    data: Literal["tlc", "synthetic"]


class Display(Protocol):
    """What the demo tells while it runs."""

    def step(self, text: str) -> None:
        """A new step begins."""

    def warn(self, text: str) -> None:
        """Something that the reader should know."""

    def progress(self, n_events: int, n_sent: int, ledger: Ledger, seconds: float) -> None:
        """Where the replay stands; called many times a second."""


def run_demo(options: DemoOptions, display: Display) -> DemoReport:
    """Runs the whole way once.

    Raises:
        InfraError: The embedded AWS, the template or the function did not do their part.
        TrainingError: The data can't be used or the bundle can't be made.
    """
    options.folder.mkdir(parents=True, exist_ok=True)
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
        s3 = aws.client("s3")
        store_bundle(s3, stack.bucket, bundle)
        channel = stack.environment["MODEL_CHANNEL"]
        move_channel(s3, stack.bucket, channel, bundle.model_version, bundle.manifest_sha256)
        replay = Replay.of(validate_rides, options.n_events)
        ledger = Ledger(replay, baseline.predict(replay.rides.columns))
        display.step("replaying rides in order of pickup")
        with _function_running(aws, stack, options.folder / "function.log") as running:
            seconds = _replay(aws, stack, replay, ledger, running, display, options.stall_s)
    return DemoReport(
        rides=len(replay),
        predicted=ledger.n_predicted,
        rejected=ledger.n_rejected,
        lost=ledger.n_lost,
        repeated=ledger.n_repeated,
        rides_per_s=round(len(replay) / seconds, 1),
        rmse_minutes=round(ledger.rmse_minutes, 4),
        mae_minutes=round(ledger.mae_minutes, 4),
        baseline_rmse_minutes=round(ledger.baseline_rmse_minutes, 4),
        model_version=", ".join(ledger.versions),
        data=data,
    )


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


@contextmanager
def _function_running(aws: LocalAws, stack: DeployedStack, log_path: Path) -> Iterator["_Running"]:
    """Runs the function behind its event source mapping, in a thread, until the block ends."""
    stop = threading.Event()
    with (
        _logging_to(log_path),
        load_handler(stack.handler, {**stack.environment, **aws.environment}, log_path) as handler,
        ThreadPoolExecutor(2, thread_name_prefix="demo") as threads,
    ):
        runtime = InProcessRuntime(handler, stack.timeout_s, stack.memory_mb, stack.function_name)
        mapping = EventSourceMapping(stack.mapping, aws.client("kinesis"), runtime)
        try:
            yield _Running(threads, threads.submit(mapping.run, stop), mapping.stats, log_path)
        finally:
            stop.set()


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Brings what the mapping logs, a traceback for each failed batch, into the log: the terminal shows progress."""
    handler = logging.FileHandler(path, encoding="utf-8")
    logger = logging.getLogger("infra")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


@dataclass(frozen=True, slots=True)
class _Running:
    threads: ThreadPoolExecutor
    mapping: Future[None]
    stats: MappingStats
    log_path: Path


class ReplayStalledError(InfraError):
    """The predictions stopped coming."""

    def __init__(self, stall_s: float, last_error: str, log_path: Path) -> None:
        super().__init__(
            f"no prediction came for {stall_s:g} s; the function's last error: {last_error or 'none'}; see {log_path}"
        )


def _replay(
    aws: LocalAws,
    stack: DeployedStack,
    replay: Replay,
    ledger: Ledger,
    running: _Running,
    display: Display,
    stall_s: float,
) -> float:
    """Sends the ride events and reads predictions until all are accounted for; returns the seconds it took."""
    reader = StreamReader(aws.client("kinesis"), stack.output_stream, "TRIM_HORIZON")
    rejects = _RejectReader(aws.client("s3"), stack.bucket)
    sent = _Sent()
    started_s = last_news_s = time.monotonic()
    producer = running.threads.submit(_produce, aws.client("kinesis"), stack.input_stream, replay, sent)
    while (n_out := ledger.n_lost) > 0:
        records = reader.read_once()
        ledger.add_predictions(record.data for record in records)
        if not records:
            rejects.read_into(ledger)
            _raise_failures(producer, running.mapping)
            time.sleep(_IDLE_S)
        now_s = time.monotonic()
        display.progress(len(replay), sent.n, ledger, now_s - started_s)
        last_news_s = now_s if ledger.n_lost < n_out else last_news_s  # what is only repeated is no news
        if now_s - last_news_s > stall_s:
            if not ledger.n_predicted:
                raise ReplayStalledError(stall_s, running.stats.last_error, running.log_path)
            break
    return time.monotonic() - started_s


_IDLE_S = 0.01


@dataclass(slots=True)
class _Sent:
    n: int = 0


def _produce(kinesis: Any, stream: str, replay: Replay, sent: _Sent) -> None:
    for n_sent in publish(Publisher(kinesis, stream), replay.entries()):
        sent.n = n_sent


def _raise_failures(*futures: Future[None]) -> None:
    for future in futures:
        if future.done():
            future.result()


class _RejectReader:
    """Reads the objects of rejects that have not been read before, or have changed since."""

    def __init__(self, s3: Any, bucket: str) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._read: dict[str, str] = {}

    def read_into(self, ledger: Ledger) -> None:
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix="rejects/"):
            for entry in page.get("Contents", ()):
                if self._read.get(entry["Key"]) != entry["ETag"]:
                    ledger.add_rejects(self._s3.get_object(Bucket=self._bucket, Key=entry["Key"])["Body"].read())
                    self._read[entry["Key"]] = entry["ETag"]
