"""The state of live calibration, as `monitor/status.json` holds it."""

from enum import StrEnum
from typing import Literal

import msgspec


class CalibrationMode(StrEnum):
    """How often a channel is calibrated."""

    OFF = "off"
    DAILY = "daily"
    HOURLY = "hourly"


class CalibrationStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The state of live calibration.

    Attributes:
        mode: The setting.
        state: "learning" until a first calibration serves, "frozen" while the last one is kept, "unknown" if the state
            can't be read.
        as_of: The hour up to which the serving calibration has learned, as ``2026-11-29T05``; None without one.
        since: When `state` began, ISO 8601 in UTC.
        n_used: Rides that the last tick has learned from.
        n_dropped: Rides that it left out because predicted and actual minutes differ too much.
        n_due: Rides whose outcome was due.
        text: One sentence for a person.
        frozen_reason: Why the last calibration is kept; None if it is not.
    """

    mode: CalibrationMode = CalibrationMode.OFF
    state: Literal["off", "learning", "active", "frozen", "unknown"] = "unknown"
    as_of: str | None = None
    since: str | None = None
    n_used: int = 0
    n_dropped: int = 0
    n_due: int = 0
    text: str = ""
    frozen_reason: str | None = None
