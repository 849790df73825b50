"""`ridecast cost`: dollars a million rides, from measured time and public prices, with every assumption named."""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any

import typer

from infra.cli_options import BUILD, Json
from infra.cost.cost import CostReport, Service, cost
from infra.cost.load import Work
from infra.cost.prices import ALL, AS_OF, REGION

_SERVICES: dict[Service, str] = {
    "lambda": "Lambda",
    "kinesis_in": "Kinesis in",
    "kinesis_out": "Kinesis out",
    "s3": "S3",
    "cloudwatch": "CloudWatch",
}
_US = "CPU microseconds a ride"
_ELSE = "else as in build/bench.json, else a default"


def cost_command(
    rides_per_s: Annotated[float, typer.Option(min=0.000001, help="Rides a second, all day.")] = 1000.0,
    shards: Annotated[int, typer.Option(min=1, help="Shards of each stream.")] = 1,
    window_s: Annotated[
        float | None, typer.Option(min=0, max=300, help="Batching window; else as in template.yaml.")
    ] = None,
    us_per_ride: Annotated[float | None, typer.Option(min=0, help=f"{_US}, plain; {_ELSE}.")] = None,
    us_per_ride_packed: Annotated[float | None, typer.Option(min=0, help=f"{_US}, packed output; {_ELSE}.")] = None,
    us_per_ride_one_by_one: Annotated[float | None, typer.Option(min=0, help=f"{_US}, one by one; {_ELSE}.")] = None,
    as_json: Json = False,
) -> None:
    """Work out what a million rides cost: plain, packed into aggregates, and one by one as the course does it."""
    from infra.cost.inputs import Given, load_of, work_of

    given = Given(us_per_ride, us_per_ride_packed, us_per_ride_one_by_one)
    report = cost(load_of(rides_per_s, shards, window_s), work_of(given, BUILD / "bench.json"))
    show_cost(report, as_json=as_json)


def show_cost(report: CostReport, *, as_json: bool) -> None:
    """Shows a table, what it rests on, and the same as JSON."""
    from infra.console import show_result

    if not as_json:
        _print_table(report)
        for line in _assumptions(report):
            sys.stdout.write(f"- {line}\n")
    show_result("", {}, _result(report), json_only=True)


def _print_table(report: CostReport) -> None:
    from rich.console import Console
    from rich.table import Table

    variants = report.variants.values()
    table = Table(title="Dollars a million rides", title_justify="left")
    table.add_column("")
    for name in report.variants:
        table.add_column(name, justify="right")
    for service, label in _SERVICES.items():
        table.add_row(label, *(f"{one.dollars_per_million[service]:.4f}" for one in variants))
    table.add_row("total", *(f"{one.total:.4f}" for one in variants), style="bold")
    table.add_row("total, a month", *(f"{report.dollars_a_month(name):,.2f}" for name in report.variants))
    table.add_row("rides an invocation", *(f"{one.rides_per_invocation:,.0f}" for one in variants))
    table.add_row("ms an invocation", *(f"{one.ms_per_invocation:,.1f}" for one in variants))
    table.add_row("shards needed", *(f"{one.shards_needed:,}" for one in variants))
    Console(file=sys.stdout).print(table)


def _assumptions(report: CostReport) -> Iterator[str]:
    load, given = report.load, report.assumptions
    yield f"{load.rides_per_s:,g} rides a second all day; shards of each stream: {load.n_shards:,}"
    yield "where more shards are needed than there are, the figures are those of a load that keeps up"
    yield f"a batch is what a shard brings in {load.window_s:g} s: 1 ride to {load.batch_size:,} records or 6 MB"
    yield f"the function has {load.memory_mb:,} MB on arm64 and is billed by wall clock, cold starts left out"
    yield f"a request to Kinesis takes {given.put_ms:g} ms, the runtime itself {given.parse_us_per_ride:g} us a ride"
    for name, work in report.work.items():
        yield f"{name}: {_time(work)} ({work.source})"
    yield f"a ride event has {given.ride_bytes} B, {given.envelope_bytes} B in Lambda's envelope"
    yield f"a prediction has {given.prediction_bytes} B; packing adds {given.packing_bytes} B to each"
    yield f"{load.reject_share:.2%} of rides are rejected; both streams keep {load.retention_hours:g} hours"
    yield f"{given.n_metrics} custom metrics, and {given.log_bytes:,} B of logs an invocation"
    yield "one by one: a ride an invocation, no metrics, no rejects, Lambda's own log lines only"
    yield f"public prices of {REGION}, {AS_OF}, without free tiers: infra/cost/prices.py names the pages"


def _time(work: Work) -> str:
    return f"{work.us_per_ride:.2f} us a ride and {work.us_per_invocation:,.0f} us an invocation"


def _result(report: CostReport) -> dict[str, Any]:
    return {
        "dollars_per_million_rides": {name: one.total for name, one in report.variants.items()},
        "variants": {
            name: {**asdict(one), "total": one.total, "dollars_a_month": report.dollars_a_month(name)}
            for name, one in report.variants.items()
        },
        "work": {name: asdict(work) for name, work in report.work.items()},
        "load": asdict(report.load),
        "assumptions": asdict(report.assumptions),
        "prices": {"as_of": AS_OF, "region": REGION, "table": [asdict(price) for price in ALL]},
    }
