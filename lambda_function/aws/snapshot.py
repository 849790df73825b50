"""SnapStart: what the function puts into the snapshot of its start, and what it renews after a restore.

Lambda starts a published version once and copies its memory into every execution environment that starts later, hours
or weeks afterwards. The snapshot holds the model, because loading it takes longest. Each copy renews:

- clients: their connections ended with the first machine, and their credentials may have expired;
- the monotonic clock: it belongs to another machine and may even go back. It leaps ahead, so everything that is
  scheduled by it is due, above all the next read of the channel;
- randomness: otherwise all copies wait the same random pauses and hit a throttling stream together.

The seed of Python's hashes stays frozen. It guards dicts against keys made to collide; all copies of a version share
it, and no outsider can read it.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol

from lambda_function.aws.model_store import ModelStore
from lambda_function.errors import PredictorError

LEAP_S = 1e9
"""Thirty years: longer than any interval that the clock measures. A float of this size still resolves microseconds."""


class Registry(Protocol):
    """The part of the runtime's `snapshot_restore_py` that the function uses."""

    def register_before_snapshot(self, func: Callable[[], None]) -> object:
        """Register a function to call after the start and before the memory is copied."""

    def register_after_restore(self, func: Callable[[], None]) -> object:
        """Register a function to call in every copy before its first invocation."""


@dataclass(slots=True)
class RestorableClock:
    """Monotonic seconds that never go back, not even on another machine; a restore makes them leap ahead."""

    monotonic: Callable[[], float] = time.monotonic
    _ahead_s: float = field(default=0.0, init=False)
    _frozen_at_s: float = field(default=0.0, init=False)

    def __call__(self) -> float:
        """Return the time."""
        return self.monotonic() + self._ahead_s

    def freeze(self) -> None:
        """Store the time before the snapshot."""
        self._frozen_at_s = self()

    def leap(self) -> None:
        """Continue LEAP_S after the stored time, whatever the machine's clock says."""
        self._ahead_s = self._frozen_at_s + LEAP_S - self.monotonic()


class RenewableClient:
    """A proxy for a client: the client behind it can be replaced while other objects hold the proxy."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def renew(self, client: Any) -> None:
        """Replace the client."""
        self._client.close()
        self._client = client


@dataclass(slots=True)
class Restorable:
    """The parts of a handler that must be renewed after a restore."""

    make: Callable[[], tuple[Any, Any]]  # makes the S3 and the Kinesis client
    clock: RestorableClock = field(default_factory=RestorableClock)
    _clients: tuple[RenewableClient, ...] = field(default=(), init=False)

    def new_clients(self) -> tuple[RenewableClient, RenewableClient]:
        """Make the clients for a handler; a restore renews them."""
        s3, kinesis = map(RenewableClient, self.make())
        self._clients = s3, kinesis
        return s3, kinesis

    def before_snapshot(self, models: ModelStore) -> PredictorError | None:
        """Load the model into the snapshot and close the connections.

        Returns:
            The error if there is no model, or not the channel's newest; a new stack has none and still starts.
        """
        try:
            problem = models.refresh().error
        except PredictorError as error:
            problem = error
        for client in self._clients:
            client.close()
        self.clock.freeze()
        return problem

    def after_restore(self) -> None:
        """Renew clock, randomness and clients. New clients take 11 ms and sign with current credentials."""
        self.clock.leap()
        random.seed()
        for client, new in zip(self._clients, self.make(), strict=True):
            client.renew(new)


def runtime_registry() -> Registry | None:
    """Return the runtime's registry of hooks; None outside Lambda's own Python."""
    try:
        registry: Any = import_module("snapshot_restore_py")
    except ImportError:
        return None
    return registry  # type: ignore[no-any-return]
