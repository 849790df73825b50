"""Redrive failed records: send them to the input stream with their original bytes and partition keys, and mark them.

**The guarantee is at least once.** A chunk of records is marked as under way, sent, and marked as redriven (marks.py):

- A complete redrive has sent every selected record and marked it once; a second run sends nothing.
- An interrupted redrive is repeated by the same command and loses nothing. It sends again the chunk that was under way,
  500 records at most: only these may arrive twice. (Kinesis, too, stores a record twice if its answer gets lost and
  the client resends the request.)
- Of two redrives at the same time, the one whose mark is refused stops before it sends that chunk. If one reaches a
  chunk that the other has under way, it cannot distinguish this from an interruption: it takes the chunk over and sends
  it again, and the other stops at its next mark.

**A redriven record is a new record.** It has another sequence number and so another prediction id: if a record arrived
twice, or was predicted before its batch failed, consumers that upsert by prediction id hold both. It also has a new
time of arrival, which replaces a missing `pickup_datetime`. If it is rejected again, that is a new reject with a new
id. Originals are never deleted or changed.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from infra.operate.redrive.marks import Marks
from infra.operate.redrive.records import FailedObject, FailedRecord
from infra.operate.redrive.selection import each_once
from infra.operate.streams import Pace, Timing, countdown, refused
from lambda_function.aws.publisher import MAX_CHUNK_BYTES, MAX_CHUNK_RECORDS, Publisher
from lambda_function.core.events import partition_key

PATIENCE_S = 30.0
"""How long a stream may refuse one chunk."""


@dataclass(slots=True)
class RedriveReport:
    """The progress of a redrive."""

    n_selected: int = 0
    n_redriven: int = 0  # records that the stream accepted, or would get in a dry run
    n_redriven_before: int = 0  # records that were marked already and not sent
    n_perhaps_repeated: int = 0  # among `n_redriven`, those that an interrupted redrive had left under way
    by_stream: Counter[str] = field(default_factory=Counter)  # of `n_redriven`
    unreadable: dict[str, str] = field(default_factory=dict)  # problems by the key of the object


@dataclass(slots=True)
class Redrive:
    """One run of a redrive. Its report is exact to the last chunk even if the run ends in an exception."""

    marks: Marks  # loaded
    publisher_to: Callable[[str], Publisher]  # makes the publisher to a stream
    to_stream: str | None = None  # send to this stream, not to those that the records came from
    rate_per_s: float = 1000.0  # records a second at most, above 0
    is_dry_run: bool = False
    timing: Timing = Timing()  # noqa: RUF009 - immutable
    report: RedriveReport = field(default_factory=RedriveReport)

    def run(self, objects: Iterable[FailedObject]) -> RedriveReport:
        """Send and mark the records of `objects` that have no mark yet, in order.

        Raises:
            UserError: A stream did not accept a whole chunk (accepted records are marked), or another redrive is
                running on the same objects.
        """
        pace = Pace(self.rate_per_s, self.timing)
        for chunk in self._chunks(self._pending(objects)):
            if not self.is_dry_run:
                pace.wait_for(len(chunk))
                self._send(chunk)
            self._count(chunk)
        return self.report

    def _pending(self, objects: Iterable[FailedObject]) -> Iterator[FailedRecord]:
        for one in each_once(objects):
            if one.problem:
                self.report.unreadable[one.key] = one.problem
            for record in one.records:
                self.report.n_selected += 1
                if self.marks.state(record) == "redriven":
                    self.report.n_redriven_before += 1
                else:
                    yield record

    def _chunks(self, records: Iterable[FailedRecord]) -> Iterator[list[FailedRecord]]:
        """Split records into chunks of one stream and one request each: an interruption leaves one chunk in doubt."""
        chunk: list[FailedRecord] = []
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

    def _target(self, record: FailedRecord) -> str:
        return self.to_stream or record.stream

    def _send(self, chunk: list[FailedRecord]) -> None:
        self.marks.begin(chunk)
        target = self._target(chunk[0])
        # The producer's key; a key that Kinesis accepts only inside an aggregate is hashed.
        entries = [(partition_key(record.partition_key), record.data) for record in chunk]
        published = self.publisher_to(target).publish(entries, countdown(PATIENCE_S, self.timing.clock))
        waiting = set(published.unpublished)
        accepted = [record for position, record in enumerate(chunk) if position not in waiting]
        self.marks.end(accepted)
        if waiting:
            self._count(accepted)
            raise refused(target, self.report.n_redriven, len(waiting), published.last_error)

    def _count(self, redriven: list[FailedRecord]) -> None:
        self.report.n_redriven += len(redriven)
        self.report.n_perhaps_repeated += sum(map(self.marks.was_under_way, redriven))
        self.report.by_stream.update(self._target(record) for record in redriven)
