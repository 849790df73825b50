"""`make soak`: run a soak, print a table and one JSON object; exit code 1 if the soak has problems."""

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer
from rich.markup import escape

from infra.cli.output import counting, error_console, show_result
from tests.soak.run import SoakReport, fit_models, run_soak


class OutputFormat(StrEnum):
    """Format of the output stream."""

    json = "json"
    kpl = "kpl"


def main(
    rides: Annotated[int, typer.Option(min=1000, help="Ride events to send.")] = 1_000_000,
    output_format: Annotated[
        OutputFormat, typer.Option(help="Format of the predictions: json or kpl (aggregates).")
    ] = OutputFormat.json,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Send rides through four shards with faults, two reshards and two model switches, and account for each ride."""
    console = error_console()
    bundles = fit_models(lambda text: console.print(f"[dim]·[/dim] {escape(text)}", highlight=False))
    with counting(console, "rides", rides) as advance:
        report = run_soak(rides, bundles, output_format.value, advance)
    problems = report.problems
    for problem in problems:
        console.print(f"[red]✗[/red] {escape(problem)}", highlight=False)
    result = asdict(report) | {"rss_growth_mb": report.rss_growth_mb, "passed": not problems}
    show_result("Soak", result, as_json=as_json, shown=_rows(report))
    raise typer.Exit(1 if problems else 0)


def _rows(report: SoakReport) -> dict[str, str]:
    texts = {name: value for name, value in asdict(report).items() if not isinstance(value, list)}
    rows = {name.replace("_", " "): f"{value:,}" for name, value in texts.items()}
    return rows | {"memory, MB": f"{report.rss_mb[0]:g} to {report.rss_mb[-1]:g}"}


if __name__ == "__main__":
    typer.run(main)
