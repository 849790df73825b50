"""Compute what outcomes cost a month: archive, join and the third stream; beside them, other services for the same job.

Pure. The averages are over a steady load, as in `cost.py`. Each ride has one prediction and one outcome.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from infra.operate import prices
from infra.operate.cost import (
    BASE64,
    DAYS_PER_MONTH,
    HOURS_PER_MONTH,
    MAX_INVOCATION_BYTES,
    MILLION,
    SECONDS_PER_MONTH,
    UNITS_PER_GB,
    VCPU_MB,
    Assumptions,
    lambda_dollars,
    log_dollars,
    retention_dollars,
    stream_dollars,
)
from infra.operate.cost_inputs import Load, alarm_metrics
from infra.stack.template import TEMPLATE, read_template
from lambda_function.core.records import KINDS, OUTCOMES, PREDICTIONS, RIDES
from training.monitoring.hours import SECOND_PASS_AGE, reach_hours
from training.monitoring.join.options import JoinOptions

PARTS = {
    "archive_function": "archive function",
    "archive_objects": "its objects, written",
    "archive_storage": "its objects, kept",
    "join_function": "join function",
    "join_requests": "its requests to S3",
    "join_storage": "labelled rides, kept",
    "logs": "logs of both",
    "metrics": "metrics of both",
    "alarms": "alarms of both",
}
"""Labels of the parts of archive and join. The Glue table is free: a catalog's first million objects are."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of archive and join."""

    archive_us: Mapping[str, float]  # CPU of a record, at full batches
    stored_bytes: Mapping[str, float]  # of a record in the archive
    join_s_per_million: float  # CPU, of rides whose outcomes arrive before the horizon; with the audit
    divided_s_per_million: float  # the same of an hour that is joined in parts
    scan_us: float  # CPU to read a record of another hour that is of no ride of the cohort
    labelled_bytes: float  # of a labelled ride


MEASURED = Measured(
    archive_us={RIDES: 3.4, PREDICTIONS: 3.8, OUTCOMES: 2.7},
    stored_bytes={RIDES: 30.0, PREDICTIONS: 35.0, OUTCOMES: 22.0},
    join_s_per_million=25.0,
    divided_s_per_million=50.0,
    scan_us=0.6,
    labelled_bytes=32.0,
)
"""`python -m tests.bench.outcomes_cost` measures them again. Sizes depend on the sequence numbers: there, with random
steps."""

_OUTCOME_BYTES = 60
_ENVELOPE_BYTES = 467  # that Lambda's envelope adds to the data in base64
_ARCHIVE_FIXED_MS = 0.5  # CPU of an invocation
_S3_PUT_MS, _S3_GET_MS = 30.0, 20.0  # inside a region
_N_GETS_AT_ONCE = 8
_JOIN_FIXED_MS = 150.0  # of an invocation: its clients, and the listing of what is due
_JOINS_AN_HOUR = 4  # invocations, on schedule; most find nothing due
_LISTS_AN_INVOCATION = 4
_N_LATE_KINDS = 2  # late records are predictions and outcomes
_KEYS_A_LIST = 1000
_ARCHIVE_LOG_BYTES, _JOIN_LOG_BYTES = 1500, 2500
N_METRICS = 3 + 13  # of the archive function, of the join
_FIREHOSE_KB = 5
_TABLE_WRITES, _TABLE_ITEM_BYTES = 2, 500  # a ride's event with its prediction, then its outcome


@dataclass(frozen=True, slots=True)
class OutcomesSettings:
    """Settings of the stack for archive and join."""

    window_s: float = 60.0
    archive_mb: int = 512
    archive_days: float = 90.0
    join_mb: int = 3008
    delay_minutes: int = 120
    labelled_days: float = 400.0
    n_alarm_metrics: int = 0

    def n_hours(self, kind: str) -> int:
        """Return the hours of arrival of which a join of one hour reads the records of a kind.

        It reads predictions and outcomes until the first pass's horizon. Of ride events, it reads the hour before, for
        the outcomes of its rides, and the hours until the last outcome.
        """
        return 3 if kind == RIDES else 1 + reach_hours(self.delay_minutes)

    @property
    def n_late_hours(self) -> int:
        """The hours of which a second pass reads late records alone."""
        return SECOND_PASS_AGE // timedelta(hours=1) - reach_hours(self.delay_minutes)


