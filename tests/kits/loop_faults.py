"""Faults of a run of the loop: at one call of each step, to S3, to a worker or to those who are told."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.builders_failed import ProcessEnd
from tests.outcomes import NO_ANSWER, SERVICE_DOWN
from training.workflows.loop.checkpoints import Checkpoints

FAULTS = ("end after", "lost answer", "refused")
"""A process that ends before a call is one that ends after the call before it."""


@dataclass
class StepFaults:
    """Lets the n-th call of each step fail at the first attempt, or those of all attempts while `is_down` says so.

    Attributes:
        n_call: Counted from 0; None for no fault.
        fault: One of FAULTS, or "meanwhile": somebody else does `deed` just before the call.
        only: The step in which it comes; "" for all.
        n_failed: Steps in which the fault came.
    """

    n_call: int | None = None
    fault: str = "end after"
    only: str = ""
    deed: Callable[[], object] = lambda: None
    is_down: Callable[[], bool] = lambda: False
    n_failed: int = 0
    _left: int | None = None
    _seen: set[str] = field(default_factory=set)

    def around(self, call: Callable[[], Any]) -> Any:
        """Make a call, or let it fail."""
        if self.is_down():
            raise SERVICE_DOWN
        if self._left is None:
            return call()
        self._left -= 1
        if self._left >= 0:
            return call()
        self._left = None
        self.n_failed += 1
        if self.fault == "refused":
            raise SERVICE_DOWN
        if self.fault == "meanwhile":
            self.deed()
            return call()
        call()
        raise ProcessEnd if self.fault == "end after" else NO_ANSWER

    def begin(self, name: str) -> None:
        """Note that an attempt of a step begins."""
        is_first = name not in self._seen and name.startswith(self.only)
        self._seen.add(name)
        self._left = self.n_call if is_first else None


@dataclass
class FaultyCheckpoints:
    """Checkpoints that tell the faults when an attempt of a step begins."""

    checkpoints: Checkpoints
    faults: StepFaults

    def step(self, name: str, do: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Do a step."""

        def begin() -> dict[str, Any]:
            self.faults.begin(name)
            return do()

        return self.checkpoints.step(name, begin)

    def wait(self, name: str, seconds: float) -> None:
        """Wait."""
        self.checkpoints.wait(name, seconds)

    def ask(self, name: str, send: Callable[[str], None], timeout_s: float) -> dict[str, Any]:
        """Ask."""

        def begin(callback_id: str) -> None:
            self.faults.begin(name)
            send(callback_id)

        return self.checkpoints.ask(name, begin, timeout_s)


class Watched:
    """An object whose methods are calls that the faults know of."""

    def __init__(self, target: Any, faults: StepFaults) -> None:
        self._target = target
        self._faults = faults

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._target, name)
        return lambda *arguments, **request: self._faults.around(lambda: method(*arguments, **request))
