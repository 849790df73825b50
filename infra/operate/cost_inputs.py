"""Inputs of a cost: the measured time a ride, the load and the stack's fixed parts; each figure has a default."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.stack.template import TEMPLATE, read_template
from training.errors import UserError

PLAIN, PACKED_OUTPUT, PACKED, COURSE = "plain", "packed output", "packed input and output", "the course's"
VARIANTS = (PLAIN, PACKED_OUTPUT, PACKED, COURSE)
"""A record a ride; predictions packed into aggregates; ride events packed too; and the MLOps Zoomcamp's stack: two
streams and a function that predicts with a random forest and calls `put_record` for each ride, and nothing else."""

DEFAULT_US = {PLAIN: 8.0, PACKED_OUTPUT: 5.0, PACKED: 5.0, COURSE: 4000.0}
"""CPU time if nothing is measured: the budgets of our two forms, and the lower end of what was measured for the
course's handler."""

DEFAULT_INVOCATION_US = 500.0

EVENT_COUNT_METRICS = 6
"""Metrics of a Kinesis mapping with `EventCount`: polled, filtered out, invoked, failed, dropped, on-failure delivered.
https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
Counted as custom metrics because they are opt-in; no source was found for how AWS bills them."""

_BATCH = re.compile(r"handler: batch of (?P<n>[\d,]+)(?P<packed>, packed output)?")
_OF_OUTCOMES = re.compile(r"Archiver|Joiner|/archive|/join")  # in an alarm: the functions, or their metrics' service
_COURSE_HANDLER = "handler: the course's, put_record a ride, random forest"


@dataclass(frozen=True, slots=True)
class Work:
    """The function's CPU time for each ride and for each invocation; `source` names where the figures are from."""

    us_per_ride: float
    us_per_invocation: float = 0.0
    source: str = ""


def read_work(given_us: Mapping[str, float | None], bench: Path) -> dict[str, Work]:
    """Return the work by variant: as given, else as measured, else by default.

    Args:
        given_us: Microseconds a ride, by variant; None or absent if not given.
        bench: The result of `make bench`; the file may be missing.

    Raises:
        UserError: The file is not a bench's result.
    """
    measured = _read_bench(bench)
    plain, output, course = (_work(name, given_us.get(name), measured) for name in (PLAIN, PACKED_OUTPUT, COURSE))
    return {PLAIN: plain, PACKED_OUTPUT: output, PACKED: output, COURSE: course}


def _work(variant: str, us_per_ride: float | None, measured: Mapping[str, Work]) -> Work:
    fixed_us = 0.0 if variant == COURSE else measured.get("fixed", Work(0.0, DEFAULT_INVOCATION_US)).us_per_invocation
    if us_per_ride is not None:
        return Work(us_per_ride, fixed_us, "as given")
    if variant in measured:
        return Work(measured[variant].us_per_ride, fixed_us, measured[variant].source)
    return Work(DEFAULT_US[variant], fixed_us, "a default, not measured")


def _read_bench(bench: Path) -> dict[str, Work]:
    """Read the figures of the largest batch, and as "fixed" what a batch of one takes in addition."""
    try:
        figures = {str(figure["name"]): float(figure["value"]) for figure in json.loads(bench.read_text())}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{bench} is not a bench's result ({error})", "run `make bench`, or delete it") from error
    found: dict[str, Work] = {}
    largest = 0
    for name, us in figures.items():
        source = f"measured: {bench}, {name}"
        if name == _COURSE_HANDLER:
            found[COURSE] = Work(us, source=source)
        elif (batch := _BATCH.fullmatch(name)) and batch["packed"]:
            found[PACKED_OUTPUT] = Work(us, source=source)
        elif batch and (n := int(batch["n"].replace(",", ""))) > largest:
            largest, found[PLAIN] = n, Work(us, source=source)
    if PLAIN in found and (one := figures.get("handler: batch of 1")):
        found["fixed"] = Work(0.0, max(0.0, one - found[PLAIN].us_per_ride))
    return found


@dataclass(frozen=True, slots=True)
class Inventory:
    """Parts of a stack that are paid by the month, with and without rides."""

    n_snapshots: int = 0  # functions that start from a snapshot; old versions are deleted, so each has one
    n_alarm_metrics: int = 0  # an alarm on an expression is billed for each metric in it; without those of outcomes
    n_composite_alarms: int = 0
    n_dashboards: int = 0
    n_keys: int = 0
    n_mapping_metrics: int = 0  # Lambda's metrics of the mapping


