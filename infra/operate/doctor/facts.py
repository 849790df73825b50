"""Facts of a deployed stack, which probes return, and findings, which checks make of them: plain values.

`parameters` of a part are the template's parameters by name with the values that this part really has: somebody may
have changed them since the deployment. Sums and means of metrics are over the window.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from training.monitoring.monitor.status import MonitorStatus
from training.workflows.loop.state import RunRecord

Parameters = Mapping[str, str]

_N_NAMED = 3
"""Differences that a finding names; it counts the rest."""


class Severity(StrEnum):
    """How bad a finding is, the worst first. `bad` makes the command fail, and so does `unknown`."""

    bad = "bad"  # rides are not predicted, or nobody would see it
    unknown = "unknown"  # not looked at: AWS denied or throttled it, or did not answer
    warning = "warning"  # can wait for the morning
    good = "good"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `--json` writes its fields: fields are added, never renamed."""

    check: str  # the check's name, which stays the same
    severity: Severity
    what: str  # what was found, with figures
    remedy: str = ""  # what to do next; "" if and only if there is nothing to do
    fault: str = ""  # the fault's name in faults.py; "" if there is none


def good(check: str, what: str) -> Finding:
    """Return a finding that needs no action."""
    return Finding(check, Severity.good, what)


def counted(n: int, thing: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "shard"), counted(1200, "shard")
    ('1 shard', '1,200 shards')
    """
    return f"{n:,} {thing}" if n == 1 else f"{n:,} {thing}s"


def first_of(sentences: Sequence[str]) -> str:
    """Return the first sentences, and how many more there are.

    >>> first_of(["A differs", "B differs", "C differs", "D differs"])
    'A differs; B differs; C differs and 1 more'
    """
    n_more = len(sentences) - _N_NAMED
    return "; ".join(sentences[:_N_NAMED]) + (f" and {n_more} more" if n_more > 0 else "")


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """A stream and its traffic."""

    name: str
    role: str  # "input", "output" or "outcomes"
    n_open_shards: int
    is_on_demand: bool = False  # Kinesis sets the number of shards
    n_records: int = 0
    peak_records_per_s: float = 0.0  # mean of the busiest minute, over all shards
    peak_bytes_per_s: float = 0.0  # likewise
    n_throttled: int = 0  # records that the stream refused because its shards were full
    retention_h: int = 48
    wanted_retention_h: int = 0  # in the deployed template; 0 if it could not be read
    key: str = ""  # that encrypts the records; "" if none does
    wanted_key: str = ""  # in the deployed template; "" if it could not be read
    is_own: bool = True  # the stack has made it; False for a stream that existed already
    usable_key: str = ""  # the key with which the stack may use a stream that existed already
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FunctionFacts:
    """The configuration of the function version that the mapping invokes."""

    name: str
    state: str = "Active"
    state_reason: str = ""
    settings_problem: str = ""  # why the settings would fail a cold start
    changed: tuple[str, ...] = ()  # variables that are not as in the deployed template, in sentences
    published: str = ""  # the version that the stack published last
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WorkFacts:
    """The function's work."""

    n_records: int = 0
    n_predictions: int = 0
    n_without_pickup_time: int = 0  # predictions as of the arrival of the ride
    n_rejects: int = 0
    n_rejects_not_stored: int = 0  # that neither bucket nor queue took
    n_retried: int = 0  # records that the function returned to Lambda, which delivers them again
    n_exceptions: int = 0  # invocations that ended in an exception of the function
    n_errors: int = 0  # invocations that Lambda counts as failed: exceptions, timeouts and lack of memory
    n_throttles: int = 0  # invocations that Lambda refused for lack of concurrency
    max_record_age_s: float = 0.0  # of the oldest record received
    n_refresh_failures: int = 0  # refreshes of the channel that did not load its model
    recent_minutes: int = 10  # length of the recent past: long enough to contain a refresh
    n_recent_refresh_failures: int = 0
    n_recent_stale: int = 0  # batches whose models are of a channel that was read too long ago
    n_recent_records: int = 0  # a function without records does not refresh


