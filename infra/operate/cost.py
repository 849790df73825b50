"""What a month of rides costs: from the load, the measured time a ride and public prices to dollars. Pure.

Everything is an average over a steady load. What falls to a million rides falls, or stays, as the load grows.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from infra.errors import CostInputError
from infra.operate import prices
from infra.stack.template import TEMPLATE, read_template

# MERGED FROM infra/cost/load.py
# What a cost is worked out for: the ways of doing it, the load, the function's time, and what is assumed.
PLAIN, PACKED_OUTPUT, PACKED, COURSE = "plain", "packed output", "packed input and output", "the course's"

# MERGED FROM infra/cost/inputs.py
# What the cost is worked out from: the bench's figures, the template's properties, and a default for each figure.
DEFAULT_US = {PLAIN: 8.0, PACKED_OUTPUT: 5.0, PACKED: 5.0, COURSE: 286.0}
"""Where nothing is measured: the budgets of the two forms, and the least that the course's handler was found at."""

DEFAULT_INVOCATION_US = 500.0

_BATCH = re.compile(r"handler: batch of (?P<n>[\d,]+)(?P<packed>, packed output)?")
_COURSE_HANDLER = "handler: the course's, put_record a ride, linear model"


@dataclass(frozen=True, slots=True)
class Given:
    """Microseconds a ride as the user gives them; None where not."""

    plain: float | None = None
    packed: float | None = None
    course: float | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """The function's CPU time: a part for each ride and a part for each invocation; `source` says where from."""

    us_per_ride: float
    us_per_invocation: float = 0.0
    source: str = ""


def work_of(given: Given, bench: Path) -> dict[str, Work]:
    """Returns the work by variant: as given, else as measured, else by default; each says which.

    Raises:
        CostInputError: There is a bench's result, and it is none.
    """
    measured = _measured(bench)
    plain = _work(PLAIN, given.plain, measured)
    packed = _work(PACKED_OUTPUT, given.packed, measured)
    return {
        PLAIN: plain,
        PACKED_OUTPUT: packed,
        PACKED: packed,
        COURSE: _work(COURSE, given.course, measured),
    }


def _work(variant: str, us_per_ride: float | None, measured: Mapping[str, Work]) -> Work:
    fixed = Work(0.0) if variant == COURSE else measured.get("fixed", Work(0.0, DEFAULT_INVOCATION_US))
    if us_per_ride is not None:
        return Work(us_per_ride, fixed.us_per_invocation, "as given")
    if variant in measured:
        found = measured[variant]
        return Work(found.us_per_ride, fixed.us_per_invocation, found.source)
    return Work(DEFAULT_US[variant], fixed.us_per_invocation, "a default, not measured")


def _measured(bench: Path) -> dict[str, Work]:
    """Reads what the bench has measured: of the handler the largest batch, and what a batch of one costs on top."""
    try:
        figures = {str(figure["name"]): float(figure["value"]) for figure in json.loads(bench.read_text())}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CostInputError(bench, str(error)) from error
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
    """Counts of what stands there.

    Attributes:
        n_snapshots: Functions that start from a snapshot. Old versions are deleted, so each has one.
        n_alarm_metrics: Of all alarms together: one that calculates is billed for each metric that goes in.
        n_mapping_metrics: What Lambda tells of the mapping.
    """

    n_snapshots: int = 0
    n_alarm_metrics: int = 0
    n_composite_alarms: int = 0
    n_dashboards: int = 0
    n_keys: int = 0
    n_mapping_metrics: int = 0


EMPTY = Inventory()


@dataclass(frozen=True, slots=True)
class Load:
    """What arrives, and how the stack is set up.

    Attributes:
        n_shards: Of the input stream, and as many of the output stream.
        window_s: How long Lambda waits for a fuller batch.
        batch_size: Records in one invocation at most.
        memory_mb: The function's.
        retention_hours: How long both streams keep records; the course's keep them 24 hours.
        reject_share: Of all rides.
        kept_days: How long rejects are kept.
        api_requests_per_s: To the HTTP API, of one ride each.
        api_memory_mb: Of the function behind it.
    """

    rides_per_s: float
    n_shards: int
    window_s: float = 1.0
    batch_size: int = 10_000
    memory_mb: int = 1769
    retention_hours: float = 24.0
    reject_share: float = 0.001
    kept_days: float = 365.0
    api_requests_per_s: float = 0.0
    api_memory_mb: int = 1769
    inventory: Inventory = EMPTY


