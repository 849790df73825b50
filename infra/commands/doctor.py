"""`ridecast doctor`: looks at a deployed stack from outside, and says what is wrong and what to do."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from infra.commands.aws import Aws, on_aws
from infra.commands.options import Json


@on_aws
def doctor_command(
    aws: Aws,
    stack: Annotated[str, typer.Option(help="The stack, as `sam deploy` named it.")] = "ridecast",
    template: Annotated[
        Path | None, typer.Option(help="Compare with this template; none where it is not there.")
    ] = Path("template.yaml"),
    minutes: Annotated[int, typer.Option(min=1, max=1440, help="How far back to look at metrics.")] = 60,
    as_json: Json = False,
) -> None:
    """Check a deployed stack: model, function, release, shards, quotas, alarms, drift. Exit code 1 if it is ill."""
    from functools import cache

    from rich.console import Console

    from infra.console import show_result
    from infra.doctor.checks import Severity, check
    from infra.doctor.gather import Doctor
    from infra.doctor.show import json_result, show

    compared = template if template and template.exists() else None
    findings = check(Doctor(cache(aws.client), stack, minutes, compared).gather())
    if not as_json:
        show(Console(file=sys.stdout), stack, findings)
    show_result("", {}, json_result(stack, findings), json_only=True)
    if any(finding.severity is Severity.bad for finding in findings):
        raise typer.Exit(1)
