"""Live calibration of a channel: which tick is due, its state in the bucket, and the channel's move."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from lambda_function.core.channel import ACTIVATION_DELAY_S
from training.monitoring.calibration_status import CalibrationMode, CalibrationStatus
from training.monitoring.hours import Hour
from training.registry.bucket import Bucket
from training.registry.channels import Mover
from training.registry.signing import Signer


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
