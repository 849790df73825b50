"""What a cost is worked out for: the ways of doing it, the load, the function's time, and what is assumed."""

from dataclasses import dataclass

PLAIN, PACKED_OUTPUT, PACKED, ONE_BY_ONE = "plain", "packed output", "packed input and output", "one by one"
VARIANTS = (PLAIN, PACKED_OUTPUT, PACKED, ONE_BY_ONE)
"""A record a ride; predictions packed into aggregates; ride events too; and `put_record` a ride, a ride a batch."""


@dataclass(frozen=True, slots=True)
class Load:
    """What arrives, and how the stack is set up.

    Attributes:
        n_shards: Of the input stream, and as many of the output stream.
        window_s: How long Lambda waits for a fuller batch.
        batch_size: Records in one invocation at most.
        memory_mb: The function's.
        retention_hours: How long both streams keep records.
        reject_share: Of all rides.
    """

    rides_per_s: float
    n_shards: int
    window_s: float = 1.0
    batch_size: int = 10_000
    memory_mb: int = 1769
    retention_hours: float = 24.0
    reject_share: float = 0.001


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


@dataclass(frozen=True, slots=True)
class Work:
    """The function's CPU time: a part for each ride and a part for each invocation; `source` says where from."""

    us_per_ride: float
    us_per_invocation: float = 0.0
    source: str = ""
