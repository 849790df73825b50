"""A deployed function behind its event source mapping, running on while deployments change its code beneath it."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

from infra.local.aws import LocalAws
from infra.local.event_source.config import MappingConfig, MappingStats
from infra.local.event_source.mapping import EventSourceMapping
from infra.local.runtime.emulator import EmulatedRuntime, FunctionConfig


class LiveFunction:
    """The function that a mapping invokes: one package at a time in AWS's own runtime, changed between two batches.

    Lambda too ends an invocation with the code that it began with. Use it in a `with` block.
    """

    def __init__(self, log_path: Path) -> None:
        self._log_path = log_path
        self._lock = threading.Lock()
        self._runtime: EmulatedRuntime | None = None
        self._running = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def use(self, function: FunctionConfig) -> None:
        """Goes on with this package and configuration, from the next batch on.

        Raises:
            EmulatorError: The emulator is not here or does not start: the function goes on as it was.
        """
        self._log_path.touch()
        with ExitStack() as starting:
            runtime = starting.enter_context(EmulatedRuntime(function, self._log_path))
            with self._lock:
                self._running.close()
                self._runtime, self._running = runtime, starting.pop_all()

    def __call__(self, event: dict[str, Any]) -> object:
        """Invokes it.

        Raises:
            FunctionError: The invocation failed.
        """
        with self._lock:
            assert self._runtime is not None
            return self._runtime(event)


class LiveMapping(NamedTuple):
    """A mapping that polls: what it has done so far, and what ends as soon as polling has failed."""

    stats: MappingStats
    polling: Future[None]


@contextmanager
def mapping_running(aws: LocalAws, config: MappingConfig, function: LiveFunction) -> Iterator[LiveMapping]:
    """Runs a mapping in a thread until the block ends."""
    stop = threading.Event()
    mapping = EventSourceMapping(config, aws.client("kinesis"), function, backoff=lambda _: 0.2, s3=aws.client("s3"))
    with ThreadPoolExecutor(1, thread_name_prefix="mapping") as thread:
        try:
            yield LiveMapping(mapping.stats, thread.submit(mapping.run, stop))
        finally:
            stop.set()
