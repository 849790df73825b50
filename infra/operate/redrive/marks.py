"""Marks of redriven records: an object beside each object of failed records, written under the ETag that was read.

The mark of `rejects/…` is `redriven/rejects/…`, so the original never changes. It holds two lists of ids:

- `under_way`: written before the function is invoked. If a later run finds them there, they may be done or not.
- `redriven`: written after the function is done with them. A reject that it rejected again is in neither list.

Marks are by id: if a batch is delivered again and overwrites its object, the new records in it have no mark. Of two
redrives at the same time, the one that writes second is refused.

The mark of a failed batch says nothing about a reject: the redrive of the batch may be what made it one. Nor does the
mark of a batch that one function failed on say anything about the same records in a batch of another function.
"""

from collections.abc import Callable, Container, Iterable
from functools import partial
from typing import Literal
from uuid import uuid4

import msgspec

from infra.operate.redrive.records import FailedRecord
from infra.operate.redrive.selection import REJECTS
from training.errors import BucketError, UserError, bucket_address
from training.registry.bucket import Bucket, StoredObject

PREFIX = "redriven/"

_Identity = tuple[str, str, bool]  # as of a FailedRecord

State = Literal["pending", "under way", "redriven"]


class Mark(msgspec.Struct, frozen=True):
    """The content of a mark's object."""

    stream: str  # that the records came from
    writer: str  # the run that wrote it: no two runs write the same bytes
    redriven: tuple[str, ...] = ()  # ids of records that are done, each once, in the order of the redrives
    under_way: tuple[str, ...] = ()  # ids of records that may be done
    is_archivers: bool = False  # whether they are records that the archive function failed on


class Marks:
    """All marks of a bucket: loaded once, and written by one run of a redrive under a name that no other run has."""

    def __init__(self, bucket: Bucket, writer: str | None = None) -> None:
        self._bucket = bucket
        self._writer = writer or uuid4().hex
        self._marks: dict[str, tuple[Mark, str | None]] = {}
        self._redriven: set[_Identity] = set()
        self._redriven_rejects: set[_Identity] = set()  # among them, those marked beside an object of rejects
        self._under_way: set[_Identity] = set()

    def keys(self) -> list[str]:
        """List the keys of all marks."""
        return list(self._bucket.keys(PREFIX))

    def load(self, keys: Iterable[str]) -> None:
        """Read marks. One that cannot be read is an error, since the state of its records is unknown."""
        for stored in self._bucket.read_all(keys):
            mark = self._decode(stored)
            key = stored.key.removeprefix(PREFIX)
            self._marks[key] = mark, stored.etag
            self._note_redriven(key, mark, mark.redriven)
            self._under_way.update((mark.stream, one, mark.is_archivers) for one in mark.under_way)

    def state(self, record: FailedRecord) -> State:
        """Return the state of a record, whichever object it was marked in; of a reject, whichever object of rejects."""
        if record.identity in (self._redriven_rejects if record.is_reject else self._redriven):
            return "redriven"
        return "under way" if record.identity in self._under_way else "pending"

    def was_under_way(self, record: FailedRecord) -> bool:
        """Return whether a record was under way when the marks were loaded."""
        return record.identity in self._under_way

    def begin(self, chunk: Iterable[FailedRecord]) -> None:
        """Mark records as under way; `UserError` if another run has written one of the marks since it was loaded."""
        self._write_all(chunk, lambda _: "under way")

    def end(self, chunk: Iterable[FailedRecord], left: Container[str] = ()) -> None:
        """Mark records under way as redriven, and those whose ids are in `left` as pending again.

        Raises:
            UserError: Another run has taken them over.
        """
        self._write_all(chunk, lambda record: "pending" if record.record_id in left else "redriven")

    def _write_all(self, chunk: Iterable[FailedRecord], state: Callable[[FailedRecord], State]) -> None:
        by_key: dict[str, list[FailedRecord]] = {}
        for record in chunk:
            by_key.setdefault(record.key, []).append(record)
        for _ in self._bucket.each(partial(self._write, state=state), by_key.values()):
            pass

    def _write(self, records: list[FailedRecord], state: Callable[[FailedRecord], State]) -> None:
        first = records[0]
        mark, etag = self._marks.get(first.key, (Mark(first.stream, self._writer), None))
        states = {record.record_id: state(record) for record in records}
        redriven = [record_id for record_id, new in states.items() if new == "redriven"]
        under_way = [record_id for record_id, new in states.items() if new == "under way"]
        ours = Mark(
            mark.stream,
            self._writer,
            redriven=(*mark.redriven, *redriven),
            under_way=(*(one for one in mark.under_way if one not in states), *under_way),
            is_archivers=first.is_archivers,
        )
        new_etag = self._bucket.replace(PREFIX + first.key, msgspec.json.encode(ours), etag)
        if new_etag is None:
            raise UserError(
                f"another redrive has written {bucket_address(self._bucket.name)}/{PREFIX}{first.key}",
                "this one stops; run it again when the other has ended",
            )
        self._marks[first.key] = ours, new_etag
        self._note_redriven(first.key, ours, redriven)

    def _note_redriven(self, key: str, mark: Mark, record_ids: Iterable[str]) -> None:
        identities = {(mark.stream, record_id, mark.is_archivers) for record_id in record_ids}
        self._redriven |= identities
        if key.startswith(REJECTS.prefix):
            self._redriven_rejects |= identities

    def _decode(self, stored: StoredObject) -> Mark:
        try:
            return msgspec.json.decode(stored.body, type=Mark)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            problem = f"holds no mark: {error}; delete it: its records count as pending then, and keep their ids"
            raise BucketError(self._bucket.name, stored.key, problem) from error
