"""Fakes of AWS as a deployment sees it."""

from types import SimpleNamespace
from typing import Any

from infra.stack.upload import base64_digest
from tests.fakes import FakeS3
from training.registry.folder_s3 import client_error


class VersionedS3(FakeS3):
    """S3 with an endpoint, versions and checksums."""

    meta = SimpleNamespace(endpoint_url="https://s3.eu-west-1.amazonaws.com")

    def __init__(self, *, has_versions: bool = True) -> None:
        super().__init__()
        self._has_versions = has_versions
        self.stored: dict[str, dict[str, Any]] = {}

    def put_object(self, *, Bucket: str, Key: str, Body: bytes, **options: Any) -> dict[str, Any]:  # noqa: N803
        """Store a version."""
        digest = base64_digest(Body)
        assert options.pop("ChecksumSHA256", digest) == digest
        algorithm = options.pop("ChecksumAlgorithm", None)
        super().put_object(Bucket=Bucket, Key=Key, Body=Body, **options)
        version = {"VersionId": f"v{len(self.calls)}"} if self._has_versions else {}
        self.stored[Key] = {"ChecksumSHA256": digest if algorithm == "SHA256" else None, **version}
        return version

    def head_object(self, *, Bucket: str, Key: str, ChecksumMode: str) -> dict[str, Any]:  # noqa: N803
        """Describe the newest version."""
        if Key not in self.stored:
            raise client_error(404, "404", "HeadObject")
        return self.stored[Key] if ChecksumMode == "ENABLED" else {}
