"""What a person sees: progress on standard error, results on standard output, one JSON object as its last line."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from infra.demo.replay import Ledger
from infra.printable import printable


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
