"""Bring the results of a batch out: store its rejects, then publish its predictions, and remember what is out."""

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

from lambda_function.aws.publisher import Published, Publisher
from lambda_function.aws.rejects import RejectStore
from lambda_function.aws.telemetry import MILLISECONDS_PER_S, Stopwatch
from lambda_function.core.confirmed import ConfirmedIds, Shard
from lambda_function.core.kpl import pack
from lambda_function.core.processor import ProcessedBatch
from lambda_function.core.records import KinesisRecord
from lambda_function.errors import PublishError, StoreError

STORE_MARGINS = 1.5
"""Storing rejects ends so many margins before the timeout, to leave time for publishing."""


@dataclass(frozen=True, slots=True)
class TimeLeft:
    """The time of an invocation in which requests may still start: `margin_ms` of it are for the last one to hang."""

    remaining_ms: Callable[[], float]
    margin_ms: float

    @classmethod
    def of(cls, remaining_ms: Callable[[], float], margin_ms: float) -> Self:
        """Measure from now on, with a smaller margin if the whole time is too short for it."""
        return cls(remaining_ms, min(margin_ms, remaining_ms() / 2))

    def to_store_s(self) -> float:
        """Return the seconds in which storing rejects may start a request."""
        return (self.remaining_ms() - STORE_MARGINS * self.margin_ms) / MILLISECONDS_PER_S

    def to_publish_s(self) -> float:
        """Return the seconds in which publishing may start a request."""
        return (self.remaining_ms() - self.margin_ms) / MILLISECONDS_PER_S


@dataclass(frozen=True, slots=True)
class Delivered:
    """What happened to a batch's results."""

    n_done: int  # how many records, counted from the first, are finished; the others must come again
    problems: Sequence[str] = ()  # why it is not all of them, or why rejects are not in the bucket
    n_resent: int = 0  # entries of PutRecords that were sent more than once
    publish_ms: float = 0.0
    n_rejects_in_queue: int = 0
    n_rejects_not_stored: int = 0
    refusal: PublishError | None = None  # if the output stream refuses for good and took nothing; nothing is done then


@dataclass(frozen=True, slots=True)
class _Stored:
    """The result of storing rejects."""

    n_publishable: int  # how many records, counted from the first, have no reject that is not stored
    n_in_queue: int = 0
    n_not_stored: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class _Published:
    """The result of publishing the first predictions of a batch."""

    n_sent: int  # how many predictions, counted from the first, were to be published
    failed: Collection[int]  # the indices of those that the stream has not confirmed
    n_resent: int
    problem: str
    refusal: PublishError | None

    @classmethod
    def of(cls, published: Published, n_sent: int, failed: Collection[int]) -> Self:
        problem = f"{len(failed)} predictions not published: {published.last_error or 'time is up'}" if failed else ""
        return cls(n_sent, frozenset(failed), published.n_resent, problem, published.refusal)


@dataclass(frozen=True, slots=True)
class Output:
    """Where results go.

    Attributes:
        rejects: Stores rejects.
        publisher: Publishes predictions.
        packed_groups: The number of groups to pack predictions into; 0 to publish each as a record.
        confirmed: The memory of what is out, of this execution environment.
    """

    rejects: RejectStore
    publisher: Publisher
    packed_groups: int = 0
    confirmed: ConfirmedIds = field(default_factory=ConfirmedIds)

    def deliver(
        self,
        stream: str,
        records: Sequence[KinesisRecord],
        batch: ProcessedBatch,
        time_left: TimeLeft,
        *,
        is_replay: bool,
    ) -> Delivered:
        """Store the rejects of a batch and publish its predictions, except what is out already.

        Rejects come first, and no prediction behind a reject that is not stored goes out: what is published does not
        come again because of a reject.

        Args:
            stream: The stream that the records come from.
            records: All records of the batch, of one shard, in order.
            batch: Their predictions and rejects.
            time_left: The time of the invocation.
            is_replay: Whether to bring everything out again; nothing is remembered then.
        """
        memory = ConfirmedIds() if is_replay else self.confirmed
        shard, first, last = Shard(stream, records[0].shard_id), records[0].envelope, records[-1].envelope
        missing = memory.missing(shard, first.sequence_number, batch)
        stored = self._store(stream, missing, len(records), time_left)
        publish_time = Stopwatch()
        published = self._publish(missing, bisect_left(missing.positions, stored.n_publishable), time_left)
        publish_ms = publish_time.ms()
        n_done = missing.positions[min(published.failed)] if published.failed else stored.n_publishable
        if published.refusal:
            n_done = 0
        if missing is not batch:
            memory.forget(shard, _finished_ids(batch, n_done))
        if n_done < len(records):
            memory.remember(shard, last.sequence_number, _confirmed_ids(missing, n_done, stored, published))
        return Delivered(
            n_done=n_done,
            problems=[problem for problem in (stored.problem, published.problem) if problem],
            n_resent=published.n_resent,
            publish_ms=publish_ms,
            n_rejects_in_queue=stored.n_in_queue,
            n_rejects_not_stored=stored.n_not_stored,
            refusal=published.refusal,
        )

    def _store(self, stream: str, batch: ProcessedBatch, n_records: int, time_left: TimeLeft) -> _Stored:
        """Store all rejects of a batch, also those behind predictions that can't be published now."""
        if not batch.rejects:
            return _Stored(n_records)
        rejects = [reject for _, reject in batch.rejects]
        try:
            problem = self.rejects.store(stream, rejects, time_left.to_store_s)
        except StoreError as error:
            return _Stored(batch.rejects[0][0], n_not_stored=len(rejects), problem=str(error))
        return _Stored(n_records, n_in_queue=len(rejects) if problem else 0, problem=str(problem or ""))

    def _publish(self, batch: ProcessedBatch, n_entries: int, time_left: TimeLeft) -> _Published:
        """Publish the first predictions of a batch until all are out or the time is up."""
        entries = batch.entries if n_entries == len(batch.entries) else batch.entries[:n_entries]
        if not self.packed_groups:
            published = self.publisher.publish(entries, time_left.to_publish_s)
            return _Published.of(published, n_entries, published.unpublished)
        aggregates = pack(entries, self.packed_groups)
        packed = [(aggregate.partition_key, aggregate.data) for aggregate in aggregates]
        published = self.publisher.publish(packed, time_left.to_publish_s)
        failed = [position for index in published.unpublished for position in aggregates[index].positions]
        return _Published.of(published, n_entries, failed)


def _finished_ids(batch: ProcessedBatch, n_done: int) -> Iterator[str]:
    """Return the ids of records that do not come again."""
    yield from batch.ids[: bisect_left(batch.positions, n_done)]
    yield from (reject.event_id for position, reject in batch.rejects if position < n_done)


def _confirmed_ids(batch: ProcessedBatch, n_done: int, stored: _Stored, published: _Published) -> Iterator[str]:
    """Return the ids of predictions and rejects that are out now though their records come again."""
    first = bisect_left(batch.positions, n_done)
    yield from (batch.ids[index] for index in range(first, published.n_sent) if index not in published.failed)
    if not stored.n_not_stored:
        yield from (reject.event_id for position, reject in batch.rejects if position >= n_done)
