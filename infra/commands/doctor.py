"""`ridecast doctor`: looks at a deployed stack from outside, and says what is wrong and what to do."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.commands.aws import Aws, on_aws
from infra.commands.options import Json

if TYPE_CHECKING:
    from infra.doctor.checks import Finding

MARKS = {"good": "  ", "warning": "! ", "bad": "✗ "}


@on_aws
def doctor_command(
    aws: Aws,
    stack_name: Annotated[str, typer.Option(help="The stack, as `sam deploy` named it.")] = "ridecast",
    template: Annotated[
        Path | None, typer.Option(help="Compare with this template; none where it is not there.")
    ] = Path("template.yaml"),
    minutes: Annotated[int, typer.Option(min=1, max=1440, help="How far back to look at metrics.")] = 60,
    as_json: Json = False,
) -> None:
    """Check a deployed stack: model, function, mapping, shards, alarms, quotas, drift. Exit code 1 if it is ill."""
    from functools import cache

    from infra.doctor.checks import Severity, check
    from infra.doctor.gather import Doctor

    compared = template if template and template.exists() else None
    findings = check(Doctor(cache(aws.client), stack_name, minutes, compared).gather())
    show_findings(stack_name, findings, as_json=as_json)
    if any(finding.severity is Severity.bad for finding in findings):
        raise typer.Exit(1)


def show_findings(stack_name: str, findings: "tuple[Finding, ...]", *, as_json: bool) -> None:
    """Writes a line a finding, its remedy below it, and all of them as one JSON object on the last line."""
    from dataclasses import asdict

    from infra.console import show_result

    if not as_json:
        for finding in findings:
            typer.echo(f"{MARKS[finding.severity]}{finding.check}: {finding.what}")
            if finding.remedy:
                typer.echo(f"    → {finding.remedy}")
    counted = {severity: sum(one.severity == severity for one in findings) for severity in MARKS}
    result = {"stack": stack_name, **counted, "findings": [asdict(finding) for finding in findings]}
    show_result("", {}, result, json_only=True)
