"""Output of commands: results on standard output, as tables or as one JSON object, and progress on standard error."""

import json
import math
import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from textwrap import wrap
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from infra.cli import signals

if TYPE_CHECKING:
    from rich.console import Console

    from lambda_function.core.channel import Segment
    from training.model.results import MonthsResult

T = TypeVar("T")

_UNLIMITED = 1_000_000
_GAP = "  "


def printable(text: str) -> str:
    r"""Escape control characters and unprintable ones, except line ends. Text from a bucket or stream can hold any.

    >>> print(printable("a\tb\x1b[31m ü\nc"))
    a\tb\x1b[31m ü
    c
    """
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def width() -> int:
    """Return the columns of the terminal; practically unlimited if standard output is no terminal."""
    return shutil.get_terminal_size((_UNLIMITED, 24)).columns


def fold(text: str, beginning: str, columns: int) -> list[str]:
    """Wrap text into lines that start below each other. Words stay whole, however long, so that they can be copied.

    >>> fold("run models release --test 2023-03", "* ", 20)
    ['* run models release', '  --test 2023-03']
    """
    lines = wrap(
        text,
        max(columns, len(beginning) + 1),
        initial_indent=beginning,
        subsequent_indent=" " * len(beginning),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return lines or [beginning.rstrip()]


def write_lines(lines: Iterable[str]) -> None:
    """Write lines to standard output, unfolded, with control characters and line ends escaped."""
    sys.stdout.writelines(printable(line).replace("\n", "\\n") + "\n" for line in lines)


def write_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], numeric: Collection[str] = (), empty: str = ""
) -> None:
    """Write one line per row; if the terminal is too narrow for that, one block per row. No value is ever cut.

    Args:
        title: Written above; may have several lines.
        columns: Their names; also the names in a block.
        rows: One cell per column.
        numeric: Columns whose cells are right-aligned.
        empty: Written in place of a table without rows: what to do next.
    """
    cells: list[Sequence[str]] = [[printable(text).replace("\n", "\\n") for text in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    write_lines(title.split("\n"))
    if empty and not cells:
        write_lines([empty])
        return
    if sum(widths) + len(_GAP) * (len(widths) - 1) > width():
        for row in cells:
            sys.stdout.write("\n")
            write_facts("", dict(zip(columns, row, strict=True)))
        return
    for row in [columns, ["-" * n for n in widths], *cells]:
        aligned = [
            text.rjust(n) if name in numeric else text.ljust(n)
            for name, text, n in zip(columns, row, widths, strict=True)
        ]
        sys.stdout.write(_GAP.join(aligned).rstrip() + "\n")


def write_facts(title: str, rows: Mapping[str, str]) -> None:
    """Write one fact per line, its name and its value. A long value continues below; no word is cut."""
    columns = width()
    margin = max(map(len, rows), default=0) + len(_GAP)
    if title:
        write_lines([title])
    for name, value in rows.items():
        lines = printable(value).split("\n")
        longest = max((len(word) for line in lines for word in line.split()), default=0)
        beginning = printable(name).ljust(margin)
        if margin + longest > columns:  # the value starts on a line of its own
            sys.stdout.write(f"{printable(name)}\n")
            beginning = _GAP
        for number, line in enumerate(lines):
            start = beginning if number == 0 else " " * len(beginning)
            sys.stdout.writelines(f"{folded}\n" for folded in fold(line, start, columns))


def write_json(result: Mapping[str, Any]) -> None:
    """Write one JSON object on one line."""
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()


def show_result(
    title: str, result: Mapping[str, Any], *, as_json: bool, shown: Mapping[str, Any] | None = None
) -> None:
    """Write a command's result, at once: as one JSON object for a program, or as facts for a person.

    Args:
        title: Written above the facts.
        result: The JSON object.
        as_json: Whether to write JSON.
        shown: Names and values of the facts, if they are not those of `result`. A list has one line per item.
    """
    if as_json:
        write_json(result)
        return
    facts = {name.replace("_", " "): value for name, value in result.items()} if shown is None else shown
    write_facts(title, {name: _fact_text(value) for name, value in facts.items()})
    sys.stdout.flush()


def _fact_text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return "\n".join(map(str, value)) or "none"
    return f"{value:,}" if isinstance(value, int) else value_text(value)


def interrupted(done: str, hint: str) -> typer.Exit:
    """Say on standard error what an interrupted command has done and how to go on; return the exception to raise."""
    sys.stderr.write(f"\nridecast: interrupted: {done}; {hint}\n")
    return typer.Exit(signals.exit_code())


def months_text(months: Sequence[str]) -> str:
    """Return one month, or the first and the last of several.

    >>> months_text(["2021-01"]), months_text(["2021-01", "2021-02", "2021-03"])
    ('2021-01', '2021-01 to 2021-03')
    """
    return months[0] if len(months) == 1 else f"{months[0]} to {months[-1]}"


def value_text(value: Any) -> str:
    """Return a value of a manifest as text for a person.

    >>> value_text(0.123456), value_text(None), value_text(("2021-01", "2021-02"))
    ('0.1235', 'none', '2021-01, 2021-02')
    """
    if isinstance(value, float):
        return f"{round(value, 4):g}"
    return "none" if value is None else ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def worse_slices(result: "MonthsResult", n_shown: int) -> str:
    """Return the large slices in which the model is worse than the baseline, and the number of small ones.

    Whether a slice of few rides is worse depends on chance more than on the model.
    """
    from training.evaluation.gate_rules import MIN_SLICE_RIDES
    from training.model.results import worse_than_baseline

    worse = worse_than_baseline(result, MIN_SLICE_RIDES)
    n_small = len(worse_than_baseline(result)) - len(worse)
    names = [f"{one.by} {one.name} ({one.model.n_rides:,} rides)" for one in worse]
    more = f" and {len(names) - n_shown} more" if len(names) > n_shown else ""
    small = f", and {n_small} of fewer" if n_small else ""
    return (", ".join(names[:n_shown]) or f"none of {MIN_SLICE_RIDES:,} rides or more") + more + small


def beside_baseline(minutes: float | None, baseline_minutes: float | None) -> str:
    """Return a model's error, and that of the baseline.

    >>> beside_baseline(5.1, 7.76)
    "5.10   (the course's linear model: 7.76)"
    """
    return f"{minutes_text(minutes)}   (the course's linear model: {minutes_text(baseline_minutes)})"


def minutes_text(minutes: float | None) -> str:
    """Return minutes with two decimals.

    >>> minutes_text(5.1), minutes_text(None)
    ('5.10', 'none')
    """
    return "none" if minutes is None else f"{minutes:.2f}"


def time_text(moment: datetime | None) -> str:
    """Return an aware time in UTC, to the minute.

    >>> time_text(datetime(2026, 11, 21, 22, 5, 59, tzinfo=UTC)), time_text(None)
    ('2026-11-21 22:05Z', 'unknown')
    """
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%MZ") if moment else "unknown"


def begin_text(segment: "Segment") -> str:
    """Return when a channel's segment begins: in UTC, to the second, rounded up.

    >>> from lambda_function.core.channel import Arm, Segment
    >>> begin_text(Segment("2026-11-21T22:05:59.000001+00:00", (Arm("green-2021-01-3f2a9c1d0b7e", "ab" * 32),)))
    '2026-11-21 22:06:00Z'
    """
    begin = datetime.fromtimestamp(math.ceil(segment.effective_from_s), UTC)
    return begin.strftime("%Y-%m-%d %H:%M:%SZ") if begin.timestamp() else "the beginning"


class ConsoleDisplay:
    """Steps and progress on a console: a moving line on a terminal, else one line per step."""

    def __init__(self, console: "Console") -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._console = console
        # Redirected standard output would catch what the function prints to its log.
        self.bars = Progress(
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
        self._task = self.bars.add_task("", total=None, figures="", visible=False)

    def step(self, text: str) -> None:
        """Write the beginning of a step."""
        self._write("[dim]·[/dim]", text)
        self.bars.update(self._task, description=text, total=None, figures="", visible=True)

    def warn(self, text: str) -> None:
        """Write a warning."""
        self._write("[yellow]![/yellow]", text)

    def progress(self, n_done: int, n_total: int, figures: str = "") -> None:
        """Show how much of the step is done, and other figures of it."""
        self.bars.update(self._task, total=n_total, completed=n_done, figures=figures)

    def _write(self, mark: str, text: str) -> None:
        from rich.markup import escape

        self._console.print(f"{mark} {escape(printable(text))}", highlight=False)


@contextmanager
def counting(console: "Console", text: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar while the block runs. The block calls the yielded function with the count so far.

    Args:
        console: Where.
        text: Before the bar.
        total: The count at the end; None if it is not known.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
        task = progress.add_task(text, total=total)
        yield lambda n: progress.update(task, completed=n)


@contextmanager
def counted(text: str, items: Iterable[T], total: int) -> Iterator[Iterator[T]]:
    """Yield an iterator over items; show a bar on standard error while the block iterates it."""
    with counting(error_console(), text, total) as count:
        yield (item for number, item in enumerate(items, 1) if count(number) is None)


def error_console() -> "Console":
    """Return a console on the present standard error, for progress and warnings."""
    from rich.console import Console

    return Console(file=sys.stderr)


@contextmanager
def live_display(console: "Console | None" = None) -> Iterator[ConsoleDisplay]:
    """Show progress while the block runs, on standard error if no console is given."""
    display = ConsoleDisplay(console or error_console())
    with display.bars:
        yield display