def load_of(
    rides_per_s: float,
    n_shards: int,
    window_s: float | None = None,
    api_requests_per_s: float = 0.0,
    template: Path = TEMPLATE,
) -> Load:
    """Returns a load on the stack as the template sets it up.

    Raises:
        TemplateError: The template can't be read.
    """
    document = read_template(template)
    defaults = {name: parameter.get("Default") for name, parameter in document["Parameters"].items()}
    return Load(
        rides_per_s=rides_per_s,
        n_shards=n_shards,
        window_s=float(defaults["BatchWindowSeconds"]) if window_s is None else window_s,
        batch_size=int(defaults["BatchSize"]),
        memory_mb=int(defaults["MemoryMb"]),
        retention_hours=float(document["Resources"]["RideEvents"]["Properties"]["RetentionPeriodHours"]),
        kept_days=float(defaults["KeptRecordsDays"]),
        api_requests_per_s=api_requests_per_s,
        api_memory_mb=int(defaults["ApiMemoryMb"]),
        inventory=inventory_of(document),
    )


Part = Literal[
    "function",
    "snapstart",
    "stream_in",
    "stream_out",
    "retention",
    "bucket",
    "logs",
    "metrics",
    "alarms",
    "keys",
    "api",
]

STREAM_PARTS: tuple[Part, ...] = ("stream_in", "stream_out", "retention")

MILLION = 1_000_000
HOURS_PER_MONTH = 730
SECONDS_PER_MONTH = HOURS_PER_MONTH * 3600
DAYS_PER_MONTH = HOURS_PER_MONTH / 24
PUT_UNIT_BYTES = 25 * 1024
ON_DEMAND_UNIT_BYTES = 1024
UNITS_PER_GB = 1024 * 1024
EXTRA_RETENTION_FROM_HOURS = 24
N_STREAMS = 2

_ROUNDING_MS = 0.5


