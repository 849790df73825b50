"""What is known of a deployed stack, as plain values: `look/` fills them in, `judge/` reads them.

`parameters`, where a part has it, are parameters of the template by name, with the values that this part really has: a
person may have changed it since the deployment.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto

Parameters = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """A stream and its traffic in the window.

    Attributes:
        role: "input" or "output".
        is_on_demand: Kinesis decides how many shards there are.
        n_records: That were put.
        peak_records_per_s: Mean of the busiest minute, over all shards.
        peak_bytes_per_s: Likewise.
        n_throttled: Records that the stream refused for want of shards.
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
    """Why a channel's model can't be had: what to do differs."""

    none = auto()
    missing = auto()  # nobody has published one
    unfit = auto()  # it is there, and must not be served
    unread = auto()  # S3 or KMS refused: nothing is known of the model itself


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the channel holds, loaded as the function would load it.

    Attributes:
        model_version: None where it does not load.
        problem: Why not; "" where it does.
    """

    bucket: str
    channel: str
    model_version: str | None = None
    problem: str = ""
    trouble: ModelTrouble = ModelTrouble.none


@dataclass(frozen=True, slots=True)
class FunctionFacts:
    """The version of the function that the mapping invokes, as it is configured.

    Attributes:
        state: Lambda's, as in "Active".
        state_reason: Why it is so; "" where Lambda does not say.
        settings_problem: What its own settings would refuse at a cold start; "" for nothing.
    """

    name: str
    state: str = "Active"
    state_reason: str = ""
    settings_problem: str = ""
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WorkFacts:
    """What the function did: sums over the window.

    Attributes:
        n_exceptions: Invocations that ended in an exception of ours.
        n_errors: Invocations that failed for Lambda: these, and those out of time or memory.
        n_throttles: Invocations that Lambda did not let through.
        max_record_age_s: The oldest record that it has got.
        n_refresh_failures: Looks at the channel that did not bring its model.
        recent_minutes: How far back "recent" goes: so far that the function has looked at its channel since.
        n_recent_refresh_failures: Of the refresh failures, those.
        n_recent_records: Of the records, those: a function without records does not look.
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
        state: Lambda's, as in "Enabled"; "" where there is no mapping.
        last_result: Lambda's, as in "OK" or "PROBLEM: Function call failed"; "" for none yet.
        parallelization_factor: Batches of one shard that are worked on at a time.
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
        published: The stack's; "" where the stack lists none.
        next_version: The version that gets a part of the batches while a rollout is under way; "" for none.
        next_share: That part, 0 to 1.
    """

    function: str
    alias: str
    serving: str
    published: str
    next_version: str = ""
    next_share: float = 0.0


@dataclass(frozen=True, slots=True)
class ConcurrencyFacts:
    """Invocations that Lambda lets run at a time.

    Attributes:
        reserved: For this function and no other; None for no such number.
        n_unreserved: Left to all functions of the account and region without one.
        n_account: All together: the quota.
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
        state: "OK", "ALARM" or "INSUFFICIENT_DATA"; "" where the stack has it and CloudWatch does not.
        is_muted: It has somebody to tell, and does not.
        is_composite: It sounds because another does.
    """

    name: str
    logical_name: str
    state: str
    reason: str = ""
    is_muted: bool = False
    is_composite: bool = False


@dataclass(frozen=True, slots=True)
class QuotaFacts:
    """A quota of the account and how much of it is taken.

    Attributes:
        name: Of what there are so many.
    """

    name: str
    n_used: int
    limit: int


@dataclass(frozen=True, slots=True)
class StackFacts:
    """All of it; a part that could not be looked at is None or empty, and named in `unseen`.

    Attributes:
        status: CloudFormation's word.
        window_minutes: How far back the metrics go.
        parameters: As the stack was deployed with.
        resource_drift: What CloudFormation found when it was last asked for drift, as in "DRIFTED"; "" for never.
        drift: Sentences on what differs between the local template and the deployed one; None where not compared.
        n_told: Who is told of alarms: confirmed subscriptions.
        n_kept: Objects of rejects and of given-up batches that nobody has redriven, by kind.
        unseen: What could not be looked at, and why.
        denied: Those of them for which a permission is missing.
    """

    name: str
    status: str
    window_minutes: int
    parameters: Parameters = field(default_factory=dict)
    resource_drift: str = ""
    drift: tuple[str, ...] | None = None
    release: ReleaseFacts | None = None
    model: ModelFacts | None = None
    function: FunctionFacts | None = None
    work: WorkFacts | None = None
    mapping: MappingFacts | None = None
    concurrency: ConcurrencyFacts | None = None
    streams: tuple[StreamFacts, ...] = ()
    alarms: tuple[AlarmFacts, ...] = ()
    n_told: int | None = None
    quotas: tuple[QuotaFacts, ...] = ()
    n_kept: Mapping[str, int] = field(default_factory=dict)
    unseen: Mapping[str, str] = field(default_factory=dict)
    denied: frozenset[str] = frozenset()

    def stream(self, role: str) -> StreamFacts | None:
        """Returns the stream of a role; None where it could not be looked at."""
        return next((stream for stream in self.streams if stream.role == role), None)


# MERGED FROM infra/doctor/finding.py
# A finding: one thing looked at, how bad it is, and what to do about it.
class Severity(StrEnum):
    """How bad a finding is, the worst first. `bad` makes the command fail."""

    bad = "bad"
    warning = "warning"
    good = "good"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `dataclasses.asdict` of it is what `--json` writes: fields are added, never renamed.

    Attributes:
        check: What was looked at, in a word or two that stay the same.
        what: What was found, with figures.
        remedy: What to do next; "" where there is nothing to do, and only there.
    """

    check: str
    severity: Severity
    what: str
    remedy: str = ""


def good(check: str, what: str) -> Finding:
    """Returns a finding that needs nobody."""
    return Finding(check, Severity.good, what)


def warning(check: str, what: str, remedy: str) -> Finding:
    """Returns a finding that can wait for the morning."""
    return Finding(check, Severity.warning, what, remedy)


def bad(check: str, what: str, remedy: str) -> Finding:
    """Returns a finding that keeps rides from being predicted, or hides that they are not."""
    return Finding(check, Severity.bad, what, remedy)