def read_settings() -> OutcomesSettings:
    """Return template.yaml's settings."""
    template = read_template(TEMPLATE)
    defaults = {name: parameter.get("Default") for name, parameter in template["Parameters"].items()}
    return OutcomesSettings(
        window_s=float(defaults["ArchiveWindowSeconds"]),
        archive_mb=int(template["Resources"]["Archiver"]["Properties"]["MemorySize"]),
        archive_days=float(defaults["ArchiveDays"]),
        join_mb=int(defaults["JoinMemoryMb"]),
        delay_minutes=int(defaults["OutcomeDelayMinutes"]),
        labelled_days=float(defaults["LabelledDays"]),
        n_alarm_metrics=alarm_metrics(template, of_outcomes=True),
    )


@dataclass(frozen=True, slots=True)
class OutcomesCost:
    """What outcomes cost a month in dollars."""

    dollars_a_month: Mapping[str, float]  # of archive and join, by part
    stream: float  # of the stream of outcomes with its retention
    firehose: float  # of Firehose for the three streams, in place of the archive function
    table: float  # of a DynamoDB table on demand, in place of archive and join
    second_pass: float  # more, if each hour has a late outcome, so that its second pass joins it again
    join_s: float  # CPU seconds of a join of one hour
    late_s: float  # CPU seconds more for each hour that an outcome of its rides comes after the horizon

    @property
    def total(self) -> float:
        """Dollars a month of archive and join."""
        return sum(self.dollars_a_month.values())

    @property
    def storage(self) -> float:
        """The part of the total that is for keeping objects."""
        return self.dollars_a_month["archive_storage"] + self.dollars_a_month["join_storage"]


def cost_outcomes(load: Load, settings: OutcomesSettings, measured: Measured = MEASURED) -> OutcomesCost:
    """Compute the cost of a month; the stream of outcomes has as many shards as the others."""
    return _Outcomes(load, settings, measured).cost()


class _Outcomes:
    """Archive and join under one load."""

    def __init__(self, load: Load, settings: OutcomesSettings, measured: Measured) -> None:
        self._load = load
        self._settings = settings
        self._measured = measured
        given = Assumptions()
        self._data_bytes = dict(zip(KINDS, (given.ride_bytes, given.prediction_bytes, _OUTCOME_BYTES), strict=True))
        self._parse_us = given.parse_us_per_ride
        self._rides = load.rides_per_s * SECONDS_PER_MONTH
        self._batches = {kind: self._batch(kind) for kind in KINDS}

    def cost(self) -> OutcomesCost:
        n_rides = self._load.rides_per_s * 3600
        join_s = n_rides / MILLION * self._s_per_million(n_rides)
        shards = self._load.n_shards
        table_gb = self._rides * _TABLE_ITEM_BYTES / 1e9 * self._settings.archive_days / DAYS_PER_MONTH
        return OutcomesCost(
            dollars_a_month={
                "archive_function": sum(map(self._archive_function, KINDS)),
                "archive_objects": prices.S3_PUT.of(sum(map(self._invocations, KINDS))),
                "archive_storage": self._storage(
                    sum(self._measured.stored_bytes.values()), self._settings.archive_days
                ),
                "join_function": self._join_function(join_s, 1),
                "join_requests": self._join_requests(1),
                "join_storage": self._storage(self._measured.labelled_bytes, self._settings.labelled_days),
                "logs": log_dollars(sum(map(self._invocations, KINDS)), _ARCHIVE_LOG_BYTES)
                + log_dollars(_JOINS_AN_HOUR * HOURS_PER_MONTH, _JOIN_LOG_BYTES),
                "metrics": prices.CUSTOM_METRIC_MONTH.of(N_METRICS),
                "alarms": prices.ALARM_METRIC_MONTH.of(self._settings.n_alarm_metrics),
            },
            stream=stream_dollars(shards, self._rides) + retention_dollars(shards, self._load.retention_hours),
            firehose=prices.FIREHOSE_GB.of(len(KINDS) * self._rides * _FIREHOSE_KB / UNITS_PER_GB),
            table=prices.TABLE_WRITE.of(_TABLE_WRITES * self._rides) + prices.TABLE_GB_MONTH.of(table_gb),
            second_pass=self._join_function(join_s, 2)
            + self._join_requests(2)
            - self._join_function(join_s, 1)
            - self._join_requests(1),
            join_s=join_s,
            late_s=n_rides * self._measured.scan_us / MILLION,
        )

    def _batch(self, kind: str) -> float:
        most = min(self._load.batch_size, MAX_INVOCATION_BYTES / (self._data_bytes[kind] * BASE64 + _ENVELOPE_BYTES))
        return max(1.0, min(self._load.rides_per_s / self._load.n_shards * self._settings.window_s, most))

    def _invocations(self, kind: str) -> float:
        return self._rides / self._batches[kind]

    def _archive_function(self, kind: str) -> float:
        cpu_ms = self._batches[kind] * (self._measured.archive_us[kind] + self._parse_us) / 1000 + _ARCHIVE_FIXED_MS
        ms = cpu_ms * max(1.0, VCPU_MB / self._settings.archive_mb) + _S3_PUT_MS
        return lambda_dollars(self._invocations(kind), ms, self._settings.archive_mb)

    def _storage(self, bytes_per_ride: float, days: float) -> float:
        return prices.S3_GB_MONTH.of(self._rides * bytes_per_ride / 1e9 * days / DAYS_PER_MONTH)

    def _s_per_million(self, n_rides: float) -> float:
        is_divided = n_rides * self._measured.stored_bytes[RIDES] > JoinOptions().bytes_per_part
        return self._measured.divided_s_per_million if is_divided else self._measured.join_s_per_million

    def _n_gets(self, n_full: int) -> float:
        """Return the objects that an hour's passes read, of which so many are in full."""
        n_archived = sum(self._settings.n_hours(kind) * self._invocations(kind) for kind in KINDS) / HOURS_PER_MONTH
        return n_full * n_archived + _N_LATE_KINDS * self._settings.n_late_hours

    def _join_function(self, join_s: float, n_full: int) -> float:
        """Return the function's cost. One core works: how much DuckDB's threads save is not counted."""
        cpu_ms = n_full * join_s * 1000 * max(1.0, VCPU_MB / self._settings.join_mb)
        ms = _JOINS_AN_HOUR * _JOIN_FIXED_MS + cpu_ms + self._n_gets(n_full) * _S3_GET_MS / _N_GETS_AT_ONCE
        return lambda_dollars(_JOINS_AN_HOUR * HOURS_PER_MONTH, ms / _JOINS_AN_HOUR, self._settings.join_mb)

    def _join_requests(self, n_full: int) -> float:
        n_gets = self._n_gets(n_full)
        n_hours = sum(map(self._settings.n_hours, KINDS))
        of_archive = 2 * (len(KINDS) + n_hours) + _N_LATE_KINDS  # what a join depends on, and each hour that it reads
        n_lists = _JOINS_AN_HOUR * _LISTS_AN_INVOCATION + of_archive + n_gets / _KEYS_A_LIST
        n_puts = 2 * 2 + _N_LATE_KINDS  # Parquet and summary in each pass
        return HOURS_PER_MONTH * (prices.S3_GET.of(n_gets) + prices.S3_PUT.of(n_lists + n_puts))


