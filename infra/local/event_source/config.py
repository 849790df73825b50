"""What becomes of a failed batch, as pure decisions: it is cut in two, comes again, or is given up."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

from infra.operate.shards import StartingPosition


# MERGED FROM infra/local/mapping_config.py
# What an event source mapping is told, and what it tells: its properties and its counts.
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


Condition = Literal["RetryAttemptsExhausted", "RecordAgeExceeded"]
"""Why records are given up, in AWS's words."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Records that go to the function together.

    Attributes:
        n_records: How many.
        n_invocations: How often exactly these went there, and failed.
    """

    n_records: int
    n_invocations: int = 0


def after_failure(batch: Batch, n_done: int, config: MappingConfig) -> list[Batch]:
    """Tells what comes again of a batch that was not done to its end.

    What is left after a part was done is a new batch: Lambda has moved its checkpoint, and all retries are there
    again. A cut spends no retry.

    Args:
        batch: As it went to the function.
        n_done: Its leading records that are done, fewer than it has.
        config: The mapping's properties.

    Returns:
        Batches that follow each other; none where the retries are used up.

    >>> config = MappingConfig("rides", bisect_on_error=True, maximum_retry_attempts=1)
    >>> after_failure(Batch(5), 0, config)
    [Batch(n_records=3, n_invocations=0), Batch(n_records=2, n_invocations=0)]
    >>> after_failure(Batch(5), 2, config)
    [Batch(n_records=3, n_invocations=0)]
    >>> after_failure(Batch(1), 0, config), after_failure(Batch(1, 1), 0, config)
    ([Batch(n_records=1, n_invocations=1)], [])
    """
    if n_done:
        return [Batch(batch.n_records - n_done)]
    if config.bisect_on_error and batch.n_records > 1:
        n_second = batch.n_records // 2
        return [Batch(batch.n_records - n_second), Batch(n_second)]
    if 0 <= config.maximum_retry_attempts <= batch.n_invocations:
        return []
    return [Batch(batch.n_records, batch.n_invocations + 1)]


def count_aged(arrivals_s: Iterable[float], now_s: float, maximum_age_s: float) -> int:
    """Counts the leading records that are over age.

    Args:
        arrivals_s: When the records arrived, Unix time.
        now_s: Unix time.
        maximum_age_s: Below 0 for no end.

    >>> count_aged([10, 20, 30], now_s=85, maximum_age_s=60), count_aged([10], now_s=85, maximum_age_s=-1)
    (2, 0)
    """
    if maximum_age_s < 0:
        return 0
    return sum(1 for _ in takewhile(lambda arrival_s: now_s - arrival_s > maximum_age_s, arrivals_s))


def exponential_backoff_s(attempt: int) -> float:
    """Tells how long a failed batch stays away: 0.1 s after the first failure, doubling, 30 s at most.

    >>> [exponential_backoff_s(attempt) for attempt in (1, 2, 3, 1000)]
    [0.1, 0.2, 0.4, 30.0]
    """
    return min(0.1 * 2.0 ** min(attempt - 1, 20), 30.0)
