"""A status of monitoring, as the monitor function stores it, with a change of any part."""

from datetime import UTC, date, datetime
from typing import Any

import msgspec

from training.monitoring.calibration.status import CalibrationMode, CalibrationStatus
from training.monitoring.monitor.status import GroupStatus, MonitorStatus, QuantityStatus, Recent

VERSION = "green-2023-03-abcdef123456"

_QUANTITIES = (
    QuantityStatus(
        name="minute_of_day",
        group="data",
        unit="minutes",
        today=875.0,
        reference=868.0,
        usual_low=850.0,
        usual_high=890.0,
        evidence=0.4,
        state="ok",
    ),
    QuantityStatus(
        name="straight_line_miles",
        group="data",
        unit="miles",
        today=1.2,
        reference=1.6,
        usual_low=1.5,
        usual_high=1.7,
        evidence=812.0,
        state="ok",
    ),
    QuantityStatus(name="bias", group="performance", unit="minutes", today=-0.3, reference=0.0, state="ok"),
    QuantityStatus(name="coverage", group="performance", unit="share", today=0.8049, reference=0.8, state="ok"),
)
_GROUPS = (
    GroupStatus(group="data", state="ok", evidence=3.0, text="nothing unusual"),
    GroupStatus(group="performance", state="ok", evidence=0.2, text="nothing unusual"),
)
_RECENT = (Recent(n_days=28, quantity="rmse_served", value=3.9, low=3.8, high=4.0, reference=4.05),)


def monitor_status(**changes: Any) -> MonitorStatus:
    """Build a status in which all is well, written just now, with other values of some fields."""
    status = MonitorStatus(
        written_at=datetime.now(UTC).isoformat(timespec="seconds"),
        channel="stable",
        model_version=VERSION,
        served_version=f"{VERSION}+2026-11-29T05",
        last_day=date(2026, 11, 28),
        n_days=41,
        groups=_GROUPS,
        quantities=_QUANTITIES,
        recent=_RECENT,
        calibration=CalibrationStatus(mode=CalibrationMode.DAILY, state="active", text="learned from 1,200 rides"),
    )
    return msgspec.structs.replace(status, **changes)


def group_status(group: str, state: Any, text: str) -> tuple[GroupStatus, ...]:
    """Build the groups' states, with one of them in another state."""
    changed = GroupStatus(group=group, state=state, evidence=401.0, since=date(2026, 11, 28), text=text)
    return tuple(changed if one.group == group else one for one in _GROUPS)
