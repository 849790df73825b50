"""Runs of the loop as tables and sentences for a terminal."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from infra.cli.output import fold, time_text, width, write_lines, write_table

if TYPE_CHECKING:
    from training.workflows.loop.lease import Lease
    from training.workflows.loop.state import RunRecord

_RUN_COLUMNS = ("run", "started", "by", "outcome", "why")
_STEP_COLUMNS = ("step", "at", "outcome", "what happened")


def write_runs(runs: Sequence["RunRecord"], lease: "Lease | None") -> None:
    """Write a line a run, newest first, and who holds the lease."""
    if not runs:
        write_lines(["no run of the loop yet: `ridecast loop start` begins one"])
        return
    rows = [(one.run_id, time_text(one.started_at), one.trigger, _outcome(one), _why(one)) for one in runs]
    write_table("Runs of the loop", _RUN_COLUMNS, rows)
    held = f"run {lease.run_id}, until {time_text(lease.expires_at)}" if lease else "nobody: a run may begin"
    write_lines(["", f"lease: {held}"])


def write_run(record: "RunRecord", next_due: datetime | None) -> None:
    """Write the steps of a run, how it ended or what it waits for. `next_due` is when a run on this machine goes on."""
    rows = [(step.name, time_text(step.at), step.outcome, step.text) for step in record.steps]
    write_table(f"Run {record.run_id} of {record.channel}", _STEP_COLUMNS, rows)
    write_lines(["", *fold(_ending(record, next_due), "", width())])


def _ending(record: "RunRecord", next_due: datetime | None) -> str:
    if record.end:
        return f"{record.end.outcome} at {time_text(record.ended_at)}: {record.end.text}"
    waiting = f"it waits for {record.waiting.what}, until {time_text(record.waiting.until)}" if record.waiting else ""
    again = f"call `ridecast loop start` again from {time_text(next_due)} on" if next_due else ""
    return "; ".join(one for one in (waiting, again) if one) or "a step is under way"


def _outcome(record: "RunRecord") -> str:
    return record.end.outcome if record.end else "waiting" if record.waiting else "working"


def _why(record: "RunRecord") -> str:
    if record.end:
        return record.end.text
    return record.waiting.what if record.waiting else record.reason
