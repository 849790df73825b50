"""The monitor's status as tables and sentences for a terminal. `monitor status` and `demo` use it."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from infra.cli.output import fold, printable, time_text, width, write_lines, write_table
from training.report.html import MINUS
from training.report.monitor_names import NO_VALUE, evidence_text, label, latest_text, range_text, value_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from training.monitoring.monitor.status import MonitorStatus

STALE_AFTER = timedelta(hours=1)
"""The monitor function runs every 15 minutes: an older status says that it does not."""

COMPACT_COLUMNS = ("quantity", "today", "reference", "state")
_COLUMNS = ("quantity", "today", "reference", "usual", "evidence", "state")
_RECENT_COLUMNS = ("quantity", "mean", "interval", "reference")
_MARKS = {"alarm": "✗", "unknown": "?", "ok": "✓"}
_SO_FAR = ("rmse_raw", "rmse_served", "bias_served", "coverage_served")
_COMPACT = ("trip_distance_miles", "straight_line_miles", "predicted_minutes", "bias", "mse", "coverage")


def is_stale(status: "MonitorStatus", now: datetime) -> bool:
    """Return whether a status is too old to tell how things are."""
    return now - _written_at(status) > STALE_AFTER


def sounds(status: "MonitorStatus") -> bool:
    """Return whether an alarm of a group sounds, or calibration is frozen."""
    return status.calibration.state == "frozen" or any(group.state == "alarm" for group in status.groups)


def is_unknown(status: "MonitorStatus") -> bool:
    """Return whether a group is not judged."""
    return not status.groups or any(group.state == "unknown" for group in status.groups)


def status_table(status: "MonitorStatus") -> tuple[tuple[str, str, str, str], ...]:
    """Return a short table of a status, a row for each of the main quantities: see COMPACT_COLUMNS.

    Without a whole day yet, it has the errors of the hours so far, which are not judged.
    """
    if not status.quantities and status.latest:
        so_far = ((name, getattr(status.latest, name)) for name in _SO_FAR)
        return tuple((label(name), _value(name, value), "none", "unknown") for name, value in so_far)
    return tuple(
        (label(one.name), _value(one.name, one.today), _value(one.name, one.reference), one.state)
        for one in status.quantities
        if one.name in _COMPACT
    )


def _value(quantity: str, value: float | None) -> str:
    """Return a value in characters that every terminal and script knows."""
    return "none" if value is None else value_text(quantity, value).replace(MINUS, "-")


def _range(quantity: str, low: float | None, high: float | None) -> str:
    return range_text(quantity, low, high).replace(MINUS, "-").replace(NO_VALUE, "none")


def write_status(status: "MonitorStatus", now: datetime) -> None:
    """Write a status: the quantities, what the groups say, the last days, the calibration, and what is missing."""
    rows = [
        (
            label(one.name),
            _value(one.name, one.today),
            _value(one.name, one.reference),
            _range(one.name, one.usual_low, one.usual_high),
            evidence_text(one.evidence),
            one.state,
        )
        for one in status.quantities
    ]
    write_table(_title(status), _COLUMNS, rows, numeric=set(_COLUMNS[1:-1]))
    write_lines([""])
    for group in status.groups:
        evidence = f"evidence {evidence_text(group.evidence)} of {evidence_text(group.threshold)}"
        _write(f"{group.group}: {group.state}, {evidence}. {group.text}", f"{_MARKS.get(group.state, '?')} ")
    _write(f"calibration: {status.calibration.text}", "✗ " if status.calibration.state == "frozen" else "· ")
    _write_recent(status)
    if status.latest:
        write_lines([""])
        _write(latest_text(status.latest), "")
    _write_notes(status, now)


def _title(status: "MonitorStatus") -> str:
    day = f"{status.last_day}, day {status.n_days} of this model" if status.last_day else "no whole day yet"
    return f"Channel {status.channel}: {status.served_version or 'no model'}\ntoday is {day}"


def _write_recent(status: "MonitorStatus") -> None:
    if not status.recent:
        return
    rows = [
        (
            label(one.quantity),
            _value(one.quantity, one.value),
            _range(one.quantity, one.low, one.high),
            _value(one.quantity, one.reference),
        )
        for one in status.recent
    ]
    n_days = max(one.n_days for one in status.recent)
    title = f"\nThe last {n_days} days beside training (no alarm looks at it)" if n_days > 1 else "\nOne day so far"
    write_table(title, _RECENT_COLUMNS, rows, numeric=set(_RECENT_COLUMNS[1:]))


def _write_notes(status: "MonitorStatus", now: datetime) -> None:
    notes = [f"missing: {text}" for text in status.missing]
    if is_stale(status, now):
        notes.append(
            f"this status is old: it was written at {time_text(_written_at(status))}, and the monitor function writes"
            " one every 15 minutes; see NoJudgedRidesAlarm in docs/runbook.md"
        )
    if notes:
        write_lines([""])
    for note in notes:
        _write(note, "! ")


def _written_at(status: "MonitorStatus") -> datetime:
    written = datetime.fromisoformat(str(status.written_at))
    return written if written.tzinfo else written.replace(tzinfo=UTC)


def _write(text: str, beginning: str) -> None:
    lines: Iterable[str] = fold(printable(" ".join(text.split())), beginning, width())
    write_lines(lines)
