"""A folder on this machine as an S3 bucket: boto3's face, whole objects or none, and writes that lose no race.

An object is a file by its key's name, so a person can look at it. What is written goes into a file of its own first and
takes the object's name in one step; conditions are checked under a lock that every process on this machine obeys.
"""

import fcntl
import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

from infra.errors import FolderBucketError
from infra.local.simulation.faults import client_error

_OWN = ".folder_s3"
"""Where files under way and the lock are: no key begins so."""

_MAX_KEYS = 1000


class FolderS3:
    """A bucket in a folder, whatever name it is asked by. The folder is made at the first write.

    Every method raises botocore's ClientError as S3 would, and FolderBucketError where the folder does not do its part.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get_object(
        self,
        *,
        Bucket: str,  # noqa: ARG002, N803
        Key: str,  # noqa: N803
        IfNoneMatch: str | None = None,  # noqa: N803
    ) -> dict[str, Any]:
        """Reads an object; with `IfNoneMatch` an unchanged one answers 304."""
        with self._said("read", Key):
            path = self._path(Key, "GetObject")
            body = _read(path)
            if body is None:
                raise client_error(HTTPStatus.NOT_FOUND, "NoSuchKey", "GetObject")
            if IfNoneMatch == _etag(body):
                raise client_error(HTTPStatus.NOT_MODIFIED, "304", "GetObject")
            return {"Body": io.BytesIO(body), "ETag": _etag(body), "ContentLength": len(body)}

    def head_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: ARG002, N803
        """Tells of an object without its body."""
        with self._said("read", Key):
            path = self._path(Key, "HeadObject")
            body = _read(path)
            if body is None:
                raise client_error(HTTPStatus.NOT_FOUND, "404", "HeadObject")
            return {"ETag": _etag(body), "ContentLength": len(body)}

    def put_object(
        self,
        *,
        Bucket: str,  # noqa: ARG002, N803
        Key: str,  # noqa: N803
        Body: bytes,  # noqa: N803
        ContentType: str = "binary/octet-stream",  # noqa: ARG002, N803
        IfMatch: str | None = None,  # noqa: N803
        IfNoneMatch: str | None = None,  # noqa: N803
    ) -> dict[str, Any]:
        """Stores an object; `IfMatch` takes an ETag, `IfNoneMatch` takes ``*``."""
        with self._said("write", Key):
            path = self._path(Key, "PutObject")
            with self._written(Body) as written, self._locked():
                _check_conditions(_read(path) if IfMatch or IfNoneMatch else None, IfMatch, IfNoneMatch)
                path.parent.mkdir(parents=True, exist_ok=True)
                written.replace(path)
            return {"ETag": _etag(Body)}

    def list_objects_v2(
        self,
        *,
        Bucket: str,  # noqa: ARG002, N803
        Prefix: str = "",  # noqa: N803
        ContinuationToken: str = "",  # noqa: N803
        MaxKeys: int = _MAX_KEYS,  # noqa: N803
    ) -> dict[str, Any]:
        """Lists objects by prefix, in the order of their keys' bytes, a page at a time."""
        with self._said("list", Prefix):
            keys = sorted((key for key in self._keys() if key.startswith(Prefix)), key=str.encode)
            left = [key for key in keys if key.encode() > ContinuationToken.encode()]
            page = left[: min(MaxKeys, _MAX_KEYS)]
            contents = [entry for key in page if (entry := self._entry(key))]
            answer: dict[str, Any] = {"KeyCount": len(contents), "IsTruncated": len(left) > len(page)}
            more = {"NextContinuationToken": page[-1]} if len(left) > len(page) else {}
            return {**answer, **more, **({"Contents": contents} if contents else {})}

    def _path(self, key: str, operation: str) -> Path:
        """Returns an object's file, which is inside of the folder whatever the key."""
        parts = key.split("/")
        if parts[0] == _OWN or "\0" in key or any(part in {"", ".", ".."} for part in parts):
            raise client_error(HTTPStatus.BAD_REQUEST, "KeyNotPossibleInAFolder", operation)
        return self._folder.joinpath(*parts)

    def _keys(self) -> Iterator[str]:
        if not self._folder.exists():
            return
        for folder, names, files in os.walk(self._folder, onerror=_raise):
            if Path(folder) == self._folder:
                names[:] = [name for name in names if name != _OWN]
            yield from (Path(folder, file).relative_to(self._folder).as_posix() for file in files)

    def _entry(self, key: str) -> dict[str, Any] | None:
        """Describes an object; None where it has gone since it was listed."""
        with suppress(FileNotFoundError):
            stat = (self._folder / key).stat()
            return {"Key": key, "Size": stat.st_size, "LastModified": datetime.fromtimestamp(stat.st_mtime, UTC)}
        return None

    @contextmanager
    def _written(self, body: bytes) -> Iterator[Path]:
        """Gives a file that holds a body, on disk and not only on its way there; it is gone unless taken."""
        own = self._folder / _OWN
        own.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=own)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 - of a descriptor
                file.write(body)
                file.flush()
                os.fsync(descriptor)
            Path(name).chmod(0o644)  # mkstemp's are for its user alone
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._folder / _OWN / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # let go when the file is closed, or its process ends
            yield

    @contextmanager
    def _said(self, action: str, key: str) -> Iterator[None]:
        try:
            yield
        except FolderBucketError:
            raise
        except OSError as error:
            raise FolderBucketError(self._folder, action, key, error) from error


def _raise(error: OSError) -> None:
    raise error


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


def _check_conditions(there: bytes | None, if_match: str | None, if_none_match: str | None) -> None:
    if if_match and there is None:
        raise client_error(HTTPStatus.NOT_FOUND, "NoSuchKey", "PutObject")
    is_other = if_match and there is not None and _etag(there) != if_match
    if is_other or (if_none_match == "*" and there is not None):
        raise client_error(HTTPStatus.PRECONDITION_FAILED, "PreconditionFailed", "PutObject")
