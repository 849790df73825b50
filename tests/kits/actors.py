"""Processes that use one bucket at the same time: each runs from one S3 call to the next when it is told to."""

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.builders_failed import ProcessEnd
from tests.fakes import BUCKET
from tests.outcomes import NO_ANSWER, SERVICE_DOWN
from training.registry.bucket import Bucket

FAULTS = ("end before", "end after", "lost answer", "resent", "refused")


@dataclass
class Actor:
    """A process that runs from one S3 call to the next on request, with random faults."""

    job: Callable[[Bucket], None]
    s3: Any
    rng: random.Random
    fault_share: float
    is_done: bool = False
    failure: BaseException | None = None
    _go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _paused: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def start(self) -> None:
        """Start, and wait for the first step."""
        threading.Thread(target=self._run, daemon=True).start()

    def step(self) -> None:
        """Run to the next call, or to the end."""
        self._go.release()
        self._paused.acquire()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.s3, name)
        return lambda **request: self._call(lambda: method(**request))

    def _run(self) -> None:
        self._go.acquire()
        try:
            self.job(Bucket(self, BUCKET, n_threads=1))  # so that each run repeats
        except ProcessEnd:
            pass
        except BaseException as failure:  # noqa: BLE001 - raised again by the test's own thread
            self.failure = failure
        self.is_done = True
        self._paused.release()

    def _call(self, call: Callable[[], Any]) -> Any:
        self._pause()
        fault = self.rng.choice(FAULTS) if self.rng.random() < self.fault_share else ""
        if fault == "end before":
            raise ProcessEnd
        if fault == "refused":
            raise SERVICE_DOWN
        answer = call()
        if fault == "resent":  # the answer was lost, and the client has sent it again by itself
            self._pause()
            answer = call()
        if fault == "end after":
            raise ProcessEnd
        if fault == "lost answer":
            raise NO_ANSWER
        return answer

    def _pause(self) -> None:
        self._paused.release()
        self._go.acquire()


def interleave(actors: Sequence[Actor], rng: random.Random) -> None:
    """Let one actor after the other make a call, in random order, until all have ended; raise what one has raised."""
    for actor in actors:
        actor.start()
    while alive := [actor for actor in actors if not actor.is_done]:
        rng.choice(alive).step()
    for actor in actors:
        if actor.failure:
            raise actor.failure
