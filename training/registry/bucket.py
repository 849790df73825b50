"""The one S3 wrapper: list, read, write and delete objects of a bucket; every failure of S3 is a `BucketError`.

Every write is conditional: on the object that was read, or on there being none. The bucket's policy refuses any other
write of a model or a channel.

The client resends a write whose answer was lost, and S3 then refuses it because the object has changed: by that same
write. So a refused conditional write counts as lost only if the object does not hold the bytes that it wrote.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar

from botocore.exceptions import ClientError

from lambda_function.aws.clients import AWS_ERRORS, NO_USABLE_ANSWER
from training.errors import BucketError

N_THREADS = 8
"""Requests at the same time: fewer than the ten connections that a boto3 client keeps."""

_N_READS = 3
"""How often an object is read whose body is cut off: the client retries a request only until its answer begins."""

T = TypeVar("T")
R = TypeVar("R")


class StoredObject(NamedTuple):
    """An object as it was read; the ETag is in double quotes."""

    key: str
    body: bytes
    etag: str
    clock_ahead_s: float = 0.0  # of this machine's clock against the time in S3's answer; 0.0 if it has none


class Listed(NamedTuple):
    """An entry of a listing. `modified` is aware; None if the listing has no time."""

    key: str
    modified: datetime | None
    n_bytes: int = 0


class ObjectVersion(NamedTuple):
    """One version of an object. A bucket without versions has one of each object; its id is ``null``."""

    key: str
    version_id: str
    is_latest: bool


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket behind a boto3 S3 client. Every method raises `BucketError` if S3 fails or refuses."""

    s3: Any  # a boto3 client, or an object with its methods
    name: str
    n_threads: int = N_THREADS  # requests at the same time; with 1 they run one after the other, in this thread

    def list_objects(self, prefix: str, start_after: str = "") -> Iterator[Listed]:
        """List the objects below a prefix and behind a key in S3's order, a page of a thousand at a time."""
        request = {"Bucket": self.name, "Prefix": prefix, **({"StartAfter": start_after} if start_after else {})}
        while True:
            try:
                page = self.s3.list_objects_v2(**request)
            except AWS_ERRORS as error:
                raise BucketError(self.name, prefix, f"cannot be listed: {error}") from error
            for entry in page.get("Contents", ()):
                yield Listed(entry["Key"], entry.get("LastModified"), entry.get("Size", 0))
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    def keys(self, prefix: str) -> Iterator[str]:
        """List the keys below a prefix in S3's order, a page of a thousand at a time."""
        return (listed.key for listed in self.list_objects(prefix))

    def versions(self, prefix: str) -> Iterator[ObjectVersion]:
        """List the versions of all objects below a prefix, those of deleted ones too; of a key, the newest first."""
        request = {"Bucket": self.name, "Prefix": prefix}
        while True:
            try:
                page = self.s3.list_object_versions(**request)
            except AWS_ERRORS as error:
                raise BucketError(self.name, prefix, f"has versions that cannot be listed: {error}") from error
            for one in page.get("Versions", ()):
                yield ObjectVersion(one["Key"], one["VersionId"], one["IsLatest"])
            if not page.get("IsTruncated"):
                return
            request |= {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}

    def read_version(self, version: ObjectVersion) -> StoredObject | None:
        """Read one version; None if it was deleted."""
        return self._read(version.key, VersionId=version.version_id)

    def delete_version(self, version: ObjectVersion) -> None:
        """Delete one version for good. The one before it, if there is one, is the newest then."""
        try:
            self.s3.delete_object(Bucket=self.name, Key=version.key, VersionId=version.version_id)
        except AWS_ERRORS as error:
            raise BucketError(self.name, version.key, f"cannot be deleted: {error}") from error

    def read(self, key: str) -> StoredObject | None:
        """Read an object; None if there is none. A missing bucket is an error."""
        return self._read(key)

    def _read(self, key: str, **version: str) -> StoredObject | None:
        try:
            answer, body = self._get(key, version)
            return StoredObject(key, body, answer["ETag"], _clock_ahead_s(answer))
        except AWS_ERRORS as error:
            if _is_no_object(error):
                return None
            raise BucketError(self.name, key, f"cannot be read: {error}") from error

    def read_all(self, keys: Iterable[str]) -> Iterator[StoredObject]:
        """Read objects in order, a few at a time; leave out one that has vanished since it was listed."""
        return (stored for stored in self.each(self.read, keys) if stored is not None)

    def write(self, key: str, body: bytes) -> None:
        """Write an object, in place of an older one."""
        stored = self.read(key)
        if self.replace(key, body, stored.etag if stored else None) is None:
            raise self._in_use(key)

    def write_once(self, key: str, body: bytes) -> bytes:
        """Write an object that never changes, and return what the bucket holds now: an older object stays."""
        if self._put(key, body, IfNoneMatch="*") is not None:
            return body
        stored = self.read(key)
        if stored is None:
            raise self._in_use(key)
        return stored.body

    def replace(self, key: str, body: bytes, etag: str | None) -> str | None:
        """Write an object if nobody else has written it since it was read; return the new ETag, None if somebody has.

        Two writers must never write the same bytes: each would take the other's write for its own. `etag` is the one
        that was read; None if there was no object.
        """
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        if new_etag := self._put(key, body, **condition):
            return new_etag
        stored = self.read(key)
        return stored.etag if stored and stored.body == body else None

    def each(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Call a function for each item, a few at a time, and yield its results in order."""
        if self.n_threads == 1:
            yield from map(function, items)
            return
        ahead: deque[Future[R]] = deque()
        with ThreadPoolExecutor(self.n_threads) as pool:
            try:
                for item in items:
                    ahead.append(pool.submit(function, item))
                    if len(ahead) > self.n_threads:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                for future in ahead:
                    future.cancel()

    def _get(self, key: str, version: Mapping[str, str], n_reads: int = _N_READS) -> tuple[Mapping[str, Any], bytes]:
        answer = self.s3.get_object(Bucket=self.name, Key=key, **version)
        try:
            return answer, answer["Body"].read()
        except NO_USABLE_ANSWER:
            if n_reads == 1:
                raise
        return self._get(key, version, n_reads - 1)

    def _put(self, key: str, body: bytes, **condition: str) -> str | None:
        """Write an object and return its ETag; None if the condition does not hold or another write is under way."""
        request = {"Bucket": self.name, "Key": key, "Body": body, "ContentType": "application/octet-stream"}
        try:
            etag: str = self.s3.put_object(**request, **condition)["ETag"]
        except AWS_ERRORS as error:
            if _status(error) in _REFUSED or ("IfMatch" in condition and _is_no_object(error)):
                return None
            raise BucketError(self.name, key, f"cannot be written: {error}") from error
        return etag

    def _in_use(self, key: str) -> BucketError:
        return BucketError(self.name, key, "is being written by somebody else: try again")


def _clock_ahead_s(answer: Mapping[str, Any]) -> float:
    date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    return time.time() - parsedate_to_datetime(date).timestamp() if date else 0.0


_REFUSED = {HTTPStatus.PRECONDITION_FAILED, HTTPStatus.CONFLICT}


def _status(error: Exception) -> int:
    """Return the HTTP status of S3's answer; 0 if there was no answer."""
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"]) if isinstance(error, ClientError) else 0


def _is_no_object(error: Exception) -> bool:
    is_no_bucket = isinstance(error, ClientError) and error.response["Error"]["Code"] == "NoSuchBucket"
    return _status(error) == HTTPStatus.NOT_FOUND and not is_no_bucket
