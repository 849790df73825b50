"""`ridecast simulate`: months of rides through the whole stack on this machine, in virtual time."""

from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Json, Service
from infra.cli.output import (
    live_display,
    minutes_text,
    write_json,
    write_table,
)

if TYPE_CHECKING:
    from infra.cli.output import ConsoleDisplay
    from infra.local.simulate.result import SimulationResult
    from infra.local.simulate.simulate import SoFar


def simulate_command(
    service: Service = "yellow",
    first: Annotated[str, typer.Option("--from", help="First month to simulate.")] = "2020-01",
    last: Annotated[str, typer.Option("--to", help="Last month to simulate.")] = "2020-06",
    train: Annotated[
        str, typer.Option(help="Months that the first model learns from: 2021-01, a list, or 2019-01..2019-12.")
    ] = "2019-01..2019-12",
    rides_a_month: Annotated[
        int, typer.Option(min=100, help="The most rides of a month: of one with more, a sample is simulated.")
    ] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample, and of made-up rides.")] = 1,
    calibration: Annotated[bool, typer.Option(help="Let outcomes correct the served model every day.")] = True,
    retraining: Annotated[bool, typer.Option(help="Let the loop train models and promote them.")] = True,
    as_json: Json = False,
) -> None:
    """Run months of rides through the whole stack on this machine, in virtual time.

    Trains a first model. Then every ride goes through the real functions: predicted, archived, joined with its outcome
    and monitored; the served model is calibrated. Uses TLC's months if all of them are on this machine, else made-up
    ones with a planted shift. Prints errors by month beside those of the course's forest and of the first model as it
    was trained. Exits with 1 if the audit finds a lost, conflicting or skewed prediction.

    Example: ridecast simulate --service yellow --from 2020-01 --to 2020-06 --train 2019-01..2019-12
    """
    from infra.local.simulate.options import SimulateOptions, check_months
    from training.data.months import parse_months

    train_months, months = parse_months(train), parse_months(f"{first}..{last}")
    check_months(train_months, months)
    options = SimulateOptions(
        service=service,
        train_months=train_months,
        months=months,
        rides_a_month=rides_a_month,
        seed=seed,
        calibration=calibration,
        retraining=retraining,
    )

    from infra.local.simulate.simulate import simulate

    with live_display() as display:
        result = simulate(options, _Progress(display))
    show_simulation(result, as_json=as_json)


class _Progress:
    """Shows the progress of a simulation."""

    def __init__(self, display: "ConsoleDisplay") -> None:
        self._display = display

    def step(self, text: str) -> None:
        """Show that a step begins."""
        self._display.step(text)

    def day(self, so_far: "SoFar") -> None:
        """Show what is known at the end of a day."""
        self._display.progress(so_far.n_hours, so_far.n_all_hours)


def show_simulation(result: "SimulationResult", *, as_json: bool) -> None:
    """Show the result; exit with 1 if the audit found something."""
    import msgspec

    if as_json:
        write_json(msgspec.to_builtins(result))
    else:
        rows = [
            (
                one.period,
                f"{one.n_rides:,}",
                minutes_text(one.course_rmse),
                minutes_text(one.frozen_rmse),
                minutes_text(one.served_rmse),
                _share(one.frozen_coverage),
                _share(one.served_coverage),
            )
            for one in result.months
        ]
        columns = ("month", "rides", "course", "frozen", "served", "frozen in interval", "served in interval")
        write_table("RMSE in minutes, and rides inside their interval", columns, rows, columns[1:])
    if not result.audit.is_sound:
        raise typer.Exit(1)


def _share(value: float | None) -> str:
    return "none" if value is None else f"{value:.1%}"
