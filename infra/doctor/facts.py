"""What is known of a deployed stack, as plain values: `gather.py` fills them in, `checks.py` judges them."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """A stream and its traffic in the window.

    Attributes:
        role: "input" or "output".
        is_on_demand: Kinesis decides how many shards there are.
        peak_records_per_s: Of the busiest minute, over all shards.
        peak_bytes_per_s: Likewise.
        n_throttled: Records that the stream refused for want of shards.
    """

    name: str
    role: str
    n_open_shards: int
    is_on_demand: bool = False
    peak_records_per_s: float = 0.0
    peak_bytes_per_s: float = 0.0
    n_throttled: int = 0


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


@dataclass(frozen=True, slots=True)
class FunctionFacts:
    """The function that the mapping invokes, and its sums in the window.

    Attributes:
        state: Lambda's, as in "Active".
        settings_problem: What its own settings would refuse at a cold start; "" for nothing.
        max_record_age_s: The oldest record that it has got.
        n_refresh_failures: Looks at the channel that did not bring its model.
    """

    name: str
    state: str = "Active"
    settings_problem: str = ""
    n_records: int = 0
    n_predictions: int = 0
    n_rejects: int = 0
    n_failed_invocations: int = 0
    n_refresh_failures: int = 0
    max_record_age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class MappingFacts:
    """The event source mapping, as Lambda tells of it: "Enabled", and "OK" or what went wrong last."""

    state: str
    last_result: str


@dataclass(frozen=True, slots=True)
class AlarmFacts:
    """An alarm of the stack; `state` is "OK", "ALARM" or "INSUFFICIENT_DATA"."""

    name: str
    state: str
    reason: str = ""
    actions_enabled: bool = True


@dataclass(frozen=True, slots=True)
class QuotaFacts:
    """A quota of the account and how much of it is taken."""

    name: str
    n_used: int
    limit: int


@dataclass(frozen=True, slots=True)
class StackFacts:
    """All of it; a part that could not be looked at is None or empty, and named in `unseen`.

    Attributes:
        status: CloudFormation's word.
        window_minutes: How far back the metrics go.
        drift: Sentences on what differs between the local template and the deployed one; None where not compared.
        n_kept: Objects of rejects and of given-up batches that nobody has redriven, by kind.
        unseen: What could not be looked at, and why.
    """

    name: str
    status: str
    window_minutes: int
    model: ModelFacts | None = None
    function: FunctionFacts | None = None
    mapping: MappingFacts | None = None
    streams: tuple[StreamFacts, ...] = ()
    alarms: tuple[AlarmFacts, ...] = ()
    quotas: tuple[QuotaFacts, ...] = ()
    drift: tuple[str, ...] | None = None
    n_kept: dict[str, int] = field(default_factory=dict)
    unseen: dict[str, str] = field(default_factory=dict)
