"""The loop on this machine: the collector, the trainer and the run itself in one process.

Results are kept in a file, so a run goes on after its process has ended. Waits of days pass by the clock.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from training.registry.bucket import Bucket
from training.registry.channels import Mover
from training.registry.signing import Signer
from training.workflows.collected import collect
from training.workflows.loop.flow import run_loop
from training.workflows.loop.local import LocalExecution
from training.workflows.loop.options import LoopEvent, LoopOptions, LoopParts, LoopStart, mover_name
from training.workflows.loop.requests import CollectRequest, TrainRequest
from training.workflows.loop.state import RunRecord, read_run, read_runs
from training.workflows.retrain import retrain

OnStep = Callable[[str], None]


def _nothing(_: object) -> None: ...


@dataclass(frozen=True, slots=True)
class LocalWorkers:
    """The collector and the trainer in this process: they have answered when they return.

    Attributes:
        bucket: Has the rides, the models and the channels.
        execution: The run that asks.
        signer: If models are to be signed.
        on_step: Receives the name of each step as it begins.
    """

    bucket: Bucket
    execution: LocalExecution
    signer: Signer | None = None
    on_step: OnStep = _nothing

    def collect(self, request: CollectRequest) -> None:
        """Collect rides, and answer."""
        self._answer(request.callback_id, lambda: collect(self.bucket, request, self.on_step))

    def train(self, request: TrainRequest) -> None:
        """Train a model, and answer."""
        self._answer(request.callback_id, lambda: retrain(self.bucket, request, self.signer, self.on_step))

    def _answer(self, callback_id: str, work: Callable[[], msgspec.Struct]) -> None:
        try:
            answer = work()
        except Exception as error:  # noqa: BLE001 - whatever it is, the run decides what follows, as on AWS
            self.execution.fail(callback_id, type(error).__name__, str(error))
        else:
            self.execution.answer(callback_id, msgspec.to_builtins(answer))


@dataclass(frozen=True, slots=True)
class LocalLoop:
    """Runs of the loop on this machine.

    Attributes:
        bucket: Of the models, the labelled rides and the loop's state.
        folder: Has a file of results for each run that began here.
        options: How the loop decides.
        clock: Returns the time, aware.
        signer: If models are to be signed.
    """

    bucket: Bucket
    folder: Path
    options: LoopOptions
    clock: Callable[[], datetime]
    signer: Signer | None = None

    def open_run(self) -> RunRecord | None:
        """Return the newest run that began here and has not ended; None if there is none."""
        return next((run for run in read_runs(self.bucket) if run.end is None and self.began_here(run.run_id)), None)

    def began_here(self, run_id: str) -> bool:
        """Whether a run's file of results is in the folder."""
        return self._path(run_id).is_file()

    def resume(
        self, start: LoopStart, on_step: OnStep = _nothing, tell: Callable[[LoopEvent], None] = _nothing
    ) -> dict[str, Any] | None:
        """Run, or go on with a run, until it ends or has to wait; return its result, None if it waits.

        Raises:
            UserError: The file of results can't be read or written.
            StepFailedError: The end of the run could not be recorded.
        """
        execution = self._execution(start.run_id)
        parts = LoopParts(
            bucket=self.bucket,
            options=self.options,
            workers=LocalWorkers(self.bucket, execution, self.signer, on_step),
            tell=tell,
            clock=self.clock,
            mover_of=lambda run_id: Mover(mover_name(run_id), self.clock),
            signer=self.signer,
        )
        return execution.resume(lambda checkpoints: run_loop(checkpoints, parts, start))

    def next_due(self, run_id: str) -> datetime | None:
        """Return when a run goes on by itself; None if it has ended."""
        return self._execution(run_id).next_due()

    def approve(self, run_id: str, callback_id: str, answer: dict[str, Any]) -> bool:
        """Answer a run's question for approval; return False if it was answered before or its time is over."""
        return self._execution(run_id).answer(callback_id, answer)

    def _execution(self, run_id: str) -> LocalExecution:
        return LocalExecution(self._path(run_id), self.clock)

    def _path(self, run_id: str) -> Path:
        return self.folder / f"{run_id}.json"


def start_of(record: RunRecord) -> LoopStart:
    """Return the start of a run that has begun."""
    return LoopStart(run_id=record.run_id, trigger=record.trigger, reason=record.reason)


def new_run_id(now: datetime) -> str:
    """Return the id of a run that begins now.

    >>> new_run_id(datetime(2026, 11, 29, 20, 15, 30, tzinfo=UTC))
    '20261129-201530'
    """
    return now.astimezone(UTC).strftime("%Y%m%d-%H%M%S")


def find_run(bucket: Bucket, run_id: str | None) -> RunRecord | None:
    """Return the record of a run, or of the newest one if none is named; None if there is none."""
    if run_id:
        return read_run(bucket, run_id)
    return next(iter(read_runs(bucket, 1)), None)
