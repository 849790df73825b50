"""The loop in virtual time: its schedule and its alarms, and its runs. Its workers answer at once."""

from collections.abc import Callable
from datetime import date, datetime
from functools import partial

from infra.local.loop import LocalWorkers
from infra.local.simulation.simulation import CHANNEL
from training.monitoring.calibration.status import CalibrationMode
from training.registry.bucket import Bucket
from training.registry.channels import Mover
from training.workflows.loop.flow import run_loop
from training.workflows.loop.local import LocalExecution
from training.workflows.loop.options import LoopEvent, LoopOptions, LoopParts, LoopStart, mover_name
from training.workflows.loop.state import Trigger


class SimulatedLoop:
    """The loop of a stack: a run on the first day of each month, and one for each alarm.

    Args:
        bucket: The stack's bucket.
        options: How it decides.
        clock: Returns the time, aware.

    Attributes:
        events: What it has told.
    """

    def __init__(self, bucket: Bucket, options: LoopOptions, clock: Callable[[], datetime]) -> None:
        self.events: list[LoopEvent] = []
        self._bucket = bucket
        self._options = options
        self._clock = clock
        self._runs: list[tuple[LocalExecution, LoopStart]] = []

    def on_day(self, day: date) -> None:
        """Do what the schedule does on a day in New York."""
        if day.day == 1:
            self.start("schedule", "monthly")

    def on_alarm(self, text: str) -> None:
        """Do what the rule of the monitor's alarms does."""
        self.start("alarm", text)

    def start(self, trigger: Trigger, reason: str) -> None:
        """Start a run."""
        run_id = f"{self._clock():%Y%m%d}-{trigger}-{len(self._runs) + 1}"
        start = LoopStart(run_id=run_id, trigger=trigger, reason=reason)
        self._runs.append((LocalExecution(None, self._clock), start))
        self.resume()

    def resume(self) -> None:
        """Go on with the runs that are due."""
        for execution, start in self._runs:
            due = execution.next_due()
            if not execution.is_over and (due is None or due <= self._clock()):
                execution.resume(partial(run_loop, parts=self._parts(execution), start=start))

    def _parts(self, execution: LocalExecution) -> LoopParts:
        return LoopParts(
            bucket=self._bucket,
            options=self._options,
            workers=LocalWorkers(self._bucket, execution),
            tell=self.events.append,
            clock=self._clock,
            mover_of=lambda run_id: Mover(mover_name(run_id), self._clock),
        )


def loop_options(mode: CalibrationMode, stack: str) -> LoopOptions:
    """Return the options of a stack's loop, all by default."""
    return LoopOptions(channel=CHANNEL, calibration_mode=mode, stack=stack)
