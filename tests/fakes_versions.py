"""A bucket in memory that keeps old versions of objects."""

import io
from collections.abc import Iterable
from itertools import count
from typing import Any

from training.registry.folder_s3 import Check, S3StandIn, client_error


class VersionedS3(S3StandIn):
    """A bucket with versions.

    Attributes:
        versions: (id, body) of all versions by key, the newest last.
    """

    def __init__(self) -> None:
        self.versions: dict[str, list[tuple[str, bytes]]] = {}
        self._ids = count()

    @property
    def objects(self) -> dict[str, bytes]:
        """Bodies of the objects by key."""
        return {key: versions[-1][1] for key, versions in self.versions.items() if versions}

    def bodies(self) -> list[bytes]:
        """Bodies of all versions."""
        return [body for versions in self.versions.values() for _, body in versions]

    def get_object(self, *, VersionId: str = "", **request: Any) -> dict[str, Any]:  # noqa: N803 - boto3's names
        """Read an object, or one version of it."""
        if not VersionId:
            return super().get_object(**request)
        body = dict(self.versions.get(request["Key"], ())).get(VersionId)
        if body is None:
            raise client_error(404, "NoSuchVersion", "GetObject")
        return {"Body": io.BytesIO(body), "ETag": self._etag(body)}

    def list_object_versions(self, *, Bucket: str, Prefix: str = "", **_: Any) -> dict[str, Any]:  # noqa: N803
        """List versions, the newest of a key first, all on one page."""
        listed = [
            {"Key": key, "VersionId": version, "IsLatest": place == 0}
            for key in sorted(self.versions)
            if key.startswith(Prefix)
            for place, (version, _) in enumerate(reversed(self.versions[key]))
        ]
        return {"Versions": listed, "IsTruncated": False}

    def delete_object(self, *, Bucket: str, Key: str, VersionId: str = "") -> dict[str, Any]:  # noqa: N803
        """Delete one version for good."""
        assert VersionId, "would leave a delete marker"
        self.versions[Key] = [one for one in self.versions[Key] if one[0] != VersionId]
        return {}

    def _read(self, key: str) -> bytes | None:
        return self.objects.get(key)

    def _write(self, key: str, body: bytes, check: Check | None) -> None:
        if check:
            check(self._read(key))
        self.versions.setdefault(key, []).append((f"v{next(self._ids)}", body))

    def _delete(self, key: str) -> None:
        raise NotImplementedError

    def _keys(self, prefix: str) -> Iterable[str]:
        return self.objects

    def _entry(self, key: str) -> dict[str, Any] | None:
        return {"Key": key, "Size": len(self.objects[key])}
