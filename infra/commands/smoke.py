"""`ridecast smoke`: a deployed stack tried with real events."""

from typing import Annotated

import typer

from infra.commands.aws import Aws, on_aws
from infra.commands.options import Json


@on_aws
def smoke_command(
    aws: Aws,
    stack: Annotated[str, typer.Option(help="The stack to try.")] = "ridecast",
    rides: Annotated[int, typer.Option(min=1, max=1000, help="Golden rides to send.")] = 100,
    patience_s: Annotated[
        float, typer.Option(min=1, help="Seconds to wait for all predictions; a new mapping takes minutes to begin.")
    ] = 300.0,
    as_json: Json = False,
) -> None:
    """Send golden rides through a deployed stack and compare their predictions; exit code 1 if any is off."""
    from infra.console import counting, error_console, show_result
    from infra.smoke.run import Watch, smoke

    console = error_console()
    with counting(console, "predicted", rides) as count:
        result = smoke(aws.client, stack, rides, patience_s, Watch(console.print, count))
    slowest_s = round(result.slowest_s, 3) if result.n_predicted else None
    rows = {
        "model version": result.model_version,
        "rides sent": str(result.n_sent),
        "predicted": str(result.n_predicted),
        "predicted again": str(result.n_repeated),
        "slowest, seconds": str(slowest_s),
        "problems": "\n".join(result.problems) or "none",
    }
    answer = {
        "stack": stack,
        "model_version": result.model_version,
        "sent": result.n_sent,
        "predicted": result.n_predicted,
        "repeated": result.n_repeated,
        "slowest_s": slowest_s,
        "problems": list(result.problems),
    }
    show_result("Smoke test", rows, answer, json_only=as_json)
    if result.problems:
        raise typer.Exit(1)
