"""`ridecast simulate`: months of rides through the whole stack on this machine, in virtual time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import BUILD, Json, Service, Timestamps
from infra.cli.output import (
    error_console,
    interrupted,
    minutes_text,
    printable,
    write_facts,
    write_json,
    write_lines,
    write_table,
)

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from infra.local.simulate.measure import Figures
    from infra.local.simulate.result import SimulationResult
    from infra.local.simulate.simulate import Display, SoFar

TITLE = "RMSE in minutes, and rides inside their interval"
COLUMNS = ("month", "rides", "linear", "forest", "frozen", "served", "frozen in interval", "served in interval")


def simulate_command(
    service: Service = "yellow",
    first: Annotated[str, typer.Option("--from", help="First month to simulate.")] = "2020-01",
    last: Annotated[str, typer.Option("--to", help="Last month to simulate.")] = "2020-06",
    train: Annotated[
        str, typer.Option(help="Months that the first model learns from: 2021-01, a list, or 2019-01..2019-12.")
    ] = "2019-01..2019-12",
    rides_a_month: Annotated[
        int, typer.Option(min=100, help="The most rides of a month: of one with more, a sample is simulated.")
    ] = 6_000,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Make rides up, even if TLC's months are on this machine.")
    ] = False,
    timestamps: Timestamps = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample, and of made-up rides.")] = 1,
    calibration: Annotated[bool, typer.Option(help="Let outcomes correct the served model every day.")] = True,
    retraining: Annotated[bool, typer.Option(help="Let the loop train models and promote them.")] = True,
    out: Annotated[Path, typer.Option(help="Folder for timeline.svg, timeline.html and result.json.")] = BUILD
    / "simulation",
    as_json: Json = False,
) -> None:
    """Run months of rides through the whole stack on this machine, in virtual time.

    Trains a first model. Then every ride goes through the functions that AWS runs: it is predicted, archived, joined
    with its outcome and monitored. Outcomes correct the served model every day, and the loop trains new ones. Uses
    TLC's months if all of them are on this machine, else made-up ones with a planted shift; nothing is downloaded.
    Prints errors by month beside those of the course's two models and of the first model as it was trained, and draws a
    timeline. Exits with 1 if the audit finds a lost, conflicting or skewed prediction.

    Example: ridecast simulate --service yellow --from 2020-01 --to 2020-06 --train 2019-01..2019-12
    """
    from infra.local.simulate.options import SimulateOptions, check_months
    from training.data.months import parse_months
    from training.room import RUN_BYTES, check_room

    train_months, months = parse_months(train), parse_months(f"{first}..{last}")
    check_months(train_months, months)
    check_room(out, RUN_BYTES)
    options = SimulateOptions(
        service=service,
        train_months=train_months,
        months=months,
        rides_a_month=rides_a_month,
        synthetic=synthetic,
        timestamps=timestamps,
        seed=seed,
        calibration=calibration,
        retraining=retraining,
    )

    from infra.local.simulate.simulate import simulate  # this takes seconds, so mistakes are reported first

    try:
        with _live(error_console()) as display:
            result = simulate(options, display)
            display.step("drawing the timeline")
            files = write_result(result, out)
    except KeyboardInterrupt:
        raise interrupted("the simulation has no result", "run it again") from None
    show_simulation(result, files, as_json=as_json)
    if not result.audit.is_sound:
        raise typer.Exit(1)


def show_simulation(result: "SimulationResult", files: Sequence[Path], *, as_json: bool) -> None:
    """Show the result."""
    import msgspec

    if as_json:
        write_json(msgspec.to_builtins(result))
        return
    rides = "TLC trip record data" if result.data == "tlc" else "a generator, with a planted shift"
    write_table(TITLE, COLUMNS, [_cells(one) for one in result.months], COLUMNS[1:])
    write_lines([""])
    alarms = [(one.at[:16], one.group, one.since or "", one.model_version) for one in result.alarms]
    write_table("Alarms", ("at, UTC", "group", "changed since", "model"), alarms or [("none", "", "", "")])
    write_lines([""])
    runs = [(one.started_at[:10], one.trigger, one.outcome or "goes on", one.text) for one in result.runs]
    write_table("Runs of the loop", ("began", "trigger", "outcome", "why"), runs or [("none", "", "", "")])
    write_lines([""])
    moves = [(one.at[:16], one.version, one.why, f"{one.n_moves:,}", one.by) for one in result.moves]
    write_table("Versions", ("at, UTC", "version", "what", "moves", "by"), moves, {"moves"})
    write_lines([""])
    audit = result.audit
    write_facts(
        "",
        {
            "rides from": rides,
            "audit": f"{audit.n_lost} lost, {audit.n_conflicting} conflicting, {audit.n_skewed} skewed",
            "labelled rides": f"{audit.n_labelled:,} of {audit.n_ride_events:,}",
            "written": "\n".join(map(str, files)),
        },
    )


def _cells(one: "Figures") -> tuple[str, ...]:
    """Return the cells of a month."""
    errors = (one.linear_rmse, one.course_rmse, one.frozen_rmse, one.served_rmse)
    shares = ("none" if share is None else f"{share:.1%}" for share in (one.frozen_coverage, one.served_coverage))
    return (one.period, f"{one.n_rides:,}", *map(minutes_text, errors), *shares)


def write_result(result: "SimulationResult", folder: Path) -> tuple[Path, ...]:
    """Write the timeline, its page and the result; return their paths."""
    import msgspec

    from infra.local.simulate.page import build_page
    from infra.local.simulate.timeline import draw_timeline
    from training.room import writing

    timeline = draw_timeline(result)
    encoded = msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n"
    files = {"timeline.svg": timeline, "timeline.html": build_page(result), "result.json": encoded}
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, body in files.items():
            (folder / name).write_bytes(body)
    return tuple(folder / name for name in files)


@contextmanager
def _live(console: "Console") -> "Iterator[Display]":
    """Show the progress of a simulation: a table that grows on a terminal, else a line a step and a month."""
    if not console.is_terminal:
        yield Lines(console)
        return
    from rich.live import Live

    table = _LiveTable(console)
    with Live(
        get_renderable=table.render, console=console, refresh_per_second=4, transient=True, redirect_stdout=False
    ):
        yield table


class Lines:
    """A line for each step, and for each month that is over."""

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._n_months = 0

    def step(self, text: str) -> None:
        """Show that a step begins."""
        self._console.print(f"· {printable(text)}", markup=False, highlight=False)

    def day(self, so_far: "SoFar") -> None:
        """Show the months that are over at the end of a day."""
        months = so_far.months()
        for one in months[self._n_months : len(months) - 1]:
            cells = zip(COLUMNS[2:6], _cells(one)[2:6], strict=True)
            self.step(f"{one.period}: RMSE {', '.join(f'{name} {text}' for name, text in cells)}")
        self._n_months = max(0, len(months) - 1)


class _LiveTable:
    """The table of months so far, above a bar."""

    def __init__(self, console: "Console") -> None:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console)
        self._task = self._progress.add_task("", total=None)
        self._months: list[Figures] = []
        self._said: list[str] = []

    def step(self, text: str) -> None:
        """Show that a step begins."""
        self._progress.update(self._task, description=text, total=None)

    def day(self, so_far: "SoFar") -> None:
        """Show what is known at the end of a day."""
        self._progress.update(self._task, completed=so_far.n_hours, total=so_far.n_all_hours)
        self._months, self._said = so_far.months(), so_far.news()

    def render(self) -> "RenderableType":
        """Return what is shown now."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        if not self._months:
            return self._progress
        table = Table(title=TITLE, title_justify="left")
        for column in COLUMNS:
            table.add_column(column, justify="left" if column == COLUMNS[0] else "right")
        for one in self._months:
            table.add_row(*_cells(one))
        return Group(table, *(Text(printable(line), style="dim") for line in self._said), self._progress)
