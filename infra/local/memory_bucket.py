"""One S3 bucket in memory, with boto3's face: objects with ETags, conditional reads and writes."""

import hashlib
import io
from http import HTTPStatus
from typing import Any, NamedTuple

from infra.local.simulation.faults import client_error


class StoredObject(NamedTuple):
    """An object; the ETag stands in its quotes."""

    body: bytes
    etag: str


class MemoryBucket:
    """A bucket, whatever name it is asked by.

    Attributes:
        objects: By key.
    """

    def __init__(self) -> None:
        self.objects: dict[str, StoredObject] = {}

    def get_object(
        self,
        *,
        Bucket: str,  # noqa: ARG002, N803
        Key: str,  # noqa: N803
        IfNoneMatch: str | None = None,  # noqa: N803
    ) -> dict[str, Any]:
        """Reads an object."""
        found = self.objects.get(Key)
        if found is None:
            raise client_error(HTTPStatus.NOT_FOUND, "NoSuchKey", "GetObject")
        if IfNoneMatch == found.etag:
            raise client_error(HTTPStatus.NOT_MODIFIED, "304", "GetObject")
        return {"Body": io.BytesIO(found.body), "ETag": found.etag}

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
        """Stores an object."""
        found = self.objects.get(Key)
        if IfNoneMatch == "*" and found:
            raise client_error(HTTPStatus.PRECONDITION_FAILED, "PreconditionFailed", "PutObject")
        if IfMatch and not found:
            raise client_error(HTTPStatus.NOT_FOUND, "NoSuchKey", "PutObject")
        if IfMatch and found and found.etag != IfMatch:
            raise client_error(HTTPStatus.PRECONDITION_FAILED, "PreconditionFailed", "PutObject")
        etag = f'"{hashlib.md5(Body, usedforsecurity=False).hexdigest()}"'
        self.objects[Key] = StoredObject(bytes(Body), etag)
        return {"ETag": etag}

    def bodies(self, prefix: str) -> list[bytes]:
        """Returns the objects below a prefix, by key."""
        return [self.objects[key].body for key in sorted(self.objects) if key.startswith(prefix)]

    def take(self, prefix: str) -> list[bytes]:
        """Returns the objects below a prefix, by key, and removes them."""
        bodies = self.bodies(prefix)
        self.objects = {key: found for key, found in self.objects.items() if not key.startswith(prefix)}
        return bodies
