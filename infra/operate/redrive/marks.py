"""Marks of redriven records: an object beside each object of failed records, written under the ETag that was read.

The mark of `rejects/…` is `redriven/rejects/…`, so the original never changes. It holds two lists of ids:

- `under_way`: written before the records are sent. If a later run finds them there, they may have arrived or not.
- `redriven`: written after the stream has accepted them.

Marks are by id: if a batch is delivered again and overwrites its object, the new records in it have no mark. Of two
redrives at the same time, the one that writes second is refused.
"""

from collections.abc import Callable, Iterable
from typing import Literal
from uuid import uuid4

import msgspec

from infra.operate.redrive.records import FailedRecord
from training.errors import BucketError, UserError
from training.registry.bucket import Bucket, StoredObject

PREFIX = "redriven/"

State = Literal["pending", "under way", "redriven"]


class Mark(msgspec.Struct, frozen=True):
    """The content of a mark's object.

    Attributes:
        stream: The stream that the records came from.
        writer: The run that wrote it: no two runs write the same bytes.
        redriven: Ids of accepted records, each once, in the order of sending.
        under_way: Ids of records that may have been accepted.
    """

    stream: str
    writer: str
    redriven: tuple[str, ...] = ()
    under_way: tuple[str, ...] = ()


class Marks:
    """All marks of a bucket: loaded once, and written by one run of a redrive under a name that no other run has."""

    def __init__(self, bucket: Bucket, writer: str | None = None) -> None:
        self._bucket = bucket
        self._writer = writer or uuid4().hex
        self._marks: dict[str, tuple[Mark, str | None]] = {}
        self._redriven: set[tuple[str, str]] = set()
        self._under_way: set[tuple[str, str]] = set()

    def keys(self) -> list[str]:
        """List the keys of all marks."""
        return list(self._bucket.keys(PREFIX))

    def load(self, keys: Iterable[str]) -> None:
        """Read marks. One that cannot be read is an error, since the state of its records is unknown."""
        for stored in self._bucket.read_all(keys):
            mark = self._decode(stored)
            self._marks[stored.key.removeprefix(PREFIX)] = mark, stored.etag
            self._redriven.update((mark.stream, record_id) for record_id in mark.redriven)
            self._under_way.update((mark.stream, record_id) for record_id in mark.under_way)

    def state(self, record: FailedRecord) -> State:
        """Return the state of a record, whichever object it was marked in."""
        if record.identity in self._redriven:
            return "redriven"
        return "under way" if record.identity in self._under_way else "pending"

    def was_under_way(self, record: FailedRecord) -> bool:
        """Return whether a record was under way when the marks were loaded."""
        return record.identity in self._under_way

    def begin(self, chunk: Iterable[FailedRecord]) -> None:
        """Mark records as under way; `UserError` if another run has written one of the marks since it was loaded."""
        self._write_all(self._begin_object, chunk)

    def end(self, chunk: Iterable[FailedRecord]) -> None:
        """Mark records under way as redriven; `UserError` if another run has taken them over and may resend them."""
        self._write_all(self._end_object, chunk)

    def _write_all(self, write: Callable[[list[FailedRecord]], None], chunk: Iterable[FailedRecord]) -> None:
        by_key: dict[str, list[FailedRecord]] = {}
        for record in chunk:
            by_key.setdefault(record.key, []).append(record)
        for _ in self._bucket.each(write, by_key.values()):
            pass

    def _begin_object(self, records: list[FailedRecord]) -> None:
        first = records[0]
        mark, etag = self._marks.get(first.key, (Mark(first.stream, self._writer), None))
        under_way = dict.fromkeys([*mark.under_way, *(record.record_id for record in records)])
        self._write(first.key, msgspec.structs.replace(mark, under_way=tuple(under_way)), etag, n_sent=0)

    def _end_object(self, records: list[FailedRecord]) -> None:
        key = records[0].key
        mark, etag = self._marks[key]
        ids = dict.fromkeys(record.record_id for record in records)
        left = tuple(record_id for record_id in mark.under_way if record_id not in ids)
        done = msgspec.structs.replace(mark, redriven=(*mark.redriven, *ids), under_way=left)
        self._write(key, done, etag, n_sent=len(records))
        self._redriven.update(record.identity for record in records)

    def _write(self, key: str, mark: Mark, etag: str | None, n_sent: int) -> None:
        ours = msgspec.structs.replace(mark, writer=self._writer)
        new_etag = self._bucket.replace(PREFIX + key, msgspec.json.encode(ours), etag)
        if new_etag is None:
            doubt = f"; it may send {n_sent} records again that this one has just sent" if n_sent else ""
            raise UserError(
                f"another redrive has written s3://{self._bucket.name}/{PREFIX}{key}{doubt}",
                "this one stops; run it again when the other has ended",
            )
        self._marks[key] = ours, new_etag

    def _decode(self, stored: StoredObject) -> Mark:
        try:
            return msgspec.json.decode(stored.body, type=Mark)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BucketError(self._bucket.name, stored.key, f"holds no mark: {error}") from error
