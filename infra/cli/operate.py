"""`ridecast doctor` and `smoke`: check a deployed stack from outside."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import ROOT, Aws, Json, expand_options
from infra.cli.output import counting, error_console, fold, printable, show_result, width, write_json

if TYPE_CHECKING:
    from infra.operate.doctor.facts import Finding

_STACK = "ridecast"
"""The default stack, as `sam deploy` names it."""

_MARKS = {"bad": "✗", "unknown": "?", "warning": "!", "good": "✓"}

_EXIT_BAD, _EXIT_UNKNOWN = 1, 3
"""Exit codes of `doctor`: something is bad; nothing is, but not everything was looked at (2 is a wrong option)."""


@expand_options
def doctor_command(
    aws: Aws,
    template: Annotated[
        Path | None, typer.Option(help="Compare the stack with this template; skipped if the file does not exist.")
    ] = ROOT / "template.yaml",
    minutes: Annotated[int, typer.Option(min=1, max=1440, help="Minutes of metrics to read, up to now.")] = 60,
    as_json: Json = False,
) -> None:
    """Check a deployed stack and report problems with remedies.

    Exits with 1 if something is bad, with 3 if nothing is but a part was not looked at. Checks resources, permissions,
    model, function, release, shards, quotas, alarms and template diff. Prints one line per finding, worst first. The
    stack is `ridecast` unless --stack names another. With --local, nothing is said of what only an account has.

    Example: ridecast doctor --stack ridecast-prod
    """
    from functools import cache

    from infra.operate.doctor.doctor import Doctor, check

    stack = aws.stack or _STACK
    compared = template if template and template.exists() and not aws.local else None
    findings = check(Doctor(cache(aws.client), stack, minutes, compared, aws.local).gather())
    show_findings(stack, findings, as_json=as_json)
    severities = {finding.severity.value for finding in findings}
    if severities & {"bad", "unknown"}:
        raise typer.Exit(_EXIT_BAD if "bad" in severities else _EXIT_UNKNOWN)


@expand_options
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
    answer = {
        "stack": stack,
        "model_version": result.model_version,
        "sent": result.n_sent,
        "predicted": result.n_predicted,
        "repeated": result.n_repeated,
        "slowest_s": round(result.slowest_s, 3) if result.n_predicted else None,
        "problems": list(result.problems),
    }
    show_result("Smoke test", answer, as_json=as_json)
    if result.problems:
        raise typer.Exit(1)


def show_findings(stack: str, findings: "Sequence[Finding]", *, as_json: bool) -> None:
    """Write findings in order, each with its remedy below, and then the counts. No word is cut."""
    severities = [finding.severity.value for finding in findings]
    counts = {severity: severities.count(severity) for severity in _MARKS}
    if as_json:
        write_json({"stack": stack, **counts, "findings": [asdict(finding) for finding in findings]})
        return
    for finding in findings:
        _write_folded(f"{finding.check}: {finding.what}", f"{_MARKS[finding.severity]} ")
        if finding.remedy:
            _write_folded(finding.remedy, "  → ")
    warnings = f"{counts['warning']} warning{'' if counts['warning'] == 1 else 's'}"
    said = f"{stack}: {counts['bad']} bad, {warnings}, {counts['good']} good"
    if n_unknown := counts["unknown"]:
        said += f", {n_unknown} not looked at: whether {'it is' if n_unknown == 1 else 'they are'} healthy is not known"
    _write_folded(said, "")


def _write_folded(text: str, beginning: str) -> None:
    for line in fold(printable(" ".join(text.split())), beginning, width()):
        typer.echo(line)