@dataclass(frozen=True, slots=True)
class VariantCost:
    """What one way of doing it costs.

    Attributes:
        rides_per_invocation: On average.
        ms_per_invocation: As billed, on average.
        shards_needed: Shards with which the streams and the function keep up with the load.
        dollars_a_month: By part.
        streams_on_demand: What both streams and what they keep would cost a month on demand, each read once.
    """

    rides_per_invocation: float
    ms_per_invocation: float
    shards_needed: int
    dollars_a_month: Mapping[Part, float]
    streams_on_demand: float

    @property
    def total(self) -> float:
        """Dollars a month."""
        return sum(self.dollars_a_month.values())

    @property
    def total_on_demand(self) -> float:
        """Dollars a month with streams on demand."""
        others = (dollars for part, dollars in self.dollars_a_month.items() if part not in STREAM_PARTS)
        return sum(others) + self.streams_on_demand


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What is neither measured by the bench nor set in the template.

    Attributes:
        envelope_bytes: A ride event in Lambda's envelope, in base64.
        packing_bytes: What packing adds to a record.
        put_ms: How long one request to Kinesis takes, inside a region.
        parse_us_per_ride: The runtime's own reading of the invocation.
        log_bytes: Of an invocation: our line and metrics, and Lambda's own three lines.
        platform_log_bytes: Lambda's own three lines.
        n_metrics: Custom metrics: ten of each batch, six of rejects by reason, one of failed invocations.
        channel_look_s: How often a function looks whether its channel has moved.
        api_ms: One prediction over HTTP: the bench's median in AWS's runtime.
        api_log_bytes: Of a request: our line and metrics, Lambda's own three lines, and API Gateway's one.
        api_answer_bytes: What goes back of a request, headers and all.
        n_api_metrics: Six of each request, and one of failed invocations.
    """

    ride_bytes: int = 137
    envelope_bytes: int = 650
    prediction_bytes: int = 232
    reject_bytes: int = 416
    packing_bytes: int = 20
    put_ms: float = 10.0
    parse_us_per_ride: float = 2.0
    log_bytes: int = 1900
    platform_log_bytes: int = 400
    n_metrics: int = 17
    channel_look_s: float = 60.0
    api_ms: float = 1.2
    api_log_bytes: int = 1600
    api_answer_bytes: int = 600
    n_api_metrics: int = 7


@dataclass(frozen=True, slots=True)
class CostReport:
    """All variants under one load."""

    load: Load
    assumptions: Assumptions
    work: Mapping[str, Work]
    variants: Mapping[str, VariantCost]

    def dollars_per_million(self, variant: str) -> float:
        """Returns what falls to a million rides."""
        return self.variants[variant].total * MILLION / (self.load.rides_per_s * SECONDS_PER_MONTH)


def cost(load: Load, work: Mapping[str, Work], assumptions: Assumptions | None = None) -> CostReport:
    """Works out what a month costs.

    Args:
        load: Above 0 rides a second, and at least one shard.
        work: By variant; all of `VARIANTS`.
        assumptions: The rest.
    """
    given = assumptions or Assumptions()
    variants = {name: _Variant(Batches(name, load, given, work[name])).cost() for name in VARIANTS}
    return CostReport(load, given, work, variants)


@dataclass(frozen=True, slots=True)
class Batches:
    """One variant's batches under one load."""

    name: str
    load: Load
    given: Assumptions
    work: Work

    def rides_per_invocation(self) -> float:
        """Returns them, on average."""
        shard_rides_per_s = self.load.rides_per_s / self.load.n_shards
        if self.name == COURSE:
            return max(1.0, min(shard_rides_per_s * COURSE_WINDOW_S, COURSE_BATCH_SIZE))
        if self.name == PACKED:  # an envelope holds many rides; 6 MB end a batch long before its records do
            most = MAX_INVOCATION_BYTES / ((self.given.ride_bytes + self.given.packing_bytes) * _BASE64)
        else:
            most = min(self.load.batch_size, MAX_INVOCATION_BYTES / self.given.envelope_bytes)
        return max(1.0, min(shard_rides_per_s * self.load.window_s, most))

    def ms_per_invocation(self) -> float:
        """Returns them as billed, on average."""
        n = self.rides_per_invocation()
        cpu_us = self.work.us_per_invocation + n * (self.work.us_per_ride + self.given.parse_us_per_ride)
        return cpu_us / 1000 + self._n_puts(n) * self.given.put_ms + _ROUNDING * _BILLED_MS

    def _n_puts(self, n: float) -> float:
        if self.name == COURSE:
            return n
        return 1.0 if self._packs_output() else max(1.0, n / RECORDS_PER_PUT)

    def units_in(self, unit_bytes: int) -> float:
        """Returns the units that a ride event takes; packed, a batch is one aggregate of its shard."""
        return self._units(self.given.ride_bytes, unit_bytes, 1.0 if self.name == PACKED else None)

    def units_out(self, unit_bytes: int) -> float:
        """Returns the units that a prediction takes; packed, a batch is one aggregate for each output shard."""
        n_aggregates = min(float(self.load.n_shards), self.rides_per_invocation())
        return self._units(self.given.prediction_bytes, unit_bytes, n_aggregates if self._packs_output() else None)

    def shards_needed(self) -> int:
        """A shard takes so many records and bytes a second, and its batches go to the function one after the other."""
        n, packing = self.rides_per_invocation(), self.given.packing_bytes
        records_in = 1 / n if self.name == PACKED else 1.0
        records_out = min(self.load.n_shards, n) / n if self._packs_output() else 1.0
        bytes_in = self.given.ride_bytes + packing
        bytes_out = self.given.prediction_bytes + packing
        shards_per_ride_s = max(
            max(records_in, records_out) / SHARD_RECORDS_PER_S,
            max(bytes_in, bytes_out) / SHARD_BYTES_PER_S,
            self.ms_per_invocation() / 1000 / n,
        )
        return max(1, math.ceil(self.load.rides_per_s * shards_per_ride_s - 1e-9))

    def _packs_output(self) -> bool:
        return self.name in {PACKED_OUTPUT, PACKED}

    def _units(self, n_bytes: int, unit_bytes: int, n_aggregates: float | None) -> float:
        """Returns the units that fall to a ride: of a record of its own, or of its batch's so many aggregates."""
        if n_aggregates is None:
            return float(math.ceil(n_bytes / unit_bytes))
        n = self.rides_per_invocation()
        units = n * (n_bytes + self.given.packing_bytes) / unit_bytes + _ROUNDING * n_aggregates
        return max(n_aggregates, units) / n


