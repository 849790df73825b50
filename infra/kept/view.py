"""Kept records on a terminal and in JSON: a summary, one of them in full, and how a redrive ended.

What producers sent is shown with its control characters escaped: a terminal obeys them.
"""

import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from infra.console import show_result
from infra.kept.marks import Marks
from infra.kept.record import KeptObject, KeptRecord
from infra.kept.redrive import RedriveReport
from infra.kept.summary import Group, Line, Summary, as_json
from infra.printable import printable

_COLUMNS = ("stream", "shard", "reason", "records", "redriven", "oldest arrival", "newest arrival")
_N_FIRST = 5


def show_summary(summary: Summary, title: str, *, json_only: bool) -> None:
    """Shows counts in a table, the newest as a line each, and what could not be read."""
    if not json_only:
        table = Table(title=escape(title), title_justify="left")
        for column in _COLUMNS:
            table.add_column(column, justify="right" if column in {"records", "redriven"} else "left")
        for names, group in sorted(summary.groups.items()):
            figures = (f"{group.n_records:,}", f"{group.n_redriven:,}", _at(group.oldest), _at(group.newest))
            table.add_row(*(escape(printable(name)) for name in names), *figures)
        Console(file=sys.stdout).print(table)
        _write_lines(_line(line) for line in summary.lines)
        _write_unreadable(summary.unreadable)
    show_result("", {}, as_json(summary), json_only=True)


def _line(line: Line) -> str:
    group = line.group
    n_records = f"  {group.n_records:,} records" if group.n_records > 1 else ""
    return f"{_at(group.newest)}  {line.reason}  {_state(group)}  {line.name}{n_records}  {line.detail}"


def _state(group: Group) -> str:
    if group.n_redriven == group.n_records:
        return "redriven"
    if group.n_redriven:
        return f"{group.n_redriven:,} of {group.n_records:,} redriven"
    return "under way" if group.n_under_way else "pending"


def show_object(found: KeptObject, marks: Marks, *, json_only: bool) -> None:
    """Shows one record in full, or what a batch of them is and which they are."""
    if len(found.records) == 1:
        _show_record(found.records[0], marks, json_only=json_only)
        return
    ids = [record.record_id for record in found.records]
    reasons = sorted({record.reason for record in found.records})
    details = sorted({record.detail for record in found.records})
    result = {"key": found.key, "problem": found.problem, "reasons": reasons, "details": details, "records": ids}
    rows = {
        "key": found.key,
        "reason": ", ".join(reasons),
        "detail": "; ".join(details),
        "records": f"{len(ids):,}",
        "the first of them": "\n".join(ids[:_N_FIRST]),
        "not readable": found.problem,
    }
    _show(rows, result, json_only=json_only)


def _show_record(record: KeptRecord, marks: Marks, *, json_only: bool) -> None:
    try:
        text, encoding = record.data.decode(), "utf-8"
    except UnicodeDecodeError:
        text, encoding = record.data.hex(), "hex"
    facts = {
        "id": record.record_id,
        "stream": record.stream,
        "shard_id": record.shard_id,
        "reason": record.reason,
        "detail": record.detail,
        "arrival_time": record.arrived.isoformat(),
        "partition_key": record.partition_key,
        "state": str(marks.state(record)),
        "key": record.key,
        "encoding": encoding,
        "data": text,
    }
    _show({name.replace("_", " "): value for name, value in facts.items()}, facts, json_only=json_only)


def _show(rows: Mapping[str, str], result: Mapping[str, Any], *, json_only: bool) -> None:
    shown = {name: escape(printable(value)) for name, value in rows.items() if value}
    show_result("", shown, result, json_only=json_only)


def show_redrive(report: RedriveReport, title: str, *, is_dry_run: bool, json_only: bool) -> None:
    """Shows how a redrive ended."""
    streams = ", ".join(f"{n:,} to {stream}" for stream, n in sorted(report.by_stream.items()))
    rows = {
        "selected": f"{report.n_selected:,}",
        "would be sent" if is_dry_run else "sent and marked": streams or "none",
        "redriven before": f"{report.n_redriven_before:,}",
        "perhaps for the second time": f"{report.n_perhaps_repeated:,}",
        "objects not readable": f"{len(report.unreadable):,}",
    }
    result = {
        "selected": report.n_selected,
        "redriven": 0 if is_dry_run else report.n_redriven,
        "to_redrive": report.n_redriven if is_dry_run else 0,
        "redriven_before": report.n_redriven_before,
        "perhaps_repeated": report.n_perhaps_repeated,
        "by_stream": dict(report.by_stream),
        "unreadable": report.unreadable,
        "dry_run": is_dry_run,
    }
    if not json_only:
        _write_unreadable(report.unreadable)
    show_result(escape(title), {name: escape(value) for name, value in rows.items()}, result, json_only=json_only)


def _write_unreadable(unreadable: Mapping[str, str]) -> None:
    _write_lines(f"not readable: {key}: {problem}" for key, problem in unreadable.items())


def _write_lines(lines: Iterable[str]) -> None:
    """Writes lines as they are, however long: a table would break ids that are to be copied."""
    for line in lines:
        sys.stdout.write(printable(line).replace("\n", "\\n") + "\n")


def _at(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ")
