"""What a cost is worked out for: the ways of doing it, the load, the function's time, and what is assumed."""

from dataclasses import dataclass

from infra.cost.inventory import EMPTY, Inventory

PLAIN, PACKED_OUTPUT, PACKED, COURSE = "plain", "packed output", "packed input and output", "the course's"
VARIANTS = (PLAIN, PACKED_OUTPUT, PACKED, COURSE)
"""A record a ride; predictions packed into aggregates; ride events too; and the MLOps Zoomcamp's stack: two streams and
a function that calls `put_record` for each ride. It has Lambda's and Kinesis's defaults, and nothing else."""

COURSE_BATCH_SIZE = 100
COURSE_WINDOW_S = 1.0
"""Lambda's defaults for a Kinesis mapping: 100 records, and no window but that it looks once a second.
https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html"""


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
class Work:
    """The function's CPU time: a part for each ride and a part for each invocation; `source` says where from."""

    us_per_ride: float
    us_per_invocation: float = 0.0
    source: str = ""
