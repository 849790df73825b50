"""A bucket in memory: a stand-in for S3 with the methods of a boto3 client, as training/registry/folder_s3.py."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from training.registry.folder_s3 import Check, S3StandIn


@lru_cache(maxsize=64)  # a bundle is megabytes, and each cold start in a simulation reads it
def _cached_md5(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


@dataclass
class MemoryS3(S3StandIn):
    """A bucket in memory.

    Attributes:
        objects: Bodies by key. Tests may change them directly.
        modified: The time of the last `put_object` by key.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    modified: dict[str, datetime] = field(default_factory=dict, kw_only=True)

    def bodies(self, prefix: str) -> list[bytes]:
        """Return the objects below a prefix in the order of their keys."""
        return [self.objects[key] for key in sorted(self.objects) if key.startswith(prefix)]

    def take(self, prefix: str) -> list[bytes]:
        """Return the objects below a prefix in the order of their keys, and remove them."""
        bodies = self.bodies(prefix)
        for key in [key for key in self.objects if key.startswith(prefix)]:
            del self.objects[key]
            self.modified.pop(key, None)
        return bodies

    def _etag(self, body: bytes) -> str:
        return f'"{_cached_md5(body)}"'

    def _read(self, key: str) -> bytes | None:
        return self.objects.get(key)

    def _write(self, key: str, body: bytes, check: Check | None) -> None:
        if check:
            check(self.objects.get(key))
        self.objects[key] = body
        self.modified[key] = datetime.now(UTC)

    def _delete(self, key: str) -> None:
        self.objects.pop(key, None)
        self.modified.pop(key, None)

    def _keys(self, prefix: str) -> Iterable[str]:  # noqa: ARG002 - of the base class
        return self.objects

    def _entry(self, key: str) -> dict[str, Any] | None:
        modified = self.modified.get(key, datetime.fromtimestamp(0, UTC))
        return {"Key": key, "Size": len(self.objects[key]), "LastModified": modified}
