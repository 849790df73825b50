"""Facts of a deployed stack, which probes return, and findings, which checks make of them: plain values.

`parameters`, where a part has it, are the template's parameters by name with the values that this part really has:
somebody may have changed them since the deployment.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto

Parameters = Mapping[str, str]


class Severity(StrEnum):
    """How bad a finding is, the worst first. `bad` makes the command fail."""

    bad = "bad"
    warning = "warning"
    good = "good"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `--json` writes its fields: fields are added, never renamed.

    Attributes:
        check: The check's name, which stays the same.
        what: What was found, with figures.
        remedy: What to do next; "" if and only if there is nothing to do.
    """

    check: str
    severity: Severity
    what: str
    remedy: str = ""


def good(check: str, what: str) -> Finding:
    """Return a finding that needs no action."""
    return Finding(check, Severity.good, what)


def warning(check: str, what: str, remedy: str) -> Finding:
    """Return a finding that can wait for the morning."""
    return Finding(check, Severity.warning, what, remedy)


def bad(check: str, what: str, remedy: str) -> Finding:
    """Return a finding that keeps rides from being predicted, or hides that they are not."""
    return Finding(check, Severity.bad, what, remedy)


def counted(n: int, thing: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "shard"), counted(1200, "shard")
    ('1 shard', '1,200 shards')
    """
    return f"{n:,} {thing}" if n == 1 else f"{n:,} {thing}s"


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """A stream and its traffic in the window.

    Attributes:
        role: "input" or "output".
        is_on_demand: Kinesis sets the number of shards.
        n_records: Records put.
        peak_records_per_s: Mean of the busiest minute, over all shards.
        peak_bytes_per_s: Likewise.
        n_throttled: Records that the stream refused because its shards were full.
    """

    name: str
    role: str
    n_open_shards: int
    is_on_demand: bool = False
    n_records: int = 0
    peak_records_per_s: float = 0.0
    peak_bytes_per_s: float = 0.0
    n_throttled: int = 0
    parameters: Parameters = field(default_factory=dict)


class ModelTrouble(Enum):
    """Why a channel's model does not load; each reason has another remedy."""

    none = auto()
    missing = auto()  # the channel has never held a model
    unfit = auto()  # the model is there and must not be served
    unread = auto()  # S3 or KMS refused: the model itself may be good


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The channel's model, loaded as the function loads it.

    Attributes:
        model_version: None if it does not load.
        problem: Why it does not load; "" if it does.
    """

    bucket: str
    channel: str
    model_version: str | None = None
    problem: str = ""
    trouble: ModelTrouble = ModelTrouble.none


@dataclass(frozen=True, slots=True)
class FunctionFacts:
    """The configuration of the function version that the mapping invokes.

    Attributes:
        state: Lambda's, as in "Active".
        state_reason: Lambda's; "" if it gives none.
        settings_problem: Why the settings would fail a cold start; "" if they would not.
    """

    name: str
    state: str = "Active"
    state_reason: str = ""
    settings_problem: str = ""
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WorkFacts:
    """The function's work: sums over the window.

    Attributes:
        n_exceptions: Invocations that ended in an exception of the function.
        n_errors: Invocations that Lambda counts as failed: exceptions, timeouts and lack of memory.
        n_throttles: Invocations that Lambda refused for lack of concurrency.
        max_record_age_s: Age of the oldest record received.
        n_refresh_failures: Refreshes of the channel that did not load its model.
        recent_minutes: Length of the recent past: long enough to contain a refresh.
        n_recent_refresh_failures: Refresh failures of the recent past.
        n_recent_records: Records of the recent past: a function without records does not refresh.
    """

    n_records: int = 0
    n_predictions: int = 0
    n_rejects: int = 0
    n_exceptions: int = 0
    n_errors: int = 0
    n_throttles: int = 0
    max_record_age_s: float = 0.0
    n_refresh_failures: int = 0
    recent_minutes: int = 10
    n_recent_refresh_failures: int = 0
    n_recent_records: int = 0


@dataclass(frozen=True, slots=True)
class MappingFacts:
    """The event source mapping from the input stream to the function's alias.

    Attributes:
        state: Lambda's, as in "Enabled"; "" if there is no mapping.
        last_result: Lambda's, as in "OK" or "PROBLEM: Function call failed"; "" if there is none yet.
        parallelization_factor: Batches of one shard that are processed at the same time.
    """

    state: str
    last_result: str = ""
    parallelization_factor: int = 1
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReleaseFacts:
    """The function's alias, and the version that the stack published last.

    Attributes:
        serving: The version that the alias points at.
        published: The stack's newest version; "" if the stack lists none.
        next_version: The version that gets a share of the batches during a rollout; "" if there is no rollout.
        next_share: That share, 0 to 1.
    """

    function: str
    alias: str
    serving: str
    published: str
    next_version: str = ""
    next_share: float = 0.0


@dataclass(frozen=True, slots=True)
class ConcurrencyFacts:
    """Invocations that Lambda runs at the same time.

    Attributes:
        reserved: For this function only; None if nothing is reserved.
        n_unreserved: Shared by all functions of the account and region without a reservation.
        n_account: The account's quota.
    """

    reserved: int | None
    n_unreserved: int
    n_account: int
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AlarmFacts:
    """An alarm of the stack.

    Attributes:
        logical_name: As in the template, and as the runbook's section.
        state: "OK", "ALARM" or "INSUFFICIENT_DATA"; "" if CloudWatch does not have the alarm.
        is_muted: It has actions, and they are disabled.
        is_composite: It depends on other alarms.
    """

    name: str
    logical_name: str
    state: str
    reason: str = ""
    is_muted: bool = False
    is_composite: bool = False


@dataclass(frozen=True, slots=True)
class QuotaFacts:
    """A quota of the account, and how much of it is used."""

    name: str
    n_used: int
    limit: int


@dataclass(frozen=True, slots=True)
class StackFacts:
    """All facts; a part that could not be read is None or empty, and its name is in `unread`.

    Attributes:
        status: CloudFormation's.
        window_minutes: How far back the metrics go.
        parameters: Values at the deployment.
        resource_drift: Result of CloudFormation's last drift detection, as in "DRIFTED"; "" if there was none.
        template_diff: Sentences on how the local template differs from the deployed one; None if not compared.
        n_subscribers: Confirmed subscriptions to the alarm topic; None if there is no topic.
        n_waiting: Objects of rejects and of failed batches that nobody has redriven, by kind.
        unread: Names of parts that could not be read, with the reasons.
        denied: Names of those for which a permission is missing.
    """

    name: str
    status: str
    window_minutes: int
    parameters: Parameters = field(default_factory=dict)
    resource_drift: str = ""
    template_diff: tuple[str, ...] | None = None
    release: ReleaseFacts | None = None
    model: ModelFacts | None = None
    function: FunctionFacts | None = None
    work: WorkFacts | None = None
    mapping: MappingFacts | None = None
    concurrency: ConcurrencyFacts | None = None
    streams: tuple[StreamFacts, ...] = ()
    alarms: tuple[AlarmFacts, ...] = ()
    n_subscribers: int | None = None
    quotas: tuple[QuotaFacts, ...] = ()
    n_waiting: Mapping[str, int] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)
    denied: frozenset[str] = frozenset()

    def stream(self, role: str) -> StreamFacts | None:
        """Return the stream of a role; None if it could not be read."""
        return next((stream for stream in self.streams if stream.role == role), None)
