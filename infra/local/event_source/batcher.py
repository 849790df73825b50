"""A lane: records on their way to the function, one batch at a time, in order, kept until each one is settled.

A shard has one lane, or as many as its mapping's parallelization factor says: then each partition key has its own.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from typing import NamedTuple, Protocol

from infra.local.event_source.config import Batch, Condition, MappingConfig, after_failure, count_aged
from infra.local.event_source.lambda_event import MAX_PAYLOAD_BYTES, LambdaRecord


class Outcome(NamedTuple):
    """What an invocation did: how many leading records are done, and whether the function raised an error."""

    n_done: int
    raised: bool


class Timing(NamedTuple):
    """Time as lanes see it.

    Attributes:
        clock: Monotonic seconds.
        wall_clock: Unix time in seconds, which the age of records is measured by.
        backoff: Seconds that a batch stays away after the n-th failure in a row that got nothing done.
    """

    clock: Callable[[], float]
    wall_clock: Callable[[], float]
    backoff: Callable[[int], float]


class Outlet(Protocol):
    """Where a lane's records go."""

    def deliver(self, batch: list[LambdaRecord], n_redelivered: int) -> Outcome:
        """Hands a batch to the function; `n_redelivered` of its records had been there before."""

    def prepare_giving_up(
        self, records: list[LambdaRecord], condition: Condition, n_invocations: int, *, raised: bool
    ) -> Callable[[], bool]:
        """Makes an attempt at giving records up, to be called until it says that they are settled."""

    def note_bisect(self) -> None:
        """Notes that a batch was cut in two."""


class Lane:
    """Records in order: what comes again stands in front, what was never handed over behind it."""

    def __init__(self, config: MappingConfig, outlet: Outlet, timing: Timing) -> None:
        self._config = config
        self._outlet = outlet
        self._timing = timing
        self._records: list[LambdaRecord] = []
        self._sizes: list[int] = []
        self._n_bytes = 0
        self._returning: list[Batch] = []  # what comes again, with none added: what is repeated is the same batch
        self._giving_up: tuple[int, Callable[[], bool]] | None = None  # leading records, and the attempt at it
        self._due_s = 0.0  # when a batch goes though it isn't full: end of its window, or of its backoff
        self._n_failures = 0  # in a row, without anything done

    @property
    def n_records(self) -> int:
        """Records that are not settled."""
        return len(self._records)

    @property
    def n_bytes(self) -> int:
        """Their size as JSON."""
        return self._n_bytes

    @property
    def wants_records(self) -> bool:
        """Whether another record would bring the next batch nearer."""
        return not self._is_held_up and not self._holds_full_batch

    def add(self, records: list[LambdaRecord], sizes: list[int]) -> None:
        """Takes records that follow those it has, and the size of each as JSON."""
        if records and not self._records:
            self._open_window()
        self._records += records
        self._sizes += sizes
        self._n_bytes += sum(sizes)

    def step(self) -> int:
        """Invokes the function once, or gives records up, if a batch is due.

        Returns:
            Records that went out, to the function or the failure destination.
        """
        if not self._records or not self._is_due():
            return 0
        if self._giving_up:
            return self._try_to_give_up(*self._giving_up)
        batch = self._returning[0] if self._returning else Batch(self._n_fitting())
        if n_aged := self._count_aged(batch):
            return self._give_up_aged(batch, n_aged)
        return self._hand_over(batch)

    @property
    def _is_held_up(self) -> bool:
        return bool(self._returning) or self._giving_up is not None

    @property
    def _holds_full_batch(self) -> bool:
        return len(self._records) >= self._config.batch_size or self._n_bytes >= MAX_PAYLOAD_BYTES

    def _is_due(self) -> bool:
        return self._timing.clock() >= self._due_s or (not self._is_held_up and self._holds_full_batch)

    def _n_fitting(self) -> int:
        room_bytes = MAX_PAYLOAD_BYTES - len('{"Records":[]}') + 1  # a comma after each record but the last
        ends = list(accumulate(size + 1 for size in self._sizes[: self._config.batch_size]))
        # A record too large for any payload goes all the same, alone: held back, it would block its shard.
        return max(bisect_right(ends, room_bytes), min(len(ends), 1))

    def _count_aged(self, batch: Batch) -> int:
        if self._config.maximum_record_age_s < 0:
            return 0
        arrivals_s = (r["kinesis"]["approximateArrivalTimestamp"] for r in self._records[: batch.n_records])
        return count_aged(arrivals_s, self._timing.wall_clock(), self._config.maximum_record_age_s)

    def _hand_over(self, batch: Batch) -> int:
        outcome = self._outlet.deliver(self._records[: batch.n_records], batch.n_records if self._returning else 0)
        del self._returning[:1]
        self._remove(outcome.n_done)
        if outcome.n_done < batch.n_records:
            self._settle_failure(batch, outcome)
        else:
            self._n_failures = 0
            self._open_window()
        return batch.n_records

    def _settle_failure(self, batch: Batch, outcome: Outcome) -> None:
        self._n_failures = 1 if outcome.n_done else self._n_failures + 1
        again = after_failure(batch, outcome.n_done, self._config)
        if not again:
            self._give_up(batch.n_records, "RetryAttemptsExhausted", batch.n_invocations + 1, raised=outcome.raised)
            return
        self._returning[:0] = again
        if len(again) > 1:
            self._outlet.note_bisect()
        self._stay_away()

    def _give_up_aged(self, batch: Batch, n_aged: int) -> int:
        if self._returning:
            rest = replace(batch, n_records=batch.n_records - n_aged)
            self._returning[:1] = [rest] if rest.n_records else []
        return self._give_up(n_aged, "RecordAgeExceeded", batch.n_invocations, raised=False)

    def _give_up(self, n_records: int, condition: Condition, n_invocations: int, *, raised: bool) -> int:
        records = self._records[:n_records]
        attempt = self._outlet.prepare_giving_up(records, condition, n_invocations, raised=raised)
        self._giving_up = n_records, attempt
        return self._try_to_give_up(n_records, attempt)

    def _try_to_give_up(self, n_records: int, attempt: Callable[[], bool]) -> int:
        if not attempt():  # a record that is nowhere else yet stays here
            self._n_failures += 1
            self._stay_away()
            return 0
        self._giving_up = None
        self._remove(n_records)
        self._n_failures = 0
        self._due_s = self._timing.clock()  # what stood behind them has waited long enough
        return n_records

    def _remove(self, n_records: int) -> None:
        self._n_bytes -= sum(self._sizes[:n_records])
        del self._records[:n_records], self._sizes[:n_records]

    def _open_window(self) -> None:
        """Lets the next batch wait for company, unless it is one that comes again."""
        self._due_s = self._timing.clock() + (0 if self._returning else self._config.batching_window_s)

    def _stay_away(self) -> None:
        self._due_s = self._timing.clock() + self._timing.backoff(self._n_failures)
