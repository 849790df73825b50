"""Do the steps of a run once: each under the lease, recorded, and told of."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Self

import msgspec

from training.workflows.loop.checkpoints import Checkpoints
from training.workflows.loop.lease import LEASE_S, hold_lease, release_lease
from training.workflows.loop.options import LoopEvent, LoopParts, LoopStart
from training.workflows.loop.state import End, Outcome, RunRecord, StepRecord, Waiting, change_run, read_run

FINISH = "end"

MAX_TEXT = 2_000
"""Characters of a step's text, which may quote others: a checkpoint and an event hold 256 kB, 12 bytes a character."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a step did: see `StepRecord`. `waits_for` is what the run waits for next."""

    outcome: str
    text: str
    facts: dict[str, Any] = field(default_factory=dict)
    end: End | None = None
    waits_for: Waiting | None = None

    @classmethod
    def over(cls, outcome: Outcome, text: str) -> Self:
        """Return a step with which the run ends."""
        return cls(outcome, text, {}, End(outcome, text))

    def waiting(self, what: str, until: datetime) -> Self:
        """Return the same, and the run waits for something."""
        return replace(self, waits_for=Waiting(what=what, until=until))


class EndedError(Exception):
    """The run ends here.

    Attributes:
        end: How and why.
    """

    def __init__(self, end: End) -> None:
        self.end = end
        super().__init__(end.text)


class RunSteps:
    """The steps of one run on a machine that records them."""

    def __init__(self, checkpoints: Checkpoints, parts: LoopParts, start: LoopStart) -> None:
        self.checkpoints = checkpoints
        self._parts = parts
        self._start = start

    def do(self, name: str, action: Callable[[], Done]) -> dict[str, Any]:
        """Do a step unless it is done, and return its facts.

        Args:
            name: Of the step.
            action: It may be called again after it was cut off anywhere.

        Raises:
            EndedError: The run ends with this step, or has ended.
            StepFailedError: The step failed at every attempt.
        """
        step = msgspec.convert(self.checkpoints.step(name, lambda: self._do(name, action)), StepRecord)
        if step.end:
            raise EndedError(step.end)
        return step.facts

    def ask(self, name: str, what: str, send: Callable[[str], None], timeout_s: float) -> dict[str, Any]:
        """Ask a question under the lease, which is held until its time is over, and return the answer.

        Raises:
            EndedError: The run has ended, or another one holds the lease.
            NoAnswerError: As `Checkpoints.ask`; so are AskFailedError and StepFailedError.
        """
        self.do(name, lambda: Done("asked", f"asked for {what}"))

        def send_under_lease(callback_id: str) -> None:
            now = self._parts.clock()
            if self._ended(now, timeout_s) is None:
                until = now + timedelta(seconds=timeout_s)
                self._note_waiting(Waiting(what=what, until=until, callback_id=callback_id))
                send(callback_id)

        return self.checkpoints.ask(f"{name} answer", send_under_lease, timeout_s)

    def finish(self, end: End, clean_up: Callable[[str], None]) -> dict[str, Any]:
        """Record the end of the run and release the lease; return the run's result. An end recorded before stands."""

        def finish() -> dict[str, Any]:
            now, shortened = self._parts.clock(), _shortened(end)
            clean_up(shortened.text)
            record = self._change(lambda run: _ended(run, shortened, now))
            release_lease(self._parts.bucket, record.run_id, now)
            final = record.end or shortened
            step = StepRecord(name=FINISH, at=record.ended_at or now, outcome=final.outcome, text=final.text, end=final)
            self._tell(step)
            return {"run_id": record.run_id, "outcome": final.outcome, "text": final.text}

        return self.checkpoints.step(FINISH, finish)

    def _do(self, name: str, action: Callable[[], Done]) -> dict[str, Any]:
        now = self._parts.clock()
        run = read_run(self._parts.bucket, self._start.run_id)
        step = run.step(name) if run else None
        if step is None:
            end = self._ended(now, run=run)
            done = Done(end.outcome, end.text, {}, end) if end else action()
            text, over = _short(done.text), done.end and _shortened(done.end)
            step = StepRecord(name=name, at=now, outcome=done.outcome, text=text, facts=done.facts, end=over)
            if run is None or run.end is None:
                step = self._record(step, done.waits_for)
        self._tell(step)
        result: dict[str, Any] = msgspec.to_builtins(step)
        return result

    def _ended(self, now: datetime, for_s: float = 0.0, run: RunRecord | None = None) -> End | None:
        """Hold the lease for a while longer; return how the run ends if it may not go on."""
        if run is None:
            run = read_run(self._parts.bucket, self._start.run_id)
        if run and run.end:
            return run.end
        lease = hold_lease(self._parts.bucket, self._start.run_id, now, for_s + LEASE_S)
        if lease.run_id == self._start.run_id:
            return None
        outcome: Outcome = "yielded" if run and run.steps else "refused"
        return End(outcome, f"run {lease.run_id} holds the lease, since {lease.taken_at:%Y-%m-%d %H:%M} UTC")

    def _record(self, step: StepRecord, waiting: Waiting | None) -> StepRecord:
        """Record a step, and return it as it is recorded: the first record of a step stands."""

        def add(run: RunRecord) -> RunRecord:
            if run.step(step.name) or run.end:
                return run
            return msgspec.structs.replace(run, steps=(*run.steps, step), waiting=waiting)

        return self._change(add).step(step.name) or step

    def _note_waiting(self, waiting: Waiting) -> None:
        self._change(lambda run: run if run.end else msgspec.structs.replace(run, waiting=waiting))

    def _change(self, change: Callable[[RunRecord], RunRecord]) -> RunRecord:
        start, options = self._start, self._parts.options
        new = RunRecord(
            run_id=start.run_id,
            channel=options.channel,
            trigger=start.trigger,
            reason=start.reason,
            started_at=self._parts.clock(),
        )
        return change_run(self._parts.bucket, start.run_id, lambda run: change(run or new))

    def _tell(self, step: StepRecord) -> None:
        self._parts.tell(
            LoopEvent(
                event_id=f"{self._start.run_id}/{step.name}",
                run_id=self._start.run_id,
                channel=self._parts.options.channel,
                step=step.name,
                at=step.at,
                outcome=step.outcome,
                text=step.text,
                facts=step.facts,
                end=step.end,
            )
        )


def _ended(run: RunRecord, end: End, now: datetime) -> RunRecord:
    return run if run.end else msgspec.structs.replace(run, end=end, ended_at=now, waiting=None)


def _shortened(end: End) -> End:
    return End(end.outcome, _short(end.text))


def _short(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"
