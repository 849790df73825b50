"""A folder as a bucket, with the methods of a boto3 client for S3; other stand-ins share its base."""

import fcntl
import hashlib
import io
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from training.errors import UserError

_MAX_KEYS = 1000
_NO_VERSION = "null"  # S3's name for the only version
_OWN_FOLDER = ".folder_s3"
"""The subfolder of temporary files and the lock. No key begins with it."""

Check = Callable[[bytes | None], None]
"""Raises ClientError if an object must not replace this body (None: no object)."""


def client_error(status: int, code: str, operation: str = "Operation") -> ClientError:
    """Build an error as boto3 raises it for an answer of AWS."""
    response: Any = {
        "Error": {"Code": code, "Message": f"{code}."},
        "ResponseMetadata": {"HTTPStatusCode": int(status)},
    }
    return ClientError(response, operation)


class S3StandIn(ABC):
    """One bucket. Accepts any bucket name. Raises botocore's ClientError as S3 does."""

    def get_object(
        self, *, Bucket: str, Key: str, IfNoneMatch: str | None = None, VersionId: str = _NO_VERSION
    ) -> dict[str, Any]:
        """Read an object. With `IfNoneMatch`, an unchanged object gives status 304. There is one version of each."""
        body = self._read(Key)
        if body is None:
            raise client_error(HTTPStatus.NOT_FOUND, "NoSuchKey", "GetObject")
        etag = self._etag(body)
        if IfNoneMatch == etag:
            raise client_error(HTTPStatus.NOT_MODIFIED, "304", "GetObject")
        return {"Body": io.BytesIO(body), "ETag": etag, "ContentLength": len(body)}

    def put_object(
        self,
        *,
        Bucket: str,
        Key: str,
        Body: bytes,
        ContentType: str = "binary/octet-stream",
        IfMatch: str | None = None,
        IfNoneMatch: str | None = None,
    ) -> dict[str, Any]:
        """Store an object. `IfMatch` takes an ETag; `IfNoneMatch` takes ``*``."""

        def check(existing: bytes | None) -> None:
            if IfMatch and existing is None:
                raise client_error(HTTPStatus.NOT_FOUND, "NoSuchKey", "PutObject")
            is_other = IfMatch and existing is not None and self._etag(existing) != IfMatch
            if is_other or (IfNoneMatch == "*" and existing is not None):
                raise client_error(HTTPStatus.PRECONDITION_FAILED, "PreconditionFailed", "PutObject")

        self._write(Key, bytes(Body), check if IfMatch or IfNoneMatch else None)
        return {"ETag": self._etag(Body)}

    def list_objects_v2(
        self,
        *,
        Bucket: str,
        Prefix: str = "",
        StartAfter: str = "",
        ContinuationToken: str = "",
        MaxKeys: int = _MAX_KEYS,
    ) -> dict[str, Any]:
        """List the objects below a prefix in the order of their keys' bytes, a page at a time."""
        n_keys = min(MaxKeys, _MAX_KEYS)
        found = self._first_keys(Prefix, ContinuationToken or StartAfter, n_keys + 1)
        page, is_truncated = found[:n_keys], len(found) > n_keys
        contents = [entry for key in page if (entry := self._entry(key))]
        answer: dict[str, Any] = {"KeyCount": len(contents), "IsTruncated": is_truncated}
        more = {"NextContinuationToken": page[-1]} if is_truncated else {}
        return {**answer, **more, **({"Contents": contents} if contents else {})}

    def list_object_versions(
        self, *, Bucket: str, Prefix: str = "", KeyMarker: str = "", VersionIdMarker: str = ""
    ) -> dict[str, Any]:
        """List the objects below a prefix as S3 does in a bucket without versions."""
        page = self.list_objects_v2(Bucket=Bucket, Prefix=Prefix, ContinuationToken=KeyMarker)
        versions = [{**entry, "VersionId": _NO_VERSION, "IsLatest": True} for entry in page.get("Contents", ())]
        if not page["IsTruncated"]:
            return {"Versions": versions, "IsTruncated": False}
        markers = {"NextKeyMarker": page["NextContinuationToken"], "NextVersionIdMarker": _NO_VERSION}
        return {"Versions": versions, "IsTruncated": True, **markers}

    def delete_object(self, *, Bucket: str, Key: str, VersionId: str = _NO_VERSION) -> dict[str, Any]:
        """Delete an object; as for S3, there need not be one."""
        self._delete(Key)
        return {}

    def _first_keys(self, prefix: str, after: str, n_keys: int) -> list[str]:
        """Return the first keys below a prefix and behind a key, in the order of their bytes."""
        keys = (key for key in self._keys(prefix) if key.startswith(prefix) and key.encode() > after.encode())
        return sorted(keys, key=str.encode)[:n_keys]

    def _etag(self, body: bytes) -> str:
        return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'

    @abstractmethod
    def _read(self, key: str) -> bytes | None:
        """Read a body; None if there is no object."""

    @abstractmethod
    def _write(self, key: str, body: bytes, check: Check | None) -> None:
        """Call the check with the existing body, then replace it, as one step."""

    @abstractmethod
    def _delete(self, key: str) -> None:
        """Remove an object if there is one."""

    @abstractmethod
    def _keys(self, prefix: str) -> Iterable[str]:
        """List all keys, in any order; `prefix` is for error messages."""

    @abstractmethod
    def _entry(self, key: str) -> dict[str, Any] | None:
        """Return the listing entry of an object; None if it has just been removed."""


