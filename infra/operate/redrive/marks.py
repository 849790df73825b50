"""Marks of what has been redriven: an object beside each kept one, written only where nobody else has meanwhile.

The mark of `rejects/…` is `redriven/rejects/…`, so the original is never touched. It holds two lists of ids:

- `under_way`: written before the records are sent. Found there by a later run, they may or may not have arrived.
- `redriven`: written after the stream has taken them.

Marks are by id: when a batch comes again and overwrites its object, what is new in it is not marked. Every write names
the ETag that was read (or that there was none): of two redrives at once, the one that writes second is refused.
"""

from collections.abc import Callable, Iterable
from typing import Literal
from uuid import uuid4

import msgspec

from infra.errors import RedriveConflictError
from infra.operate.redrive.records import KeptRecord
from lambda_function.errors import StoreError
from training.registry.bucket import Bucket, StoredObject

PREFIX = "redriven/"

State = Literal["pending", "under way", "redriven"]


class Mark(msgspec.Struct, frozen=True):
    """What a mark's object holds.

    Attributes:
        stream: The stream that the records came from.
        writer: The run that wrote it: no two runs write the same bytes.
        redriven: Ids of records that were sent and accepted, each once, in the order of sending.
        under_way: Ids of records that may have been.
    """

    stream: str
    writer: str
    redriven: tuple[str, ...] = ()
    under_way: tuple[str, ...] = ()


class Marks:
    """All marks of a bucket: loaded once, and written by one run of a redrive.

    Args:
        bucket: Where they are.
        writer: A name for this run that no other has.
    """

    def __init__(self, bucket: Bucket, writer: str | None = None) -> None:
        self._bucket = bucket
        self._writer = writer or uuid4().hex
        self._marks: dict[str, tuple[Mark, str | None]] = {}
        self._redriven: set[tuple[str, str]] = set()
        self._under_way: set[tuple[str, str]] = set()

    def keys(self) -> list[str]:
        """Lists the marks that there are."""
        return list(self._bucket.keys(PREFIX))

    def load(self, keys: Iterable[str]) -> None:
        """Reads marks.

        Raises:
            StoreError: One can't be read: nothing is known of its records then.
        """
        for stored in self._bucket.read_all(keys):
            mark = self._decode(stored)
            self._marks[stored.key.removeprefix(PREFIX)] = mark, stored.etag
            self._redriven.update((mark.stream, record_id) for record_id in mark.redriven)
            self._under_way.update((mark.stream, record_id) for record_id in mark.under_way)

    def state(self, record: KeptRecord) -> State:
        """Says what is known of a record, in whichever object it was marked."""
        if record.identity in self._redriven:
            return "redriven"
        return "under way" if record.identity in self._under_way else "pending"

    def was_under_way(self, record: KeptRecord) -> bool:
        """Says whether a record was found under way when the marks were loaded."""
        return record.identity in self._under_way

    def begin(self, chunk: Iterable[KeptRecord]) -> None:
        """Marks records as under way.

        Raises:
            RedriveConflictError: Another run has written one of the marks since it was loaded.
        """
        self._write_all(self._begin_object, chunk)

    def end(self, chunk: Iterable[KeptRecord]) -> None:
        """Marks records that were under way as redriven.

        Raises:
            RedriveConflictError: Another run has taken them over: it may send them once more.
        """
        self._write_all(self._end_object, chunk)

    def _write_all(self, write: Callable[[list[KeptRecord]], None], chunk: Iterable[KeptRecord]) -> None:
        by_key: dict[str, list[KeptRecord]] = {}
        for record in chunk:
            by_key.setdefault(record.key, []).append(record)
        for _ in self._bucket.each(write, by_key.values()):
            pass

    def _begin_object(self, records: list[KeptRecord]) -> None:
        first = records[0]
        mark, etag = self._marks.get(first.key, (Mark(first.stream, self._writer), None))
        under_way = dict.fromkeys([*mark.under_way, *(record.record_id for record in records)])
        self._write(first.key, msgspec.structs.replace(mark, under_way=tuple(under_way)), etag, n_sent=0)

    def _end_object(self, records: list[KeptRecord]) -> None:
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
            raise RedriveConflictError(self._bucket.name, PREFIX + key, n_sent)
        self._marks[key] = ours, new_etag

    def _decode(self, stored: StoredObject) -> Mark:
        try:
            return msgspec.json.decode(stored.body, type=Mark)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise StoreError("read", self._bucket.name, stored.key, f"it holds no mark: {error}") from error
