"""Redrive failed records: bring them to the function as they were, and mark them.

**A redriven record keeps its identity**: event id, sequence number, arrival time, partition key and bytes. So its
prediction has the id that it always has, and a consumer that upserts by prediction id holds one, however often the
record is redriven, and also if it was predicted before its batch failed. Nothing is put onto the input stream.

**The guarantee is at least once.** A chunk of records is marked as under way, processed by the function, and marked as
redriven (marks.py):

- A complete redrive has brought every selected record to the function and marked it once; a second run brings none.
- An interrupted redrive is repeated by the same command and loses nothing. It brings the chunk again that was under
  way, 500 records at most: only their predictions may be published twice.
- Of two redrives at the same time, the one whose mark is refused stops before it brings that chunk. If one reaches a
  chunk that the other has under way, it cannot distinguish this from an interruption: it takes the chunk over and
  brings it again, and the other stops at its next mark.

A reject that is rejected again stays pending, so the next redrive brings it again. A record of a failed batch that is
rejected is done: from then on it is a reject. Originals are never deleted or changed.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from infra.operate.redrive.marks import Marks
from infra.operate.redrive.records import FailedObject, FailedRecord
from infra.operate.redrive.selection import each_once
from infra.operate.replayer import Replayer, chunks
from infra.operate.streams import Pace, Timing
from training.errors import UserError


@dataclass(slots=True)
class RedriveReport:
    """The progress of a redrive."""

    n_selected: int = 0
    n_redriven: int = 0  # records that the function is done with, or would get in a dry run
    n_rejected: int = 0  # among `n_redriven`, those that it rejected
    n_redriven_before: int = 0  # records that were marked already and not brought
    n_perhaps_repeated: int = 0  # among `n_redriven`, those that an interrupted redrive had left under way
    by_stream: Counter[str] = field(default_factory=Counter)  # of `n_redriven`
    arrived: dict[tuple[str, bool], tuple[datetime, datetime]] = field(default_factory=dict)
    """The first and the last arrival of `n_redriven`, by the stream and `is_archivers`."""
    unreadable: dict[str, str] = field(default_factory=dict)  # problems by the key of the object


@dataclass(slots=True)
class Redrive:
    """One run of a redrive. Its report is exact to the last chunk even if the run ends in an exception."""

    marks: Marks  # loaded
    replayer_of: Callable[[FailedRecord], Replayer] | None  # None for a dry run, which brings and marks nothing
    rate_per_s: float = 1000.0  # records a second at most, above 0
    timing: Timing = Timing()  # noqa: RUF009 - immutable
    report: RedriveReport = field(default_factory=RedriveReport)

    def run(self, objects: Iterable[FailedObject]) -> RedriveReport:
        """Bring and mark the records of `objects` that have no mark yet, in order.

        Raises:
            UserError: The function failed or did not finish a whole chunk (finished records are marked), or another
                redrive is running on the same objects.
        """
        pace = Pace(self.rate_per_s, self.timing)
        for chunk in chunks(self._pending(objects), _source_of, _size_of, self.rate_per_s):
            if self.replayer_of is None:
                self._count(chunk)
            else:
                replayer = self.replayer_of(chunk[0])
                pace.wait_for(len(chunk))
                self._bring(chunk, replayer)
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

    def _bring(self, chunk: list[FailedRecord], replayer: Replayer) -> None:
        self.marks.begin(chunk)
        stream_arn = replayer.stream_arn(chunk[0].stream)
        replayed = replayer.replay([record.original(stream_arn) for record in chunk])
        done = chunk[: replayed.n_done]
        self.marks.end(done, {one.record_id for one in done if one.is_reject} & replayed.rejected)
        self._count(done)
        self.report.n_rejected += len(replayed.rejected)
        if n_open := len(chunk) - len(done):
            raise UserError(
                f"{self.report.n_redriven} records are redriven, and then {n_open} stayed open: {replayed.last_error}",
                "end the cause, and run it again to continue",
            )

    def _count(self, redriven: list[FailedRecord]) -> None:
        self.report.n_redriven += len(redriven)
        self.report.n_perhaps_repeated += sum(map(self.marks.was_under_way, redriven))
        self.report.by_stream.update(record.stream for record in redriven)
        for record in redriven:
            source = record.stream, record.is_archivers
            first, last = self.report.arrived.get(source, (record.arrived, record.arrived))
            self.report.arrived[source] = min(first, record.arrived), max(last, record.arrived)


def _source_of(record: FailedRecord) -> tuple[str, str, bool]:
    return record.stream, record.shard_id, record.is_archivers


def _size_of(record: FailedRecord) -> int:
    """Return the bytes that a record takes in an invocation, at most."""
    # 12 bytes are a key's character, escaped; 4 bytes in base64 hold 3; the names and ARNs take less than 1,000.
    return 1_000 + 12 * len(record.partition_key) + 4 * (len(record.data) // 3 + 1)
