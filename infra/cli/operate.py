"""`ridecast doctor`: looks at a deployed stack from outside, and says what is wrong and what to do."""

import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import wrap
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from infra.cli.options import BUILD, Aws, Json, on_aws
from infra.cli.output import printable
from infra.operate.cost import (
    COURSE_BATCH_SIZE,
    COURSE_MEMORY_MB,
    COURSE_RETENTION_HOURS,
    COURSE_SHARDS,
    VCPU_MB,
    CostReport,
    Part,
    cost,
)
from infra.operate.cost_inputs import COURSE, PACKED_OUTPUT, PLAIN, Work, read_load, read_work
from infra.operate.doctor.facts import Finding, Severity
from infra.operate.prices import ALL, NEWEST, OLDEST, REGION


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

    from infra.cli.output import show_result
    from infra.operate.doctor.doctor import Doctor, check
    from infra.operate.doctor.facts import Severity

    compared = template if template and template.exists() else None
    findings = check(Doctor(cache(aws.client), stack, minutes, compared).gather())
    if not as_json:
        show(Console(file=sys.stdout), stack, findings)
    show_result("", {}, json_result(stack, findings), json_only=True)
    if any(finding.severity is Severity.bad for finding in findings):
        raise typer.Exit(1)


# MERGED FROM infra/commands/smoke.py
# `ridecast smoke`: a deployed stack tried with real events.
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
    from infra.cli.output import counting, error_console, show_result
    from infra.operate.smoke import Progress, smoke

    console = error_console()
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


# MERGED FROM infra/commands/cost.py
# `ridecast cost`: dollars a month, part by part, from measured time and public prices, every assumption named.
_PARTS: dict[Part, str] = {
    "function": "function",
    "snapstart": "its snapshot",
    "stream_in": "ride events",
    "stream_out": "predictions",
    "retention": "kept over 24 hours",
    "bucket": "bucket",
    "logs": "logs",
    "metrics": "metrics",
    "alarms": "alarms, dashboard",
    "keys": "keys",
    "api": "HTTP API",
}
_US = "CPU microseconds a ride"
_ELSE = "else as in build/bench.json, else a default"


def cost_command(
    rides_per_s: Annotated[float, typer.Option(min=0.000001, help="Rides a second, all day.")] = 1000.0,
    shards: Annotated[int, typer.Option(min=1, help="Shards of each stream.")] = 1,
    window_s: Annotated[
        float | None, typer.Option(min=0, max=300, help="Batching window; else as in template.yaml.")
    ] = None,
    api_requests_per_s: Annotated[
        float, typer.Option(min=0, help="Requests a second to the HTTP API, a ride each.")
    ] = 0.0,
    us_per_ride: Annotated[float | None, typer.Option(min=0, help=f"{_US}, plain; {_ELSE}.")] = None,
    us_per_ride_packed: Annotated[float | None, typer.Option(min=0, help=f"{_US}, packed output; {_ELSE}.")] = None,
    us_per_ride_course: Annotated[float | None, typer.Option(min=0, help=f"{_US}, the course's; {_ELSE}.")] = None,
    as_json: Json = False,
) -> None:
    """Work out what the stack costs a month: plain, packed into aggregates, and beside it the course's."""
    given_us = {PLAIN: us_per_ride, PACKED_OUTPUT: us_per_ride_packed, COURSE: us_per_ride_course}
    load = read_load(rides_per_s, shards, window_s, api_requests_per_s)
    show_cost(cost(load, read_work(given_us, BUILD / "bench.json")), as_json=as_json)


def show_cost(report: CostReport, *, as_json: bool) -> None:
    """Shows a table, what it rests on, and the same as JSON."""
    from infra.cli.output import show_result

    if not as_json:
        _print_table(report)
        for line in _assumptions(report):
            sys.stdout.write(textwrap.fill(f"- {line}", width=80, subsequent_indent="  ") + "\n")
    show_result("", {}, _result(report), json_only=True)


