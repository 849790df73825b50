"""The properties and the counters of an event source mapping."""

from dataclasses import dataclass

from infra.operate.shards import StartingPosition


@dataclass(frozen=True, slots=True)
class MappingConfig:
    """An `AWS::Lambda::EventSourceMapping` on a Kinesis stream, with AWS's defaults.

    Attributes:
        stream_name: The stream.
        batch_size: Most records in an invocation, 1 to 10,000.
        batching_window_s: How long a batch that is not full waits for more records, 0 to 300.
        starting_position: Where reading begins in the shards that exist when the mapping is made.
        parallelization_factor: Concurrent batches of one shard, 1 to 10.
        bisect_on_error: Whether to split a failed batch in two.
        maximum_retry_attempts: Retries of a batch that can't be split; -1 for no limit.
        maximum_record_age_s: Age at which a record fails; -1 for no limit.
        on_failure_bucket: Bucket for failed records; None drops them.
        report_batch_item_failures: Whether the function's response names failed records.
        function_name: The function's name in a failed batch's object.
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
    """Counters of a mapping, updated while it runs.

    Each record is settled once, in `n_done`, `n_failed` or `n_dropped`.
    """

    n_invocations: int = 0  # invocations, including failed ones
    n_delivered: int = 0  # records in all invocations; a record counts each time
    n_redelivered: int = 0  # records among them that had been delivered before
    n_done: int = 0  # records that the function has processed
    n_failures: int = 0  # invocations that left a record unprocessed
    n_bisects: int = 0  # failed batches that were split in two
    n_failed: int = 0  # records in the failure destination
    n_dropped: int = 0  # failed records without a destination: they are lost
    last_error: str = ""  # the last error of the function or the failure destination; "" if there was none
