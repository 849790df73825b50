"""What an event source mapping is told, and what it tells: its properties and its counts."""

from dataclasses import dataclass

from infra.shards import StartingPosition


@dataclass(frozen=True, slots=True)
class MappingConfig:
    """An `AWS::Lambda::EventSourceMapping` on a Kinesis stream; the defaults are AWS's.

    Attributes:
        stream_name: The stream.
        batch_size: Records an invocation at most, 1 to 10,000.
        batching_window_s: How long a batch that is not full waits for more, 0 to 300.
        starting_position: Where reading begins in the shards that there are when the mapping is made.
        parallelization_factor: Batches of one shard at a time, 1 to 10.
        bisect_on_error: Whether a failed batch is cut in two.
        maximum_retry_attempts: How often a batch that can't be cut comes again; -1 for no end.
        maximum_record_age_s: Age at which a record is given up; -1 for no end.
        on_failure_bucket: Where records go that are given up; None for nowhere.
        report_batch_item_failures: Whether the function's response says what failed.
        function_name: The function, as the failure destination is told.
    """

    stream_name: str
    batch_size: int = 100
    batching_window_s: float = 0.0
    starting_position: StartingPosition = "TRIM_HORIZON"
    parallelization_factor: int = 1
    bisect_on_error: bool = False
    maximum_retry_attempts: int = -1
    maximum_record_age_s: int = -1
    on_failure_bucket: str | None = None
    report_batch_item_failures: bool = False
    function_name: str = "function"


@dataclass(slots=True)
class MappingStats:
    """What a mapping has done so far; it counts on while the mapping runs.

    A record is settled once: it is one of `n_done`, `n_given_up` or `n_dropped`.

    Attributes:
        n_invocations: Invocations, the failed ones among them.
        n_delivered: Records in all invocations, a record counted each time.
        n_redelivered: Those among them that had been delivered before.
        n_done: Records that the function is done with.
        n_failures: Invocations after which something is not done.
        n_bisects: Failed batches that were cut in two.
        n_given_up: Records that are in the failure destination.
        n_dropped: Records given up without a destination, and so lost.
        last_error: The last error of the function or the failure destination, "" if there was none.
    """

    n_invocations: int = 0
    n_delivered: int = 0
    n_redelivered: int = 0
    n_done: int = 0
    n_failures: int = 0
    n_bisects: int = 0
    n_given_up: int = 0
    n_dropped: int = 0
    last_error: str = ""
