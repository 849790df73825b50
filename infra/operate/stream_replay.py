"""Replay a stream between two times: bring its records to the function again, as they were.

Each shard is read in order, its parents before it. A position is remembered for each shard, so that an interrupted
replay goes on where it was; the invocation that was under way is repeated.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from graphlib import TopologicalSorter
from typing import Any

import msgspec

from infra.operate.lambda_event import LambdaRecord, json_sizes, lambda_records
from infra.operate.replayer import Replayer, chunks
from infra.operate.shards import FIRST_IDLE_WAIT_S, Shard, ShardReader, list_shards, next_idle_wait_s
from infra.operate.streams import READ_PATIENCE_S, Pace, Timing, unreadable
from training.errors import UserError


class ReplayState(msgspec.Struct):
    """What a replay is about, and how far it is: everything that is needed to go on with it.

    `positions` are the last sequence numbers that are done, by shard. A shard that is done is in `finished`.
    """

    stream: str
    since: datetime  # the earliest arrival, in aware UTC
    until: datetime  # the first arrival that is too late
    shard_id: str | None = None  # only this shard
    positions: dict[str, str] = {}
    finished: set[str] = set()
    n_replayed: int = 0  # records that the function is done with
    n_rejected: int = 0  # among them, those that it rejected


@dataclass(slots=True)
class StreamReplay:
    """One run of a replay. Its state is exact to the last invocation even if the run ends in an exception."""

    kinesis: Any  # a boto3 client
    replayer: Replayer | None  # None for a dry run, which only counts
    state: ReplayState
    rate_per_s: float = 1000.0  # records a second at most, above 0
    timing: Timing = Timing()  # noqa: RUF009 - immutable
    _pace: Pace = field(init=False)

    def __post_init__(self) -> None:
        self._pace = Pace(self.rate_per_s, self.timing)

    def run(self) -> Iterator[int]:
        """Replay what is left; yield the number of records replayed so far, after each invocation.

        Raises:
            UserError: A shard cannot be read, there is no such shard, the function failed, or it did not finish.
        """
        for shard_id in self._shard_ids():
            if shard_id not in self.state.finished:
                for chunk in chunks(self._records(shard_id), lambda _: None, _size_of, self.rate_per_s):
                    self._bring(chunk, shard_id)
                    yield self.state.n_replayed
                self.state.finished.add(shard_id)

    def _shard_ids(self) -> list[str]:
        wanted = self.state.shard_id
        found = in_order(list_shards(self.kinesis, self.state.stream, self.timing.sleep))
        if wanted is not None and wanted not in found:
            raise UserError(f"stream {self.state.stream} has no shard {wanted}", f"it has {', '.join(found)}")
        return [shard_id for shard_id in found if wanted in {None, shard_id}]

    def _records(self, shard_id: str) -> Iterator[LambdaRecord]:
        """Read a shard from its position to the end of the time."""
        state, arn = self.state, stream_arn(self.replayer, self.state.stream)
        reader = ShardReader(self.kinesis, state.stream, shard_id, state.since, position=state.positions.get(shard_id))
        for records in self._reads(reader):
            due = [one for one in records if state.since <= one["ApproximateArrivalTimestamp"] < state.until]
            yield from lambda_records(due, shard_id, arn)
            if records and all(one["ApproximateArrivalTimestamp"] >= state.until for one in records):
                return  # times of arrival are almost in order

    def _reads(self, reader: ShardReader) -> Iterator[list[dict[str, Any]]]:
        """Read until there is nothing newer."""
        wait_s, since_s = FIRST_IDLE_WAIT_S, self.timing.clock()
        while not (reader.is_closed or reader.is_at_end):
            records = reader.read()
            yield records
            if not reader.problem:
                since_s = self.timing.clock()
            elif self.timing.clock() - since_s >= READ_PATIENCE_S:
                raise unreadable(self.state.stream, reader.problem)
            wait_s = next_idle_wait_s(wait_s, len(records))
            if not records and not reader.is_at_end:
                self.timing.sleep(wait_s)

    def _bring(self, chunk: list[LambdaRecord], shard_id: str) -> None:
        n_done, rejected, last_error = len(chunk), 0, ""
        if self.replayer is not None:
            self._pace.wait_for(len(chunk))
            replayed = self.replayer.replay(chunk)
            n_done, rejected, last_error = replayed.n_done, len(replayed.rejected), replayed.last_error
        self.state.n_replayed += n_done
        self.state.n_rejected += rejected
        if n_done:
            self.state.positions[shard_id] = chunk[n_done - 1]["kinesis"]["sequenceNumber"]
        if n_open := len(chunk) - n_done:
            raise UserError(
                f"{self.state.n_replayed} records are replayed, and then {n_open} of {shard_id} stayed open:"
                f" {last_error}",
                "end the cause, and go on with --resume",
            )


def stream_arn(replayer: Replayer | None, stream: str) -> str:
    """Return a stream's ARN; for a dry run, without region and account."""
    return replayer.stream_arn(stream) if replayer else f"arn:aws:kinesis:::stream/{stream}"


def _size_of(record: LambdaRecord) -> int:
    (size,) = json_sizes([record])
    return size + 1  # a comma


def in_order(shards: Iterable[Shard]) -> list[str]:
    """Return the ids of shards, each after its parents.

    >>> in_order([Shard("c", ("a", "b")), Shard("a"), Shard("b", ("gone",))])
    ['a', 'b', 'c']
    """
    known = {shard.shard_id: shard for shard in shards}
    graph = {one: [parent for parent in known[one].parent_ids if parent in known] for one in sorted(known)}
    return list(TopologicalSorter(graph).static_order())
