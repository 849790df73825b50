"""`ridecast backtest`: how models age."""

from pathlib import Path
from typing import Annotated

import typer

from infra.commands.options import BUILD, Json, Parameters, Service, ServiceName


def backtest_command(
    service: Service = ServiceName.green,
    first: Annotated[
        str | None, typer.Option("--from", help="First month, as in 2021-01; else the first there is.")
    ] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last month; else the last there is.")] = None,
    window: Annotated[int, typer.Option(min=1, help="Months that each model learns from.")] = 1,
    parameters: Parameters = None,
    output: Annotated[Path, typer.Option(help="Folder for the figures and the plot.")] = BUILD / "backtest",
    as_json: Json = False,
) -> None:
    """Walk forward through the months in hand: how models age, and what not retraining costs."""
    import msgspec

    from training.data.months import Month

    first_month, last_month = (Month.parse(text) if text else None for text in (first, last))

    from infra.console import ConsoleDisplay, error_console, show_result
    from infra.models.backtest_run import run_backtest
    from infra.models.run_view import backtest_rows

    with ConsoleDisplay(error_console()).live() as display:
        result, files = run_backtest(
            service.value, first_month, last_month, window, parameters or (), output, display.step
        )
    rows = {**backtest_rows(result), "plot": str(files.plot), "figures": str(files.figures)}
    title = f"{service.value}: error by months since training"
    show_result(title, rows, msgspec.to_builtins(result), json_only=as_json)
