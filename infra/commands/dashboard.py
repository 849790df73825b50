"""`ridecast dashboard`: the panels that the template deploys, drawn from a run on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.commands.options import BUILD, Json

if TYPE_CHECKING:
    from infra.dashboard.run import DashboardReport

_ENDINGS = (".png", ".svg", ".pdf")


def dashboard_command(
    image: Annotated[Path, typer.Option(help="The picture's file: .png, .svg or .pdf.")] = BUILD / "dashboard.png",
    log: Annotated[
        Path | None, typer.Option(help="A function's log, of a demo or by `aws logs tail`. (default: run a demo first)")
    ] = None,
    rides: Annotated[int, typer.Option(min=1, help="Ride events of the demo.")] = 100_000,
    output: Annotated[Path, typer.Option(help="Where the demo keeps its bundles and its log.")] = BUILD,
    as_json: Json = False,
) -> None:
    """Draw the stack's dashboard from what the function logs: the panels are those of template.yaml."""
    if image.suffix.lower() not in _ENDINGS:
        problem = f"{image.name} ends in none of {', '.join(_ENDINGS)}"
        raise typer.BadParameter(problem, param_hint="'--image'")

    from infra.dashboard.run import dashboard_of_log

    report = dashboard_of_log(log, image) if log else _run_demo(rides, output, image)
    show_dashboard(report, as_json=as_json)


def show_dashboard(report: "DashboardReport", *, as_json: bool) -> None:
    """Shows what has been drawn, and what only an AWS account would show."""
    from dataclasses import asdict

    from infra.console import show_result

    rows = {
        "picture": report.image,
        "from": report.log,
        "panels": str(report.panels),
        "batches": f"{report.batches:,}",
        "predictions": f"{report.predictions:,}",
        "only in CloudWatch": "\n".join(report.cloudwatch_only),
    }
    show_result("The dashboard", rows, asdict(report), json_only=as_json)


def _run_demo(rides: int, output: Path, image: Path) -> "DashboardReport":
    from infra.console import ConsoleDisplay, error_console
    from infra.dashboard.run import dashboard_of_demo
    from infra.demo.run import DemoOptions
    from training.data.months import parse_months

    options = DemoOptions(
        service="green",
        train_months=parse_months("2021-01"),
        validate_months=parse_months("2021-02"),
        n_events=rides,
        folder=output,
    )
    with ConsoleDisplay(error_console()).live() as display:
        return dashboard_of_demo(options, image, display)
