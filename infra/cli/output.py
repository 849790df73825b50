"""What a person sees: progress on standard error, results on standard output, one JSON object as its last line."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from infra.local.demo.replay import Ledger

# MERGED FROM infra/table.py
# Tables of what a bucket holds, on a terminal, and how months, figures and times are written in them.
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


class ConsoleDisplay:
    """Steps and live progress of a replay; on a terminal a moving line, elsewhere a line a step."""

    def __init__(self, console: Console) -> None:
        self._console = console
        # Redirecting standard output would catch what the function prints to its log.
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[figures]}"),
            console=console,
            redirect_stdout=False,
            redirect_stderr=False,
            transient=True,
        )
        self._task = self._progress.add_task("", total=None, figures="", visible=False)
        self._step = ""

    @contextmanager
    def live(self) -> Iterator["ConsoleDisplay"]:
        """Shows progress while the block runs."""
        with self._progress:
            yield self

    def step(self, text: str) -> None:
        """A new step begins."""
        self._step = text
        self._console.print(f"[dim]·[/dim] {escape(printable(text))}", highlight=False)
        self._progress.update(self._task, description=text, total=None, figures="", visible=True)

    def warn(self, text: str) -> None:
        """Something that the reader should know."""
        self._console.print(f"[yellow]![/yellow] {escape(printable(text))}", highlight=False)

    def progress(self, n_events: int, n_sent: int, ledger: Ledger, seconds: float) -> None:
        """Where the replay stands."""
        n_done = ledger.n_predicted + ledger.n_rejected
        figures = (
            f"sent {n_sent:,}  predicted {ledger.n_predicted:,}  rejected {ledger.n_rejected}  "
            f"{n_done / seconds if seconds else 0:,.0f} rides/s  "
            f"RMSE {ledger.rmse_minutes:.2f} min (baseline {ledger.baseline_rmse_minutes:.2f})"
        )
        self._progress.update(self._task, total=n_events, completed=n_done, figures=figures)


@contextmanager
def counting(console: Console, text: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows a bar while the block runs; the block is given what to call with the count so far."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
        task = progress.add_task(text, total=total)
        yield lambda n: progress.update(task, completed=n)


def error_console() -> Console:
    """Returns the console for progress and errors, bound to the standard error of now."""
    return Console(file=sys.stderr)


def show_result(title: str, rows: Mapping[str, str], result: Mapping[str, Any], *, json_only: bool) -> None:
    """Writes a table, unless only JSON is wanted, and then the result as one JSON object on the last line."""
    if not json_only:
        table = Table(title=printable(title), title_justify="left", show_header=False)
        for name, value in rows.items():
            table.add_row(name, printable(value))
        Console(file=sys.stdout, emoji=False).print(table)
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()


# MERGED FROM infra/printable.py
# Text that no terminal obeys: what a bucket, a stream or a manifest holds may be anybody's.
def printable(text: str) -> str:
    r"""Escapes what a terminal would obey or not show; line ends stay.

    >>> print(printable("a\tb\x1b[31m ü\nc"))
    a\tb\x1b[31m ü
    c
    """
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
