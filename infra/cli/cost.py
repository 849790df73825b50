"""`ridecast cost`: dollars per month by part, from measured times and public prices, with every assumption."""

from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.cli.options import BUILD, Json
from infra.cli.output import fold, width, write_json, write_lines, write_table

if TYPE_CHECKING:
    from infra.operate.cost import CostReport
    from infra.operate.cost_loop import LoopCost
    from infra.operate.cost_monitor import MonitorCost
    from infra.operate.cost_outcomes import OutcomesCost, OutcomesSettings

_TEXT_COLUMNS = 80

_US = "CPU microseconds per ride"
_ELSE = "(default: build/bench.json, else a constant)"


def cost_command(
    rides_per_s: Annotated[float, typer.Option(min=0.000001, help="Rides per second, all day.")] = 1000.0,
    shards: Annotated[int, typer.Option(min=1, help="Shards of each stream.")] = 1,
    window_s: Annotated[
        float | None, typer.Option(min=0, max=300, help="Batching window in seconds. (default: template.yaml's)")
    ] = None,
    api_requests_per_s: Annotated[
        float, typer.Option(min=0, help="Requests per second to the HTTP API, one ride each.")
    ] = 0.0,
    us_per_ride: Annotated[float | None, typer.Option(min=0, help=f"{_US}, plain output. {_ELSE}")] = None,
    us_per_ride_packed: Annotated[float | None, typer.Option(min=0, help=f"{_US}, packed output. {_ELSE}")] = None,
    us_per_ride_course: Annotated[
        float | None, typer.Option(min=0, help=f"{_US}, the course's function. {_ELSE}")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compute the stack's cost per month.

    Compares plain output, packed output and the course's stack. Prints a table of dollars by part and the
    assumptions. Needs no AWS.

    Example: ridecast cost --rides-per-s 1000 --shards 2
    """
    from infra.operate.cost import PARTS, cost
    from infra.operate.cost_inputs import COURSE, PACKED_OUTPUT, PLAIN, read_load, read_work
    from infra.operate.cost_loop import assumptions as loop_assumptions
    from infra.operate.cost_loop import cost_loop, read_loop_settings
    from infra.operate.cost_monitor import assumptions as monitor_assumptions
    from infra.operate.cost_monitor import cost_monitor, read_memory_mb
    from infra.operate.cost_outcomes import assumptions, cost_outcomes, read_settings

    given_us = {PLAIN: us_per_ride, PACKED_OUTPUT: us_per_ride_packed, COURSE: us_per_ride_course}
    load = read_load(rides_per_s, shards, window_s, api_requests_per_s)
    report = cost(load, read_work(given_us, BUILD / "bench.json"))
    settings = read_settings()
    outcomes, monitor = cost_outcomes(load, settings), cost_monitor(load, read_memory_mb())
    loop = cost_loop(load, read_loop_settings())
    if as_json:
        others = {name: {**asdict(one), "total": one.total} for name, one in (("monitor", monitor), ("loop", loop))}
        write_json({**_result(report), "outcomes": _outcomes_result(outcomes, settings), **others})
        return
    variants = report.variants.values()
    rows = {label: [_dollars(one.dollars_a_month.get(part, 0.0)) for one in variants] for part, label in PARTS.items()}
    rows |= {
        "total": [_dollars(one.total) for one in variants],
        "a million rides": [f"{report.dollars_per_million(name):.4f}" for name in report.variants],
        "streams on demand": [_dollars(one.total_on_demand) for one in variants],
        "rides an invocation": [f"{one.rides_per_invocation:,.0f}" for one in variants],
        "ms an invocation": [f"{one.ms_per_invocation:,.1f}" for one in variants],
        "shards needed": [f"{one.shards_needed:,}" for one in variants],
    }
    columns = ("", *report.variants)
    write_table("Dollars per month", columns, ((label, *cells) for label, cells in rows.items()), numeric=columns[1:])
    _show_outcomes(outcomes, report.variants[PLAIN].total)
    _show_monitor(monitor)
    _show_loop(loop)
    of_others = (assumptions(settings, outcomes), monitor_assumptions(monitor), loop_assumptions(loop))
    for line in chain(_assumptions(report), *of_others):
        write_lines(fold(line, "- ", min(width(), _TEXT_COLUMNS)))


def _show_outcomes(outcomes: "OutcomesCost", stack_dollars: float) -> None:
    from infra.operate.cost_outcomes import PARTS

    all_dollars = stack_dollars + outcomes.stream
    rows = [(label, _dollars(outcomes.dollars_a_month[part])) for part, label in PARTS.items()]
    rows += [
        ("archive and join", _dollars(outcomes.total)),
        ("stream of outcomes", _dollars(outcomes.stream)),
        ("archive and join, share", f"{outcomes.total / all_dollars:.1%}"),
        ("the same without storage", f"{(outcomes.total - outcomes.storage) / all_dollars:.1%}"),
        ("Firehose for archiving", _dollars(outcomes.firehose)),
        ("a DynamoDB table for both", _dollars(outcomes.table)),
    ]
    write_table("Outcomes, dollars per month", ("", "outcomes"), rows, numeric=("outcomes",))


def _show_monitor(monitor: "MonitorCost") -> None:
    from infra.operate.cost_monitor import PARTS

    rows = [(label, _dollars(monitor.dollars_a_month[part])) for part, label in PARTS.items()]
    rows.append(("the monitor", _dollars(monitor.total)))
    write_table("Monitoring and calibration, dollars per month", ("", "monitor"), rows, numeric=("monitor",))


def _show_loop(loop: "LoopCost") -> None:
    from infra.operate.cost_loop import PARTS

    rows = [(label, _dollars(loop.dollars_a_month[part])) for part, label in PARTS.items()]
    rows.append(("the loop", _dollars(loop.total)))
    write_table("The loop, dollars per month with LoopMode=on", ("", "loop"), rows, numeric=("loop",))


def _dollars(dollars: float) -> str:
    return f"{dollars:,.2f}" if dollars else "-"


def _assumptions(report: "CostReport") -> Iterator[str]:
    from infra.operate import prices
    from infra.operate.cost import COURSE_STACK, VCPU_MB

    load, given, inventory = report.load, report.assumptions, report.load.inventory
    yield f"{load.rides_per_s:,g} rides per second all day; shards of each stream: {load.n_shards:,}"
    yield "if more shards are needed than there are, the figures are those of a load that keeps up"
    yield f"a batch is what a shard gets in {load.window_s:g} s: 1 ride to {load.batch_size:,} records or 6 MB"
    yield f"functions have {load.memory_mb:,} MB on arm64 and are billed by wall clock, without cold starts"
    yield f"{VCPU_MB:,} MB are one vCPU; with less memory, CPU time grows in proportion"
    yield f"a request to Kinesis takes {given.put_ms:g} ms, the runtime itself {given.parse_us_per_ride:g} us a ride"
    for name, work in report.work.items():
        times = f"{work.us_per_ride:.2f} us a ride and {work.us_per_invocation:,.0f} us an invocation"
        yield f"{name}: {times} ({work.source})"
    yield (
        f"a ride event has {given.ride_bytes} B, {given.envelope_bytes} B in Lambda's envelope; a prediction has "
        f"{given.prediction_bytes} B; packing adds {given.packing_bytes} B to each"
    )
    yield f"{load.reject_share:.2%} of rides are rejected and stored for {load.kept_days:g} days"
    yield f"both streams have a retention of {load.retention_hours:g} hours; on demand, each is read once"
    yield f"logs: {given.log_bytes:,} B an invocation, {given.platform_log_bytes:,} B of them Lambda's own"
    yield f"metrics, at most: {given.n_metrics} of ours, {inventory.n_mapping_metrics} of Lambda's for the mapping"
    yield (
        f"alarms watch {inventory.n_alarm_metrics} metrics; composite alarms: {inventory.n_composite_alarms}, "
        f"dashboards: {inventory.n_dashboards}, keys: {inventory.n_keys}"
    )
    yield f"HTTP API: {load.api_requests_per_s:g} requests per second, " + (
        f"of {given.api_ms:g} ms and {given.api_log_bytes:,} B of logs; {given.n_api_metrics} metrics at most"
        if load.api_requests_per_s
        else "so it costs nothing"
    )
    yield (
        f"the course's stack: a random forest and one put_record per ride, at most {COURSE_STACK.batch_size} rides a "
        "batch; Lambda's own log lines; it has no bucket for rejects, metrics, alarms, dashboard, keys, snapshot or API"
    )
    yield (
        f"the course's function has {COURSE_STACK.memory_mb} MB, which it needs; its two streams have "
        f"{COURSE_STACK.n_shards} shards each and a retention of {COURSE_STACK.retention_hours:g} hours, as its "
        "Terraform sets them; --shards does not change that"
    )
    yield (
        "left out, each under 1% or a dollar: requests to KMS and SQS, SNS, storing logs and models, deployments; "
        "a key costs a dollar more after each of its first two yearly rotations"
    )
    yield (
        f"public prices of {prices.REGION}, {prices.OLDEST} to {prices.NEWEST}, without free tiers: "
        "infra/operate/prices.py has the pages"
    )


def _outcomes_result(outcomes: "OutcomesCost", settings: "OutcomesSettings") -> dict[str, Any]:
    from infra.operate.cost_outcomes import MEASURED

    return {**asdict(outcomes), "total": outcomes.total, "settings": asdict(settings), "measured": asdict(MEASURED)}


def _result(report: "CostReport") -> dict[str, Any]:
    from infra.operate import prices

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
        "prices": {"region": prices.REGION, "table": [asdict(price) for price in prices.ALL]},
    }
