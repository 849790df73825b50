"""What becomes of a failed batch, as pure decisions: it is cut in two, comes again, or is given up."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

from infra.local.mapping_config import MappingConfig

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