def assumptions(settings: OutcomesSettings, cost: OutcomesCost, measured: Measured = MEASURED) -> Iterator[str]:
    """Yield what the cost of outcomes rests on, a sentence each."""
    us, stored = (
        ", ".join(f"{kind} {value:g}" for kind, value in one.items())
        for one in (measured.archive_us, measured.stored_bytes)
    )
    yield "the share of archive and join is that of the plain stack with all three streams"
    yield f"archive: {settings.archive_mb} MB, an object a shard and {settings.window_s:g} s; CPU us a record: {us}"
    yield f"bytes a record in the archive: {stored}; kept for {settings.archive_days:g} days"
    yield (
        f"join: {settings.join_mb:,} MB, one core, {measured.join_s_per_million:g} s of CPU a million rides, "
        f"{measured.divided_s_per_million:g} s above {JoinOptions().bytes_per_part / 1e6:g} MB of ride events an hour: "
        f"{cost.join_s:,.1f} s an hour"
    )
    yield (
        f"no outcome is late, so second passes read the late records of {settings.n_late_hours} hours alone; if each "
        f"hour has a late one, they cost {cost.second_pass:,.2f} more, and {cost.late_s:,.1f} s of CPU for each hour "
        "that it is late"
    )
    yield f"labelled rides: {measured.labelled_bytes:g} bytes each, kept for {settings.labelled_days:g} days"
    yield (
        f"metrics of both: {N_METRICS} at most; alarms of both watch {settings.n_alarm_metrics} metrics; the "
        "Glue table and the schedule are free"
    )
    yield f"Firehose takes each of the three records as {_FIREHOSE_KB} KB; its objects cost as much to keep"
    yield (
        f"a table on demand: {_TABLE_WRITES} writes a ride, items of {_TABLE_ITEM_BYTES} bytes kept for "
        f"{settings.archive_days:g} days; nothing reads it"
    )