@dataclass(frozen=True, slots=True)
class MappingFacts:
    """An event source mapping from a stream to a function."""

    state: str  # Lambda's, as in "Enabled"; "" if there is no mapping
    last_result: str = ""  # Lambda's, as in "OK" or "PROBLEM: Function call failed"; "" if there is none yet
    parallelization_factor: int = 1  # batches of one shard that are processed at the same time
    parameters: Parameters = field(default_factory=dict)
    uuid: str = ""
    stream: str = ""  # the ARN of the stream that it reads
    is_of_another_stream: bool = False  # that is not the stack's
    max_record_age_s: int = 0  # after which Lambda stores a failing batch in the bucket; 0 if it never does
    changed: Mapping[str, str] = field(default_factory=dict)  # by the option that restores it: what is not as deployed


@dataclass(frozen=True, slots=True)
class ReleaseFacts:
    """The function's alias, and the version that the stack published last."""

    function: str
    alias: str
    serving: str  # the version that the alias points at
    published: str  # the stack's newest version; "" if the stack lists none
    next_version: str = ""  # the version that gets a share of the batches during a rollout
    next_share: float = 0.0  # 0 to 1


@dataclass(frozen=True, slots=True)
class ConcurrencyFacts:
    """Invocations that Lambda runs at the same time."""

    reserved: int | None  # for this function only; None if nothing is reserved
    n_unreserved: int  # shared by all functions of the account and region without a reservation
    n_account: int  # the account's quota
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AlarmFacts:
    """An alarm of the stack."""

    name: str
    logical_name: str  # as in the template, and as the runbook's section
    state: str  # "OK", "ALARM" or "INSUFFICIENT_DATA"; "" if CloudWatch does not have the alarm
    reason: str = ""
    is_muted: bool = False  # it has actions, and they are disabled
    is_composite: bool = False  # it depends on other alarms


@dataclass(frozen=True, slots=True)
class MonitorFacts:
    """What the monitor has written."""

    status: MonitorStatus | None = None  # None if it has not run yet
    age_s: float = 0.0  # of the status
    problem: str = ""  # why the status can't be read; "" if it can, or if there is none


@dataclass(frozen=True, slots=True)
class LoopFacts:
    """What the loop has recorded."""

    read_at: datetime  # aware
    run: RunRecord | None = None  # the newest; None if it has not run yet
    holder: str = ""  # the run that holds the lease; "" if none does


@dataclass(frozen=True, slots=True)
class QuotaFacts:
    """A quota of the account, and how much of it is used."""

    name: str
    n_used: int
    limit: int


@dataclass(frozen=True, slots=True)
class StackFacts:
    """All facts; a part that could not be read is None or empty, and its name is in `unread`."""

    name: str
    status: str  # CloudFormation's
    window_minutes: int  # how far back the metrics go
    is_local: bool = False  # the stack of `ridecast up`, on an AWS without metrics
    parameters: Parameters = field(default_factory=dict)  # at the deployment
    resource_drift: str = ""  # of CloudFormation's last drift detection, as in "DRIFTED"; "" if there was none
    template_diff: tuple[str, ...] | None = None  # sentences; None if there is no local template to compare
    release: ReleaseFacts | None = None
    model: Finding | None = None  # of loading it as the function does
    function: FunctionFacts | None = None
    work: WorkFacts | None = None
    mapping: MappingFacts | None = None
    archive_mappings: Mapping[str, MappingFacts] = field(default_factory=dict)  # by stream
    concurrency: ConcurrencyFacts | None = None
    streams: tuple[StreamFacts, ...] = ()
    alarms: tuple[AlarmFacts, ...] = ()
    n_subscribers: int | None = None  # confirmed subscriptions to the alarm topic; None if there is no topic
    monitor: MonitorFacts | None = None  # None if the stack has no monitor
    loop: LoopFacts | None = None  # None if the stack has no loop
    quotas: tuple[QuotaFacts, ...] = ()
    n_waiting: Mapping[str, int] = field(default_factory=dict)  # objects that nobody has redriven, by kind
    settings: tuple[Finding, ...] = ()  # of comparing what exists with the deployed template
    missing: Mapping[str, Finding] = field(default_factory=dict)  # what AWS does not find, by part
    unread: Mapping[str, str] = field(default_factory=dict)  # the reasons, by part
    denied: frozenset[str] = frozenset()  # the unread parts for which a permission is missing

    def stream(self, role: str) -> StreamFacts | None:
        """Return the stream of a role; None if it could not be read."""
        return next((stream for stream in self.streams if stream.role == role), None)
