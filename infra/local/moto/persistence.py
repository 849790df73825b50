"""Let moto's streams and buckets outlive the server: what a request has changed is stored before its answer goes out.

Of a bucket the newest version of each object is stored, with its metadata. The rest of moto's state goes with the
server: queues, alarms, roles, the stack.
"""

import threading
from datetime import datetime
from typing import Any

from moto.kinesis import models as kinesis_models
from moto.s3.models import FakeBucket, FakeKey, S3Backend

from infra.local.moto import kinesis_shards
from infra.local.moto.kinesis_shards import LocalShard, LocalStream, StoredRecord
from infra.local.moto.state_file import SavedObject, SavedRecord, SavedShard, StateFile

_RESERVED_AT_ONCE = 1_000_000

_BUCKET_CHANGES = ("put_object", "delete_object")  # uploads in parts, copies and DeleteObjects call these
_changed = threading.local()
"""The objects that the request of this thread has changed, by backend, bucket and key."""


def patch_persistence(state: StateFile) -> None:
    """Load streams and buckets from a state file as they are created, and note what requests change.

    Call it after `patch_kinesis`, and `store_changes` at the end of each request.
    """
    kinesis_shards.sequence_numbers = _Numbers(state)
    _PersistentStream.state = state
    kinesis_models.Stream = _PersistentStream
    _wrap_kinesis(state)
    _wrap_buckets(state)


def store_changes(state: StateFile) -> None:
    """Store what the request of this thread has changed.

    Raises:
        sqlite3.Error: The disk is full, or fails.
    """
    changed: set[tuple[S3Backend, str, str]] = _changed.__dict__.pop("objects", set())
    with state.lock:  # what is stored is what is there now, whatever requests of other threads do
        for backend, bucket, key in changed:
            _store_object(state, backend.buckets.get(bucket), bucket, key)
        state.commit()


class _Numbers:
    """An iterator of rising numbers, above all that an earlier server has given. Safe to use from several threads."""

    def __init__(self, state: StateFile) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._next = self._reserved = state.reserved_number() or next(kinesis_shards.sequence_numbers)

    def __iter__(self) -> "_Numbers":
        return self

    def __next__(self) -> int:
        with self._lock:
            number = self._next
            if number >= self._reserved:
                self._reserved = number + _RESERVED_AT_ONCE
                self._state.reserve_numbers(self._reserved)
            self._next += 1
            return number


# -- streams


class _PersistentStream(LocalStream):
    """A stream that begins with the shards and records of the state file."""

    state: StateFile

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if saved := self.state.shards(self.stream_name):
            shards = [self._restored(one) for one in saved]
            self.shards = {shard.shard_id: shard for shard in shards}
            self.shard_count = sum(shard.is_open for shard in shards)
        else:
            self._save_shards()

    def stored(self, shard: LocalShard, record: StoredRecord) -> None:
        saved = SavedRecord(str(record.sequence_number), record.arrival_s, record.partition_key, record.data)
        self.state.add_record(self.stream_name, shard.shard_id, saved)

    def split_shard(self, *args: Any) -> None:
        super().split_shard(*args)
        self._save_shards()

    def merge_shards(self, *args: Any) -> None:
        super().merge_shards(*args)
        self._save_shards()

    def _restored(self, saved: SavedShard) -> LocalShard:
        shard: LocalShard = kinesis_models.Shard(
            saved.number, int(saved.starting_hash), int(saved.ending_hash), saved.parent, saved.adjacent_parent
        )
        records = self.state.records(self.stream_name, shard.shard_id)
        shard.restore(
            int(saved.first_number),
            [StoredRecord(int(one.number), one.arrival_s, one.key, one.data) for one in records],
            is_open=saved.is_open,
        )
        return shard

    def _save_shards(self) -> None:
        self.state.save_shards(
            self.stream_name,
            [
                SavedShard(
                    shard._shard_id, str(shard.starting_hash), str(shard.ending_hash), shard.parent,
                    shard.adjacent_parent, shard.is_open, str(shard.first_sequence_number),
                )
                for shard in self.shards.values()
            ],
        )  # fmt: skip


def _wrap_kinesis(state: StateFile) -> None:
    delete = kinesis_models.KinesisBackend.delete_stream

    def delete_stream(backend: Any, stream_arn: str | None, stream_name: str | None) -> Any:
        name = backend.describe_stream(stream_arn, stream_name).stream_name
        deleted = delete(backend, stream_arn, stream_name)
        state.remove_stream(name)
        return deleted

    kinesis_models.KinesisBackend.delete_stream = delete_stream


# -- buckets


def _wrap_buckets(state: StateFile) -> None:
    for name in _BUCKET_CHANGES:
        setattr(S3Backend, name, _noting(getattr(S3Backend, name)))
    create = S3Backend.create_bucket

    def create_bucket(backend: S3Backend, bucket_name: str, *args: Any, **kwargs: Any) -> FakeBucket:
        bucket = create(backend, bucket_name, *args, **kwargs)
        for saved in state.objects(bucket_name):
            _restore_object(backend, bucket_name, saved)
        _changed.__dict__.pop("objects", None)
        return bucket

    S3Backend.create_bucket = create_bucket


def _noting(change: Any) -> Any:
    """Return a method of the backend that notes which object it has changed."""

    def noting(backend: S3Backend, *args: Any, **kwargs: Any) -> Any:
        names = (*args, *(kwargs[name] for name in ("bucket_name", "key_name") if name in kwargs))
        _changed.__dict__.setdefault("objects", set()).add((backend, *names[:2]))
        return change(backend, *args, **kwargs)

    return noting


def _store_object(state: StateFile, bucket: FakeBucket | None, bucket_name: str, key: str) -> None:
    found = bucket.keys.get(key) if bucket else None
    if isinstance(found, FakeKey):
        metadata = {name: value for name, value in found.metadata.items() if isinstance(value, str)}
        modified = found.last_modified.isoformat()
        state.save_object(bucket_name, SavedObject(key, found.value, found.etag, modified, metadata))
    else:  # deleted, or its newest version is a delete marker
        state.remove_object(bucket_name, key)


def _restore_object(backend: S3Backend, bucket: str, saved: SavedObject) -> None:
    key = backend.put_object(bucket, saved.key, saved.body, etag=saved.etag.strip('"'), disable_notification=True)
    key.set_metadata(dict(saved.metadata))
    key.last_modified = datetime.fromisoformat(saved.modified)
