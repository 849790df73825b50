"""A replay: real rides as ride events in order of pickup, and the ledger that accounts for each of them."""

import logging
import math
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from infra.local.aws import LocalAws
from infra.local.event_source.config import MappingStats
from infra.local.event_source.mapping import EventSourceMapping
from infra.local.runtime.function import FunctionRun
from infra.local.stack import DeployedStack
from infra.operate.streams import StreamReader, publish, ride_event_bytes
from lambda_function.aws.publisher import Publisher
from lambda_function.core.events import Prediction, decode_prediction, decode_reject, partition_key
from lambda_function.core.features import RideColumns
from lambda_function.core.records import Entry
from training.data.rides import Rides

MALFORMED = (
    b"not JSON at all",
    b'{"ride": {"PULocationID": 130, "DOLocationID": 205, "trip_distance": NaN}, "ride_id": "malformed"}',
    b'{"ride": {"PULocationID": 130, "DOLocationID": 266, "trip_distance": 3.66}, "ride_id": "malformed"}',
    b'{"ride": {"PULocationID": 130, "trip_distance": 3.66}, "ride_id": "malformed"}',
    b"\xff\xfe\x00\x01",
)
"""What a replay mixes in on purpose: each must end as a reject, and its neighbours as predictions."""

_EVENTS_PER_MALFORMED = 100


