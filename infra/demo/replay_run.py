"""A replay on a stack of the embedded AWS: the function behind its mapping, a producer, and a reader that accounts."""

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from infra.demo.function_run import FunctionRun
from infra.demo.replay import Ledger, Replay
from infra.local.mapping import EventSourceMapping, MappingStats
from infra.local.server import LocalAws
from infra.stack import DeployedStack
from infra.streams import StreamReader, publish
from lambda_function.publisher import Publisher

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