class _Variant:
    def __init__(self, batches: Batches) -> None:
        self.batches = batches
        self.load = batches.load
        self.given = batches.given
        self.rides = batches.load.rides_per_s * SECONDS_PER_MONTH
        self.invocations = self.rides / batches.rides_per_invocation()

    def cost(self) -> VariantCost:
        batches = self.batches
        dollars = self._course() if batches.name == COURSE else {**self._course(), **self._ours()}
        return VariantCost(
            batches.rides_per_invocation(),
            batches.ms_per_invocation(),
            batches.shards_needed(),
            dollars,
            self._streams_on_demand(),
        )

    def _course(self) -> dict[Part, float]:
        """What the course's stack has, and so has ours."""
        return {
            "function": _lambda(self.invocations, self.batches.ms_per_invocation(), self.load.memory_mb),
            "stream_in": self._stream(self.batches.units_in(PUT_UNIT_BYTES)),
            "stream_out": self._stream(self.batches.units_out(PUT_UNIT_BYTES)),
            "logs": _logs(self.invocations, self.given.platform_log_bytes),
        }

    def _ours(self) -> dict[Part, float]:
        """What it has not, and the logs, of which it has less."""
        stands = self.load.inventory
        snapshot_gb = stands.n_snapshots * self.load.memory_mb / 1024
        return {
            "snapstart": prices.SNAPSTART_GB_S.of(snapshot_gb * SECONDS_PER_MONTH),
            "retention": self._retention(),
            "bucket": self._bucket(),
            "logs": _logs(self.invocations, self.given.log_bytes),
            "metrics": prices.CUSTOM_METRIC_MONTH.of(self.given.n_metrics + stands.n_mapping_metrics),
            "alarms": prices.ALARM_METRIC_MONTH.of(stands.n_alarm_metrics)
            + prices.COMPOSITE_ALARM_MONTH.of(stands.n_composite_alarms)
            + prices.DASHBOARD_MONTH.of(stands.n_dashboards),
            "keys": prices.KEY_MONTH.of(stands.n_keys),
            "api": self._api() if self.load.api_requests_per_s else 0.0,
        }

    def _stream(self, units_per_ride: float) -> float:
        shard_hours = self.load.n_shards * HOURS_PER_MONTH
        return prices.KINESIS_SHARD_HOUR.of(shard_hours) + prices.KINESIS_PUT_UNIT.of(units_per_ride * self.rides)

    def _retention(self) -> float:
        shard_hours = N_STREAMS * self.load.n_shards * HOURS_PER_MONTH
        return prices.KINESIS_RETENTION_SHARD_HOUR.of(shard_hours) if self._extra_hours() else 0.0

    def _extra_hours(self) -> float:
        is_course = self.batches.name == COURSE
        return 0.0 if is_course else max(0.0, self.load.retention_hours - EXTRA_RETENTION_FROM_HOURS)

    def _streams_on_demand(self) -> float:
        units_per_ride = self.batches.units_in(ON_DEMAND_UNIT_BYTES) + self.batches.units_out(ON_DEMAND_UNIT_BYTES)
        gb = self.rides * units_per_ride / UNITS_PER_GB
        return (
            prices.KINESIS_STREAM_HOUR.of(N_STREAMS * HOURS_PER_MONTH)
            + prices.KINESIS_GB_IN.of(gb)
            + prices.KINESIS_GB_OUT.of(gb)
            + prices.KINESIS_RETENTION_GB_MONTH.of(gb * self._extra_hours() / HOURS_PER_MONTH)
        )

    def _bucket(self) -> float:
        """Looks at the channel, and rejects: each object stored, told of, and kept as long as the template says."""
        looks = min(self.load.n_shards * SECONDS_PER_MONTH / self.given.channel_look_s, self.invocations)
        n_objects = min(self.invocations, self.rides * self.load.reject_share)
        kept_months = self.load.kept_days / DAYS_PER_MONTH
        gb = self.rides * self.load.reject_share * self.given.reject_bytes / 1e9
        return (
            prices.S3_GET.of(looks)
            + prices.S3_PUT.of(n_objects)
            + prices.S3_EVENT.of(n_objects)
            + prices.S3_GB_MONTH.of(gb * kept_months)
        )

    def _api(self) -> float:
        requests = self.load.api_requests_per_s * SECONDS_PER_MONTH
        return (
            prices.HTTP_API_REQUEST.of(requests)
            + _lambda(requests, self.given.api_ms + _ROUNDING_MS, self.load.api_memory_mb)
            + _logs(requests, self.given.api_log_bytes)
            + prices.GB_TO_INTERNET.of(requests * self.given.api_answer_bytes / 1e9)
            + prices.CUSTOM_METRIC_MONTH.of(self.given.n_api_metrics)
        )


