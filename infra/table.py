"""Tables of what a bucket holds, on a terminal, and how months, figures and times are written in them."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from infra.printable import printable

_WHOLE = {"version", "to", "RMSE", "MAE", "why", "channels", "measured on"}
"""Columns that are not broken on a narrow terminal: a person copies versions."""

_NUMERIC = {"RMSE", "MAE", "rides", "A", "B", "B - A"}


def write_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Writes a table whose rows have a cell a column. Text is shown as it is: no markup, no emoji, nothing obeyed."""
    table = Table(title=escape(title), title_justify="left")
    for column in columns:
        table.add_column(
            column, justify="right" if column in _NUMERIC else "left", overflow="fold", no_wrap=column in _WHOLE
        )
    for row in rows:
        table.add_row(*(escape(printable(text)) for text in row))
    Console(file=sys.stdout, emoji=False).print(table)


def escaped(rows: Mapping[str, str]) -> dict[str, str]:
    """Returns rows whose values `show_result` does not take for markup."""
    return {name: escape(value) for name, value in rows.items()}


def months_text(months: Sequence[str]) -> str:
    """Returns one month, or the first and the last of several.

    >>> months_text(["2021-01"]), months_text(["2021-01", "2021-02", "2021-03"])
    ('2021-01', '2021-01 to 2021-03')
    """
    return months[0] if len(months) == 1 else f"{months[0]} to {months[-1]}"


def value_text(value: Any) -> str:
    """Returns a value of a manifest as a person reads it.

    >>> value_text(0.123456), value_text(None), value_text(("2021-01", "2021-02"))
    ('0.1235', 'none', '2021-01, 2021-02')
    """
    if isinstance(value, float):
        return f"{round(value, 4):g}"
    return "none" if value is None else ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def minutes_text(minutes: float | None) -> str:
    """Returns minutes with two digits, which is a second and a half.

    >>> minutes_text(5.1), minutes_text(None)
    ('5.10', 'none')
    """
    return "none" if minutes is None else f"{minutes:.2f}"


def time_text(moment: datetime | None) -> str:
    """Returns an aware time in UTC, to the minute.

    >>> time_text(datetime(2026, 11, 21, 22, 5, 59, tzinfo=UTC)), time_text(None)
    ('2026-11-21 22:05Z', 'unknown')
    """
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%MZ") if moment else "unknown"
