"""Redriving: kept records go back to the input stream with their original bytes and partition keys, and are marked.

**The guarantee is at least once, and it knows what it does not know.** A chunk of records is marked as under way,
sent, and marked as redriven (infra/operate/redrive/marks.py). So:

- A redrive that ends well has sent every selected record and marked it once; one that is repeated sends nothing.
- A redrive that is interrupted, however and wherever, is repeated by the same command, and loses nothing. It sends
  again what was under way, a chunk of 500 records at most: these may arrive once more, no other can. (Kinesis itself,
  too, takes a record twice if its answer gets lost and the request is resent.)
- Of two redrives at once, the one whose mark is refused stops, before it sends that chunk. Only one that comes to a
  chunk while the other has it under way cannot tell this from an interruption: it takes the chunk over and sends it
  again, and the other stops at its next mark.

**What is sent again is a new record.** It has another sequence number and so another prediction id: if a record did
arrive twice, or was predicted before its batch was given up, consumers that upsert by prediction id hold both. It also
has a new time of arrival, which is what stands in for a ride without `pickup_datetime`. What is rejected once more is
a new reject, with a new id. Originals are never deleted or changed.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from infra.errors import StreamRefusedError
from infra.operate.redrive.marks import Marks
from infra.operate.redrive.records import KeptObject, KeptRecord, each_once
from infra.operate.streams import Timing
from lambda_function.aws.publisher import MAX_CHUNK_BYTES, MAX_CHUNK_RECORDS, Publisher
from lambda_function.core.events import partition_key

PATIENCE_S = 30.0
"""How long a stream may refuse one chunk."""


@dataclass(slots=True)
class RedriveReport:
    """What a redrive has done so far.

    Attributes:
        n_selected: Kept records that were asked for.
        n_redriven: Those that the stream has taken, or would have in a dry run; by stream in `by_stream`.
        n_redriven_before: Those that were marked already, and left alone.
        n_perhaps_repeated: Those among `n_redriven` that were under way when an earlier redrive was interrupted.
        unreadable: Keys of objects that could not be read, and what of them.
    """

    n_selected: int = 0
    n_redriven: int = 0
    n_redriven_before: int = 0
    n_perhaps_repeated: int = 0
    by_stream: Counter[str] = field(default_factory=Counter)
    unreadable: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Redrive:
    """One run.

    Attributes:
        marks: Loaded.
        publisher_to: Makes the publisher to a stream.
        to_stream: Where to send instead of the streams that the records came from.
        rate_per_s: Records a second at most, above 0.
        is_dry_run: Sends and marks nothing.
        report: What has been done; true to the last chunk also where the run ends in an exception.
    """

    marks: Marks
    publisher_to: Callable[[str], Publisher]
    to_stream: str | None = None
    rate_per_s: float = 1000.0
    is_dry_run: bool = False
    timing: Timing = Timing()  # noqa: RUF009 - immutable
    report: RedriveReport = field(default_factory=RedriveReport)

    def run(self, objects: Iterable[KeptObject]) -> RedriveReport:
        """Sends and marks the records of `objects` that are not marked yet, in order.

        Raises:
            StreamRefusedError: A stream did not take all of a chunk; what it took is marked.
            RedriveConflictError: Another redrive is at work on the same objects.
            StoreError: S3 did not take a mark.
        """
        due_s = self.timing.clock()
        for chunk in self._chunks(self._pending(objects)):
            if not self.is_dry_run:
                now_s = self.timing.clock()
                if due_s > now_s:
                    self.timing.sleep(due_s - now_s)
                due_s = max(due_s, now_s) + len(chunk) / self.rate_per_s
                self._send(chunk)
            self._count(chunk)
        return self.report

    def _pending(self, objects: Iterable[KeptObject]) -> Iterator[KeptRecord]:
        for kept in each_once(objects):
            if kept.problem:
                self.report.unreadable[kept.key] = kept.problem
            for record in kept.records:
                self.report.n_selected += 1
                if self.marks.state(record) == "redriven":
                    self.report.n_redriven_before += 1
                else:
                    yield record

    def _chunks(self, records: Iterable[KeptRecord]) -> Iterator[list[KeptRecord]]:
        """Cuts records into chunks of one stream and one request each: what an interruption may leave in doubt."""
        chunk: list[KeptRecord] = []
        n_bytes = 0
        for record in records:
            size = len(record.data) + len(record.partition_key.encode())
            is_full = len(chunk) >= min(MAX_CHUNK_RECORDS, self.rate_per_s) or n_bytes + size > MAX_CHUNK_BYTES
            if chunk and (is_full or self._target(record) != self._target(chunk[0])):
                yield chunk
                chunk, n_bytes = [], 0
            chunk.append(record)
            n_bytes += size
        if chunk:
            yield chunk

    def _target(self, record: KeptRecord) -> str:
        return self.to_stream or record.stream

    def _send(self, chunk: list[KeptRecord]) -> None:
        self.marks.begin(chunk)
        target = self._target(chunk[0])
        deadline_s = self.timing.clock() + PATIENCE_S
        # As the producer keyed them; a key that Kinesis takes inside an aggregate only is hashed.
        entries = [(partition_key(record.partition_key), record.data) for record in chunk]
        published = self.publisher_to(target).publish(entries, lambda: deadline_s - self.timing.clock())
        waiting = set(published.unpublished)
        accepted = [record for position, record in enumerate(chunk) if position not in waiting]
        self.marks.end(accepted)
        if waiting:
            self._count(accepted)
            raise StreamRefusedError(target, self.report.n_redriven, len(waiting), published.last_error)

    def _count(self, redriven: list[KeptRecord]) -> None:
        self.report.n_redriven += len(redriven)
        self.report.n_perhaps_repeated += sum(map(self.marks.was_under_way, redriven))
        self.report.by_stream.update(self._target(record) for record in redriven)
