"""What the loop is told to do, and the parts that it works with."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import msgspec

from lambda_function.core.channel import ACTIVATION_DELAY_S
from training.errors import UserError
from training.monitoring.calibration.status import CalibrationMode
from training.registry.bucket import Bucket
from training.registry.channels import FORCED_CHANNEL, Mover
from training.registry.signing import Signer
from training.workflows.loop.requests import Workers
from training.workflows.loop.state import End, Trigger, check_run_id

CANDIDATE_CHANNEL = FORCED_CHANNEL
"""The channel that the loop puts a gated candidate into, for people and other stacks to look at."""

MAX_DAYS = 366
"""Of a comparison and of a watch; durable executions end after a year."""

DAY_S = 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopOptions:
    """How the loop decides.

    Attributes:
        channel: The channel to keep good.
        approval: `manual` asks a person before it promotes.
        undecided: What follows when the budget ends without an answer.
        training_days: Days of labelled rides that a model learns from, the gate's included.
        gate_days: The last of them, which only the gate looks at.
        cooldown_days: From the beginning of a run to the next one that the schedule or an alarm may start.
        min_rides: Labelled rides in the training days; fewer refuse a run.
        budget_days: Days of comparison with the champion, at most.
        watch_days: Days after a promotion on which it may be rolled back; 0 for no watch.
        margin_percent: Differences below it, in percent of the champion's MSE, do not matter.
        answer_timeout_s: The time that collector and trainer have for an answer.
        approval_timeout_s: The time that a person has to approve.
        activation_delay_s: The time that functions may need to read a channel.
        calibration_mode: The stack's.
        stack: The stack's name, for texts; "" on this machine.
    """

    channel: str = "stable"
    approval: Literal["auto", "manual"] = "auto"
    undecided: Literal["keep", "promote"] = "keep"
    training_days: int = 365
    gate_days: int = 14
    cooldown_days: int = 7
    min_rides: int = 10_000
    budget_days: int = 28
    watch_days: int = 7
    margin_percent: float = 2.0
    answer_timeout_s: float = 1200.0
    approval_timeout_s: float = 7 * DAY_S
    activation_delay_s: float = ACTIVATION_DELAY_S
    calibration_mode: CalibrationMode = CalibrationMode.DAILY
    stack: str = ""

    def __post_init__(self) -> None:
        if self.channel == CANDIDATE_CHANNEL:
            problem = f"the loop puts its candidates into {CANDIDATE_CHANNEL}, so it cannot keep that channel"
            raise UserError(problem, "give another one, such as stable")
        if not 0 < self.gate_days < self.training_days:
            problem = f"the gate has {self.gate_days} of {self.training_days} training days"
            raise UserError(problem, "give it at least one, and leave at least one for training")
        if not 1 <= self.budget_days <= MAX_DAYS or not 0 <= self.watch_days <= MAX_DAYS:
            problem = f"a comparison of {self.budget_days} days and a watch of {self.watch_days} days make no sense"
            raise UserError(problem, f"give 1 to {MAX_DAYS} days of comparison, and 0 to {MAX_DAYS} of watch")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopStart:
    """Why a run begins.

    Attributes:
        run_id: The same whenever the run is resumed.
        reason: In words, as in "monthly".
    """

    run_id: str
    trigger: Trigger
    reason: str = ""

    def __post_init__(self) -> None:
        check_run_id(self.run_id)


class LoopEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A step that is done, or the end of a run; the same event may be told more than once, with the same id."""

    event_id: str
    run_id: str
    channel: str
    step: str
    at: datetime
    outcome: str
    text: str
    facts: dict[str, Any] = {}
    end: End | None = None


Tell = Callable[[LoopEvent], None]
"""Tells people and other programs of a step. If it raises, the step is tried again, and told again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopParts:
    """What a run works with. `clock` returns the time, aware."""

    bucket: Bucket
    options: LoopOptions
    workers: Workers
    tell: Tell
    clock: Callable[[], datetime]
    mover_of: Callable[[str], Mover]
    signer: Signer | None = None

    def mover(self, run_id: str) -> Mover:
        """Return the mover of a run: its name is in the history of channels."""
        return self.mover_of(run_id)


def mover_name(run_id: str) -> str:
    """Return the name of the loop's mover.

    >>> mover_name("20261129-194000")
    'loop/20261129-194000'
    """
    return f"loop/{run_id}"