def _print_table(report: CostReport) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    variants = report.variants.values()
    table = Table(title="Dollars a month", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for name in report.variants:
        table.add_column(name, justify="right")
    for part, label in _PARTS.items():
        table.add_row(label, *(_dollars(one.dollars_a_month.get(part, 0.0)) for one in variants))
    table.add_section()
    table.add_row("total", *(_dollars(one.total) for one in variants), style="bold")
    table.add_row("a million rides", *(f"{report.dollars_per_million(name):.4f}" for name in report.variants))
    table.add_row("streams on demand", *(_dollars(one.total_on_demand) for one in variants))
    table.add_row("rides an invocation", *(f"{one.rides_per_invocation:,.0f}" for one in variants))
    table.add_row("ms an invocation", *(f"{one.ms_per_invocation:,.1f}" for one in variants))
    table.add_row("shards needed", *(f"{one.shards_needed:,}" for one in variants))
    Console(file=sys.stdout).print(table)


def _dollars(dollars: float) -> str:
    return f"{dollars:,.2f}" if dollars else "-"


def _assumptions(report: CostReport) -> Iterator[str]:
    yield from _about_batches(report)
    yield from _about_what_stands(report)
    yield from _about_the_courses()
    yield (
        "left out, each under 1% or a dollar: requests to KMS and SQS, SNS, keeping logs and models, deployments; "
        "a key costs a dollar more after each of its first two yearly rotations"
    )
    yield f"public prices of {REGION}, {OLDEST} to {NEWEST}, without free tiers: infra/operate/prices.py has the pages"


def _about_batches(report: CostReport) -> Iterator[str]:
    load, given = report.load, report.assumptions
    yield f"{load.rides_per_s:,g} rides a second all day; shards of each stream: {load.n_shards:,}"
    yield "where more shards are needed than there are, the figures are those of a load that keeps up"
    yield f"a batch is what a shard brings in {load.window_s:g} s: 1 ride to {load.batch_size:,} records or 6 MB"
    yield f"functions have {load.memory_mb:,} MB on arm64 and are billed by wall clock, cold starts left out"
    yield f"{VCPU_MB:,} MB are one vCPU; with less memory, CPU time takes longer in proportion"
    yield f"a request to Kinesis takes {given.put_ms:g} ms, the runtime itself {given.parse_us_per_ride:g} us a ride"
    for name, work in report.work.items():
        yield f"{name}: {_time(work)} ({work.source})"
    yield (
        f"a ride event has {given.ride_bytes} B, {given.envelope_bytes} B in Lambda's envelope; a prediction has "
        f"{given.prediction_bytes} B; packing adds {given.packing_bytes} B to each"
    )


def _about_what_stands(report: CostReport) -> Iterator[str]:
    load, given, stands = report.load, report.assumptions, report.load.inventory
    yield f"{load.reject_share:.2%} of rides are rejected and kept {load.kept_days:g} days"
    yield f"both streams keep {load.retention_hours:g} hours; on demand, each is read once"
    yield f"logs: {given.log_bytes:,} B an invocation, {given.platform_log_bytes:,} B of them Lambda's own"
    yield f"metrics, at most: {given.n_metrics} of ours, {stands.n_mapping_metrics} of Lambda's about the mapping"
    yield (
        f"alarms look at {stands.n_alarm_metrics} metrics; composite alarms: {stands.n_composite_alarms}, "
        f"dashboards: {stands.n_dashboards}, keys: {stands.n_keys}"
    )
    asked = f"HTTP API: {load.api_requests_per_s:g} requests a second"
    if not load.api_requests_per_s:
        yield f"{asked}, for which nothing is paid"
        return
    yield f"{asked} of {given.api_ms:g} ms and {given.api_log_bytes:,} B of logs; {given.n_api_metrics} metrics at most"


def _about_the_courses() -> Iterator[str]:
    yield (
        f"the course's: a random forest and put_record a ride, at most {COURSE_BATCH_SIZE} rides a batch; Lambda's own "
        "log lines; no bucket for rejects, metrics, alarms, dashboard, keys, snapshot, HTTP API: none is counted"
    )
    yield (
        f"the course's function has {COURSE_MEMORY_MB} MB, which it needs; its two streams have {COURSE_SHARDS} shards "
        f"each and keep {COURSE_RETENTION_HOURS:g} hours, as its Terraform sets them, whatever --shards says"
    )


def _time(work: Work) -> str:
    return f"{work.us_per_ride:.2f} us a ride and {work.us_per_invocation:,.0f} us an invocation"


def _result(report: CostReport) -> dict[str, Any]:
    return {
        "dollars_a_month": {name: one.total for name, one in report.variants.items()},
        "dollars_per_million_rides": {name: report.dollars_per_million(name) for name in report.variants},
        "variants": {
            name: {**asdict(one), "total": one.total, "total_on_demand": one.total_on_demand}
            for name, one in report.variants.items()
        },
        "work": {name: asdict(work) for name, work in report.work.items()},
        "load": asdict(report.load),
        "assumptions": asdict(report.assumptions),
        "prices": {"region": REGION, "table": [asdict(price) for price in ALL]},
    }


# MERGED FROM infra/doctor/show.py
# Findings on a terminal, the worst first: a mark and a line each, folded to the window, the remedy below it.
_MARKS = {Severity.bad: ("✗", "red"), Severity.warning: ("!", "yellow"), Severity.good: ("✓", "green")}
_INDENT = "  "


def show(console: Console, stack_name: str, findings: Sequence[Finding]) -> None:
    """Writes findings for a person, in the order in which they come; where no terminal is, a line is never folded."""
    width = console.width if console.is_terminal else None
    for finding in findings:
        mark, colour = _MARKS[finding.severity]
        for line in _folded(f"{finding.check}: {finding.what}", f"{mark} ", width):
            console.print(_coloured(line, mark, colour), soft_wrap=True)
        for line in _folded(finding.remedy, f"{_INDENT}→ ", width):
            console.print(_coloured(line, "→", colour), soft_wrap=True)
    n = _counted(findings)
    verdict = f"{stack_name}: {n['bad']} bad, {n['warning']} to look at, {n['good']} well"
    console.print(Text(printable(verdict)), soft_wrap=True)


def _folded(text: str, beginning: str, width: int | None) -> Iterator[str]:
    """Yields lines that begin below each other; words stay whole, for many are options and names to copy."""
    words = printable(" ".join(text.split()))
    if not words:
        return
    if width is None:
        yield beginning + words
        return
    indent = " " * len(beginning)
    yield from wrap(
        words,
        width,
        initial_indent=beginning,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _coloured(line: str, mark: str, colour: str) -> Text:
    text = Text(line)
    if line.lstrip().startswith(mark):
        text.stylize(colour, 0, line.index(mark) + 1)
    return text


def json_result(stack_name: str, findings: Iterable[Finding]) -> dict[str, Any]:
    """Returns what `--json` writes: the stack, how many findings there are of each severity, and each of them."""
    listed = list(findings)
    return {"stack": stack_name, **_counted(listed), "findings": [asdict(finding) for finding in listed]}


def _counted(findings: Iterable[Finding]) -> dict[str, int]:
    severities = [finding.severity for finding in findings]
    return {severity.value: severities.count(severity) for severity in Severity}
