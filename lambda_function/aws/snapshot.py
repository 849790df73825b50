"""SnapStart: what the function puts into the snapshot of its start, and what it renews when it is restored from one.

A published version starts once, and its memory is copied for every environment that is started later, in hours or in
weeks. So a snapshot holds the model, for that takes longest to load; and these are renewed in every copy:

- clients: their connections ended with the machine that made them, and their credentials are of its time;
- the monotonic clock, which is another machine's and may even go back: it leaps, and all that is measured by it is due,
  the next look at the channel above all;
- randomness: all copies would wait the same random pauses, and meet again at a stream that throttles them.

What is left frozen: the seed of Python's hashes, which guards dicts against keys made to collide. All copies share it
with the version, and nobody outside sees it.
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
"""Thirty years: longer than any interval that the clock measures; and seconds that large still have microseconds."""


class Registry(Protocol):
    """What of the runtime's `snapshot_restore_py` is needed here."""

    def register_before_snapshot(self, func: Callable[[], None]) -> object:
        """Has a function called when the start has ended, and before its memory is copied."""

    def register_after_restore(self, func: Callable[[], None]) -> object:
        """Has a function called in every copy, before its first invocation."""


@dataclass(slots=True)
class RestorableClock:
    """Monotonic seconds: neither a snapshot nor another machine takes them back, and a restore is a leap ahead."""

    monotonic: Callable[[], float] = time.monotonic
    _ahead_s: float = field(default=0.0, init=False)
    _frozen_at_s: float = field(default=0.0, init=False)

    def __call__(self) -> float:
        """Returns the time."""
        return self.monotonic() + self._ahead_s

    def freeze(self) -> None:
        """Notes the time before the snapshot."""
        self._frozen_at_s = self()

    def leap(self) -> None:
        """Goes on from the time noted, and LEAP_S later, whatever the machine's own clock says."""
        self._ahead_s = self._frozen_at_s + LEAP_S - self.monotonic()


class RenewableClient:
    """Stands for a client, in whose place another can be put while the function's parts hold on to this."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def renew(self, client: Any) -> None:
        """Puts another client in its place."""
        self._client.close()
        self._client = client


@dataclass(slots=True)
class Restorable:
    """What a handler is built from that must not stay as it was in the snapshot.

    Attributes:
        make: Makes the S3 and the Kinesis client.
        reseed: Takes new randomness from the system.
    """

    make: Callable[[], tuple[Any, Any]]
    clock: RestorableClock = field(default_factory=RestorableClock)
    reseed: Callable[[], None] = random.seed
    _clients: tuple[RenewableClient, ...] = field(default=(), init=False)

    def new_clients(self) -> tuple[RenewableClient, RenewableClient]:
        """Makes the clients to build a handler around: those that a restore renews."""
        s3, kinesis = map(RenewableClient, self.make())
        self._clients = s3, kinesis
        return s3, kinesis

    def before_snapshot(self, models: ModelStore) -> PredictorError | None:
        """Loads the model into the snapshot, and ends the connections that took.

        Returns:
            Why there is no model in it: a stack has none at first, and comes up nevertheless.
        """
        problem = None
        try:
            models.refresh()
        except PredictorError as error:
            problem = error
        for client in self._clients:
            client.close()
        self.clock.freeze()
        return problem

    def after_restore(self) -> None:
        """Renews what must not stay as it was: new clients take 11 ms, and are sure to sign with credentials of now."""
        self.clock.leap()
        self.reseed()
        for client, new in zip(self._clients, self.make(), strict=True):
            client.renew(new)


def runtime_registry() -> Registry | None:
    """Returns the runtime's registry of hooks; None in a Python that is not Lambda's own."""
    try:
        registry: Any = import_module("snapshot_restore_py")
    except ImportError:
        return None
    return registry  # type: ignore[no-any-return]
