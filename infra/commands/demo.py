"""`ridecast demo`: the whole way of a ride, on this machine."""

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.commands.options import BUILD, Json, Service, ServiceName

if TYPE_CHECKING:
    from infra.demo.run import DemoReport
    from training.data.months import Month


class RuntimeChoice(StrEnum):
    """Where the function runs."""

    in_process = "in-process"
    emulator = "emulator"


Rides = Annotated[int, typer.Option(min=1, help="Ride events to send at most, a few malformed ones among them.")]
Train = Annotated[str, typer.Option(help="Months to learn from: 2021-01, a list, or 2023-01..2023-03.")]
Validate = Annotated[str, typer.Option(help="Later months to measure on.")]
Shards = Annotated[int, typer.Option(min=1, help="Shards of each stream.")]
Output = Annotated[Path, typer.Option(help="Where bundles are kept between runs, and the log.")]
Runtime = Annotated[
    RuntimeChoice,
    typer.Option(
        help="The function in this process, or its built package in AWS's own runtime (Linux with Python 3.13)."
    ),
]


def demo_command(
    rides: Rides = 100_000,
    service: Service = ServiceName.green,
    train: Train = "2021-01",
    validate: Validate = "2021-02",
    shards: Shards = 1,
    output: Output = BUILD,
    runtime: Runtime = RuntimeChoice.in_process,
    as_json: Json = False,
) -> None:
    """Replay real rides through Kinesis, the function and out as predictions, all on this machine."""
    train_months, validate_months = _months(train, validate)  # before the imports below, which take a second

    from infra.console import ConsoleDisplay, error_console
    from infra.demo.run import DemoOptions, run_demo

    options = DemoOptions(
        service=service.value,
        train_months=train_months,
        validate_months=validate_months,
        n_events=rides,
        folder=output,
        n_shards=shards,
        runtime=runtime.value,
    )
    with ConsoleDisplay(error_console()).live() as display:
        report = run_demo(options, display)
    show_demo(report, output, as_json=as_json)


def _months(train: str, validate: str) -> "tuple[tuple[Month, ...], tuple[Month, ...]]":
    from training.data.months import parse_months

    train_months, validate_months = parse_months(train), parse_months(validate)
    if shared := sorted(set(train_months) & set(validate_months)):
        problem = f"{shared[0]} is learnt from already: choose months after those of --train"
        raise typer.BadParameter(problem, param_hint="'--validate'")
    return train_months, validate_months


def show_demo(report: "DemoReport", output: Path, *, as_json: bool) -> None:
    """Shows how a demo ended, and ends the command with exit code 1 if a ride is lost."""
    from infra.console import show_result

    rows = {
        "ride events sent": f"{report.rides:,}",
        "predicted": f"{report.predicted:,}",
        "rejected (malformed on purpose)": f"{report.rejected:,}",
        "lost": f"{report.lost:,}",
        "repeated": f"{report.repeated:,}",
        "rides a second, the whole way": f"{report.rides_per_s:,.0f}",
        "RMSE, minutes": f"{_two(report.rmse_minutes)}   (the course's model: {_two(report.baseline_rmse_minutes)})",
        "MAE, minutes": _two(report.mae_minutes),
        "model version": report.model_version,
        "rides from": "TLC trip record data" if report.data == "tlc" else "a generator: made up, not New York",
        "the function's log": str(output / "function.log"),
    }
    show_result("From ride event to prediction", rows, asdict(report), json_only=as_json)
    if report.lost:
        raise typer.Exit(1)


def _two(minutes: float | None) -> str:
    return "none" if minutes is None else f"{minutes:.2f}"
