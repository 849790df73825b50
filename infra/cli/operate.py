"""`ridecast doctor` and `smoke`: check a deployed stack from outside."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.cli.options import Aws, Json, on_aws
from infra.cli.output import counting, error_console, fold, printable, show_result, width, write_json

if TYPE_CHECKING:
    from infra.operate.doctor.facts import Finding

_STACK = "ridecast"
"""The default stack, as `sam deploy` names it."""

_MARKS = {"bad": "✗", "warning": "!", "good": "✓"}


@on_aws
def doctor_command(
    aws: Aws,
    template: Annotated[
        Path | None, typer.Option(help="Compare the stack with this template; skipped if the file does not exist.")
    ] = Path("template.yaml"),
    minutes: Annotated[int, typer.Option(min=1, max=1440, help="Minutes of metrics to read, up to now.")] = 60,
    as_json: Json = False,
) -> None:
    """Check a deployed stack and report problems with remedies.

    Exits with 1 if there are problems. Checks model, function, release, shards, quotas, alarms and template diff.
    Prints one line per finding, worst first. The stack is `ridecast` unless --stack names another.

    Example: ridecast doctor --stack ridecast-prod
    """
    from functools import cache

    from infra.operate.doctor.doctor import Doctor, check

    stack = aws.stack or _STACK
    compared = template if template and template.exists() else None
    findings = check(Doctor(cache(aws.client), stack, minutes, compared).gather())
    if as_json:
        write_json(json_result(stack, findings))
    else:
        show_findings(stack, findings)
    if any(finding.severity == "bad" for finding in findings):
        raise typer.Exit(1)


@on_aws
def smoke_command(
    aws: Aws,
    rides: Annotated[int, typer.Option(min=1, max=1000, help="Golden rides to send.")] = 100,
    patience_s: Annotated[
        float, typer.Option(min=1, help="Seconds to wait for the predictions; a new mapping starts after minutes.")
    ] = 300.0,
    as_json: Json = False,
) -> None:
    """Try a deployed stack with golden rides.

    Sends them and compares the predictions. Exits with 1 if one is wrong or missing. Prints counts, the slowest
    prediction and the problems. The stack is `ridecast` unless --stack names another.

    Example: ridecast smoke --stack ridecast-prod --rides 100
    """
    from infra.operate.smoke import Progress, smoke

    stack, console = aws.stack or _STACK, error_console()
    with counting(console, "predicted", rides) as count:
        result = smoke(aws.client, stack, rides, patience_s, Progress(console.print, count))
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


def show_findings(stack_name: str, findings: "Sequence[Finding]") -> None:
    """Write findings in order, each with its remedy below, and then the counts. No word is cut."""
    for finding in findings:
        _write_folded(f"{finding.check}: {finding.what}", f"{_MARKS[finding.severity]} ")
        if finding.remedy:
            _write_folded(finding.remedy, "  → ")
    n = _counts(findings)
    _write_folded(f"{stack_name}: {n['bad']} bad, {n['warning']} warnings, {n['good']} good", "")


def _write_folded(text: str, beginning: str) -> None:
    for line in fold(printable(" ".join(text.split())), beginning, width()):
        typer.echo(line)


def json_result(stack_name: str, findings: "Iterable[Finding]") -> dict[str, Any]:
    """Return the stack, the number of findings of each severity, and the findings."""
    listed = list(findings)
    return {"stack": stack_name, **_counts(listed), "findings": [asdict(finding) for finding in listed]}


def _counts(findings: "Iterable[Finding]") -> dict[str, int]:
    severities = [finding.severity.value for finding in findings]
    return {severity: severities.count(severity) for severity in _MARKS}
