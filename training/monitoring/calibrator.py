"""Live calibration of a channel: which tick is due, its state in the bucket, and the channel's move."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal

import msgspec

from lambda_function.core.channel import ACTIVATION_DELAY_S
from training.monitoring.hours import Hour
from training.registry.bucket import Bucket
from training.registry.channels import Mover
from training.registry.signing import Signer


class CalibrationMode(StrEnum):
    """How often a channel's model is calibrated: never, once a day, or after each joined hour."""

    OFF = "off"
    DAILY = "daily"
    HOURLY = "hourly"


State = Literal["off", "learning", "active", "frozen", "unknown"]
"""Off: the raw model serves. Learning: no tick has used a ride yet. Active: the newest tick learned from rides. Frozen:
the newest tick kept the weights, because its outcomes can't be trusted. Unknown: this run could not find out."""


class CalibrationStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What live calibration does, for the monitor's status.

    Attributes:
        mode: As the stack is set.
        state: See `State`.
        as_of: The hour, UTC, before which the state that serves has learned; None if the raw model serves.
        since: When the state began that `state` names, ISO 8601 in UTC; None if that is unknown.
        n_used: Rides that the newest tick learned from.
        n_dropped: Rides that it left out, because their outcome is 3 times the prediction or more, or a third or less.
        n_due: Rides that it expected an outcome of.
        text: One sentence for a person.
        frozen_reason: Why it is frozen, as one sentence; None if it is not.
    """

    mode: CalibrationMode
    state: State
    as_of: str | None = None
    since: str | None = None
    n_used: int = 0
    n_dropped: int = 0
    n_due: int = 0
    text: str
    frozen_reason: str | None = None


@dataclass(frozen=True, slots=True)
class CalibratorOptions:
    """How a channel is calibrated."""

    activation_delay_s: float = ACTIVATION_DELAY_S  # the time that functions may need to read the channel
    signer: Signer | None = None  # if the stack serves signed models only


DEFAULT_OPTIONS = CalibratorOptions()


def calibrate_due(
    bucket: Bucket,
    channel: str,
    mode: CalibrationMode,
    joined: Sequence[Hour],
    mover: Mover,
    now: datetime,
    options: CalibratorOptions = DEFAULT_OPTIONS,
) -> CalibrationStatus:
    """Tick if a tick is due, let the channel serve the new state, and return the status. Safe to repeat.

    Args:
        bucket: The stack's bucket.
        channel: The channel whose newest model is calibrated.
        mode: How often.
        joined: The hours that are joined, those of the last 17 days at least; in any order.
        mover: The name under which the channel moves.
        now: Aware.
        options: The activation delay, and the key if the stack serves signed models only.
    """
    del bucket, channel, joined, mover, now, options  # used once the tick is built
    if mode == CalibrationMode.OFF:
        return CalibrationStatus(mode=mode, state="off", text="Calibration is off: the raw model serves.")
    return CalibrationStatus(mode=mode, state="unknown", text="No tick has run yet.")