@dataclass(frozen=True, slots=True)
class Load:
    """The rides that arrive, and the settings of the stack."""

    rides_per_s: float
    n_shards: int  # of each of the two streams
    window_s: float = 1.0  # batching window
    batch_size: int = 10_000  # records in one invocation at most
    memory_mb: int = 1769  # the function's
    retention_hours: float = 24.0  # of both streams
    reject_share: float = 0.001  # of all rides
    kept_days: float = 365.0  # how long rejects are stored
    api_requests_per_s: float = 0.0  # to the HTTP API, of one ride each
    api_memory_mb: int = 1769  # of the function behind it
    inventory: Inventory = Inventory()


def read_load(
    rides_per_s: float, n_shards: int, window_s: float | None = None, api_requests_per_s: float = 0.0
) -> Load:
    """Return a load with template.yaml's settings."""
    template = read_template(TEMPLATE)
    defaults = {name: parameter.get("Default") for name, parameter in template["Parameters"].items()}
    return Load(
        rides_per_s=rides_per_s,
        n_shards=n_shards,
        window_s=float(defaults["BatchWindowSeconds"]) if window_s is None else window_s,
        batch_size=int(defaults["BatchSize"]),
        memory_mb=int(defaults["MemoryMb"]),
        retention_hours=float(template["Resources"]["RideEvents"]["Properties"]["RetentionPeriodHours"]),
        kept_days=float(defaults["KeptRecordsDays"]),
        api_requests_per_s=api_requests_per_s,
        api_memory_mb=int(defaults["ApiMemoryMb"]),
        inventory=count_inventory(template),
    )


def count_inventory(template: Mapping[str, Any]) -> Inventory:
    """Count the parts of a SAM template in long forms, with its defaults; none but the loop's may be conditional."""

    def properties(kind: str) -> Iterator[Mapping[str, Any]]:
        return _properties(template, kind)

    def is_snapshotted(function: Mapping[str, Any]) -> bool:
        applies = function.get("SnapStart", {}).get("ApplyOn")
        if isinstance(applies, dict):
            applies = template["Parameters"][applies["Ref"]]["Default"]
        return bool(applies == "PublishedVersions")

    functions = list(properties("AWS::Serverless::Function"))
    return Inventory(
        n_snapshots=sum(map(is_snapshotted, functions)),
        n_alarm_metrics=alarm_metrics(template, of_outcomes=False),
        n_composite_alarms=sum(1 for _ in properties("AWS::CloudWatch::CompositeAlarm")),
        n_dashboards=sum(1 for _ in properties("AWS::CloudWatch::Dashboard")),
        n_keys=sum(1 for _ in properties("AWS::KMS::Key")),
        n_mapping_metrics=EVENT_COUNT_METRICS * sum(map(_n_counted_mappings, functions)),
    )


def alarm_metrics(template: Mapping[str, Any], *, of_outcomes: bool) -> int:
    """Count the metrics that the alarms on archive and join watch, or those of all other alarms."""
    alarms = _properties(template, "AWS::CloudWatch::Alarm")
    return sum(_n_metrics(alarm) for alarm in alarms if bool(_OF_OUTCOMES.search(json.dumps(alarm))) == of_outcomes)


def loop_alarm_metrics(template: Mapping[str, Any]) -> int:
    """Count the metrics that the loop's alarms watch."""
    return sum(map(_n_metrics, _properties(template, "AWS::CloudWatch::Alarm", of_loop=True)))


def _properties(template: Mapping[str, Any], kind: str, *, of_loop: bool = False) -> Iterator[Mapping[str, Any]]:
    """Yield the properties of all resources of a type: those of the loop, which is off by default, or all others."""
    for resource in template["Resources"].values():
        if resource["Type"] == kind and (resource.get("Condition") == "LoopIsOn") == of_loop:
            yield resource.get("Properties", {})


def _n_metrics(alarm: Mapping[str, Any]) -> int:
    """Return the number of an alarm's metrics: its only one, or those in its expression."""
    return sum("MetricStat" in query for query in alarm["Metrics"]) if "Metrics" in alarm else 1


def _n_counted_mappings(function: Mapping[str, Any]) -> int:
    events = (event["Properties"] for event in function.get("Events", {}).values())
    return sum("EventCount" in event.get("MetricsConfig", {}).get("Metrics", ()) for event in events)