@dataclass(frozen=True, slots=True)
class Replay:
    """Rides on their way: ride event number i carries `ride_id` i; the malformed ones come last in number.

    Attributes:
        rides: In order of pickup.
        n_malformed: Events that are no rides, spread evenly among the others.
    """

    rides: Rides
    n_malformed: int

    @classmethod
    def of(cls, rides: Rides, n_events: int) -> "Replay":
        """Takes rides spread evenly over the months, all where there are fewer, and makes room for malformed events."""
        n_malformed = min(len(MALFORMED), n_events // _EVENTS_PER_MALFORMED)
        n_rides = min(n_events - n_malformed, len(rides))
        return cls(rides.take(np.linspace(0, len(rides) - 1, n_rides).astype(np.intp)), n_malformed)

    def __len__(self) -> int:
        return len(self.rides) + self.n_malformed

    def entries(self) -> list[Entry]:
        """Lists what a producer sends, in order: partition key and data."""
        columns = self.rides.columns
        ids = range(len(self.rides))
        data = ride_event_bytes(
            columns.pickup_zone, columns.dropoff_zone, _bookable_miles(columns), self.rides.pickup_time, ids
        )
        entries = [(partition_key(number), event) for number, event in enumerate(data)]
        for kind in reversed(range(self.n_malformed)):  # each into the middle of its share, from the end
            place = (2 * kind + 1) * len(data) // (2 * self.n_malformed)
            entries.insert(place, (f"malformed-{kind}", MALFORMED[kind]))
        return entries


class Ledger:
    """Where each ride event of a replay has ended, and how far the predictions are off so far."""

    def __init__(self, replay: Replay, baseline_minutes: NDArray[np.float64]) -> None:
        """Opens the ledger; `baseline_minutes` (n rides,) is what the baseline predicts for the replay's rides."""
        self._replay = replay
        self._actual = replay.rides.duration_minutes
        self._baseline = baseline_minutes
        self._is_predicted = bytearray(len(replay.rides))
        self._rejected: set[str] = set()
        self._squared = self._absolute = self._baseline_squared = 0.0
        self.n_predicted = 0
        self.n_repeated = 0
        self.versions: dict[str, int] = {}

    def add_predictions(self, data: Iterable[bytes]) -> None:
        """Enters predictions as the output stream brings them; another one of the same ride counts as repeated."""
        fresh = [prediction for line in data if self._is_fresh(prediction := decode_prediction(line))]
        if not fresh:
            return
        rows = np.fromiter((int(one.prediction.ride_id) for one in fresh), np.intp, len(fresh))
        minutes = np.fromiter((one.prediction.ride_duration for one in fresh), np.float64, len(fresh))
        error = minutes - self._actual[rows]
        self._squared += float(error @ error)
        self._absolute += float(np.abs(error).sum())
        baseline_error = self._baseline[rows] - self._actual[rows]
        self._baseline_squared += float(baseline_error @ baseline_error)
        self.n_predicted += len(fresh)

    def _is_fresh(self, prediction: Prediction) -> bool:
        ride = int(prediction.prediction.ride_id)
        if self._is_predicted[ride]:
            self.n_repeated += 1
            return False
        self._is_predicted[ride] = True
        self.versions[prediction.version] = self.versions.get(prediction.version, 0) + 1
        return True

    def add_rejects(self, ndjson: bytes) -> None:
        """Enters the rejects of one stored object; an event that was sent or rejected twice counts once."""
        self._rejected.update(decode_reject(line).partition_key for line in ndjson.splitlines())

    @property
    def n_rejected(self) -> int:
        """Ride events rejected."""
        return len(self._rejected)

    @property
    def n_lost(self) -> int:
        """Ride events that are neither predicted nor rejected; below 0 where one is both, which must not be either."""
        return len(self._replay) - self.n_predicted - self.n_rejected

    @property
    def rmse_minutes(self) -> float:
        """Root mean squared error of the predictions so far; NaN before the first."""
        return _root_mean(self._squared, self.n_predicted)

    @property
    def mae_minutes(self) -> float:
        """Mean absolute error of the predictions so far; NaN before the first."""
        return self._absolute / self.n_predicted if self.n_predicted else math.nan

    @property
    def baseline_rmse_minutes(self) -> float:
        """The baseline's root mean squared error on the rides predicted so far; NaN before the first."""
        return _root_mean(self._baseline_squared, self.n_predicted)


def _bookable_miles(columns: RideColumns) -> NDArray[np.float64]:
    """Returns distances as an event can carry them: TLC's missing and negative ones become 0, which means missing."""
    miles = columns.trip_distance_miles
    return np.where(miles > 0, miles, 0.0)


def _root_mean(total: float, n: int) -> float:
    return math.sqrt(total / n) if n else math.nan


# MERGED FROM infra/demo/replay_run.py
# A replay on a stack of the embedded AWS: the function behind its mapping, a producer, and a reader that accounts.
_IDLE_S = 0.01


class Display(Protocol):
    """What the demo tells while it runs."""

    def step(self, text: str) -> None:
        """A new step begins."""

    def warn(self, text: str) -> None:
        """Something that the reader should know."""

    def progress(self, n_events: int, n_sent: int, ledger: Ledger, seconds: float) -> None:
        """Where the replay stands; called many times a second."""


def run_replay(
    aws: LocalAws,
    stack: DeployedStack,
    replay: Replay,
    ledger: Ledger,
    function: FunctionRun,
    display: Display,
    stall_s: float,
) -> float:
    """Sends a replay's ride events and enters what comes of them into the ledger, until each is accounted for.

    Args:
        aws: Where the stack is.
        stack: Its mapping and the producer run in threads.
        replay: What is sent.
        ledger: Where each event's end is entered; `n_lost` is what has none.
        function: How the stack's function is run.
        display: Told how it goes.
        stall_s: Gives up once nothing new has ended for so long.

    Returns:
        Seconds from the first event sent to the last one accounted for.
    """
    with _function_running(aws, stack, function) as running:
        started_s = time.monotonic()
        _follow(aws, stack, replay, ledger, running, display, stall_s)
        return time.monotonic() - started_s


@contextmanager
def _function_running(aws: LocalAws, stack: DeployedStack, function: FunctionRun) -> Iterator["_Running"]:
    """Runs the function behind its event source mapping, in a thread, until the block ends."""
    stop = threading.Event()
    with (
        _logging_to(function.log_path),
        function.start(aws, stack) as runtime,
        ThreadPoolExecutor(2, thread_name_prefix="demo") as threads,
    ):
        mapping = EventSourceMapping(stack.mapping, aws.client("kinesis"), runtime, s3=aws.client("s3"))
        try:
            yield _Running(threads, threads.submit(mapping.run, stop), mapping.stats, function.log_path)
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


def _follow(
    aws: LocalAws,
    stack: DeployedStack,
    replay: Replay,
    ledger: Ledger,
    running: _Running,
    display: Display,
    stall_s: float,
) -> None:
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
            last_error = running.stats.last_error or "none"
            display.warn(
                f"nothing new for {stall_s:g} s; the function's last error: {last_error}; see {running.log_path}"
            )
            return


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
