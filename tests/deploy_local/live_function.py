"""A deployed function behind its event source mapping. Both run on while deployments change the function's code."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

from infra.local.aws import LocalAws
from infra.local.event_source.batcher import Timing
from infra.local.event_source.config import MappingConfig, MappingStats
from infra.local.event_source.mapping import EventSourceMapping, polling
from infra.local.runtime.emulator import EmulatedRuntime
from infra.local.runtime.function import FunctionConfig


class LiveFunction:
    """A function that runs one package at a time in AWS's own runtime. The package changes between two batches.

    Lambda, too, ends an invocation with the code that it began with. Use it in a `with` block.
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
        """Use this package and configuration from the next batch on.

        Raises:
            UserError: The emulator is not available or does not start; the function continues with the package before.
        """
        self._log_path.touch()
        with ExitStack() as starting:
            runtime = starting.enter_context(EmulatedRuntime(function, self._log_path))
            with self._lock:
                self._running.close()
                self._runtime, self._running = runtime, starting.pop_all()

    def __call__(self, event: dict[str, Any]) -> object:
        """Invoke the function.

        Raises:
            FunctionError: The invocation failed.
        """
        with self._lock:
            assert self._runtime is not None
            return self._runtime(event)


class LiveMapping(NamedTuple):
    """A running mapping: its counters, and a future that is done early only if polling fails."""

    stats: MappingStats
    polling: Future[None]


@contextmanager
def mapping_running(aws: LocalAws, config: MappingConfig, function: LiveFunction) -> Iterator[LiveMapping]:
    """Run a mapping in a thread until the block ends."""
    mapping = EventSourceMapping(
        config, aws.client("kinesis"), function, Timing(backoff=lambda _: 0.2), s3=aws.client("s3")
    )
    with polling(mapping) as polls:
        yield LiveMapping(mapping.stats, polls)
