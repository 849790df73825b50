"""A deployed function that runs on while deployments change its code."""

import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

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