class FolderS3(S3StandIn):
    """A bucket in a folder, one file an object. The first write makes the folder.

    A write is atomic: a new file takes the object's name in one step. Conditions are checked under a lock that all
    processes on this machine share. Methods raise UserError if the folder can't be read or written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _read(self, key: str) -> bytes | None:
        with self._failure_named("read", key):
            return _read(self._path(key))

    def _write(self, key: str, body: bytes, check: Check | None) -> None:
        with self._failure_named("write", key):
            path = self._path(key)
            with self._written(body) as written, self._locked():
                if check:
                    check(_read(path))
                path.parent.mkdir(parents=True, exist_ok=True)
                written.replace(path)

    def _delete(self, key: str) -> None:
        with self._failure_named("delete", key):
            self._path(key).unlink(missing_ok=True)

    def _keys(self, prefix: str) -> Iterable[str]:
        with self._failure_named("list", prefix):
            return list(self._walk())

    def _entry(self, key: str) -> dict[str, Any] | None:
        with self._failure_named("list", key), suppress(FileNotFoundError):
            stat = (self._folder / key).stat()
            return {"Key": key, "Size": stat.st_size, "LastModified": datetime.fromtimestamp(stat.st_mtime, UTC)}
        return None

    def _path(self, key: str) -> Path:
        """Return an object's file. It is inside the folder for every key."""
        parts = key.split("/")
        if parts[0] == _OWN_FOLDER or "\0" in key or any(part in {"", ".", ".."} for part in parts):
            raise client_error(HTTPStatus.BAD_REQUEST, "KeyNotPossibleInAFolder")
        return self._folder.joinpath(*parts)

    def _walk(self) -> Iterator[str]:
        if not self._folder.exists():
            return
        for folder, names, files in os.walk(self._folder, onerror=_raise):
            if Path(folder) == self._folder:
                names[:] = [name for name in names if name != _OWN_FOLDER]
            yield from (Path(folder, file).relative_to(self._folder).as_posix() for file in files)

    @contextmanager
    def _written(self, body: bytes) -> Iterator[Path]:
        """Write a body to a temporary file and sync it to disk. Remove the file unless the block renames it."""
        own_folder = self._folder / _OWN_FOLDER
        own_folder.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=own_folder)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 - of a descriptor
                file.write(body)
                file.flush()
                os.fsync(descriptor)
            Path(name).chmod(0o644)  # mkstemp lets only its own user read the file
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._folder / _OWN_FOLDER / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file is closed or the process ends
            yield

    @contextmanager
    def _failure_named(self, action: str, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"cannot {action} {key} in the bucket that is folder {self._folder} ({error.strerror or error})",
                "make room or make it accessible, or choose another with --bucket",
            ) from error


def _raise(error: OSError) -> None:
    raise error


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None