def _lambda(invocations: float, ms: float, memory_mb: int) -> float:
    gb_s = memory_mb / 1024 * ms / 1000
    return invocations * (prices.LAMBDA_REQUEST.of(1) + prices.LAMBDA_GB_S.of(gb_s))


def _logs(invocations: float, n_bytes: int) -> float:
    return prices.LOGS_GB.of(invocations * n_bytes / 1e9)


# MERGED FROM infra/cost/batches.py
# How rides get through a variant: how many an invocation, in what time, in how much of the streams. Pure.
# A shard's batch is what arrives within the window, one ride at least, and no more than an invocation carries. Rounding
# (Lambda's milliseconds, Kinesis's units) costs half a unit on average.
MAX_INVOCATION_BYTES = 6 * 1024 * 1024
SHARD_RECORDS_PER_S, SHARD_BYTES_PER_S = 1000, 1024 * 1024
RECORDS_PER_PUT = 500

_BASE64 = 4 / 3
_ROUNDING = 0.5
_BILLED_MS = 1.0
VARIANTS = (PLAIN, PACKED_OUTPUT, PACKED, COURSE)
"""A record a ride; predictions packed into aggregates; ride events too; and the MLOps Zoomcamp's stack: two streams and
a function that calls `put_record` for each ride. It has Lambda's and Kinesis's defaults, and nothing else."""

COURSE_BATCH_SIZE = 100
COURSE_WINDOW_S = 1.0
"""Lambda's defaults for a Kinesis mapping: 100 records, and no window but that it looks once a second.
https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html"""


# MERGED FROM infra/cost/inventory.py
# What the stack has that is paid by the month, ride or no ride: counted in the template.
EVENT_COUNT_METRICS = 6
"""What a Kinesis mapping writes with `EventCount`: polled, filtered out, invoked, failed, dropped, and put aside.
https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
Counted as custom metrics, as all that one opts in to; that they are billed so was not found."""

Resource = Mapping[str, Any]


def inventory_of(template: Mapping[str, Any]) -> Inventory:
    """Counts what a template has, as it stands: nothing of it may be conditional, and defaults decide.

    Args:
        template: A SAM template, as `infra.stack.template.read_template` gives it.
    """
    of = _Resources(template)
    return Inventory(
        n_snapshots=sum(of.is_snapshotted(one) for one in of.type("AWS::Serverless::Function")),
        n_alarm_metrics=sum(map(_n_metrics, of.type("AWS::CloudWatch::Alarm"))),
        n_composite_alarms=of.count("AWS::CloudWatch::CompositeAlarm"),
        n_dashboards=of.count("AWS::CloudWatch::Dashboard"),
        n_keys=of.count("AWS::KMS::Key"),
        n_mapping_metrics=EVENT_COUNT_METRICS * sum(map(_n_counted_mappings, of.type("AWS::Serverless::Function"))),
    )


class _Resources:
    def __init__(self, template: Mapping[str, Any]) -> None:
        self._resources: Mapping[str, Resource] = template["Resources"]
        self._parameters: Mapping[str, Any] = template.get("Parameters", {})

    def type(self, kind: str) -> Iterator[Resource]:
        """Yields the properties of the resources of a type."""
        return (one.get("Properties", {}) for one in self._resources.values() if one["Type"] == kind)

    def count(self, kind: str) -> int:
        return sum(1 for _ in self.type(kind))

    def is_snapshotted(self, function: Resource) -> bool:
        applies = function.get("SnapStart", {}).get("ApplyOn")
        if isinstance(applies, dict):
            applies = self._parameters[applies["Ref"]]["Default"]
        return bool(applies == "PublishedVersions")


def _n_metrics(alarm: Resource) -> int:
    """Returns an alarm's metrics: its only one, or those that its expression is made of."""
    return sum("MetricStat" in query for query in alarm["Metrics"]) if "Metrics" in alarm else 1


def _n_counted_mappings(function: Resource) -> int:
    events = (event["Properties"] for event in function.get("Events", {}).values())
    return sum("EventCount" in event.get("MetricsConfig", {}).get("Metrics", ()) for event in events)
