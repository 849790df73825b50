"""What the loop asks the collector and the trainer for, and what they answer: the events of two functions, as JSON."""

from typing import Protocol

import msgspec


class CollectRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Collect labelled rides into one object.

    Attributes:
        first: The first day of pickup, New York, ``2026-08-01``; `last` is the last one, included.
        key: Of the object to write.
        callback_id: By which the answer reaches the run.
    """

    run_id: str
    first: str
    last: str
    key: str
    callback_id: str


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """The collector's answer: the object, and the rides and days that it really has.

    Attributes:
        n_rides: Those that training keeps.
        dropped: The number of the others, by reason.
    """

    key: str
    sha256: str
    n_rides: int
    first: str
    last: str
    dropped: dict[str, int] = {}


class TrainRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Train on collected rides, and gate the model against the newest one of a channel.

    Attributes:
        service: Taxi service, ``green`` or ``yellow``.
        gate_days: The last days of the rides, which only the gate looks at.
        callback_id: By which the answer reaches the run.
        allow: Rules of the data contract that the rides may break.
    """

    run_id: str
    rides_key: str
    rides_sha256: str
    channel: str
    service: str
    gate_days: int
    callback_id: str
    allow: tuple[str, ...] = ()


class Trained(msgspec.Struct, frozen=True, kw_only=True):
    """The trainer's answer: the stored version, and whether it passed the gate.

    Attributes:
        reason: Why it passed or failed, in one sentence.
    """

    model_version: str
    manifest_sha256: str
    passed: bool
    failed_rules: tuple[str, ...] = ()
    reason: str = ""
    n_rides: int = 0


class Workers(Protocol):
    """Starts work that takes minutes. The answer comes by the request's callback id."""

    def collect(self, request: CollectRequest) -> None:
        """Ask for rides. Asked again with the same run, the collector gives the same answer."""

    def train(self, request: TrainRequest) -> None:
        """Ask for a model. Asked again with the same run, the trainer gives the same answer."""
